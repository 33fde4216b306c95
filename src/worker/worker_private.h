/*-------------------------------------------------------------------------
 *
 * worker_private.h
 *	  What the files of the worker's loop share
 *
 * worker.c has the loop; here is what it is made of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_WORKER_PRIVATE_H
#define SCREENSHOT_TASK_WORKER_PRIVATE_H

#include "table/request_queue.h"
#include "util/monotonic.h"

/* scan.c */
extern void scan_take_wakeup(int slot, bool at_once);
extern MonotonicUs scan_next_wakeup(int slot);
extern bool scan_is_woken(void);
extern MonotonicUs scan_next_event(void);
extern void scan_by(MonotonicUs at);
extern void scan_anew(void);
extern void scan_reloaded(void);
extern void scan_gone_table(void);

/* the same, within a transaction */
extern void scan_begin(void);
extern int	scan_orphans(void);
extern void scan_table(int slot);

/* the same, after it */
extern void scan_committed(void);
extern void scan_aborted(void);

/* outcomes.c */
extern int	outcomes_count(void);
extern bool outcomes_to_write(void);
extern bool outcomes_have_room(void);
extern bool outcomes_may_be_left(MonotonicUs now);
extern void outcomes_write(void);
extern MonotonicUs outcomes_written(void);
extern void outcomes_give_up(void);
extern void outcomes_tried(void);

/* work.c */
extern void work_init(void);
extern void begin_cycle(void);
extern QueueState work_on_orphans(int *n);
extern bool work_is_due(MonotonicUs now, bool may_begin);
extern void work_on_table(int slot, bool may_begin);
extern MonotonicUs work_not_before(void);
extern void work_at_once(void);
extern bool work_has_no_table(void);

/* counting.c */
extern void counting_check(int slot);
extern MonotonicUs counting_next_event(void);
extern void counting_run(void);
extern void count_requests(void);

/* catalog_changes.c */
extern void catalog_changes_init(Oid database);
extern void check_catalog_change(void);
extern void check_database_change(void);
extern bool take_server_change(void);
extern bool database_is_served(void);
extern MonotonicUs catalog_changes_next_event(void);

/* worker_settings.c */
extern void fix_settings(void);
extern void require_durable_commits(void);

#endif							/* SCREENSHOT_TASK_WORKER_PRIVATE_H */

/*-------------------------------------------------------------------------
 *
 * work.h
 *	  The worker's transactions on the table
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_WORK_H
#define SCREENSHOT_TASK_WORK_H

#include "table/request_queue.h"

extern void work_init(void);
extern void begin_cycle(void);
extern QueueState work_on_orphans(int *n);
extern bool work_is_due(MonotonicUs now, bool may_begin);
extern void work_on_table(int slot, bool may_begin);
extern MonotonicUs work_not_before(void);
extern void work_at_once(void);
extern bool work_has_no_table(void);

#endif							/* SCREENSHOT_TASK_WORK_H */

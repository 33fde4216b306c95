/*-------------------------------------------------------------------------
 *
 * scan.h
 *	  Scanning the table, when there is reason to
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_SCAN_H
#define SCREENSHOT_TASK_SCAN_H

#include "util/monotonic.h"

extern void scan_take_wakeup(int slot, bool at_once);
extern MonotonicUs scan_next_wakeup(int slot);
extern bool scan_is_woken(void);
extern MonotonicUs scan_next_event(void);
extern void scan_by(MonotonicUs at);
extern void scan_anew(void);
extern void scan_reloaded(void);
extern void scan_gone_table(void);

/* within a transaction */
extern void scan_begin(void);
extern int	scan_orphans(void);
extern void scan_table(int slot);

/* after it */
extern void scan_committed(void);
extern void scan_aborted(void);

#endif							/* SCREENSHOT_TASK_SCAN_H */

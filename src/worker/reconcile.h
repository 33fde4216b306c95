/*-------------------------------------------------------------------------
 *
 * reconcile.h
 *	  Finding out about requests in doubt
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_RECONCILE_H
#define SCREENSHOT_TASK_RECONCILE_H

#include "util/monotonic.h"

extern bool reconcile_has_work(MonotonicUs now);
extern MonotonicUs reconcile_next_event(MonotonicUs now);
extern void reconcile_scan(void);
extern void reconcile_work(void);
extern void reconcile_committed(void);
extern void reconcile_aborted(void);

#endif							/* SCREENSHOT_TASK_RECONCILE_H */

/*-------------------------------------------------------------------------
 *
 * withdrawal.h
 *	  Stopping and deleting the tasks of requests that were withdrawn
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_WITHDRAWAL_H
#define SCREENSHOT_TASK_WITHDRAWAL_H

#include "util/monotonic.h"

extern MonotonicUs withdrawal_next_event(MonotonicUs now);
extern void withdrawal_scan(void);
extern void withdrawal_sweep(void);
extern bool withdrawal_work(void);
extern void withdrawal_committed(void);
extern void withdrawal_aborted(void);

#endif							/* SCREENSHOT_TASK_WITHDRAWAL_H */

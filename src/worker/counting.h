/*-------------------------------------------------------------------------
 *
 * counting.h
 *	  Counting what is not finished, for others to see
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_COUNTING_H
#define SCREENSHOT_TASK_COUNTING_H

#include "util/monotonic.h"

extern void counting_check(int slot);
extern MonotonicUs counting_next_event(void);
extern void counting_run(void);
extern void count_requests(void);

#endif							/* SCREENSHOT_TASK_COUNTING_H */

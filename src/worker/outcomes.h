/*-------------------------------------------------------------------------
 *
 * outcomes.h
 *	  Writing down what has become of requests, and keeping what cannot be
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_OUTCOMES_H
#define SCREENSHOT_TASK_OUTCOMES_H

#include "util/monotonic.h"

extern int	outcomes_count(void);
extern bool outcomes_to_write(void);
extern bool outcomes_have_room(void);
extern bool outcomes_may_be_left(MonotonicUs now);
extern void outcomes_write(void);
extern MonotonicUs outcomes_written(void);
extern void outcomes_give_up(void);
extern void outcomes_tried(void);

#endif							/* SCREENSHOT_TASK_OUTCOMES_H */

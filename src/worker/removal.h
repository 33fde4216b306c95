/*-------------------------------------------------------------------------
 *
 * removal.h
 *	  Removing finished requests that need not be kept any longer
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_REMOVAL_H
#define SCREENSHOT_TASK_REMOVAL_H

#include "util/monotonic.h"

extern void removal_begin(bool again);
extern MonotonicUs removal_next_event(void);
extern void removal_run(void);

#endif							/* SCREENSHOT_TASK_REMOVAL_H */

/*-------------------------------------------------------------------------
 *
 * expiry.h
 *	  Expiring requests that nobody sends before their end
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_EXPIRY_H
#define SCREENSHOT_TASK_EXPIRY_H

#include "util/monotonic.h"

extern void expiry_begin(bool at_once);
extern MonotonicUs expiry_next_event(void);
extern void expiry_run(void);

#endif							/* SCREENSHOT_TASK_EXPIRY_H */

/*-------------------------------------------------------------------------
 *
 * backoff.h
 *	  How long to wait before another try
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_BACKOFF_H
#define SCREENSHOT_TASK_BACKOFF_H

#include "util/monotonic.h"

extern MonotonicUs backoff_after(int n);

#endif							/* SCREENSHOT_TASK_BACKOFF_H */

/*-------------------------------------------------------------------------
 *
 * log_throttling.h
 *	  A line in the log for each request that a person may want to look at
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_LOG_THROTTLING_H
#define SCREENSHOT_TASK_LOG_THROTTLING_H

#include "table/status.h"
#include "util/monotonic.h"

extern void log_fault(const Transition *transition, const char *server,
					  int64 id, const char *error_code, const char *message,
					  const char *request_id);
extern MonotonicUs log_throttling_next_event(void);
extern void log_throttling_flush(bool all);

#endif							/* SCREENSHOT_TASK_LOG_THROTTLING_H */

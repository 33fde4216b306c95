/*-------------------------------------------------------------------------
 *
 * fault_log.h
 *	  A line in the log for each request that a person may want to look at
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_FAULT_LOG_H
#define SCREENSHOT_TASK_FAULT_LOG_H

#include "table/status.h"
#include "util/monotonic.h"

extern void fault_log(const Transition *transition, const char *server,
					  int64 id, const char *error_code, const char *message,
					  const char *request_id);
extern MonotonicUs fault_log_next_event(void);
extern void fault_log_storms(bool all);

#endif							/* SCREENSHOT_TASK_FAULT_LOG_H */

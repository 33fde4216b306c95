/*-------------------------------------------------------------------------
 *
 * status_change.h
 *	  What is counted and logged when a status has changed
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_STATUS_CHANGE_H
#define SCREENSHOT_TASK_STATUS_CHANGE_H

#include "table/request_queue.h"
#include "table/status.h"

extern void status_changed(const Transition *transition,
						   const char *server, int64 id,
						   const char *error_code, const char *message,
						   const char *request_id);
extern void request_expired(const ChangedRequest *request);

#endif							/* SCREENSHOT_TASK_STATUS_CHANGE_H */

/*-------------------------------------------------------------------------
 *
 * notify.h
 *	  Notifying listeners of finished requests
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_NOTIFY_H
#define SCREENSHOT_TASK_NOTIFY_H

#include "table/status.h"

extern bool notifications_are_wanted(void);
extern void notify_result(int64 id, const char *reference, RequestStatus status,
						  const char *task_id);

#endif							/* SCREENSHOT_TASK_NOTIFY_H */

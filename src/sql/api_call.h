/*-------------------------------------------------------------------------
 *
 * api_call.h
 *	  One call of the API in a session
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_API_CALL_H
#define SCREENSHOT_TASK_API_CALL_H

#include "api/actions.h"
#include "config/options.h"

extern void api_call(const char *server_name, LiveActionId action_id,
					 const void *parameters, LiveAnswer *answer);
extern void api_ask(const LiveServer *server, LiveActionId action_id,
					const void *parameters, LiveAnswer *answer);

#endif							/* SCREENSHOT_TASK_API_CALL_H */

/*-------------------------------------------------------------------------
 *
 * actions.h
 *	  The screenshot-task actions of Tencent Cloud Live, version 2018-08-01
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_ACTIONS_H
#define SCREENSHOT_TASK_ACTIONS_H

#include "api/answer.h"

/*
 * All that differs from one action to another: its identifier, its name, whether
 * it is idempotent, what makes the body of a request of its parameters (see
 * actions.c), and what reads the answer.
 */
#define LIVE_ACTIONS(ACTION) \
	ACTION(LIVE_CREATE, "CreateScreenshotTask", false, \
		   create_body, live_read_task_id) \
	ACTION(LIVE_STOP, "StopScreenshotTask", false, \
		   task_id_body, live_read_request_id) \
	ACTION(LIVE_DELETE, "DeleteScreenshotTask", false, \
		   task_id_body, live_read_request_id) \
	ACTION(LIVE_DESCRIBE, "DescribeScreenshotTask", true, \
		   describe_body, live_read_task_list)

#define ACTION_ID(id, name, idempotent, body, read) id,
typedef enum LiveActionId
{
	LIVE_ACTIONS(ACTION_ID)
	N_LIVE_ACTIONS
} LiveActionId;
#undef ACTION_ID

typedef struct LiveAction
{
	const char *name;			/* the API's */
	bool		idempotent;		/* may it be sent again, whatever became of it? */
	char	   *(*body) (const void *parameters);	/* palloc'd; see body.h */
	void		(*read) (const HttpReply *reply, LiveAnswer *answer);
} LiveAction;

extern const LiveAction live_actions[N_LIVE_ACTIONS];

#endif							/* SCREENSHOT_TASK_ACTIONS_H */

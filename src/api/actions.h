/*-------------------------------------------------------------------------
 *
 * actions.h
 *	  The actions of Tencent Cloud Live, version 2018-08-01, that are used
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_ACTIONS_H
#define SCREENSHOT_TASK_ACTIONS_H

#include "api/answer.h"

/* What to do about a call whose outcome is unknown, as hints */
#define CHECK_FIRST \
	"Check whether it was carried out before repeating the call."
#define REPEAT \
	"This action changes nothing; the call can be repeated."
#define REPEAT_SHORTER \
	"This action changes nothing; the call can be repeated, for a shorter window if the answer was too long."
#define LOOK_FOR_TEMPLATE \
	"Look for the template with describe_screenshot_templates() before repeating the call."

/*
 * All that differs from one action to another: its identifier, its name, what
 * to do where it is unknown whether it was carried out, what makes the body of a
 * request of its parameters (see actions.c), and what reads the answer.
 */
#define LIVE_ACTIONS(ACTION) \
	ACTION(LIVE_CREATE, "CreateScreenshotTask", CHECK_FIRST, \
		   create_body, live_read_task_id) \
	ACTION(LIVE_STOP, "StopScreenshotTask", CHECK_FIRST, \
		   task_id_body, live_read_request_id) \
	ACTION(LIVE_DELETE, "DeleteScreenshotTask", CHECK_FIRST, \
		   task_id_body, live_read_request_id) \
	ACTION(LIVE_DESCRIBE, "DescribeScreenshotTask", REPEAT_SHORTER, \
		   describe_body, live_read_task_list) \
	ACTION(LIVE_CREATE_TEMPLATE, "CreateLiveSnapshotTemplate", LOOK_FOR_TEMPLATE, \
		   template_body, live_read_template_id) \
	ACTION(LIVE_DELETE_TEMPLATE, "DeleteLiveSnapshotTemplate", LOOK_FOR_TEMPLATE, \
		   template_id_body, live_read_request_id) \
	ACTION(LIVE_DESCRIBE_TEMPLATES, "DescribeLiveSnapshotTemplates", REPEAT, \
		   empty_body, live_read_template_list)

#define ACTION_ID(id, name, hint, body, read) id,
typedef enum LiveActionId
{
	LIVE_ACTIONS(ACTION_ID)
	N_LIVE_ACTIONS
} LiveActionId;
#undef ACTION_ID

typedef struct LiveAction
{
	const char *name;			/* the API's */
	const char *hint;			/* where its outcome is unknown */
	char	   *(*body) (const void *parameters);	/* palloc'd; see body.h */
	void		(*read) (const HttpReply *reply, LiveAnswer *answer);
} LiveAction;

extern const LiveAction live_actions[N_LIVE_ACTIONS];

#endif							/* SCREENSHOT_TASK_ACTIONS_H */

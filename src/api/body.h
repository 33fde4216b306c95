/*-------------------------------------------------------------------------
 *
 * body.h
 *	  The bodies of requests
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_BODY_H
#define SCREENSHOT_TASK_BODY_H

#include "api/task.h"
#include "api/template.h"

/* Parameters of DescribeScreenshotTask; a text that is NULL is not given */
typedef struct TaskQuery
{
	int64		start_time;		/* Unix seconds */
	int64		end_time;		/* Unix seconds */
	const char *stream_name;
	const char *domain_name;
	const char *app_name;
	const char *scroll_token;	/* of the page before */
} TaskQuery;

extern char *live_create_body(const ScreenshotTask *task);
extern char *live_task_id_body(const char *task_id);
extern char *live_describe_body(const TaskQuery *lookup);
extern char *live_template_body(const ScreenshotTemplate *template);
extern char *live_template_id_body(int64 template_id);
extern char *sts_assume_role_body(const char *role_arn, const char *session_name,
								  int seconds);
extern char *sts_web_identity_body(const char *provider, const char *token,
								   const char *role_arn,
								   const char *session_name, int seconds);

#endif							/* SCREENSHOT_TASK_BODY_H */

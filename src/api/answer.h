/*-------------------------------------------------------------------------
 *
 * answer.h
 *	  What answers of the API say
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_ANSWER_H
#define SCREENSHOT_TASK_ANSWER_H

#include "nodes/pg_list.h"

#include "api/error_class.h"
#include "api/template.h"
#include "net/http.h"

/* A task as DescribeScreenshotTask lists it; times in Unix seconds */
typedef struct ListedTask
{
	const char *task_id;
	const char *stream_name;
	const char *domain_name;
	const char *app_name;
	int64		start_time;
	int64		end_time;
	int64		template_id;
	int64		stopped;		/* 0: it was not */
} ListedTask;

/* An answer; texts in the database's encoding, or NULL */
typedef struct LiveAnswer
{
	LiveOutcome outcome;
	int			sqlstate;		/* for an error */
	const char *task_id;		/* of LIVE_DONE, if the action gives one */
	int64		template_id;	/* likewise */
	const char *request_id;
	const char *error_code;		/* the API's */
	const char *message;		/* the API's, or ours */
	List	   *tasks;			/* of ListedTask: a page of the list asked for */
	const char *scroll_token;	/* of the next page; NULL: there is none */
	List	   *templates;		/* of ScreenshotTemplate: those of the account */
	int			retry_after;	/* seconds not to ask again; 0: as usual */
	int64		ahead;			/* seconds that the API's clock is ahead of
								 * this machine's; 0: or it does not say */
} LiveAnswer;

extern void live_read_task_id(const HttpReply *reply, LiveAnswer *answer);
extern void live_read_request_id(const HttpReply *reply, LiveAnswer *answer);
extern void live_read_task_list(const HttpReply *reply, LiveAnswer *answer);
extern void live_read_template_id(const HttpReply *reply, LiveAnswer *answer);
extern void live_read_template_list(const HttpReply *reply,
									LiveAnswer *answer);
extern bool live_means_no_such_action(const LiveAnswer *answer);
extern bool live_clocks_disagree(const LiveAnswer *answer);
extern const char *live_listed_text(const char *value);

#endif							/* SCREENSHOT_TASK_ANSWER_H */

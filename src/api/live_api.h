/*-------------------------------------------------------------------------
 *
 * live_api.h
 *	  The screenshot-task actions of Tencent Cloud Live, version 2018-08-01
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_LIVE_API_H
#define SCREENSHOT_TASK_LIVE_API_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "api/tc3.h"
#include "net/http.h"

#define LIVE_API_VERSION	"2018-08-01"
#define LIVE_API_SERVICE	"live"

#define LIVE_CREATE			"CreateScreenshotTask"
#define LIVE_STOP			"StopScreenshotTask"
#define LIVE_DELETE			"DeleteScreenshotTask"
#define LIVE_DESCRIBE		"DescribeScreenshotTask"

/* Rules of CreateScreenshotTask, in seconds */
#define LIVE_MAX_LENGTH		(24 * 3600) /* from start to end, at the most */
#define LIVE_MAX_START		(6 * 24 * 3600) /* a start, at the most */
#define LIVE_MAX_END		(7 * 24 * 3600) /* an end, less than */

/* Of texts, in bytes.  The API does not say; what is longer is no name. */
#define LIVE_MAX_NAME		1024
#define LIVE_MAX_EXTENSION	65536
#define LIVE_MAX_TASK_ID	255 /* the vendor's sample has 57 */

/* Parameters of CreateScreenshotTask; texts in the database's encoding */
typedef struct ScreenshotTask
{
	const char *stream_name;
	const char *domain_name;
	const char *app_name;
	bool		has_start;
	int64		start_time;		/* Unix seconds; not sent unless has_start */
	int64		end_time;		/* Unix seconds */
	int64		template_id;
	int32		stream_type;
	const char *extension;		/* NULL: none */
} ScreenshotTask;

/* The code for a token that does not, or no longer, belong to the secret_id */
#define LIVE_TOKEN_FAILURE	"AuthFailure.TokenFailure"

/* The code for a signature that was made too long ago, or is yet to be made */
#define LIVE_SIGNATURE_EXPIRED	"AuthFailure.SignatureExpire"

/* Rules of DescribeScreenshotTask, in seconds */
#define LIVE_MAX_WINDOW		(7 * 24 * 3600) /* from start to end, at the most */
#define LIVE_MAX_AGE		(90 * 24 * 3600)	/* of a start, at the most */

/* Parameters of DescribeScreenshotTask; a text that is NULL is not given */
typedef struct TaskInquiry
{
	int64		start_time;		/* Unix seconds */
	int64		end_time;		/* Unix seconds */
	const char *stream_name;
	const char *domain_name;
	const char *app_name;
	const char *scroll_token;	/* of the page before */
} TaskInquiry;

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

/* With what a request is sent; a token is NULL where there is none */
typedef struct Credentials
{
	char	   *secret_id;
	char	   *secret_key;
	char	   *token;
	char	   *source_name;	/* of those that are renewed; else NULL */
	uint64		account;		/* digest of the endpoint and of these */
} Credentials;

/* A signed request, ready for http_start() */
#define LIVE_MAX_HEADERS	12
typedef struct LiveRequest
{
	char	   *headers[LIVE_MAX_HEADERS];	/* the last one is NULL */
	int			token_header;	/* which of them has the token; -1: none */
	char	   *body;			/* UTF-8 */
	size_t		body_len;
	Tc3Signature signature;
} LiveRequest;

/* What an answer means, by its error code */
typedef enum LiveOutcome
{
	LIVE_DONE,					/* the API did it */
	LIVE_NOT_SENT,				/* never left; nothing was done */
	LIVE_THROTTLED,				/* refused by the rate limit */
	LIVE_QUOTA,					/* refused by another limit */
	LIVE_CREDENTIALS,			/* refused: who asks */
	LIVE_PERMISSION,			/* refused: who asks for this, perhaps of the
								 * domain alone */
	LIVE_SERVICE_STATE,			/* refused: the account's service */
	LIVE_ENVIRONMENT,			/* refused: where and how it was asked */
	LIVE_REFUSED,				/* refused: the request itself, for good */
	LIVE_UNKNOWN				/* perhaps done, perhaps not */
} LiveOutcome;

/* An answer; texts in the database's encoding, or NULL */
typedef struct LiveAnswer
{
	LiveOutcome outcome;
	int			sqlstate;		/* for an error */
	const char *task_id;		/* of LIVE_DONE, if the action gives one */
	const char *request_id;
	const char *error_code;		/* the API's */
	const char *message;		/* the API's, or ours */
	int			retry_after;	/* seconds not to ask again; 0: as usual */
	int64		ahead;			/* seconds that the API's clock is ahead of
								 * this machine's; 0: or it does not say */
} LiveAnswer;

extern int64 live_seconds(TimestampTz time);
extern void live_set_times(ScreenshotTask *task, TimestampTz start,
						   TimestampTz end);
extern void live_check_task(const ScreenshotTask *task, TimestampTz start,
							TimestampTz end, TimestampTz now);

extern void live_check_task_id(const char *task_id);
extern void live_check_filter(const char *parameter, const char *value);

extern char *live_create_body(const ScreenshotTask *task);
extern char *live_task_id_body(const char *task_id);
extern char *live_describe_body(const TaskInquiry *inquiry);
extern void live_sign(LiveRequest *request, const char *action,
					  const char *host, const char *region,
					  const char *language, const char *trace_id,
					  const Credentials *credentials, int64 timestamp,
					  char *body);
extern char *live_new_trace_id(void);
extern void live_forget_key(void);
extern void live_wipe_token(char *const *headers);
extern void live_read_answer(const HttpReply *reply, bool wants_task_id,
							 LiveAnswer *answer);
extern const char *live_credentials_hint(const char *code);
extern bool live_clocks_disagree(const LiveAnswer *answer);
extern void live_read_task_list(const HttpReply *reply, LiveAnswer *answer,
								List **tasks, const char **scroll_token);
extern const char *live_listed_text(const char *value);

#endif							/* SCREENSHOT_TASK_LIVE_API_H */

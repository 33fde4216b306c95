/*-------------------------------------------------------------------------
 *
 * live_api.c
 *	  The screenshot-task actions of Tencent Cloud Live, version 2018-08-01
 *
 * Parameters become the body of a signed request, and an answer becomes an
 * outcome.  Nothing here sends anything, or decides what follows from an
 * outcome.
 *
 * An answer comes from outside.  TaskIds, the RequestId, the error code and
 * numbers are checked for what they may consist of; listed names are compared
 * or shown, a ScrollToken is sent back, and the error's message is shown and
 * never read.  Whatever cannot be understood is LIVE_UNKNOWN: a
 * task may have been made all the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "mb/pg_wchar.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "api/live_api.h"

#define CONTENT_TYPE		"application/json; charset=utf-8"
#define REQUEST_CLIENT		"screenshot_task"
#define TOKEN_HEADER		"X-TC-Token: "

#define MAX_REQUEST_ID		64	/* bytes; a UUID has 36 */
#define MAX_ERROR_CODE		128 /* bytes */
#define MAX_MESSAGE			500 /* bytes; longer ones are clipped */

/* Signatures hold five minutes either way.  This leaves one to arrive in. */
#define MAX_CLOCK_SKEW		240 /* seconds */
#define MAX_SCROLL_TOKEN	4096	/* bytes */
#define MAX_TIME			INT64CONST(253402300799)	/* 9999-12-31T23:59:59Z */

/*
 * The classes of error codes, for all actions.  A code is looked up by its
 * full name, then by the part before its first dot; one that is not found is
 * LIVE_UNKNOWN, as are those that the API gives when it does not know itself
 * what it did: InternalError, other FailedOperation codes, ServiceUnavailable,
 * ResponseSizeLimitExceeded.
 *
 * MissingParameter and UnknownParameter are not the request's fault: all
 * required keys are always sent, and no others.  What is missing is the
 * region, or what is unknown belongs to another version of the API.
 */
typedef struct ErrorClass
{
	const char *code;
	LiveOutcome outcome;
	int			sqlstate;
	int			retry_after;	/* seconds, at the least; 0: as usual */
} ErrorClass;

#define MANY_REQUESTS	LIVE_THROTTLED, ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, 0
#define QUOTA			LIVE_QUOTA, ERRCODE_CONFIGURATION_LIMIT_EXCEEDED
#define CREDENTIALS		LIVE_CREDENTIALS, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, 0
#define PERMISSION		LIVE_PERMISSION, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, 0
#define SERVICE_STATE	LIVE_SERVICE_STATE, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, 0
#define NOT_OFFERED		LIVE_ENVIRONMENT, ERRCODE_FEATURE_NOT_SUPPORTED, 0
#define ADDRESS			LIVE_ENVIRONMENT, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, 0
#define PARAMETERS		LIVE_REFUSED, ERRCODE_INVALID_PARAMETER_VALUE, 0
#define OPERATION		LIVE_REFUSED, ERRCODE_FEATURE_NOT_SUPPORTED, 0

static const ErrorClass error_classes[] = {
	{"RequestLimitExceeded", MANY_REQUESTS},
	{"LimitExceeded.RateLimitExceeded", MANY_REQUESTS},

	{"LimitExceeded.MaximumTask", QUOTA, 900},	/* of a day */
	{"LimitExceeded", QUOTA, 0},
	{"ResourceInsufficient", QUOTA, 0},
	{"ResourcesSoldOut", QUOTA, 0},
	{"ResourceUnavailable", QUOTA, 0},
	{"ResourceInUse", QUOTA, 0},

	{"AuthFailure.UnauthorizedOperation", PERMISSION},
	{"AuthFailure", CREDENTIALS},
	{"UnauthorizedOperation", PERMISSION},

	{"ResourceNotFound.ForbidService", SERVICE_STATE},
	{"ResourceNotFound.FreezeService", SERVICE_STATE},
	{"ResourceNotFound.InvalidUser", SERVICE_STATE},
	{"ResourceNotFound.StopService", SERVICE_STATE},
	{"ResourceNotFound.UserDisableService", SERVICE_STATE},
	{"ResourceNotFound.UserNotExist", SERVICE_STATE},
	{"UnsupportedOperation.NotLVBCodeMode", SERVICE_STATE},
	{"FailedOperation.AuthError", SERVICE_STATE},
	{"FailedOperation.JiFeiNoEnoughFund", SERVICE_STATE},
	{"FailedOperation.NoRealNameAuth", SERVICE_STATE},
	{"FailedOperation.SdkNoPackage", SERVICE_STATE},
	{"OperationDenied", SERVICE_STATE},

	{"InvalidAction", NOT_OFFERED},
	{"NoSuchProduct", NOT_OFFERED},
	{"NoSuchVersion", NOT_OFFERED},
	{"ActionOffline", NOT_OFFERED},
	{"UnsupportedRegion", NOT_OFFERED},
	{"UnsupportedProtocol", NOT_OFFERED},
	{"MissingParameter", NOT_OFFERED},
	{"UnknownParameter", NOT_OFFERED},
	{"IpInBlacklist", ADDRESS},
	{"IpNotInWhitelist", ADDRESS},

	{"InvalidParameter", PARAMETERS},
	{"InvalidParameterValue", PARAMETERS},
	{"UnsupportedOperation", OPERATION},
	{"InvalidRequest", PARAMETERS},
	{"RequestSizeLimitExceeded", PARAMETERS},
	{"ResourceNotFound", PARAMETERS},
	{"DryRunOperation", PARAMETERS},
};

/*
 * What the refusals of credentials mean, as hints.
 */
static const struct
{
	const char *code;
	const char *hint;
}			credentials_hints[] = {
	{"AuthFailure.SecretIdNotFound", "The secret_id is wrong, or was deleted or disabled in the console; or the account is of the other edition than the server option \"endpoint\"."},
	{"AuthFailure.InvalidSecretId", "The secret_id is not that of an API key."},
	{"AuthFailure.SignatureFailure", "The secret_key is probably not the one of the secret_id."},
	{"AuthFailure.SignatureExpire", "Set this machine's clock: it is over five minutes off."},
	{LIVE_TOKEN_FAILURE, "The token has expired, is not the one of the secret_id, or is missing: temporary credentials have all three."},
	{"AuthFailure.MFAFailure", "The account wants a second factor for this, which no request can have: use the key of an account that does not."},
	{"AuthFailure.InvalidAuthorization", "The Authorization header was not understood: see whether a proxy changes it."},
};

static Tc3Signer *signer = NULL;

static void check_text(const char *parameter, const char *value, size_t least,
					   size_t most);
static int	detail_of_times(const char *other_name, TimestampTz other,
							TimestampTz wrong);
static void append_key(StringInfo body, const char *key);
static void append_text(StringInfo body, const char *key, const char *value);
static void append_number(StringInfo body, const char *key, int64 value);
static void wipe_signer(int code, Datum arg);
static Jsonb *parse_json(const char *text, size_t len);
static Jsonb *try_jsonb_in(const char *text);
static char *replace_non_ascii(const char *text, size_t len);
static char *replace_json_non_ascii(const char *text, size_t len);
static size_t json_escape_len(const char *text, const char *end);
static int	read_json_escape(const char *text, const char *end);
static JsonbContainer *get_object(JsonbContainer *object, const char *key);
static const char *get_text(JsonbContainer *object, const char *key,
							size_t max_len, const char *also_allowed);
static bool has_key(JsonbContainer *object, const char *key);
static const char *get_message(JsonbContainer *object, const char *key);
static const char *get_any_text(JsonbContainer *object, const char *key);
static bool get_number(JsonbContainer *object, const char *key, int64 most,
					   int64 *number);
static const char *get_task_id(JsonbContainer *object);
static JsonbContainer *read_response(const HttpReply *reply,
									 LiveAnswer *answer);
static void read_error(JsonbContainer *response, LiveAnswer *answer);
static bool read_tasks(const JsonbValue *list, LiveAnswer *answer,
					   List **tasks);
static ListedTask *read_listed_task(const JsonbValue *value);
static const ErrorClass *find_error_class(const char *code);

/*
 * A point in time in whole Unix seconds, rounded down.
 */
int64
live_seconds(TimestampTz time)
{
	int64		seconds = time / USECS_PER_SEC;

	if (time % USECS_PER_SEC < 0)
		seconds--;
	return seconds +
		(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (int64) SECS_PER_DAY;
}

/*
 * Set the times of a task as the API takes them: whole seconds, a start
 * rounded down and an end up.
 *
 * "start" is when the task begins: its start_time if it has one, else when it
 * was asked for.  An end that is 24 hours later and no more does not become
 * more by being rounded.
 */
void
live_set_times(ScreenshotTask *task, TimestampTz start, TimestampTz end)
{
	task->start_time = live_seconds(start);
	task->end_time = live_seconds(end) + (end % USECS_PER_SEC != 0 ? 1 : 0);
	if (end - start <= LIVE_MAX_LENGTH * USECS_PER_SEC)
		task->end_time = Min(task->end_time,
							 task->start_time + LIVE_MAX_LENGTH);
}

/*
 * Check the parameters of a task that is to be created now: all that can be
 * checked without asking the API.  start and end are the times that
 * live_set_times() was given.
 *
 * Raises an error that names the parameter.
 */
void
live_check_task(const ScreenshotTask *task, TimestampTz start,
				TimestampTz end, TimestampTz now)
{
	check_text("stream_name", task->stream_name, 1, LIVE_MAX_NAME);
	check_text("domain_name", task->domain_name, 1, LIVE_MAX_NAME);
	check_text("app_name", task->app_name, 1, LIVE_MAX_NAME);
	if (task->extension != NULL)
		check_text("extension", task->extension, 0, LIVE_MAX_EXTENSION);

	if (task->template_id < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("template_id must not be negative"),
				 errdetail("It is %lld.", (long long) task->template_id)));
	if (task->stream_type != 0 && task->stream_type != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stream_type must be 0 or 1"),
				 errdetail("It is %d.", task->stream_type),
				 errhint("0 is a live stream, 1 a mixed one.")));
	if (end <= now)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("end_time must be in the future"),
				 detail_of_times("now", now, end)));
	if (task->has_start && end <= start)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("end_time must be later than start_time"),
				 detail_of_times("start_time", start, end)));
	if (end - start > LIVE_MAX_LENGTH * USECS_PER_SEC)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 task->has_start ?
				 errmsg("end_time must be at most 24 hours after start_time") :
				 errmsg("end_time must be at most 24 hours from now where there is no start_time"),
				 detail_of_times(task->has_start ? "start_time" : "now", start,
								 end),
				 errhint("Create a task for each part of a longer event.")));
	if (task->start_time - live_seconds(now) > LIVE_MAX_START)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("start_time must be at most six days from now"),
				 detail_of_times("now", now, start),
				 errhint("Insert the request into screenshot_task_request instead: it is sent as soon as it may be.")));
	if (task->end_time - live_seconds(now) >= LIVE_MAX_END)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("end_time must be less than seven days from now"),
				 detail_of_times("now", now, end),
				 errhint("Insert the request into screenshot_task_request instead: it is sent as soon as it may be.")));
}

/*
 * Check a TaskId that is sent, or taken for one.  Raises an error that says
 * what is allowed.
 */
void
live_check_task_id(const char *task_id)
{
	check_text("task_id", task_id, 1, LIVE_MAX_TASK_ID);
}

/*
 * Check a name that DescribeScreenshotTask is to list the tasks of; NULL: of
 * any.  Raises an error that names the parameter.
 */
void
live_check_filter(const char *parameter, const char *value)
{
	if (value != NULL)
		check_text(parameter, value, 1, LIVE_MAX_NAME);
}

static void
check_text(const char *parameter, const char *value, size_t least, size_t most)
{
	size_t		len = strlen(value);

	if (len < least)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be empty", parameter)));
	if (len > most)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be at most %zu bytes", parameter, most),
				 errdetail("It has %zu bytes.", len)));
}

/*
 * DETAIL of an error: a time that is wrong, and the one that it is held
 * against.
 */
static int
detail_of_times(const char *other_name, TimestampTz other, TimestampTz wrong)
{
	char	   *other_text = pstrdup(timestamptz_to_str(other));

	return errdetail("It is %s, and %s is %s.", timestamptz_to_str(wrong),
					 other_name, other_text);
}

/*
 * The body of CreateScreenshotTask, in UTF-8, palloc'd.
 *
 * Raises an error if a text has a character that UTF-8 does not have.  Needs
 * a transaction where the database's encoding is not UTF-8.
 */
char *
live_create_body(const ScreenshotTask *task)
{
	StringInfoData body;

	initStringInfo(&body);
	append_text(&body, "AppName", task->app_name);
	append_text(&body, "DomainName", task->domain_name);
	append_text(&body, "StreamName", task->stream_name);
	if (task->has_start)
		append_number(&body, "StartTime", task->start_time);
	append_number(&body, "EndTime", task->end_time);
	append_number(&body, "TemplateId", task->template_id);
	if (task->stream_type != 0)
		append_number(&body, "StreamType", task->stream_type);
	if (task->extension != NULL)
		append_text(&body, "Extension", task->extension);
	appendStringInfoChar(&body, '}');
	return body.data;
}

/*
 * The body of StopScreenshotTask and DeleteScreenshotTask, as above.
 */
char *
live_task_id_body(const char *task_id)
{
	StringInfoData body;

	initStringInfo(&body);
	append_text(&body, "TaskId", task_id);
	appendStringInfoChar(&body, '}');
	return body.data;
}

/*
 * The body of DescribeScreenshotTask, as above.
 */
char *
live_describe_body(const TaskInquiry *inquiry)
{
	StringInfoData body;

	initStringInfo(&body);
	append_number(&body, "StartTime", inquiry->start_time);
	append_number(&body, "EndTime", inquiry->end_time);
	if (inquiry->stream_name != NULL)
		append_text(&body, "StreamName", inquiry->stream_name);
	if (inquiry->domain_name != NULL)
		append_text(&body, "DomainName", inquiry->domain_name);
	if (inquiry->app_name != NULL)
		append_text(&body, "AppName", inquiry->app_name);
	if (inquiry->scroll_token != NULL)
		append_text(&body, "ScrollToken", inquiry->scroll_token);
	appendStringInfoChar(&body, '}');
	return body.data;
}

static void
append_key(StringInfo body, const char *key)
{
	appendStringInfo(body, "%c\"%s\":", body->len == 0 ? '{' : ',', key);
}

static void
append_text(StringInfo body, const char *key, const char *value)
{
	append_key(body, key);
	/* UTF-8 first: in some encodings a quote may be half a character */
	escape_json(body, pg_server_to_any(value, (int) strlen(value), PG_UTF8));
}

static void
append_number(StringInfo body, const char *key, int64 value)
{
	append_key(body, key);
	appendStringInfo(body, "%lld", (long long) value);
}

/*
 * Make a signed request of a body.
 *
 * host is the Host header; trace_id may be NULL, for a request that is only
 * shown; timestamp is in Unix seconds, and the signature holds for five minutes
 * around it.  The headers are palloc'd, the body is
 * taken as it is.  Raises an error when the credentials cannot be signed with.
 */
void
live_sign(LiveRequest *request, const char *action, const char *host,
		  const char *region, const char *language, const char *trace_id,
		  const Credentials *credentials, int64 timestamp, char *body)
{
	Tc3Request	to_sign = {
		.method = "POST",
		.query = "",
		.content_type = CONTENT_TYPE,
		.host = host,
		.action = action,
		.service = LIVE_API_SERVICE,
		.body = body,
		.body_len = strlen(body),
		.timestamp = timestamp
	};
	static bool is_wiped_at_exit = false;
	const char *problem;
	int			n = 0;

	if (signer == NULL)
	{
		signer = tc3_signer_new();
		if (signer == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
					 errmsg("OpenSSL offers no HMAC with SHA-256")));
		if (!is_wiped_at_exit)
			on_proc_exit(wipe_signer, (Datum) 0);
		is_wiped_at_exit = true;
	}
	problem = tc3_sign(signer, &to_sign, credentials->secret_id,
					   credentials->secret_key, &request->signature);
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("could not sign the request: %s", problem)));

	request->body = body;
	request->body_len = to_sign.body_len;
	request->headers[n++] = psprintf("Host: %s", host);
	request->headers[n++] = "Content-Type: " CONTENT_TYPE;
	request->headers[n++] = psprintf("X-TC-Action: %s", action);
	request->headers[n++] = "X-TC-Version: " LIVE_API_VERSION;
	request->headers[n++] = psprintf("X-TC-Timestamp: %lld",
									 (long long) timestamp);
	request->headers[n++] = psprintf("X-TC-Region: %s", region);
	request->headers[n++] = psprintf("X-TC-Language: %s", language);
	request->headers[n++] = "X-TC-RequestClient: " REQUEST_CLIENT;
	if (trace_id != NULL)
		request->headers[n++] = psprintf("X-TC-TraceId: %s", trace_id);
	request->headers[n++] = psprintf("Authorization: %s",
									 request->signature.authorization);
	request->token_header = -1;
	if (credentials->token != NULL)
	{
		request->token_header = n;
		request->headers[n++] = psprintf(TOKEN_HEADER "%s",
										   credentials->token);
	}
	request->headers[n] = NULL;
	Assert(n < LIVE_MAX_HEADERS);
}

/*
 * A new name for a request, palloc'd: what the vendor's support can look it up
 * by where its answer, and so the RequestId, was lost.  To be used once.
 */
char *
live_new_trace_id(void)
{
	Datum		uuid = DirectFunctionCall1(gen_random_uuid, (Datum) 0);

	return DatumGetCString(DirectFunctionCall1(uuid_out, uuid));
}

/*
 * Wipe the token from the headers that live_sign() made, if they have one.
 * They are of no more use then.
 */
void
live_wipe_token(char *const *headers)
{
	for (; *headers != NULL; headers++)
	{
		if (strncmp(*headers, TOKEN_HEADER, strlen(TOKEN_HEADER)) == 0)
			explicit_bzero(*headers, strlen(*headers));
	}
}

/*
 * Forget the key that live_sign() has derived: it may be of another day than
 * this one.
 */
void
live_forget_key(void)
{
	tc3_signer_free(signer);
	signer = NULL;
}

static void
wipe_signer(int code, Datum arg)
{
	(void) code;
	(void) arg;
	live_forget_key();
}

/*
 * What a reply means.
 *
 * wants_task_id: must a success have a TaskId?  The texts of *answer are
 * palloc'd.  Raises nothing but out of memory, and not even that while it reads
 * the JSON, which is LIVE_UNKNOWN then.
 */
void
live_read_answer(const HttpReply *reply, bool wants_task_id,
				 LiveAnswer *answer)
{
	JsonbContainer *response = read_response(reply, answer);

	if (response == NULL)
		return;
	if (has_key(response, "Error") && has_key(response, "TaskId"))
		answer->message = "the answer has both a TaskId and an Error";
	else if (has_key(response, "Error"))
		read_error(response, answer);
	else if (wants_task_id)
	{
		answer->task_id = get_task_id(response);
		if (answer->task_id != NULL)
			answer->outcome = LIVE_DONE;
		else
			answer->message = "the answer has neither a valid TaskId nor an Error";
	}
	else if (answer->request_id != NULL)
		answer->outcome = LIVE_DONE;
	else
		answer->message = "the answer has neither a RequestId nor an Error";
}

/*
 * What a reply to DescribeScreenshotTask means.
 *
 * If the outcome is LIVE_DONE, *tasks is a list of ListedTask, and
 * *scroll_token asks for the next page, or is NULL at the last one.  A list
 * that cannot be read to its end is LIVE_UNKNOWN: a task that is overlooked
 * would be created a second time.
 */
void
live_read_task_list(const HttpReply *reply, LiveAnswer *answer,
					List **tasks, const char **scroll_token)
{
	JsonbContainer *response = read_response(reply, answer);
	JsonbValue	value;

	*tasks = NIL;
	*scroll_token = NULL;
	if (response == NULL)
		return;
	if (has_key(response, "Error"))
	{
		read_error(response, answer);
		return;
	}
	if (getKeyJsonValueFromContainer(response, "TaskList", 8, &value) == NULL ||
		!read_tasks(&value, answer, tasks))
	{
		if (answer->message == NULL)
			answer->message = "the answer has neither a TaskList nor an Error";
		return;
	}
	if (getKeyJsonValueFromContainer(response, "ScrollToken", 11, &value) != NULL &&
		value.type != jbvNull)
	{
		if (value.type != jbvString || value.val.string.len > MAX_SCROLL_TOKEN)
		{
			answer->message = "the answer has no valid ScrollToken";
			return;
		}
		if (value.val.string.len > 0)
			*scroll_token = pnstrdup(value.val.string.val,
									 value.val.string.len);
	}
	answer->outcome = LIVE_DONE;
}

/*
 * Read a TaskList into *tasks.  One that is null is an empty one, in an answer
 * that the API has given a RequestId.
 *
 * Returns whether it is a list of tasks; if it is one with a task that is not
 * complete, with a message in *answer.
 */
static bool
read_tasks(const JsonbValue *list, LiveAnswer *answer, List **tasks)
{
	if (list->type == jbvNull)
		return answer->request_id != NULL;
	if (list->type != jbvBinary ||
		!JsonContainerIsArray(list->val.binary.data))
		return false;
	for (uint32 i = 0; i < JsonContainerSize(list->val.binary.data); i++)
	{
		ListedTask *task = read_listed_task(getIthJsonbValueFromContainer(list->val.binary.data, i));

		if (task == NULL)
		{
			answer->message = "the answer has a task that is not complete";
			return false;
		}
		*tasks = lappend(*tasks, task);
	}
	return true;
}

static ListedTask *
read_listed_task(const JsonbValue *value)
{
	ListedTask *task = palloc0(sizeof(ListedTask));
	JsonbContainer *object;

	if (value->type != jbvBinary ||
		!JsonContainerIsObject(value->val.binary.data))
		return NULL;
	object = value->val.binary.data;
	task->task_id = get_task_id(object);
	task->stream_name = get_any_text(object, "StreamName");
	task->domain_name = get_any_text(object, "DomainName");
	task->app_name = get_any_text(object, "AppName");
	if (task->task_id == NULL || task->stream_name == NULL ||
		task->domain_name == NULL || task->app_name == NULL ||
		!get_number(object, "StartTime", MAX_TIME, &task->start_time) ||
		!get_number(object, "EndTime", MAX_TIME, &task->end_time) ||
		!get_number(object, "TemplateId", PG_INT64_MAX, &task->template_id) ||
		(has_key(object, "Stopped") &&
		 !get_number(object, "Stopped", MAX_TIME, &task->stopped)))
		return NULL;
	return task;
}

/*
 * The inside of "Response", with its RequestId in *answer.
 *
 * Returns NULL if there is none, with the outcome and a message in *answer.
 */
static JsonbContainer *
read_response(const HttpReply *reply, LiveAnswer *answer)
{
	Jsonb	   *json;
	JsonbContainer *response = NULL;

	memset(answer, 0, sizeof(*answer));
	answer->outcome = LIVE_UNKNOWN;
	answer->sqlstate = ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN;

	if (!reply->complete)
	{
		if (!reply->sent)
		{
			answer->outcome = LIVE_NOT_SENT;
			answer->sqlstate = ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION;
		}
		answer->message = pstrdup(reply->error);
		return NULL;
	}
	if (reply->date != 0)
		answer->ahead = reply->date - live_seconds(GetCurrentTimestamp());
	if (reply->status != 200)
	{
		answer->message = psprintf("HTTP status %ld instead of an answer of the API",
								   reply->status);
		return NULL;
	}
	json = parse_json(reply->body, reply->body_len);
	if (json == NULL || !JB_ROOT_IS_OBJECT(json))
	{
		answer->message = "the answer is not valid JSON in UTF-8";
		return NULL;
	}
	response = get_object(&json->root, "Response");
	if (response == NULL)
		answer->message = "the answer has no Response";
	else
		answer->request_id = get_text(response, "RequestId", MAX_REQUEST_ID,
									  "-_");
	return response;
}

/*
 * What to do about credentials that were refused with a code, as a sentence;
 * NULL: the code does not tell.
 */
const char *
live_credentials_hint(const char *code)
{
	for (int i = 0; i < (int) lengthof(credentials_hints); i++)
	{
		if (strcmp(credentials_hints[i].code, code) == 0)
			return credentials_hints[i].hint;
	}
	return NULL;
}

/*
 * Is this machine's clock too far from the API's for signatures to hold?
 */
bool
live_clocks_disagree(const LiveAnswer *answer)
{
	return answer->ahead > MAX_CLOCK_SKEW || answer->ahead < -MAX_CLOCK_SKEW ||
		(answer->error_code != NULL &&
		 strcmp(answer->error_code, LIVE_SIGNATURE_EXPIRED) == 0);
}

static void
read_error(JsonbContainer *response, LiveAnswer *answer)
{
	JsonbContainer *error = get_object(response, "Error");
	const ErrorClass *class;

	if (error != NULL)
	{
		answer->error_code = get_text(error, "Code", MAX_ERROR_CODE, "._");
		answer->message = get_message(error, "Message");
	}
	if (answer->error_code == NULL)
	{
		answer->message = "the answer has an Error without a valid Code";
		return;
	}
	class = find_error_class(answer->error_code);
	if (class != NULL)
	{
		answer->outcome = class->outcome;
		answer->sqlstate = class->sqlstate;
		answer->retry_after = class->retry_after;
	}
}

/*
 * A text as it stands in a list that the API gave, if it is the same: in a
 * database that is not in UTF-8, what is not ASCII is not told apart.
 */
const char *
live_listed_text(const char *value)
{
	const char *utf8;

	if (GetDatabaseEncoding() == PG_UTF8)
		return value;
	utf8 = pg_server_to_any(value, (int) strlen(value), PG_UTF8);
	return replace_non_ascii(utf8, strlen(utf8));
}

/*
 * Look an error code up.  Returns NULL if it is of no known class.
 */
static const ErrorClass *
find_error_class(const char *code)
{
	size_t		first_part = strcspn(code, ".");

	for (int i = 0; i < (int) lengthof(error_classes); i++)
	{
		if (strcmp(error_classes[i].code, code) == 0)
			return &error_classes[i];
	}
	for (int i = 0; i < (int) lengthof(error_classes); i++)
	{
		if (strlen(error_classes[i].code) == first_part &&
			strncmp(error_classes[i].code, code, first_part) == 0)
			return &error_classes[i];
	}
	return NULL;
}

/*
 * Parse JSON in UTF-8.  Returns NULL if it is not that, or if it is nested so
 * deeply that the parser gives up.
 *
 * The parser can only raise errors.  It touches nothing but memory, so that
 * one may be caught without a subtransaction.
 */
static Jsonb *
parse_json(const char *text, size_t len)
{
	if (strlen(text) != len || !pg_verify_mbstr(PG_UTF8, text, (int) len, true))
		return NULL;
	return try_jsonb_in(GetDatabaseEncoding() == PG_UTF8 ? text :
						replace_json_non_ascii(text, len));
}

static Jsonb *
try_jsonb_in(const char *text)
{
	Jsonb	   *volatile json = NULL;
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
												  CStringGetDatum(text)));
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
	return json;
}

/*
 * A copy of a text in valid UTF-8 that has "?" for each character beyond
 * ASCII: what any database encoding can hold.
 */
static char *
replace_non_ascii(const char *text, size_t len)
{
	char	   *copy = palloc(len + 1);
	char	   *out = copy;
	const char *end = text + len;

	while (text < end)
	{
		*out++ = IS_HIGHBIT_SET(*text) ? '?' : *text;
		text += pg_utf_mblen((const unsigned char *) text);
	}
	*out = '\0';
	return copy;
}

/*
 * The same of a JSON text, where an escape stands for a character too.
 */
static char *
replace_json_non_ascii(const char *text, size_t len)
{
	char	   *ascii = replace_non_ascii(text, len);
	const char *end = ascii + strlen(ascii);
	char	   *out = ascii;

	for (const char *in = ascii; in < end;)
	{
		size_t		escape_len = json_escape_len(in, end);

		if (escape_len > 0)
		{
			*out++ = '?';
			in += escape_len;
			continue;
		}
		/* A backslash that is escaped begins no escape. */
		if (*in == '\\' && in + 1 < end)
			*out++ = *in++;
		*out++ = *in++;
	}
	*out = '\0';
	return ascii;
}

/*
 * The length of the escape of a character beyond ASCII that a JSON text
 * begins with: one, or two of a surrogate pair.  0 if it does not, or if the
 * escape is wrong, which is left for the parser to find.
 */
static size_t
json_escape_len(const char *text, const char *end)
{
	int			code = read_json_escape(text, end);

	if (code < 0x80 || (code >= 0xdc00 && code <= 0xdfff))
		return 0;
	if (code < 0xd800 || code > 0xdbff)
		return 6;
	code = read_json_escape(text + 6, end);
	return code >= 0xdc00 && code <= 0xdfff ? 12 : 0;
}

/*
 * The code of the \u escape that a JSON text begins with; -1 if there is none.
 */
static int
read_json_escape(const char *text, const char *end)
{
	int			code = 0;

	if (end - text < 6 || text[0] != '\\' || text[1] != 'u')
		return -1;
	for (int i = 2; i < 6; i++)
	{
		if (!isxdigit((unsigned char) text[i]))
			return -1;
		code = code * 16 + (isdigit((unsigned char) text[i]) ? text[i] - '0' :
							pg_ascii_tolower(text[i]) - 'a' + 10);
	}
	return code;
}

static bool
has_key(JsonbContainer *object, const char *key)
{
	JsonbValue	value;

	return getKeyJsonValueFromContainer(object, key, (int) strlen(key),
										&value) != NULL;
}

/*
 * A member that is an object, or NULL.
 */
static JsonbContainer *
get_object(JsonbContainer *object, const char *key)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(object, key, (int) strlen(key),
									 &value) == NULL ||
		value.type != jbvBinary || !JsonContainerIsObject(value.val.binary.data))
		return NULL;
	return value.val.binary.data;
}

/*
 * A member that is a text of ASCII letters, digits and the given other
 * characters, not empty and of at most max_len bytes; or NULL.
 */
static const char *
get_text(JsonbContainer *object, const char *key, size_t max_len,
		 const char *also_allowed)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(object, key, (int) strlen(key),
									 &value) == NULL ||
		value.type != jbvString ||
		value.val.string.len == 0 || (size_t) value.val.string.len > max_len)
		return NULL;
	for (int i = 0; i < value.val.string.len; i++)
	{
		char		c = value.val.string.val[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			  (c >= '0' && c <= '9') || strchr(also_allowed, c) != NULL))
			return NULL;
	}
	return pnstrdup(value.val.string.val, value.val.string.len);
}

static const char *
get_task_id(JsonbContainer *object)
{
	return get_text(object, "TaskId", LIVE_MAX_TASK_ID, "-_.:/+=~@#|,");
}

/*
 * A member that is any text, or NULL.
 */
static const char *
get_any_text(JsonbContainer *object, const char *key)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(object, key, (int) strlen(key),
									 &value) == NULL ||
		value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/*
 * A member that is a whole number from 0 to "most".  Returns whether there is
 * one.
 */
static bool
get_number(JsonbContainer *object, const char *key, int64 most, int64 *number)
{
	JsonbValue	value;
	Datum		numeric;

	if (getKeyJsonValueFromContainer(object, key, (int) strlen(key),
									 &value) == NULL ||
		value.type != jbvNumeric)
		return false;
	numeric = NumericGetDatum(value.val.numeric);
	/* In this order: a number may have 131072 digits, were it written out. */
	if (DatumGetBool(DirectFunctionCall2(numeric_lt, numeric,
										 NumericGetDatum(int64_to_numeric(0)))) ||
		DatumGetBool(DirectFunctionCall2(numeric_gt, numeric,
										 NumericGetDatum(int64_to_numeric(most)))))
		return false;
	*number = DatumGetInt64(DirectFunctionCall1(numeric_int8, numeric));
	return DatumGetBool(DirectFunctionCall2(numeric_eq, numeric,
											NumericGetDatum(int64_to_numeric(*number))));
}

/*
 * A member that is a text for people, clipped, without control characters;
 * or NULL.
 */
static const char *
get_message(JsonbContainer *object, const char *key)
{
	JsonbValue	value;
	char	   *message;

	if (getKeyJsonValueFromContainer(object, key, (int) strlen(key),
									 &value) == NULL ||
		value.type != jbvString)
		return NULL;
	message = pnstrdup(value.val.string.val,
					   pg_mbcliplen(value.val.string.val, value.val.string.len,
									MAX_MESSAGE));
	for (char *c = message; *c != '\0'; c++)
	{
		if ((unsigned char) *c < ' ' || *c == 0x7f)
			*c = ' ';
	}
	return message;
}

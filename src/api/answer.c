/*-------------------------------------------------------------------------
 *
 * answer.c
 *	  What answers of the API say
 *
 * An answer comes from outside.  TaskIds, the RequestId, the error code and
 * numbers are checked for what they may consist of; listed names are compared
 * or shown, a ScrollToken is sent back, and the error's message is shown and
 * never read.  Whatever cannot be understood is LIVE_UNKNOWN: a task may have
 * been made all the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/timestamp.h"

#include "api/answer.h"
#include "api/answer_json.h"
#include "api/task.h"

#define MAX_REQUEST_ID		64	/* bytes; a UUID has 36 */
#define MAX_ERROR_CODE		128 /* bytes */

/* Signatures hold five minutes either way.  This leaves one to arrive in. */
#define MAX_CLOCK_SKEW		240 /* seconds */
#define MAX_SCROLL_TOKEN	4096	/* bytes */
#define MAX_TIME			INT64CONST(253402300799)	/* 9999-12-31T23:59:59Z */

/* Takes what an action gives from its answer; returns whether it is there. */
typedef bool (*ResultReader) (JsonbContainer *response, LiveAnswer *answer);

static void read_result(const HttpReply *reply, const char *result,
						ResultReader read, LiveAnswer *answer);
static bool read_task_id(JsonbContainer *response, LiveAnswer *answer);
static bool read_request_id(JsonbContainer *response, LiveAnswer *answer);
static bool read_template_id(JsonbContainer *response, LiveAnswer *answer);
static bool read_template_list(JsonbContainer *response, LiveAnswer *answer);
static ScreenshotTemplate *read_listed_template(const JsonbValue *value);
static bool read_optional_number(JsonbContainer *object, const char *key,
								 int64 most, int64 *number);
static bool is_null(JsonbContainer *object, const char *key);
static const char *get_task_id(JsonbContainer *object);
static JsonbContainer *read_response(const HttpReply *reply,
									 LiveAnswer *answer);
static void read_error(JsonbContainer *response, LiveAnswer *answer);
static bool read_tasks(const JsonbValue *list, LiveAnswer *answer);
static ListedTask *read_listed_task(const JsonbValue *value);

/*
 * What a reply means, to an action whose success has a TaskId, a TemplateId, a
 * list of templates, or nothing but a RequestId.
 *
 * The texts of *answer are palloc'd.  Raises nothing but out of memory, and not
 * even that while it reads the JSON, which is LIVE_UNKNOWN then.
 */
void
live_read_task_id(const HttpReply *reply, LiveAnswer *answer)
{
	read_result(reply, "TaskId", read_task_id, answer);
}

void
live_read_request_id(const HttpReply *reply, LiveAnswer *answer)
{
	read_result(reply, "RequestId", read_request_id, answer);
}

void
live_read_template_id(const HttpReply *reply, LiveAnswer *answer)
{
	read_result(reply, "TemplateId", read_template_id, answer);
}

void
live_read_template_list(const HttpReply *reply, LiveAnswer *answer)
{
	read_result(reply, "Templates", read_template_list, answer);
}

static void
read_result(const HttpReply *reply, const char *result, ResultReader read,
			LiveAnswer *answer)
{
	JsonbContainer *response = read_response(reply, answer);

	if (response == NULL)
		return;

	/*
	 * Neither can be believed then: to take it for refused could do the same
	 * twice, to take it for done could lose it.
	 */
	if (has_key(response, "Error") && read != read_request_id &&
		has_key(response, result))
		answer->message = psprintf("the answer has both a %s and an Error",
								   result);
	else if (has_key(response, "Error"))
		read_error(response, answer);
	else if (read(response, answer))
		answer->outcome = LIVE_DONE;
	else
		answer->message = psprintf("the answer has neither a valid %s nor an Error",
								   result);
}

/*
 * A TaskId is what says that the task exists; the HTTP status is 200 for
 * errors, too.
 */
static bool
read_task_id(JsonbContainer *response, LiveAnswer *answer)
{
	answer->task_id = get_task_id(response);
	return answer->task_id != NULL;
}

/*
 * Read the answer to an action that returns nothing but a RequestId, which is
 * the only sign then that the API itself has answered.
 */
static bool
read_request_id(JsonbContainer *response, LiveAnswer *answer)
{
	(void) response;
	return answer->request_id != NULL;
}

static bool
read_template_id(JsonbContainer *response, LiveAnswer *answer)
{
	return get_number(response, "TemplateId", PG_INT64_MAX,
					  &answer->template_id) && answer->template_id > 0;
}

/*
 * Read a list of templates.  Null is an empty list, in an answer that the API
 * has given a RequestId.
 */
static bool
read_template_list(JsonbContainer *response, LiveAnswer *answer)
{
	JsonbValue	list;

	if (getKeyJsonValueFromContainer(response, "Templates", 9, &list) == NULL)
		return false;
	if (list.type == jbvNull)
		return answer->request_id != NULL;
	if (list.type != jbvBinary || !JsonContainerIsArray(list.val.binary.data))
		return false;
	for (uint32 i = 0; i < JsonContainerSize(list.val.binary.data); i++)
	{
		ScreenshotTemplate *template =
			read_listed_template(getIthJsonbValueFromContainer(list.val.binary.data, i));

		if (template == NULL)
			return false;
		answer->templates = lappend(answer->templates, template);
	}
	return true;
}

/*
 * A template as it is listed; NULL if it has no valid TemplateId, or a number
 * that is none.
 */
static ScreenshotTemplate *
read_listed_template(const JsonbValue *value)
{
	ScreenshotTemplate *template = palloc0(sizeof(ScreenshotTemplate));
	JsonbContainer *object;

	if (value->type != jbvBinary ||
		!JsonContainerIsObject(value->val.binary.data))
		return NULL;
	object = value->val.binary.data;
	if (!get_number(object, "TemplateId", PG_INT64_MAX, &template->template_id) ||
		template->template_id == 0 ||
		!read_optional_number(object, "SnapshotInterval", PG_INT32_MAX,
							  &template->snapshot_interval) ||
		!read_optional_number(object, "Width", PG_INT32_MAX, &template->width) ||
		!read_optional_number(object, "Height", PG_INT32_MAX, &template->height) ||
		!read_optional_number(object, "PornFlag", PG_INT32_MAX,
							  &template->porn_flag) ||
		!read_optional_number(object, "CosAppId", PG_INT64_MAX,
							  &template->cos_app_id))
		return NULL;
	template->name = get_any_text(object, "TemplateName");
	template->cos_bucket = get_any_text(object, "CosBucket");
	template->cos_region = get_any_text(object, "CosRegion");
	template->cos_prefix = get_any_text(object, "CosPrefix");
	template->cos_file_name = get_any_text(object, "CosFileName");
	template->description = get_any_text(object, "Description");
	return template;
}

/*
 * A member that is a number, or -1 if it is null or not there.  Returns false
 * if it is something else.
 */
static bool
read_optional_number(JsonbContainer *object, const char *key, int64 most,
					 int64 *number)
{
	if (has_key(object, key) && !is_null(object, key))
		return get_number(object, key, most, number);
	*number = -1;
	return true;
}

static bool
is_null(JsonbContainer *object, const char *key)
{
	JsonbValue	value;

	return getKeyJsonValueFromContainer(object, key, (int) strlen(key),
										&value) != NULL &&
		value.type == jbvNull;
}

/*
 * What a reply to DescribeScreenshotTask means.
 *
 * If the outcome is LIVE_DONE, *answer has the tasks, and the token that asks
 * for the next page.  A list that cannot be read to its end is LIVE_UNKNOWN: a
 * task that is overlooked would be created a second time.
 */
void
live_read_task_list(const HttpReply *reply, LiveAnswer *answer)
{
	JsonbContainer *response = read_response(reply, answer);
	JsonbValue	value;

	if (response == NULL)
		return;
	if (has_key(response, "Error"))
	{
		read_error(response, answer);
		return;
	}

	/*
	 * A missing list is not an empty one: a request in doubt would be sent
	 * again for it.
	 */
	if (getKeyJsonValueFromContainer(response, "TaskList", 8, &value) == NULL ||
		!read_tasks(&value, answer))
	{
		if (answer->message == NULL)
			answer->message = "the answer has neither a TaskList nor an Error";
		return;
	}
	if (getKeyJsonValueFromContainer(response, "ScrollToken", 11, &value) != NULL &&
		value.type != jbvNull)
	{
		/*
		 * Without a valid token the next page cannot be asked for, and this
		 * one alone would make tasks seem not to exist.
		 */
		if (value.type != jbvString || value.val.string.len > MAX_SCROLL_TOKEN)
		{
			answer->message = "the answer has no valid ScrollToken";
			return;
		}
		/* An empty token means that this is the last page. */
		if (value.val.string.len > 0)
			answer->scroll_token = pnstrdup(value.val.string.val,
											value.val.string.len);
	}
	answer->outcome = LIVE_DONE;
}

/*
 * Read a TaskList into *answer.  One that is null is an empty one, in an answer
 * that the API has given a RequestId.
 *
 * Returns whether it is a list of tasks; if it is one with a task that is not
 * complete, with a message in *answer.
 */
static bool
read_tasks(const JsonbValue *list, LiveAnswer *answer)
{
	if (list->type == jbvNull)
		return answer->request_id != NULL;
	if (list->type != jbvBinary ||
		!JsonContainerIsArray(list->val.binary.data))
		return false;
	for (uint32 i = 0; i < JsonContainerSize(list->val.binary.data); i++)
	{
		ListedTask *task = read_listed_task(getIthJsonbValueFromContainer(list->val.binary.data, i));

		/*
		 * The whole list is given up: the task that cannot be read may be the
		 * one that is looked for.
		 */
		if (task == NULL)
		{
			answer->message = "the answer has an incomplete task";
			return false;
		}
		answer->tasks = lappend(answer->tasks, task);
	}
	return true;
}

/*
 * A task of a TaskList, palloc'd; NULL if a field is missing, or not valid.
 */
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

	/*
	 * "Stopped" may be missing, and means 0 then.  All other fields are
	 * compared, so that they must be there.
	 */
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

	/*
	 * Unless something below says otherwise the request may have been carried
	 * out.
	 */
	memset(answer, 0, sizeof(*answer));
	answer->outcome = LIVE_UNKNOWN;
	answer->sqlstate = ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN;

	if (!reply->complete)
	{
		/*
		 * By the client's own record of what was written, never by libcurl's
		 * error: see http_transfer.c.
		 */
		if (!reply->sent)
		{
			answer->outcome = LIVE_NOT_SENT;
			answer->sqlstate = ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION;
		}
		answer->message = pstrdup(reply->error);
		return NULL;
	}

	/*
	 * Taken from any answer, also one from a proxy or of another status:
	 * clocks far apart are seen before a signature is refused.
	 */
	if (reply->date != 0)
		answer->ahead = reply->date - live_seconds(GetCurrentTimestamp());

	/*
	 * The API answers its own errors with 200, so that this comes from
	 * something in front of it, which may have passed the request on.
	 */
	if (reply->status != 200)
	{
		answer->message = psprintf("HTTP status %ld instead of an answer from the API",
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

	/* A RequestId is kept only if it looks like one: it goes into messages. */
	if (response == NULL)
		answer->message = "the answer has no Response";
	else
		answer->request_id = get_text(response, "RequestId", MAX_REQUEST_ID,
									  "-_");
	return response;
}

/*
 * Set *answer to what the "Error" of a response means.
 */
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

	/*
	 * A code that is in no class leaves the outcome at LIVE_UNKNOWN: new codes
	 * appear, and some mean that the task was created after all.
	 */
	class = find_error_class(answer->error_code);
	if (class != NULL)
	{
		answer->outcome = class->outcome;
		answer->sqlstate = class->sqlstate;
		answer->retry_after = class->retry_after;
	}
}

/*
 * The TaskId of an object, palloc'd; NULL if there is none, or if it has
 * characters that no TaskId has had so far.
 */
static const char *
get_task_id(JsonbContainer *object)
{
	return get_text(object, "TaskId", LIVE_MAX_TASK_ID, "-_.:/+=~@#|,");
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

/*
 * A text as it reads in a list that the API returns.  In a database whose
 * encoding is not UTF-8, characters beyond ASCII are all "?" there.
 */
const char *
live_listed_text(const char *value)
{
	const char *utf8;

	if (GetDatabaseEncoding() == PG_UTF8)
		return value;

	/*
	 * The list was read with "?" for each character beyond ASCII, see
	 * parse_json().  The same is done to the text that it is compared with.
	 */
	utf8 = pg_server_to_any(value, (int) strlen(value), PG_UTF8);
	return replace_non_ascii(utf8, strlen(utf8));
}

/*
 * Is an action refused that others of the API may not be: it is not offered here,
 * or not permitted?
 */
bool
live_means_no_such_action(const LiveAnswer *answer)
{
	const char *code = answer->error_code;

	return answer->outcome == LIVE_PERMISSION ||
		(code != NULL &&
		 (strncmp(code, "InvalidAction", 13) == 0 ||
		  strncmp(code, "ActionOffline", 13) == 0 ||
		  strncmp(code, "UnsupportedOperation", 20) == 0));
}

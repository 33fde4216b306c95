/*-------------------------------------------------------------------------
 *
 * call.c
 *	  The functions that call the API at once, in the caller's session
 *
 * How a request is sent, and what is sent again, is said in api_call.c.
 *
 * What a call does outside the database is not undone when the transaction
 * is rolled back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "api/actions.h"
#include "api/body.h"
#include "api/sign.h"
#include "api/task.h"
#include "config/credentials.h"
#include "config/server.h"
#include "sql/api_call.h"
#include "sql/arguments.h"
#include "sql/template_call.h"

static void read_task(FunctionCallInfo fcinfo, ScreenshotTask *task,
					  TimestampTz now);
static Datum call_for_task(FunctionCallInfo fcinfo, LiveActionId action);
static void list_window(ReturnSetInfo *result, const char *server_name,
						TaskQuery  *lookup, HTAB *seen);
static void return_task(ReturnSetInfo *result, const ListedTask *task);

/* The most pages of a list, lest one that never ends */
#define MAX_PAGES			10000

/* How far ahead a signature may be dated that is shown; the API takes it for as
 * long either way */
#define MAX_AHEAD			(5 * SECS_PER_MINUTE * USECS_PER_SEC)

PG_FUNCTION_INFO_V1(create_screenshot_task);
PG_FUNCTION_INFO_V1(preview_screenshot_task);
PG_FUNCTION_INFO_V1(stop_screenshot_task);
PG_FUNCTION_INFO_V1(delete_screenshot_task);
PG_FUNCTION_INFO_V1(describe_screenshot_tasks);

/* Positions of the arguments that the functions on tasks share */
enum
{
	ARG_STREAM_NAME,
	ARG_DOMAIN_NAME,
	ARG_APP_NAME,
	ARG_END_TIME,
	ARG_TEMPLATE_ID,
	ARG_START_TIME,
	ARG_STREAM_TYPE,
	ARG_EXTENSION,
	ARG_SERVER,
	ARG_SIGNED_AT
};

/*
 * create_screenshot_task(...) returns (task_id, request_id)
 */
Datum
create_screenshot_task(PG_FUNCTION_ARGS)
{
	ScreenshotTask task;
	char	   *server_name = read_server_name(fcinfo, ARG_SERVER);
	LiveAnswer	answer;
	TupleDesc	row_type;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	if (get_call_result_type(fcinfo, NULL, &row_type) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	/*
	 * The time of day, not of the transaction, which may have begun long ago.
	 */
	read_task(fcinfo, &task, GetCurrentTimestamp());
	check_template(server_name, task.template_id);
	api_call(server_name, LIVE_CREATE, &task, &answer);

	values[0] = CStringGetTextDatum(answer.task_id);
	if (answer.request_id != NULL)
		values[1] = CStringGetTextDatum(answer.request_id);
	else
		nulls[1] = true;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row_type),
													  values, nulls)));
}

/*
 * preview_screenshot_task(...) returns what would be sent
 */
Datum
preview_screenshot_task(PG_FUNCTION_ARGS)
{
	ScreenshotTask task;
	LiveServer *server;
	Credentials *credentials;
	LiveRequest request;
	TimestampTz signed_at;
	TimestampTz now;
	Datum		headers[LIVE_MAX_HEADERS];
	int			n_headers;
	TupleDesc	row_type;
	Datum		values[5];
	bool		nulls[5] = {false, false, false, false, false};
	char	   *server_name = read_server_name(fcinfo, ARG_SERVER);

	if (get_call_result_type(fcinfo, NULL, &row_type) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	signed_at = require_time(fcinfo, ARG_SIGNED_AT, "signed_at");
	now = GetCurrentTimestamp();

	/*
	 * The past needs no check: such a signature is expired, and shows how the
	 * vendor's examples come out.
	 */
	if (signed_at > now + MAX_AHEAD)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("signed_at must be at most five minutes from now"),
				 errdetail("It is %s.", timestamptz_to_str(signed_at)),
				 errhint("A signature for a later time could still be used then by a role that may no longer use the server.")));

	read_task(fcinfo, &task, signed_at);
	server = get_live_server(server_name, GetUserId());
	credentials = credentials_get(server, GetUserId(), 0);
	live_sign(&request, live_actions[LIVE_CREATE].name,
			  server->endpoint.authority, server->region, server->language,
			  NULL, credentials, live_seconds(signed_at),
			  live_actions[LIVE_CREATE].body(&task));
	wipe_credentials(credentials);

	/*
	 * The signer may have derived the key of another day, which the next call
	 * has no use for, and which nobody else should have either.
	 */
	live_forget_key();
	live_wipe_token(request.headers);

	/*
	 * The token is a secret of its own: with it and a leaked key anybody could
	 * sign.
	 */
	for (n_headers = 0; request.headers[n_headers] != NULL; n_headers++)
		headers[n_headers] = n_headers == request.token_header ?
			CStringGetTextDatum("X-TC-Token: (not shown)") :
			CStringGetTextDatum(request.headers[n_headers]);

	values[0] = CStringGetTextDatum(server->endpoint.url);
	values[1] = PointerGetDatum(construct_array(headers, n_headers, TEXTOID,
												-1, false, TYPALIGN_INT));
	/* The body is in UTF-8, which the API takes. */
	values[2] = CStringGetTextDatum(pg_any_to_server(request.body,
													 (int) request.body_len,
													 PG_UTF8));
	values[3] = CStringGetTextDatum(request.signature.canonical_request);
	values[4] = CStringGetTextDatum(request.signature.string_to_sign);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row_type),
													  values, nulls)));
}

/*
 * stop_screenshot_task(task_id, server) returns request_id
 */
Datum
stop_screenshot_task(PG_FUNCTION_ARGS)
{
	return call_for_task(fcinfo, LIVE_STOP);
}

/*
 * delete_screenshot_task(task_id, server) returns request_id
 */
Datum
delete_screenshot_task(PG_FUNCTION_ARGS)
{
	return call_for_task(fcinfo, LIVE_DELETE);
}

/*
 * Call an action on a task for the arguments (task_id, server).
 */
static Datum
call_for_task(FunctionCallInfo fcinfo, LiveActionId action)
{
	char	   *task_id = require_text(fcinfo, 0, "task_id");
	char	   *server_name = read_server_name(fcinfo, 1);
	LiveAnswer	answer;

	/* Checked here so that an empty or absurd id costs no request. */
	live_check_task_id(task_id);
	api_call(server_name, action, task_id, &answer);
	PG_RETURN_TEXT_P(cstring_to_text(answer.request_id));
}

/*
 * describe_screenshot_tasks(start_time, end_time, stream_name, domain_name,
 * app_name, server) returns the tasks that lie in the window
 *
 * The API takes a window of at most seven days, and lists what lies in it as
 * a whole (DescribeScreenshotTask).  A longer one is asked for in parts.  They
 * overlap by the longest that a task may be, so that none falls between two.
 */
Datum
describe_screenshot_tasks(PG_FUNCTION_ARGS)
{
	TimestampTz start = require_time(fcinfo, 0, "start_time");
	TimestampTz end = require_time(fcinfo, 1, "end_time");
	TimestampTz now = GetCurrentTimestamp();
	char	   *server_name = read_server_name(fcinfo, 5);
	TaskQuery	lookup = {0};
	ScreenshotTask window;
	HASHCTL		control = {
		.keysize = NAMEDATALEN * 4,
		.entrysize = NAMEDATALEN * 4,
		.hcxt = CurrentMemoryContext
	};
	HTAB	   *seen = hash_create("screenshot tasks seen", 256, &control,
								   HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);

	if (end <= start)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("end_time must be later than start_time"),
				 errdetail("It is %s, and start_time is %s.",
						   pstrdup(timestamptz_to_str(end)),
						   timestamptz_to_str(start))));
	if (start < now - LIVE_MAX_AGE * USECS_PER_SEC)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("start_time must be at most 90 days ago"),
				 errdetail("It is %s.", timestamptz_to_str(start)),
				 errhint("The API does not list older tasks.")));

	/*
	 * Materialized: with the rows one by one a caller that stops early would
	 * leave the list half read.
	 */
	InitMaterializedSRF(fcinfo, 0);

	/*
	 * Rounded outwards like a task's, so that a task with exactly these times
	 * lies within.
	 */
	live_set_times(&window, start, end);
	/* No task ends later; a day is for clocks that differ. */
	window.end_time = Min(window.end_time, live_seconds(now) + LIVE_MAX_END +
						  SECS_PER_DAY);
	lookup.stream_name = optional_text(fcinfo, 2);
	lookup.domain_name = optional_text(fcinfo, 3);
	lookup.app_name = optional_text(fcinfo, 4);
	live_check_filter("stream_name", lookup.stream_name);
	live_check_filter("domain_name", lookup.domain_name);
	live_check_filter("app_name", lookup.app_name);

	lookup.start_time = window.start_time;
	while (lookup.start_time < window.end_time)
	{
		lookup.end_time = Min(lookup.start_time + LIVE_MAX_WINDOW,
							   window.end_time);
		list_window((ReturnSetInfo *) fcinfo->resultinfo, server_name,
					&lookup, seen);

		/*
		 * Otherwise the overlap would have the last part asked for again and
		 * again.
		 */
		if (lookup.end_time == window.end_time)
			break;

		/*
		 * A task that straddles the end of this part begins at most
		 * LIVE_MAX_LENGTH before it, and lies within the next.
		 */
		lookup.start_time = lookup.end_time - LIVE_MAX_LENGTH;
	}
	return (Datum) 0;
}

/*
 * Return the tasks of one window, page by page, without those seen before.
 *
 * Raises an error if the list has no end.
 */
static void
list_window(ReturnSetInfo *result, const char *server_name,
			TaskQuery  *lookup, HTAB *seen)
{
	MemoryContext contexts[2];
	MemoryContext old = CurrentMemoryContext;
	int			n_pages = 0;

	/* In turn: a page asks with the token of the one before. */
	for (int i = 0; i < 2; i++)
		contexts[i] = AllocSetContextCreate(old, "screenshot_task page",
											ALLOCSET_DEFAULT_SIZES);
	lookup->scroll_token = NULL;
	do
	{
		LiveAnswer	answer;
		ListCell   *cell;

		/*
		 * A list may have thousands of pages; two of them at a time are
		 * enough.
		 */
		MemoryContextReset(contexts[n_pages % 2]);
		MemoryContextSwitchTo(contexts[n_pages % 2]);
		api_call(server_name, LIVE_DESCRIBE, lookup, &answer);
		foreach(cell, answer.tasks)
		{
			ListedTask *task = lfirst(cell);
			bool		found;

			/* Overlapping windows list some tasks twice. */
			(void) hash_search(seen, task->task_id, HASH_ENTER, &found);
			if (!found)
				return_task(result, task);
		}

		/*
		 * A server that repeats itself must not keep a backend in a loop: each
		 * page costs a permit that others wait for.
		 */
		if (++n_pages == MAX_PAGES ||
			(answer.scroll_token != NULL && lookup->scroll_token != NULL &&
			 strcmp(answer.scroll_token, lookup->scroll_token) == 0))
			ereport(ERROR,
					(errcode(ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN),
					 errmsg("task list of server \"%s\" did not terminate",
							server_name),
					 errdetail("Page %d of %s repeats the ScrollToken of the page before it, or exceeds the limit on pages.",
							   n_pages, live_actions[LIVE_DESCRIBE].name)));
		lookup->scroll_token = answer.scroll_token;
	} while (lookup->scroll_token != NULL);

	MemoryContextSwitchTo(old);
	for (int i = 0; i < 2; i++)
		MemoryContextDelete(contexts[i]);
}

/*
 * Add a row for a task.
 */
static void
return_task(ReturnSetInfo *result, const ListedTask *task)
{
	Datum		values[8];
	bool		nulls[8] = {false};

	values[0] = CStringGetTextDatum(task->task_id);
	values[1] = CStringGetTextDatum(task->stream_name);
	values[2] = CStringGetTextDatum(task->domain_name);
	values[3] = CStringGetTextDatum(task->app_name);
	values[4] = TimestampTzGetDatum(time_t_to_timestamptz((pg_time_t) task->start_time));
	values[5] = TimestampTzGetDatum(time_t_to_timestamptz((pg_time_t) task->end_time));
	values[6] = Int64GetDatum(task->template_id);
	values[7] = TimestampTzGetDatum(time_t_to_timestamptz((pg_time_t) task->stopped));
	/* The API gives 0 for a task that was not stopped. */
	nulls[7] = task->stopped == 0;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * Read the parameters of a task to create now from a function's arguments, and
 * check them.
 */
static void
read_task(FunctionCallInfo fcinfo, ScreenshotTask *task, TimestampTz now)
{
	TimestampTz start = now;
	TimestampTz end;

	memset(task, 0, sizeof(*task));
	task->stream_name = require_text(fcinfo, ARG_STREAM_NAME, "stream_name");
	task->domain_name = require_text(fcinfo, ARG_DOMAIN_NAME, "domain_name");
	task->app_name = require_text(fcinfo, ARG_APP_NAME, "app_name");

	end = require_time(fcinfo, ARG_END_TIME, "end_time");
	task->has_start = !PG_ARGISNULL(ARG_START_TIME);
	if (task->has_start)
		start = require_time(fcinfo, ARG_START_TIME, "start_time");
	/* Before the checks, which compare what will be sent. */
	live_set_times(task, start, end);

	task->template_id = require_int64(fcinfo, ARG_TEMPLATE_ID, "template_id");

	if (PG_ARGISNULL(ARG_STREAM_TYPE))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("stream_type must not be null"),
				 errhint("Use 0 for a live stream or 1 for a mixed stream.")));
	task->stream_type = PG_GETARG_INT32(ARG_STREAM_TYPE);
	task->extension = optional_text(fcinfo, ARG_EXTENSION);

	/*
	 * Last, when all arguments were read: its errors compare several of them.
	 */
	live_check_task(task, start, end, now);
}

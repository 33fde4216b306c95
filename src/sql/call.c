/*-------------------------------------------------------------------------
 *
 * call.c
 *	  The functions that call the API at once, in the caller's session
 *
 * A call waits for the account's next free permit, sends one
 * signed request over the connection that the session keeps, and returns what
 * the API answered, or raises it as an error.  Only what was certainly not
 * done is sent again: a request that was refused by the rate limit, until its
 * caller's time is over; and once, one that was refused for its token.
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
#include "net/rate_limit.h"
#include "shmem/shared_state.h"
#include "shmem/statistics.h"

/* A call under way, as far as its cleanup must know it */
typedef struct Call
{
	const LiveAction *action;
	char	   *body;
	const char *server;
	RatePermit	permit;
	HttpTransfer *transfer;
	const char *trace_id;		/* of the last attempt */
	bool		sent;			/* was an attempt? */
	bool		refused;		/* was an attempt, for its token? */
	bool		throttled;		/* was the last one? */
	MonotonicUs began;			/* when it first waited for a permit; 0: not yet */
	bool		noticed;		/* has a NOTICE said that it waits? */
} Call;

static void read_task(FunctionCallInfo fcinfo, ScreenshotTask *task,
					  TimestampTz now);
static TimestampTz require_time(FunctionCallInfo fcinfo, int arg,
								const char *name);
static char *read_server_name(FunctionCallInfo fcinfo, int arg);
static text *require_text(FunctionCallInfo fcinfo, int arg, const char *name);
static Datum call_for_task(FunctionCallInfo fcinfo, LiveActionId action);
static void list_window(ReturnSetInfo *result, const char *server_name,
						TaskInquiry *inquiry, HTAB *seen);
static void return_task(ReturnSetInfo *result, const ListedTask *task);
static void perform(const char *server_name, LiveActionId action_id,
					const void *parameters, LiveAnswer *answer);
static void try_tokens(const LiveServer *server, Call *call,
					   LiveAnswer *answer);
static void count_call(const char *server, bool failed);
static MonotonicUs try_turns(const LiveServer *server, MonotonicUs newer_than,
							 Call *call, LiveAnswer *answer);
static bool try_turn(const LiveServer *server, MonotonicUs newer_than,
					 Call *call, LiveAnswer *answer, MonotonicUs *read_at);
static bool try_once(const LiveServer *server, const Credentials *credentials,
					 Call *call, LiveAnswer *answer);
static void wait_for_permit(const LiveServer *server, RateKey key, Call *call);
static void check_permit_timeout(const LiveServer *server, RateKey key,
								 MonotonicUs began);
static RateTable *rate_table(void);
static void send_and_wait(const LiveServer *server, const LiveRequest *request,
						  Call *call);
static void describe_call(void *arg);
pg_noreturn static void raise_failure(const LiveServer *server,
									  const Call *call,
									  const LiveAnswer *answer);

/* The most permits that a call lets pass by */
#define MAX_TURNS			3

/* When to tell that a call still waits for a permit */
#define NOTICE_AFTER		(10 * US_PER_SECOND)

/* The most pages of a list, lest one that never ends */
#define MAX_PAGES			10000

/* How far ahead a signature may be dated that is shown; the API takes it for as
 * long either way */
#define MAX_AHEAD			(5 * SECS_PER_MINUTE * USECS_PER_SEC)

static HttpClient *client = NULL;	/* keeps the session's connection */

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

	read_task(fcinfo, &task, GetCurrentTimestamp());
	perform(server_name, LIVE_CREATE, &task, &answer);

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
	if (signed_at > now + MAX_AHEAD)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("signed_at must be at most five minutes from now"),
				 errdetail("It is %s.", timestamptz_to_str(signed_at)),
				 errhint("A signature of a later time could be used then, whoever may use the server by that time.")));

	read_task(fcinfo, &task, signed_at);
	server = get_live_server(server_name, GetUserId());
	credentials = credentials_get(server, GetUserId(), 0);
	live_sign(&request, live_actions[LIVE_CREATE].name,
			  server->endpoint.authority, server->region, server->language,
			  NULL, credentials, live_seconds(signed_at),
			  live_actions[LIVE_CREATE].body(&task));
	wipe_credentials(credentials);
	live_forget_key();
	live_wipe_token(request.headers);

	for (n_headers = 0; request.headers[n_headers] != NULL; n_headers++)
		headers[n_headers] = n_headers == request.token_header ?
			CStringGetTextDatum("X-TC-Token: (not shown)") :
			CStringGetTextDatum(request.headers[n_headers]);

	values[0] = CStringGetTextDatum(server->endpoint.url);
	values[1] = PointerGetDatum(construct_array(headers, n_headers, TEXTOID,
												-1, false, TYPALIGN_INT));
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

static Datum
call_for_task(FunctionCallInfo fcinfo, LiveActionId action)
{
	char	   *task_id = text_to_cstring(require_text(fcinfo, 0, "task_id"));
	char	   *server_name = read_server_name(fcinfo, 1);
	LiveAnswer	answer;

	live_check_task_id(task_id);
	perform(server_name, action, task_id, &answer);
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
	TaskInquiry inquiry = {0};
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
				 errhint("The API lists no task that is older.")));
	InitMaterializedSRF(fcinfo, 0);
	live_set_times(&window, start, end);
	/* No task ends later; a day is for clocks that differ. */
	window.end_time = Min(window.end_time, live_seconds(now) + LIVE_MAX_END +
						  SECS_PER_DAY);
	if (!PG_ARGISNULL(2))
		inquiry.stream_name = text_to_cstring(PG_GETARG_TEXT_PP(2));
	if (!PG_ARGISNULL(3))
		inquiry.domain_name = text_to_cstring(PG_GETARG_TEXT_PP(3));
	if (!PG_ARGISNULL(4))
		inquiry.app_name = text_to_cstring(PG_GETARG_TEXT_PP(4));
	live_check_filter("stream_name", inquiry.stream_name);
	live_check_filter("domain_name", inquiry.domain_name);
	live_check_filter("app_name", inquiry.app_name);

	inquiry.start_time = window.start_time;
	while (inquiry.start_time < window.end_time)
	{
		inquiry.end_time = Min(inquiry.start_time + LIVE_MAX_WINDOW,
							   window.end_time);
		list_window((ReturnSetInfo *) fcinfo->resultinfo, server_name,
					&inquiry, seen);
		if (inquiry.end_time == window.end_time)
			break;
		inquiry.start_time = inquiry.end_time - LIVE_MAX_LENGTH;
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
			TaskInquiry *inquiry, HTAB *seen)
{
	MemoryContext contexts[2];
	MemoryContext old = CurrentMemoryContext;
	int			n_pages = 0;

	/* In turn: a page asks with the token of the one before. */
	for (int i = 0; i < 2; i++)
		contexts[i] = AllocSetContextCreate(old, "screenshot_task page",
											ALLOCSET_DEFAULT_SIZES);
	inquiry->scroll_token = NULL;
	do
	{
		LiveAnswer	answer;
		ListCell   *cell;

		MemoryContextReset(contexts[n_pages % 2]);
		MemoryContextSwitchTo(contexts[n_pages % 2]);
		perform(server_name, LIVE_DESCRIBE, inquiry, &answer);
		foreach(cell, answer.tasks)
		{
			ListedTask *task = lfirst(cell);
			bool		found;

			(void) hash_search(seen, task->task_id, HASH_ENTER, &found);
			if (!found)
				return_task(result, task);
		}
		if (++n_pages == MAX_PAGES ||
			(answer.scroll_token != NULL && inquiry->scroll_token != NULL &&
			 strcmp(answer.scroll_token, inquiry->scroll_token) == 0))
			ereport(ERROR,
					(errcode(ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN),
					 errmsg("server \"%s\" lists no end of tasks",
							server_name),
					 errdetail("Page %d of %s has the ScrollToken of the page before, or is one too many.",
							   n_pages, live_actions[LIVE_DESCRIBE].name)));
		inquiry->scroll_token = answer.scroll_token;
	} while (inquiry->scroll_token != NULL);

	MemoryContextSwitchTo(old);
	for (int i = 0; i < 2; i++)
		MemoryContextDelete(contexts[i]);
}

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
	nulls[7] = task->stopped == 0;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * Read the parameters of a task that is to be created now from a function's
 * arguments, and check them.
 */
static void
read_task(FunctionCallInfo fcinfo, ScreenshotTask *task, TimestampTz now)
{
	TimestampTz start = now;
	TimestampTz end;

	memset(task, 0, sizeof(*task));
	task->stream_name =
		text_to_cstring(require_text(fcinfo, ARG_STREAM_NAME, "stream_name"));
	task->domain_name =
		text_to_cstring(require_text(fcinfo, ARG_DOMAIN_NAME, "domain_name"));
	task->app_name =
		text_to_cstring(require_text(fcinfo, ARG_APP_NAME, "app_name"));

	end = require_time(fcinfo, ARG_END_TIME, "end_time");
	task->has_start = !PG_ARGISNULL(ARG_START_TIME);
	if (task->has_start)
		start = require_time(fcinfo, ARG_START_TIME, "start_time");
	live_set_times(task, start, end);

	if (PG_ARGISNULL(ARG_TEMPLATE_ID))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("template_id must not be null")));
	task->template_id = PG_GETARG_INT64(ARG_TEMPLATE_ID);

	if (PG_ARGISNULL(ARG_STREAM_TYPE))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("stream_type must not be null"),
				 errhint("0 is a live stream, 1 a mixed one.")));
	task->stream_type = PG_GETARG_INT32(ARG_STREAM_TYPE);
	if (!PG_ARGISNULL(ARG_EXTENSION))
		task->extension = text_to_cstring(PG_GETARG_TEXT_PP(ARG_EXTENSION));

	live_check_task(task, start, end, now);
}

static TimestampTz
require_time(FunctionCallInfo fcinfo, int arg, const char *name)
{
	/* of UTC */
	const TimestampTz end_of_9999 = time_t_to_timestamptz(INT64CONST(253402300800));
	TimestampTz time;

	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
	time = PG_GETARG_TIMESTAMPTZ(arg);
	if (TIMESTAMP_NOT_FINITE(time))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be finite", name)));
	if (time < time_t_to_timestamptz(0) || time >= end_of_9999)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must lie in the years 1970 to 9999", name),
				 errdetail("It is %s.", timestamptz_to_str(time))));
	return time;
}

static text *
require_text(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
	return PG_GETARG_TEXT_PP(arg);
}

static char *
read_server_name(FunctionCallInfo fcinfo, int arg)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("server must not be null")));
	return pstrdup(NameStr(*PG_GETARG_NAME(arg)));
}

/*
 * Call an action with its parameters, for the current role.  Returns if the API
 * did it; else raises the failure as an error.
 */
static void
perform(const char *server_name, LiveActionId action_id,
		const void *parameters, LiveAnswer *answer)
{
	const LiveAction *action = &live_actions[action_id];
	char	   *body = action->body(parameters);
	LiveServer *server = get_live_server(server_name, GetUserId());
	Call	   *call = palloc0(sizeof(Call));
	ErrorContextCallback context;

	if (client == NULL)
		client = http_client_create(1);

	call->action = action;
	call->body = body;
	call->server = server->name;
	context.callback = describe_call;
	context.arg = call;
	context.previous = error_context_stack;
	error_context_stack = &context;

	PG_TRY();
	{
		try_tokens(server, call, answer);
	}
	PG_CATCH();
	{
		/* What ends from outside counts if it may be carried out. */
		if (call->sent)
			count_call(call->server, true);
		PG_RE_THROW();
	}
	PG_END_TRY();

	error_context_stack = context.previous;
	count_call(server->name, answer->outcome != LIVE_DONE);
	if (answer->outcome != LIVE_DONE)
		raise_failure(server, call, answer);
}

static void
count_call(const char *server, bool failed)
{
	stat_count(server, COUNT_CALLS, 1);
	if (failed)
		stat_count(server, COUNT_FAILED_CALLS, 1);
}

/*
 * Send one request; and if its token is refused, another with the one that
 * there may be by now.  Nothing was done with the old.
 */
static void
try_tokens(const LiveServer *server, Call *call, LiveAnswer *answer)
{
	MonotonicUs newer_than = try_turns(server, 0, call, answer);

	if (answer->error_code != NULL &&
		strcmp(answer->error_code, LIVE_TOKEN_FAILURE) == 0)
	{
		call->refused = true;
		(void) try_turns(server, newer_than, call, answer);
	}
}

/*
 * Send one request, with credentials that are newer than the given time if
 * they can be.  A permit may pass while a connection is made: then with another
 * one, a few times.  One that is refused by the rate limit is sent again as
 * long as the caller waits, with the credentials that there are by then.
 *
 * Returns when the credentials had been read.
 */
static MonotonicUs
try_turns(const LiveServer *server, MonotonicUs newer_than, Call *call,
		  LiveAnswer *answer)
{
	MonotonicUs read_at;
	int			missed = 0;
	bool		again;

	do
	{
		again = !try_turn(server, newer_than, call, answer, &read_at) &&
			++missed < MAX_TURNS;
		call->throttled = answer->outcome == LIVE_THROTTLED;
	} while (again || call->throttled);
	return read_at;
}

/*
 * Do so once.  Returns false if its permit had passed.
 */
static bool
try_turn(const LiveServer *server, MonotonicUs newer_than, Call *call,
		 LiveAnswer *answer, MonotonicUs *read_at)
{
	Credentials *credentials = credentials_get(server, GetUserId(), newer_than);
	volatile bool in_time = false;

	*read_at = monotonic_now();
	PG_TRY();
	{
		in_time = try_once(server, credentials, call, answer);
	}
	PG_FINALLY();
	{
		wipe_credentials(credentials);
	}
	PG_END_TRY();
	return in_time;
}

/*
 * Send one request, and read the answer.
 *
 * Returns false if it was not sent because its permit had passed.
 */
static bool
try_once(const LiveServer *server, const Credentials *credentials,
		 Call *call, LiveAnswer *answer)
{
	RateKey		key = rate_key(credentials->account, call->action->name);
	LiveRequest request;
	HttpReply	reply;
	bool		lapsed = false;
	MonotonicUs started_at;

	wait_for_permit(server, key, call);
	started_at = monotonic_now();
	PG_TRY();
	{
		call->trace_id = live_new_trace_id();
		live_sign(&request, call->action->name, server->endpoint.authority,
				  server->region, server->language, call->trace_id, credentials,
				  live_seconds(GetCurrentTimestamp()), call->body);
		send_and_wait(server, &request, call);
		http_reply(call->transfer, &reply);
		stat_count(server->name, COUNT_CONNECTIONS, reply.connections);
		if (reply.complete)
		{
			rate_answered(&call->permit);
			stat_latency(server->name, monotonic_now() - started_at);
		}
		call->action->read(&reply, answer);
		lapsed = reply.lapsed;
	}
	PG_FINALLY();
	{
		if (call->transfer != NULL && http_sent(call->transfer))
		{
			call->sent = true;
			rate_left(&call->permit);
		}
		else
			rate_release(&call->permit);
		http_release(call->transfer);
		call->transfer = NULL;
	}
	PG_END_TRY();

	if (answer->outcome == LIVE_THROTTLED)
	{
		stat_count(server->name, COUNT_THROTTLED, 1);
		rate_refused(rate_table(), key);
	}
	return !lapsed;
}

/*
 * Wait for the account's next permit.
 */
static void
wait_for_permit(const LiveServer *server, RateKey key, Call *call)
{
	static uint32 wait_event = 0;
	MonotonicUs began = monotonic_now();
	MonotonicUs retry_at;

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("ScreenshotTaskPermit");
	if (call->began == 0)
		call->began = began;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (rate_acquire(rate_table(), key, server->requests_per_second, 1, 0,
						 &call->permit, &retry_at) == 1)
		{
			rate_wait_end(rate_table(), key);
			return;
		}
		if (server->permit_timeout > 0)
			check_permit_timeout(server, key, began);
		if (!call->noticed && call->began + NOTICE_AFTER <= monotonic_now())
		{
			call->noticed = true;
			ereport(NOTICE,
					(errmsg("still waiting for the rate limit of server \"%s\"",
							server->name),
					 errdetail("It allows %d requests a second, of all sessions and workers together.",
							   server->requests_per_second)));
		}
		rate_wait(rate_table(), key, retry_at, wait_event);
	}
}

/*
 * Raise an error if a permit would be there too late for the server option
 * "permit_timeout".
 */
static void
check_permit_timeout(const LiveServer *server, RateKey key, MonotonicUs began)
{
	MonotonicUs now = monotonic_now();
	MonotonicUs at = rate_expected_at(rate_table(), key,
									  server->requests_per_second);

	if (at - began <= server->permit_timeout * US_PER_MS)
		return;
	rate_wait_end(rate_table(), key);
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("the rate limit of server \"%s\" would make the call wait for too long",
					server->name),
			 errdetail("It would wait for another %.1f s; the server option \"permit_timeout\" is %d ms.",
					   (double) (at - now) / US_PER_SECOND,
					   server->permit_timeout),
			 errhint("Insert the request into screenshot_task_request to have it sent in the background.")));
}

/*
 * The limits of the cluster; without shared memory, those of this session.
 */
static RateTable *
rate_table(void)
{
	static RateTable *own = NULL;
	const int	n_windows = 8;

	if (shared_state_available())
		return shared_rate_table();
	if (own == NULL)
	{
		RateTable  *table = MemoryContextAllocZero(TopMemoryContext,
												   rate_table_size(n_windows));

		rate_table_init(table, n_windows, 0);
		own = table;
	}
	return own;
}

/*
 * Send a request, and wait until it has ended one way or the other.
 *
 * Interrupts are served at once.
 */
static void
send_and_wait(const LiveServer *server, const LiveRequest *request, Call *call)
{
	static uint32 wait_event = 0;
	HttpRequest http_request;

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("ScreenshotTaskCall");

	server_http_request(server, request, &http_request);
	http_request.leave_by = call->permit.leave_by;
	http_start(client, &http_request, &call->transfer);
	live_wipe_token(request->headers);
	http_begin(client);
	for (;;)
	{
		/* Before the answer is there, which tells how long it has taken. */
		if (http_next_left(client) != NULL)
			rate_left(&call->permit);
		if (http_next_done(client) != NULL)
			break;
		CHECK_FOR_INTERRUPTS();
		http_wait(client, MONOTONIC_NEVER, wait_event);
	}
}

/*
 * Context of an error that ends a call from outside, such as a cancel.
 */
static void
describe_call(void *arg)
{
	Call	   *call = arg;

	if (call->transfer != NULL && http_sent(call->transfer))
		errcontext("%s on server \"%s\": the request had been sent, and may be carried out (TraceId %s)",
				   call->action->name, call->server, call->trace_id);
	else if (call->throttled)
		errcontext("%s on server \"%s\": the request had been refused by the rate limit, and nothing was done",
				   call->action->name, call->server);
	else if (call->refused)
		errcontext("%s on server \"%s\": the request had been refused for its token, and nothing was done",
				   call->action->name, call->server);
	else
		errcontext("%s on server \"%s\": nothing had been sent",
				   call->action->name, call->server);
}

/*
 * Raise an outcome as an error: what happened, the API's own words with the
 * RequestId, the TraceId if it was sent, and what to do about it.
 */
static void
raise_failure(const LiveServer *server, const Call *call,
			  const LiveAnswer *answer)
{
	const char *message;
	const char *hint = NULL;
	StringInfoData detail;

	switch (answer->outcome)
	{
		case LIVE_NOT_SENT:
			message = "could not reach server \"%s\" for %s";
			hint = "Nothing was sent: the call may be made again.";
			break;
		case LIVE_QUOTA:
			message = "server \"%s\" refused %s: a limit of the account is reached";
			hint = answer->retry_after > 0 ?
				"Nothing was done: the call may be made again once the account may make more tasks." :
				"Nothing was done: the call may be made again once tasks have ended.";
			break;
		case LIVE_CREDENTIALS:
			message = "server \"%s\" refused the credentials for %s";
			hint = live_credentials_hint(answer->error_code);
			if (hint != NULL)
				break;
			hint = server->credentials == FROM_USER_MAPPING ?
				"Check the user mapping's secret_id, secret_key and token, what the account may do, and this machine's clock." :
				"Check this machine's credentials, of the kind that the server option \"credentials\" names, what the account may do, and this machine's clock.";
			break;
		case LIVE_PERMISSION:
			message = "server \"%s\" refused the account permission for %s";
			hint = "See in the console what the account may do with this domain, and with the Live service.";
			break;
		case LIVE_SERVICE_STATE:
			message = "server \"%s\" refused %s: the account's service is not active";
			hint = "Look at the state of the Live service in the console.";
			break;
		case LIVE_ENVIRONMENT:
			message = "server \"%s\" does not offer %s to this client";
			hint = "Check the server options \"endpoint\" and \"region\", and the account's address lists.";
			break;
		case LIVE_REFUSED:
			message = answer->sqlstate == ERRCODE_FEATURE_NOT_SUPPORTED ?
				"server \"%s\" does not support what was asked of %s" :
				"server \"%s\" refused the parameters of %s";
			break;
		default:
			message = "it is unknown whether server \"%s\" carried out %s";
			hint = call->action->idempotent ?
				"Nothing is changed by it: the call may be made again, for a shorter window if the answer was too long." :
				"Find out before the call is made again: it may have been carried out.";
			break;
	}

	if (live_clocks_disagree(answer) && answer->ahead != 0)
		hint = psprintf("Set this machine's clock: the API's is %lld s %s it.",
						llabs((long long) answer->ahead),
						answer->ahead > 0 ? "ahead of" : "behind");

	initStringInfo(&detail);
	if (answer->error_code != NULL)
		appendStringInfo(&detail, "%s: ", answer->error_code);
	appendStringInfoString(&detail, answer->message ? answer->message :
						   "the API gave no message");
	if (answer->request_id != NULL)
		appendStringInfo(&detail, " (RequestId %s, TraceId %s)",
						 answer->request_id, call->trace_id);
	else if (answer->outcome != LIVE_NOT_SENT)
		appendStringInfo(&detail, " (TraceId %s)", call->trace_id);

	ereport(ERROR,
			(errcode(answer->sqlstate),
			 errmsg(message, server->name, call->action->name),
			 errdetail_internal("%s", detail.data),
			 hint != NULL ? errhint("%s", hint) : 0));
}

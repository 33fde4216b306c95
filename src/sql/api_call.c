/*-------------------------------------------------------------------------
 *
 * api_call.c
 *	  One call of the API in a session, from its permit to its answer
 *
 * A call waits for the account's next free permit, sends one signed request over
 * the connection that the session keeps, and returns what the API answered, or
 * raises it as an error.  Only what was certainly not done is sent again: a
 * request that was refused by the rate limit, until its caller's time is over;
 * and once, one that was refused for its token.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "api/sign.h"
#include "api/task.h"
#include "config/credentials.h"
#include "config/server.h"
#include "net/rate_limit.h"
#include "shmem/shared_state.h"
#include "shmem/statistics.h"
#include "sql/api_call.h"

/* The most permits that a call lets pass by */
#define MAX_TURNS			3

/* How long a session uses the fallback of a server that was not reached */
#define AVOID_ENDPOINT		(30 * US_PER_SECOND)

/* When to tell that a call still waits for a permit */
#define NOTICE_AFTER		(10 * US_PER_SECOND)

/* A call under way, as far as its cleanup must know it */
typedef struct Call
{
	const LiveAction *action;
	char	   *body;			/* the same in each attempt */
	const char *server;			/* its name */
	RateKey		waits_for;		/* a permit of that; 0: it has one, or none is needed */
	RatePermit	permit;			/* of the attempt under way */
	HttpTransfer *transfer;		/* NULL: none is under way */
	const char *trace_id;		/* of the last attempt */
	bool		sent;			/* was an attempt? */
	bool		refused;		/* was an attempt, for its token? */
	bool		throttled;		/* was the last one? */
	MonotonicUs give_up_at;		/* when it is not worth to wait on; or never */
	MonotonicUs began;			/* when it first waited for a permit; 0: not yet */
	bool		noticed;		/* has a NOTICE said that it waits? */
} Call;

static HttpClient *client = NULL;	/* keeps the session's connection */

static Call *make_call(const LiveServer *server, const LiveAction *action,
					   char *body);
static void perform(const LiveServer *server, Call *call, LiveAnswer *answer);
static void count_call(const char *server, bool failed);
static void try_endpoints(const LiveServer *server, Call *call,
						  LiveAnswer *answer);
static void try_tokens(const LiveServer *server, Call *call,
					   LiveAnswer *answer);
static MonotonicUs try_turns(const LiveServer *server, MonotonicUs newer_than,
							 Call *call, LiveAnswer *answer);
static bool try_turn(const LiveServer *server, MonotonicUs newer_than,
					 Call *call, LiveAnswer *answer, MonotonicUs *read_at);
static bool try_once(const LiveServer *server, const Credentials *credentials,
					 Call *call, LiveAnswer *answer);
static void end_attempt(int code, Datum arg);
static void end_wait(Call *call);
static bool wait_for_permit(const LiveServer *server, RateKey key, Call *call);
static void check_permit_timeout(const LiveServer *server, RateKey key,
								 MonotonicUs began);
static RateTable *rate_table(void);
static void send_and_wait(const LiveServer *server, const LiveRequest *request,
						  Call *call);
static void describe_call(void *arg);
static const char *explain_failure(const LiveServer *server, const Call *call,
								   const LiveAnswer *answer,
								   const char **hint);
pg_noreturn static void raise_failure(const LiveServer *server,
									  const Call *call,
									  const LiveAnswer *answer);

/*
 * Call an action with its parameters, for the current role.  Returns if the API
 * did it; else raises the failure as an error.
 */
void
api_call(const char *server_name, LiveActionId action_id,
		 const void *parameters, LiveAnswer *answer)
{
	const LiveAction *action = &live_actions[action_id];
	/*
	 * The body first: it raises errors about encodings, for which no server is
	 * needed.
	 */
	char	   *body = action->body(parameters);
	LiveServer *server = get_live_server(server_name, GetUserId());
	Call	   *call = make_call(server, action, body);

	call->give_up_at = MONOTONIC_NEVER;
	perform(server, call, answer);
	count_call(server->name, answer->outcome != LIVE_DONE);
	if (answer->outcome != LIVE_DONE)
		raise_failure(server, call, answer);
}

/*
 * Ask the API for what a call can do without: whatever it answers, or that it was
 * not asked in time, is in *answer.  It is not counted, and no longer waited for
 * than a request may take.  Raises an error if the role cannot ask at all, or if
 * it ends from outside.
 */
void
api_ask(const LiveServer *server, LiveActionId action_id,
		const void *parameters, LiveAnswer *answer)
{
	const LiveAction *action = &live_actions[action_id];
	Call	   *call = make_call(server, action, action->body(parameters));

	call->give_up_at = monotonic_now() +
		(server->connect_timeout + server->request_timeout) * US_PER_MS;
	perform(server, call, answer);
}

static Call *
make_call(const LiveServer *server, const LiveAction *action, char *body)
{
	/*
	 * On the heap, since PG_CATCH reads what was changed within PG_TRY, which
	 * a local variable need not keep.
	 */
	Call	   *call = palloc0(sizeof(Call));

	require_enabled_server(server);
	call->action = action;
	call->body = body;
	call->server = server->name;
	return call;
}

/*
 * Send a call's request until there is an answer to it, or none will come.
 */
static void
perform(const LiveServer *server, Call *call, LiveAnswer *answer)
{
	ErrorContextCallback context;

	/*
	 * Kept for the session: a new connection costs a TLS handshake, and its
	 * descriptors.
	 */
	if (client == NULL)
		client = http_client_create(1);

	/*
	 * Whoever cancels a call wants to know whether it may have been carried
	 * out, so that each error says so.
	 */
	context.callback = describe_call;
	context.arg = call;
	context.previous = error_context_stack;
	error_context_stack = &context;

	PG_TRY();
	{
		try_endpoints(server, call, answer);
	}
	PG_CATCH();
	{
		/* What ends from outside counts if it may be carried out. */
		if (call->sent && call->give_up_at == MONOTONIC_NEVER)
			count_call(call->server, true);
		PG_RE_THROW();
	}
	PG_END_TRY();

	/*
	 * Before raise_failure(), whose message says by itself what became of the
	 * request.
	 */
	error_context_stack = context.previous;
}

/*
 * Count a call, and whether it failed.
 */
static void
count_call(const char *server, bool failed)
{
	stat_count(server, COUNT_CALLS, 1);
	if (failed)
		stat_count(server, COUNT_FAILED_CALLS, 1);
}

/*
 * Send one request, to the endpoint or, where that is not reached, to the fallback
 * of a server that has one: nothing was sent to the first then.  For a while after
 * that it is the other way round.
 */
static void
try_endpoints(const LiveServer *server, Call *call, LiveAnswer *answer)
{
	/* The server that was not reached by its endpoint, and until when to avoid it */
	static Oid	avoided = InvalidOid;
	static MonotonicUs avoid_until = 0;
	bool		fallback_first = avoided == server->oid &&
		avoid_until > monotonic_now();
	LiveServer	other;

	if (!server->has_fallback)
	{
		try_tokens(server, call, answer);
		return;
	}
	other = *server;
	server_use_fallback(&other);
	try_tokens(fallback_first ? &other : server, call, answer);
	if (answer->outcome != LIVE_NOT_SENT || call->give_up_at <= monotonic_now())
		return;
	if (!fallback_first)
	{
		avoided = server->oid;
		avoid_until = monotonic_now() + AVOID_ENDPOINT;
	}
	else
		avoided = InvalidOid;
	try_tokens(fallback_first ? server : &other, call, answer);
}

/*
 * Send one request; and if its token is refused, another with a newer one, if
 * there is any by now.  The first was not carried out.
 */
static void
try_tokens(const LiveServer *server, Call *call, LiveAnswer *answer)
{
	MonotonicUs newer_than = try_turns(server, 0, call, answer);

	if (answer->error_code != NULL &&
		strcmp(answer->error_code, LIVE_TOKEN_FAILURE) == 0)
	{
		/*
		 * Credentials of a file or a role may have been replaced
		 * since they were read.  Nothing else is tried twice for that reason.
		 */
		call->refused = true;
		(void) try_turns(server, newer_than, call, answer);
	}
}

/*
 * Send one request, if possible with credentials that are newer than the given
 * time.  A permit may pass while a connection is made: the request is then
 * sent with another one, up to a few times.  A request that the rate limit
 * refuses is sent again for as long as the caller waits, each time with the
 * credentials of that moment.
 *
 * Returns when those of the last attempt were read.
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
		/*
		 * Each turn reads the credentials anew, as the wait for a permit may
		 * have been long.
		 */
		again = !try_turn(server, newer_than, call, answer, &read_at) &&
			++missed < MAX_TURNS;
		call->throttled = answer->outcome == LIVE_THROTTLED;
	} while ((again || call->throttled) && monotonic_now() < call->give_up_at);
	return read_at;
}

/*
 * Wait for a permit and make the call once.  Returns false if the permit's
 * deadline had passed before the request was written; nothing was sent then.
 */
static bool
try_turn(const LiveServer *server, MonotonicUs newer_than, Call *call,
		 LiveAnswer *answer, MonotonicUs *read_at)
{
	Credentials *credentials = credentials_get(server, GetUserId(), newer_than);
	volatile bool in_time = false;

	/*
	 * After they were read: a set that was fetched meanwhile counts as newer.
	 */
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
	bool		missed_deadline = false;
	MonotonicUs started_at;

	PG_ENSURE_ERROR_CLEANUP(end_attempt, PointerGetDatum(call));
	{
		/*
		 * Before the request is signed, since a signature is valid for five
		 * minutes only, and a permit may take longer.
		 */
		if (wait_for_permit(server, key, call))
		{
			started_at = monotonic_now();

			/*
			 * Each attempt has its own, so that support finds the very request
			 * that was not answered.
			 */
			call->trace_id = live_new_trace_id();
			live_sign(&request, call->action->name,
					  server->endpoint.authority, server->region,
					  server->language, call->trace_id, credentials,
					  live_seconds(GetCurrentTimestamp()), call->body);
			send_and_wait(server, &request, call);
			http_reply(call->transfer, &reply);
			stat_count(server->name, COUNT_CONNECTIONS, reply.connections);

			/*
			 * Only an answer says when the request arrived; without one the
			 * permit comes back by the calendar.
			 */
			if (reply.complete)
			{
				rate_answered(&call->permit, reply.answered_at);
				stat_latency(server->name, monotonic_now() - started_at);
			}
			call->action->read(&reply, answer);
			missed_deadline = reply.missed_deadline;
		}
		else
		{
			memset(answer, 0, sizeof(*answer));
			answer->outcome = LIVE_NOT_SENT;
			answer->message = "there was no permit in time";
		}
	}
	PG_END_ENSURE_ERROR_CLEANUP(end_attempt, PointerGetDatum(call));
	end_attempt(0, PointerGetDatum(call));

	if (answer->outcome == LIVE_THROTTLED)
	{
		stat_count(server->name, COUNT_THROTTLED, 1);
		/* After rate_answered(), which measures the lateness for this. */
		rate_refused(rate_table(), key);
	}
	return !missed_deadline;
}

/*
 * Give back what an attempt has of the rate limit, on every way out of it: errors,
 * cancels, and the end of the session.  A permit whose request may have arrived must
 * count, and any other must not be lost; and nobody must wait behind one that is gone.
 */
static void
end_attempt(int code, Datum arg)
{
	Call	   *call = (Call *) DatumGetPointer(arg);

	if (call->waits_for != 0)
		end_wait(call);
	if (call->transfer != NULL && http_sent(call->transfer))
	{
		call->sent = true;
		rate_left(&call->permit);
	}
	else
		rate_release(&call->permit);
	/* A process that ends leaves its connections to the kernel. */
	if (code != 0)
		return;
	http_release(call->transfer);
	call->transfer = NULL;
}

static void
end_wait(Call *call)
{
	rate_wait_end(rate_table(), call->waits_for);
	call->waits_for = 0;
}

/*
 * Wait for the account's next permit.  Returns false if the call gives up first.
 */
static bool
wait_for_permit(const LiveServer *server, RateKey key, Call *call)
{
	static uint32 wait_event = 0;
	MonotonicUs began = monotonic_now();
	MonotonicUs retry_at;

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("ScreenshotTaskPermit");
	/* The NOTICE counts from the first attempt, permit_timeout from each. */
	if (call->began == 0)
		call->began = began;
	call->waits_for = key;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		/* With a horizon of 0 the permit is good at once. */
		if (rate_acquire(rate_table(), key, server->requests_per_second, 1, 0,
						 &call->permit, &retry_at) == 1)
		{
			end_wait(call);
			return true;
		}
		if (call->give_up_at <= monotonic_now())
		{
			end_wait(call);
			return false;
		}
		if (server->permit_timeout > 0 && call->give_up_at == MONOTONIC_NEVER)
			check_permit_timeout(server, key, began);
		/* Once a call: a person at a prompt learns why nothing happens. */
		if (!call->noticed && call->began + NOTICE_AFTER <= monotonic_now())
		{
			call->noticed = true;
			ereport(NOTICE,
					(errmsg("still waiting for the rate limit of server \"%s\"",
							server->name),
					 errdetail_plural("It allows %d request a second, for all sessions and workers together.",
									  "It allows %d requests a second, for all sessions and workers together.",
									  server->requests_per_second,
									  server->requests_per_second)));
		}
		rate_wait(rate_table(), key, Min(retry_at, call->give_up_at), wait_event);
	}
}

/*
 * Raise an error if a permit is expected later than the server option
 * "permit_timeout" allows.
 */
static void
check_permit_timeout(const LiveServer *server, RateKey key, MonotonicUs began)
{
	MonotonicUs now = monotonic_now();
	MonotonicUs at = rate_expected_at(rate_table(), key,
									  server->requests_per_second);

	if (at - began <= server->permit_timeout * US_PER_MS)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("the rate limit of server \"%s\" would delay the call for too long",
					server->name),
			 errdetail("The call would wait for another %.1f s; the server option \"permit_timeout\" is %d ms.",
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

	/*
	 * Without preloading each session can only keep the limit for itself,
	 * which the documentation says.
	 */
	if (shared_state_available())
		return shared_rate_table();
	if (own == NULL)
	{
		RateTable  *table = MemoryContextAllocZero(TopMemoryContext,
												   rate_table_size(n_windows));

		rate_table_init(table, n_windows, 0);
		/* Assigned when it is ready, should an error come in between. */
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
	http_request.deadline = call->permit.deadline;
	http_start(client, &http_request, &call->transfer);
	/* libcurl has copies by now, which transfer_free() wipes. */
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
 * What an outcome that is a failure means: the format of a message for the
 * server's name and the action's, and in *hint what to do about it, or NULL.
 */
static const char *
explain_failure(const LiveServer *server, const Call *call,
				const LiveAnswer *answer, const char **hint)
{
	const char *message;

	*hint = NULL;
	switch (answer->outcome)
	{
		case LIVE_NOT_SENT:
			message = "could not reach server \"%s\" for %s";
			*hint = "Nothing was sent; the call can be repeated.";
			break;
		case LIVE_QUOTA:
			message = "server \"%s\" refused %s: an account limit has been reached";
			*hint = answer->retry_after > 0 ?
				"Nothing was done; the call can be repeated once the account may create more tasks." :
				"Nothing was done; the call can be repeated once other tasks have ended.";
			break;
		case LIVE_CREDENTIALS:
			message = "server \"%s\" refused the credentials for %s";
			*hint = server->credentials == FROM_USER_MAPPING ?
				"Check the user mapping's secret_id, secret_key and token, what the account may do, and this machine's clock." :
				"Check the credentials from the source that the server option \"credentials\" names, what the account may do, and this machine's clock.";
			break;
		case LIVE_PERMISSION:
			message = "server \"%s\" refused the account permission for %s";
			*hint = "Check in the console what the account may do with this domain and with the Live service.";
			break;
		case LIVE_SERVICE_STATE:
			message = "server \"%s\" refused %s: the account's service is not active";
			*hint = "Check the state of the Live service in the console.";
			break;
		case LIVE_ENVIRONMENT:
			message = "server \"%s\" does not offer %s to this client";
			*hint = "Check the server options \"endpoint\" and \"region\".";
			break;
		case LIVE_ADDRESS:
			message = "server \"%s\" refused %s: the account does not allow this machine's address";
			*hint = "Check the account's address lists in the console.";
			break;
		case LIVE_REFUSED:
			message = answer->sqlstate == ERRCODE_FEATURE_NOT_SUPPORTED ?
				"server \"%s\" does not support this use of %s" :
				"server \"%s\" refused the parameters of %s";
			break;
		default:
			/* LIVE_UNKNOWN: LIVE_THROTTLED never gets out of try_turns(). */
			message = "it is unknown whether server \"%s\" carried out %s";
			*hint = call->action->hint;
			break;
	}

	if (answer->error_code != NULL && live_error_hint(answer->error_code) != NULL)
		*hint = live_error_hint(answer->error_code);

	/*
	 * Overrides other hints: with a wrong clock every signature is refused,
	 * whatever the keys.
	 */
	if (live_clocks_disagree(answer) && answer->ahead != 0)
		*hint = psprintf(answer->ahead > 0 ?
						 "Set this machine's clock; the API's clock is %lld s ahead of it." :
						 "Set this machine's clock; the API's clock is %lld s behind it.",
						 llabs((long long) answer->ahead));
	return message;
}

/*
 * Raise an outcome as an error: what happened, the API's own words with the
 * RequestId, the TraceId if it was sent, and what to do about it.
 */
static void
raise_failure(const LiveServer *server, const Call *call,
			  const LiveAnswer *answer)
{
	const char *hint;
	const char *message = explain_failure(server, call, answer, &hint);
	StringInfoData detail;

	initStringInfo(&detail);
	if (answer->error_code != NULL)
		appendStringInfo(&detail, "%s: ", answer->error_code);
	appendStringInfoString(&detail, answer->message ? answer->message :
						   "the API gave no message");
	if (answer->request_id != NULL)
		appendStringInfo(&detail, " (RequestId %s, TraceId %s)",
						 answer->request_id, call->trace_id);
	/* Of a request that never left there is nothing for support to find. */
	else if (answer->outcome != LIVE_NOT_SENT)
		appendStringInfo(&detail, " (TraceId %s)", call->trace_id);

	ereport(ERROR,
			(errcode(answer->sqlstate),
			 errmsg(message, server->name, call->action->name),
			 errdetail_internal("%s", detail.data),
			 hint != NULL ? errhint("%s", hint) : 0));
}

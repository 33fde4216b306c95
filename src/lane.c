/*-------------------------------------------------------------------------
 *
 * lane.c
 *	  Who sends to where: the worker's lanes and servers, and their pauses
 *
 * A fault that is not the request's own is no reason to try the next request
 * at once.  Faults of the credentials or the account pause the lane, faults
 * of the network or the endpoint the server with all its lanes; other servers
 * go on.  Each pause in a row is twice as long as the one before.  All end
 * when a server or a user mapping is changed, or the settings are reloaded.
 *
 * Of a server that was not heard of for a while one request is sent first,
 * and the others once a connection stands: else as many connections would be
 * opened at once as there are requests, and their slots held meanwhile.  A
 * server that left a request unanswered must answer one first.
 *
 * A lane that sends with the machine's role may want credentials that must be
 * fetched.  It is noted here; renewal.c fetches them, while the lane waits.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "lane.h"
#include "shared_state.h"

/*
 * A server is known for so long after it was reached.  The connection is kept
 * for a little longer than that.
 */
#define KNOWN_FOR			(40 * US_PER_SECOND)

/*
 * How long requests are looked for only behind those that were claimed before.
 * One before them may have been locked by somebody.
 */
#define START_OVER_AFTER	US_PER_SECOND

#define MIN_PAUSE			(5 * US_PER_SECOND)
#define MAX_PAUSE			(300 * US_PER_SECOND)

/* longer than credentials take to be fetched, or not */
#define WAIT_FOR_SET		((ROLE_FETCH_TIMEOUT + 3000) * US_PER_MS)

dlist_head	lanes = DLIST_STATIC_INIT(lanes);

static dlist_head servers = DLIST_STATIC_INIT(servers);

static Lane *being_resolved = NULL;

static Server *find_server(const Name name);
static void want_set(Lane *lane, const RoleWish *wish, bool waits);
static bool is_first_refusal(Lane *lane, MonotonicUs signed_at,
							 const LiveAnswer *answer);
static void pause_server(Server *server, const char *reason);
static void note_unanswered(Server *server, MonotonicUs started_at,
							const char *reason);
static MonotonicUs not_before(const Lane *lane);
static MonotonicUs pause_time(int *pauses);

/*
 * The lane of a name, made if there is none.
 */
Lane *
lane_find(const LaneName *name)
{
	dlist_iter	iter;
	Lane	   *lane;

	dlist_foreach(iter, &lanes)
	{
		lane = dlist_container(Lane, node, iter.cur);
		if (strcmp(NameStr(lane->name.server), NameStr(name->server)) == 0 &&
			strcmp(NameStr(lane->name.role), NameStr(name->role)) == 0)
			return lane;
	}
	lane = MemoryContextAllocZero(TopMemoryContext, sizeof(Lane));
	lane->name = *name;
	lane->server = find_server(&lane->name.server);
	dlist_push_tail(&lanes, &lane->node);
	return lane;
}

static Server *
find_server(const Name name)
{
	dlist_iter	iter;
	Server	   *server;

	dlist_foreach(iter, &servers)
	{
		server = dlist_container(Server, node, iter.cur);
		if (strcmp(NameStr(server->name), NameStr(*name)) == 0)
			return server;
	}
	server = MemoryContextAllocZero(TopMemoryContext, sizeof(Server));
	server->name = *name;
	server->max_in_flight = 1;
	dlist_push_tail(&servers, &server->node);
	return server;
}

/*
 * Read a lane's options and credentials as they are now, within a
 * transaction.  They stay until lanes_forget_options().
 *
 * Returns false if the credentials are still to be fetched: the lane waits.
 * Raises an error if the role may not send to the server; then
 * lane_being_resolved() tells whom to blame.
 */
bool
lane_resolve(Lane *lane)
{
	MemoryContext old;
	Oid			role;
	RoleWish	wish;
	RoleState	state;

	if (lane->options != NULL)
		return lane->credentials != NULL;
	if (lane->context == NULL)
		lane->context = AllocSetContextCreate(TopMemoryContext,
											  "screenshot_task lane",
											  ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(lane->context);
	being_resolved = lane;
	role = get_role_oid(NameStr(lane->name.role), false);
	lane->options = get_live_server(NameStr(lane->name.server), role);
	role_wish(&wish, lane->options);
	wish.newer_than = lane->newer_than;
	/* What it has been waiting for may have failed. */
	if (lane->wants_set)
		wish.since = lane->wish.since;
	lane->credentials = credentials_find(lane->options, role, &wish, &state);
	if (state != ROLE_KNOWN)
		want_set(lane, &wish, lane->credentials == NULL);
	else
		lane->wants_set = false;
	if (lane->credentials != NULL)
		lane->key = rate_key(lane->credentials->account, LIVE_CREATE);
	lane->server->max_in_flight = lane->options->max_in_flight;
	being_resolved = NULL;
	MemoryContextSwitchTo(old);
	return lane->credentials != NULL;
}

/*
 * Note that a lane wants credentials of the machine's role to be fetched, and
 * whether it waits for them.
 */
static void
want_set(Lane *lane, const RoleWish *wish, bool waits)
{
	lane->wants_set = true;
	lane->wish = *wish;
	lane->waits_until = waits ? monotonic_now() + WAIT_FOR_SET : 0;
}

/*
 * The lane for which an error was raised, if it was lane_resolve() that did;
 * else NULL.
 */
Lane *
lane_being_resolved(void)
{
	return being_resolved;
}

/*
 * Forget the options and credentials of all lanes, keys first of all.
 */
void
lanes_forget_options(void)
{
	dlist_iter	iter;

	being_resolved = NULL;
	dlist_foreach(iter, &lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, iter.cur);

		wipe_credentials(lane->credentials);
		lane->credentials = NULL;
		lane->options = NULL;
		lane->demand = 0;
		if (lane->context != NULL)
			MemoryContextReset(lane->context);
	}
}

/*
 * Make a signed request to the server of a lane that is resolved, in the
 * current memory context.
 *
 * Returns NULL, or why it cannot be signed.
 */
const char *
lane_sign(Lane *lane, const char *action, const char *body, HttpRequest *http)
{
	MemoryContext context = CurrentMemoryContext;
	LiveServer *options = lane->options;
	LiveRequest *request = palloc(sizeof(LiveRequest));
	const char *volatile problem = NULL;

	PG_TRY();
	{
		live_sign(request, action, options->endpoint.authority,
				  options->region, options->language, lane->credentials,
				  live_seconds(GetCurrentTimestamp()), pstrdup(body));
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		problem = CopyErrorData()->message;
		FlushErrorState();
	}
	PG_END_TRY();
	if (problem != NULL)
		return problem;

	http->url = pstrdup(options->endpoint.url);
	http->host = pstrdup(options->endpoint.authority);
	http->headers = request->headers;
	http->body = request->body;
	http->body_len = request->body_len;
	http->connect_timeout = options->connect_timeout;
	http->request_timeout = options->request_timeout;
	http->ca_file = options->ca_file ? pstrdup(options->ca_file) : NULL;
	http->proxy = options->proxy ? pstrdup(options->proxy) : NULL;
	return NULL;
}

/*
 * Draw from the answer to a request what it says of the account, the lane and
 * the server.  signed_at and started_at are the request's.
 */
void
lane_note_answer(Lane *lane, RateKey key, MonotonicUs signed_at,
				 MonotonicUs started_at, const HttpReply *reply, const LiveAnswer *answer)
{
	const char *reason = answer->message ? answer->message : "no message";

	if (answer->error_code != NULL)
		reason = psprintf("%s: %s", answer->error_code, reason);
	switch (answer->outcome)
	{
		case LIVE_DONE:
			lane->pauses = 0;
			lane->server->pauses = 0;
			if (signed_at > lane->refused_at)
				lane->refused_at = 0;
			break;
		case LIVE_NOT_SENT:
			if (!reply->lapsed)
				pause_server(lane->server, reason);
			break;
		case LIVE_UNKNOWN:
			if (!reply->complete)
				note_unanswered(lane->server, started_at, reason);
			break;
		case LIVE_THROTTLED:
			rate_pause(shared_rate_table(), key,
					   monotonic_now() + rate_throttle_pause());
			break;
		case LIVE_CREDENTIALS:
			if (!is_first_refusal(lane, signed_at, answer))
				lane_pause(lane, reason);
			break;
		case LIVE_SERVICE_STATE:
			lane_pause(lane, reason);
			break;
		case LIVE_ENVIRONMENT:
			pause_server(lane->server, reason);
			break;
		case LIVE_QUOTA:
		case LIVE_REFUSED:
			break;
	}
}

/*
 * Is this the refusal of a token after which the credentials are read anew,
 * and the requests sent once more; or of one that was signed before that?
 */
static bool
is_first_refusal(Lane *lane, MonotonicUs signed_at, const LiveAnswer *answer)
{
	if (answer->error_code == NULL ||
		strcmp(answer->error_code, LIVE_TOKEN_FAILURE) != 0)
		return false;
	lane->newer_than = Max(lane->newer_than, signed_at);
	if (lane->refused_at == 0)
		lane->refused_at = monotonic_now();
	return signed_at <= lane->refused_at;
}

/*
 * A lane has requests that may be claimed, and that may go before others.
 */
void
lane_has_new_work(Lane *lane)
{
	lane->has_work = true;
	lane_start_over(lane);
}

/*
 * Look for the requests of a lane from the first one on.
 */
void
lane_start_over(Lane *lane)
{
	lane->after_start = DT_NOBEGIN;
	lane->after_id = 0;
	lane->start_over_at = monotonic_now() + START_OVER_AFTER;
}

/*
 * A request of a lane has been claimed, and with it those that go before it.
 */
void
lane_claimed(Lane *lane, TimestampTz start, int64 id)
{
	if (start < lane->after_start ||
		(start == lane->after_start && id < lane->after_id))
		return;
	lane->after_start = start;
	lane->after_id = id;
}

/*
 * May requests of a lane be claimed now?
 */
bool
lane_may_claim(const Lane *lane, MonotonicUs now)
{
	return lane->has_work && not_before(lane) <= now &&
		lane_room(lane, now) > 0;
}

/*
 * When a lane's slot has come, and all its pauses have ended.
 */
static MonotonicUs
not_before(const Lane *lane)
{
	return Max(lane->slot_at, lane_paused_until(lane));
}

/*
 * When all pauses of a lane have ended, and it waits for nothing.
 */
MonotonicUs
lane_paused_until(const Lane *lane)
{
	return Max(Max(lane->paused_until, lane->waits_until),
			   lane->server->paused_until);
}

/*
 * How many more requests of a lane may be under way.
 */
int
lane_room(const Lane *lane, MonotonicUs now)
{
	const Server *server = lane->server;
	int			most = server->max_in_flight;

	if (server->suspect)
		most = 1;
	else if (server->known_until < now)
		most = server->n_left + 1;
	return Max(most - server->in_flight, 0);
}

/*
 * Pause a lane, unless it is paused, and say so in the log.
 */
void
lane_pause(Lane *lane, const char *reason)
{
	MonotonicUs now = monotonic_now();
	MonotonicUs pause;

	lane->wants_set = false;
	lane->waits_until = 0;
	if (lane->paused_until > now)
		return;
	pause = pause_time(&lane->pauses);
	lane->paused_until = now + pause;
	ereport(LOG,
			(errmsg("screenshot tasks of role %s for server \"%s\" are paused for %d s",
					quote_identifier(NameStr(lane->name.role)),
					NameStr(lane->name.server), (int) (pause / US_PER_SECOND)),
			 errdetail_internal("%s", reason),
			 errhint("The pause ends at any change of the server or the user mapping, and at a reload.")));
}

static void
pause_server(Server *server, const char *reason)
{
	MonotonicUs now = monotonic_now();
	MonotonicUs pause;

	server->known_until = 0;
	if (server->paused_until > now)
		return;
	pause = pause_time(&server->pauses);
	server->paused_until = now + pause;
	ereport(LOG,
			(errmsg("screenshot tasks for server \"%s\" are paused for %d s",
					NameStr(server->name), (int) (pause / US_PER_SECOND)),
			 errdetail_internal("%s", reason),
			 errhint("The pause ends at any change of the server or a user mapping, and at a reload.")));
}

static MonotonicUs
pause_time(int *pauses)
{
	MonotonicUs pause = MIN_PAUSE << Min(*pauses, 6);

	(*pauses)++;
	return Min(pause, MAX_PAUSE);
}

/*
 * A request has left for the server: there is a connection.
 */
void
server_reached(Server *server)
{
	server->known_until = monotonic_now() + KNOWN_FOR;
}

/*
 * The API behind the server has answered.
 */
void
server_answered(Server *server)
{
	server->suspect = false;
}

/*
 * A request that was started at the given time has left and was not answered.
 * That may be bad luck, of all that were under way with it; but not if there
 * was reason already to suspect the server.
 */
static void
note_unanswered(Server *server, MonotonicUs started_at, const char *reason)
{
	if (server->suspect && started_at > server->suspect_since)
		pause_server(server, reason);
	else if (!server->suspect)
	{
		server->suspect = true;
		server->suspect_since = monotonic_now();
	}
}

/*
 * End all pauses: what they were for may have changed.
 */
void
lanes_end_pauses(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, iter.cur);

		lane->paused_until = 0;
		lane->pauses = 0;
		lane->refused_at = 0;
		lane->server->paused_until = 0;
		lane->server->pauses = 0;
		lane->server->suspect = false;
	}
}

/*
 * When the next lane may claim, which may be now.  One that lacks room is
 * told by the end of a request.
 */
MonotonicUs
lanes_next_chance(MonotonicUs now)
{
	MonotonicUs next = MONOTONIC_NEVER;
	dlist_iter	iter;

	dlist_foreach(iter, &lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, iter.cur);

		if (lane->has_work && lane_room(lane, now) > 0)
			next = Min(next, not_before(lane));
	}
	return next;
}

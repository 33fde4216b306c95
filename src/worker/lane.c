/*-------------------------------------------------------------------------
 *
 * lane.c
 *	  Who sends to where: the worker's lanes and servers, and their pauses
 *
 * A fault that is not the request's own is no reason to try the next request
 * at once.  Faults of the credentials or the account pause the lane, faults
 * of the network or the endpoint the server with all its lanes; other servers
 * go on.  Each pause in a row is twice as long as the one before.  All end
 * when a server, a user mapping or a role is changed, or the settings are
 * reloaded.
 *
 * Of a server that was not heard of for a while one request is sent first,
 * and the others once a connection stands: else as many connections would be
 * opened at once as there are requests, and their permits held meanwhile.  A
 * server that left a request unanswered must answer one first.
 *
 * A lane that sends with the machine's role may want credentials that must be
 * fetched.  It is noted here; renewal.c fetches them, while the lane waits.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "api/task.h"
#include "config/server.h"
#include "shmem/activity.h"
#include "shmem/shared_state.h"
#include "shmem/statistics.h"
#include "util/legible.h"
#include "worker/lane.h"

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

/* As many requests a server may have under way while others, which may not be
 * answered, have all that is not reserved.  It has its 20 a second with them if
 * it answers within 200 ms. */
#define FEW_IN_FLIGHT		4

/* longer than credentials take to be fetched, or not */
#define WAIT_FOR_SET		((ROLE_FETCH_TIMEOUT + 3000) * US_PER_MS)

dlist_head	lanes = DLIST_STATIC_INIT(lanes);

static dlist_head servers = DLIST_STATIC_INIT(servers);
static dlist_head requesters = DLIST_STATIC_INIT(requesters);

/* The same, to be found by their names */
typedef struct LaneEntry
{
	LaneName	name;
	Lane	   *lane;
} LaneEntry;

static HTAB *lane_table = NULL;

static ErrorData *try_to_resolve(Lane *lane);
static void read_options(Lane *lane);
static void forget_options(Lane *lane);
static int	compare_heads(const void *a, const void *b);
static Server *find_server(const Name name);
static Requester *find_requester(Oid role);
static void want_set(Lane *lane, const RoleWish *wish, bool waits);
static bool is_first_refusal(Lane *lane, MonotonicUs signed_at,
							 const LiveAnswer *answer);
static void pause_server(Server *server, const char *reason);
static void note_unanswered(Server *server, MonotonicUs started_at,
							const char *reason);
static MonotonicUs not_before(const Lane *lane);
static MonotonicUs start_pause(Pause *pause, const char *reason);
static void describe_pause(const Pause *pause, StringInfo text);
static const char *describe_clocks(const LiveAnswer *answer,
								   const char *reason);

/*
 * The lane of a name, made if there is none.
 */
Lane *
lane_find(const LaneName *name)
{
	HASHCTL		info = {
		.keysize = sizeof(LaneName),
		.entrysize = sizeof(LaneEntry)
	};
	LaneName	key = {.role = name->role};
	LaneEntry  *entry;
	Lane	   *lane;

	namestrcpy(&key.server, NameStr(name->server));
	if (lane_table == NULL)
		lane_table = hash_create("screenshot_task lanes", 16, &info,
								 HASH_ELEM | HASH_BLOBS);
	entry = hash_search(lane_table, &key, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->lane;

	lane = MemoryContextAllocZero(TopMemoryContext, sizeof(Lane));
	lane->name = key;
	snprintf(NameStr(lane->role_name), NAMEDATALEN, "%u", name->role);
	lane->server = find_server(&lane->name.server);
	lane->requester = find_requester(name->role);
	lane->news_key = lane_key(NameStr(key.server), key.role);
	lane_set_bounds(lane, DT_NOBEGIN, 0, DT_NOEND);
	entry = hash_search(lane_table, &key, HASH_ENTER, NULL);
	entry->lane = lane;
	dlist_push_tail(&lanes, &lane->node);
	return lane;
}

/*
 * Sort the lanes by the place of what they will send next.
 */
void
lanes_sort(void)
{
	int			n = (int) hash_get_num_entries(lane_table);
	Lane	  **sorted = palloc(n * sizeof(Lane *));
	dlist_iter	iter;

	n = 0;
	dlist_foreach(iter, &lanes)
		sorted[n++] = dlist_container(Lane, node, iter.cur);
	qsort(sorted, n, sizeof(Lane *), compare_heads);
	dlist_init(&lanes);
	for (int i = 0; i < n; i++)
		dlist_push_tail(&lanes, &sorted[i]->node);
	pfree(sorted);
}

static int
compare_heads(const void *a, const void *b)
{
	const Lane *lane_a = *(Lane *const *) a;
	const Lane *lane_b = *(Lane *const *) b;

	if (lane_a->head_start != lane_b->head_start)
		return lane_a->head_start < lane_b->head_start ? -1 : 1;
	return (lane_a->head_id > lane_b->head_id) -
		(lane_a->head_id < lane_b->head_id);
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

static Requester *
find_requester(Oid role)
{
	dlist_iter	iter;
	Requester  *requester;

	dlist_foreach(iter, &requesters)
	{
		requester = dlist_container(Requester, node, iter.cur);
		if (requester->role == role)
			return requester;
	}
	requester = MemoryContextAllocZero(TopMemoryContext, sizeof(Requester));
	requester->role = role;
	dlist_push_tail(&requesters, &requester->node);
	return requester;
}

/*
 * Read a lane's options and credentials as they are now, within a
 * transaction.  They stay until lanes_forget_options().
 *
 * Returns false if there are none: the role may not send to the server, and
 * the lane is paused; or the credentials are still to be fetched, and it waits.
 */
bool
lane_resolve(Lane *lane)
{
	ErrorData  *error = try_to_resolve(lane);

	if (error != NULL)
	{
		lane_pause(lane, error->message, error->hint);
		FreeErrorData(error);
	}
	return lane->credentials != NULL;
}

/*
 * The account that a lane sends for, within a transaction: by what it has now;
 * else by what it had when this was last asked; else 0.
 */
uint64
lane_account(Lane *lane)
{
	(void) try_to_resolve(lane);
	return lane->account;
}

/*
 * Read a lane's options and credentials, if that was not done.  Returns NULL, or
 * what is wrong with them, palloc'd.
 */
static ErrorData *
try_to_resolve(Lane *lane)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	if (lane->options != NULL)
		return NULL;
	if (lane->context == NULL)
		lane->context = AllocSetContextCreate(TopMemoryContext,
											  "screenshot_task lane",
											  ALLOCSET_SMALL_SIZES);

	/* What is wrong with one is no reason to undo what was done for others. */
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(lane->context);
	PG_TRY();
	{
		read_options(lane);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		forget_options(lane);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

/*
 * Do so, in the lane's memory context, or raise an error.
 */
static void
read_options(Lane *lane)
{
	Oid			role = lane->name.role;
	char	   *role_name = GetUserNameFromId(role, true);
	RoleWish	wish;
	RoleState	state;

	if (role_name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the role that made the requests, of OID %u, was dropped; cancel_screenshot_task_request() ends them",
						role)));
	namestrcpy(&lane->role_name, role_name);
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
	{
		lane->account = lane->credentials->account;
		lane->key = rate_key(lane->account, live_actions[LIVE_CREATE].name);
	}
	lane->server->max_in_flight = lane->options->max_in_flight;
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
 * Forget the options and credentials of all lanes, keys first of all.
 */
void
lanes_forget_options(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &lanes)
		forget_options(dlist_container(Lane, node, iter.cur));
}

static void
forget_options(Lane *lane)
{
	wipe_credentials(lane->credentials);
	lane->credentials = NULL;
	lane->options = NULL;
	lane->demand = 0;
	if (lane->context != NULL)
		MemoryContextDelete(lane->context);
	lane->context = NULL;
}

/*
 * Make a signed request to the server of a lane that is resolved, in the
 * current memory context.  Without a trace_id, it has a new one.
 *
 * Returns NULL, or why it cannot be signed.
 */
const char *
lane_sign(Lane *lane, LiveActionId action, const char *body,
		  const char *trace_id, HttpRequest *http)
{
	MemoryContext context = CurrentMemoryContext;
	LiveServer *options = lane->options;
	LiveRequest *request = palloc(sizeof(LiveRequest));
	const char *volatile problem = NULL;

	PG_TRY();
	{
		live_sign(request, live_actions[action].name,
				  options->endpoint.authority, options->region,
				  options->language,
				  trace_id ? trace_id : live_new_trace_id(), lane->credentials,
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

	server_http_request(options, request, http);
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
	if (answer->error_code != NULL || answer->outcome == LIVE_DONE)
		lane->server->suspect = false;
	switch (answer->outcome)
	{
		case LIVE_DONE:
			lane->pause.n = 0;
			lane->server->pause.n = 0;
			if (signed_at > lane->refused_at)
				lane->refused_at = 0;
			break;
		case LIVE_NOT_SENT:
			/* One that no connection was made for in time is its network's. */
			if (!reply->lapsed || reply->connections > 0)
				pause_server(lane->server, reason);
			break;
		case LIVE_UNKNOWN:
			/* What answers without a code is not the API. */
			if (answer->error_code == NULL)
				note_unanswered(lane->server, started_at, reason);
			break;
		case LIVE_THROTTLED:
			stat_count(NameStr(lane->server->name), COUNT_THROTTLED, 1);
			rate_refused(shared_rate_table(), key);
			break;
		case LIVE_CREDENTIALS:
			if (!live_clocks_disagree(answer) &&
				!is_first_refusal(lane, signed_at, answer))
				lane_pause(lane, reason,
						   live_credentials_hint(answer->error_code));
			break;
		case LIVE_PERMISSION:
		case LIVE_SERVICE_STATE:
			lane_pause(lane, reason, NULL);
			break;
		case LIVE_ENVIRONMENT:
			pause_server(lane->server, reason);
			break;
		case LIVE_QUOTA:
		case LIVE_REFUSED:
			break;
	}
	if (live_clocks_disagree(answer))
		pause_server(lane->server, describe_clocks(answer, reason));
}

/*
 * Why requests are not worth signing: the clocks, and how far apart they are.
 */
static const char *
describe_clocks(const LiveAnswer *answer, const char *reason)
{
	if (answer->error_code == NULL)
		reason = "signatures hold for five minutes either way";
	if (answer->ahead == 0)
		return psprintf("the clocks of the API and of this machine disagree (%s)",
						reason);
	return psprintf("the API's clock is %lld s %s this machine's (%s)",
					llabs((long long) answer->ahead),
					answer->ahead > 0 ? "ahead of" : "behind", reason);
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
 * The same, of a request whose place is known; of any, with DT_NOBEGIN.
 */
void
lane_has_work_from(Lane *lane, TimestampTz start, int64 id)
{
	lane_extend_bounds(lane, start, id,
					   start == DT_NOBEGIN ? DT_NOEND : start);
	if (start < lane->head_start ||
		(start == lane->head_start && id < lane->head_id))
	{
		lane->head_start = start;
		lane->head_id = id;
	}
	lane_has_new_work(lane);
}

/*
 * No request of a lane is ready before this one, and none that starts later than
 * the ceiling.
 */
void
lane_set_bounds(Lane *lane, TimestampTz start, int64 id, TimestampTz ceiling)
{
	lane->floor_start = start;
	lane->floor_id = Max(id, PG_INT64_MIN + 1) - 1;
	lane->ceiling = ceiling;
}

/*
 * This one may be, and those that come later, up to the ceiling.
 */
void
lane_extend_bounds(Lane *lane, TimestampTz start, int64 id, TimestampTz ceiling)
{
	ceiling = Max(ceiling, lane->ceiling);
	if (start < lane->floor_start ||
		(start == lane->floor_start && id <= lane->floor_id))
		lane_set_bounds(lane, start, id, ceiling);
	lane->ceiling = ceiling;
}

/*
 * Look for the requests of a lane from the first one on.
 */
void
lane_start_over(Lane *lane)
{
	lane->after_start = lane->floor_start;
	lane->after_id = lane->floor_id;
	lane->start_over_at = monotonic_now() + START_OVER_AFTER;
}

/*
 * Is that where a lane's requests are looked for next?
 */
bool
lane_starts_over(const Lane *lane)
{
	return lane->after_start < lane->floor_start ||
		(lane->after_start == lane->floor_start &&
		 lane->after_id <= lane->floor_id);
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
	if (start > lane->head_start ||
		(start == lane->head_start && id > lane->head_id))
	{
		lane->head_start = start;
		lane->head_id = id;
	}
}

/*
 * May requests of a lane be claimed now?
 */
bool
lane_may_claim(const Lane *lane, MonotonicUs now, int spare)
{
	return lane->has_work && not_before(lane) <= now &&
		lane_room(lane, now, spare) > 0;
}

/*
 * Are there requests that may be sent, if not now?
 */
bool
lanes_have_work(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &lanes)
	{
		if (dlist_container(Lane, node, iter.cur)->has_work)
			return true;
	}
	return false;
}

/*
 * When a lane's permit has come, and all its pauses and its rest have ended.
 */
static MonotonicUs
not_before(const Lane *lane)
{
	return Max(Max(lane->permit_at, lane->rest_until), lane_paused_until(lane));
}

/*
 * When all pauses of a lane have ended, and it waits for nothing.
 */
MonotonicUs
lane_paused_until(const Lane *lane)
{
	return Max(Max(lane->pause.until, lane->waits_until),
			   lane->server->pause.until);
}

/*
 * How many more requests of a lane may be under way.
 *
 * "spare" is how many more of all servers may be, but for those of servers that
 * have few.  It is negative if some of these have made use of that.
 */
int
lane_room(const Lane *lane, MonotonicUs now, int spare)
{
	const Server *server = lane->server;
	int			most = server->max_in_flight;

	if (server->suspect)
		most = 1;
	else if (server->known_until < now)
		most = server->n_left + 1;
	most = Min(most, Max(server->in_flight + spare, FEW_IN_FLIGHT));
	return Max(most - server->in_flight - server->n_stuck, 0);
}

/*
 * Pause a lane, unless it is paused, and say so in the log.  The hint, which
 * says what mends it in whole sentences, may be NULL.
 */
void
lane_pause(Lane *lane, const char *reason, const char *hint)
{
	MonotonicUs now = monotonic_now();
	MonotonicUs pause;

	lane->wants_set = false;
	lane->waits_until = 0;
	if (lane->pause.until > now)
		return;
	pause = start_pause(&lane->pause, reason);
	ereport(LOG,
			(errmsg("screenshot tasks of role %s for server \"%s\" are paused for %d s",
					quote_identifier(NameStr(lane->role_name)),
					NameStr(lane->name.server), (int) (pause / US_PER_SECOND)),
			 errdetail_internal("%s", reason),
			 errhint("%s%sThe pause ends at any change of the server, of the user mapping or of the role, and at a reload.",
					 hint ? hint : "", hint ? " " : "")));
}

static void
pause_server(Server *server, const char *reason)
{
	MonotonicUs now = monotonic_now();
	MonotonicUs pause;

	server->known_until = 0;
	if (server->pause.until > now)
		return;
	pause = start_pause(&server->pause, reason);
	ereport(LOG,
			(errmsg("screenshot tasks for server \"%s\" are paused for %d s",
					NameStr(server->name), (int) (pause / US_PER_SECOND)),
			 errdetail_internal("%s", reason),
			 errhint("The pause ends at any change of the server, of a user mapping or of a role, and at a reload.")));
}

/*
 * Start a pause, and return how long it is.
 */
static MonotonicUs
start_pause(Pause *pause, const char *reason)
{
	MonotonicUs length = Min(MIN_PAUSE << Min(pause->n, 6), MAX_PAUSE);

	pause->n++;
	pause->until = monotonic_now() + length;
	pause->ends_at = GetCurrentTimestamp() + length;
	clip_text(pause->reason, reason, sizeof(pause->reason));
	activity_note_error(pause->reason);
	return length;
}

/*
 * Say which servers, and which roles on servers, are paused, until when and
 * why, a line each.  Returns how many there are.
 */
int
lanes_describe_pauses(MonotonicUs now, StringInfo lines)
{
	int			n = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &servers)
	{
		Server	   *server = dlist_container(Server, node, iter.cur);

		if (server->pause.until <= now)
			continue;
		appendStringInfo(lines, "%sserver \"%s\"", n > 0 ? "\n" : "",
						 NameStr(server->name));
		describe_pause(&server->pause, lines);
		n++;
	}
	dlist_foreach(iter, &lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, iter.cur);

		if (lane->pause.until <= now)
			continue;
		appendStringInfo(lines, "%srole %s on server \"%s\"",
						 n > 0 ? "\n" : "",
						 quote_identifier(NameStr(lane->role_name)),
						 NameStr(lane->name.server));
		describe_pause(&lane->pause, lines);
		n++;
	}
	return n;
}

static void
describe_pause(const Pause *pause, StringInfo text)
{
	appendStringInfo(text, " until %s: %s", timestamptz_to_str(pause->ends_at),
					 pause->reason);
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
 * A request that was started at the given time has left, and the API has not
 * answered it.  That may be bad luck, of all that were under way with it; but
 * not if there was reason already to suspect the server.
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
 * End all pauses: what they were for may have changed.  Returns whether there
 * were any.
 */
bool
lanes_end_pauses(void)
{
	MonotonicUs now = monotonic_now();
	bool		any = false;
	dlist_iter	iter;

	dlist_foreach(iter, &lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, iter.cur);

		any |= lane_paused_until(lane) > now;
		lane->pause.until = 0;
		lane->pause.n = 0;
		lane->refused_at = 0;
		lane->server->pause.until = 0;
		lane->server->pause.n = 0;
		lane->server->suspect = false;
	}
	return any;
}

/*
 * When the next lane may claim, which may be now.  One that lacks room is
 * told by the end of a request.
 */
MonotonicUs
lanes_next_chance(MonotonicUs now, int spare)
{
	MonotonicUs next = MONOTONIC_NEVER;
	dlist_iter	iter;

	dlist_foreach(iter, &lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, iter.cur);

		if (lane->has_work && lane_room(lane, now, spare) > 0)
			next = Min(next, not_before(lane));
	}
	return next;
}

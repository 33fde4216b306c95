/*-------------------------------------------------------------------------
 *
 * lane.c
 *	  Who sends to where: the worker's lanes and servers, and their room
 *
 * Of a server that was not heard of for a while one request is sent first,
 * and the others once a connection stands: else as many connections would be
 * opened at once as there are requests, and their permits held meanwhile.
 *
 * A role may have no more transfers than it leaves free, however many servers
 * it uses, and the last ones are for roles that have few.
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

/* As many requests a role may have under way while others, which may not be
 * answered, have all that is not reserved.  It has its 20 a second with them if
 * the server answers within 200 ms. */
#define FEW_IN_FLIGHT		4

/* longer than credentials take to be fetched, or not */
#define WAIT_FOR_SET		((ROLE_FETCH_TIMEOUT + 3000) * US_PER_MS)

dlist_head	lanes = DLIST_STATIC_INIT(lanes);
dlist_head	servers = DLIST_STATIC_INIT(servers);
static dlist_head requesters = DLIST_STATIC_INIT(requesters);

/* Lanes, to be found by their names */
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
static MonotonicUs not_before(const Lane *lane);

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
	dlist_init(&lane->domains);
	lane->domain_due_at = MONOTONIC_NEVER;
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
lane_may_claim(const Lane *lane, MonotonicUs now, TransferRoom transfers)
{
	return (lane->has_work || lane->domain_due_at <= now) &&
		not_before(lane) <= now && lane_room(lane, now, transfers) > 0;
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
	return Max(Max(lane->breaker.open_until, lane->waits_until),
			   lane->server->breaker.open_until);
}

/*
 * How many more requests of a lane may be under way, beside those that are
 * planned.
 *
 * A role may have as many transfers as it leaves to others, without those that
 * are reserved; or a few, of these too.  A server that is tried need not wait
 * for what it has not answered before.
 */
int
lane_room(const Lane *lane, MonotonicUs now, TransferRoom transfers)
{
	const Server *server = lane->server;
	const Requester *requester = lane->requester;
	int			own = requester->in_flight + requester->planned;
	int			most = Min((transfers.free + own) / 2,
						   transfers.free - transfers.reserved + own);
	int			room = Min(Max(most, FEW_IN_FLIGHT) - own, transfers.free);

	if (!breaker_is_closed(&server->breaker))
		room = Min(room, Min(breaker_room(&server->breaker),
							 server->max_in_flight - server->breaker.in_flight));
	else if (server->known_until < now)
		room = Min(room, server->n_left + 1 - server->in_flight);
	else
		room = Min(room, server->max_in_flight - server->in_flight);
	room = Min(room - server->planned - server->n_stuck,
			   breaker_room(&lane->breaker));
	return Max(room, 0);
}

/*
 * How many lookups may be begun for a lane.  Where one request goes first, it is
 * a lookup if there is one: it can be repeated.  But once the API answers these,
 * and has not made tasks before, it is one that makes a task.
 */
int
lane_lookup_room(const Lane *lane, MonotonicUs now)
{
	dlist_iter	iter;

	if (lane->server->create_next && !breaker_is_closed(&lane->server->breaker))
	{
		dlist_foreach(iter, &lanes)
		{
			const Lane *other = dlist_container(Lane, node, iter.cur);

			if (other->server == lane->server && other->has_work &&
				not_before(other) <= now)
				return 0;
		}
	}
	return Min(breaker_room(&lane->server->breaker),
			   breaker_room(&lane->breaker));
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
 * When the next lane may claim, which may be now.  One that lacks room is
 * told by the end of a request.
 */
MonotonicUs
lanes_next_chance(MonotonicUs now, TransferRoom transfers)
{
	MonotonicUs next = MONOTONIC_NEVER;
	dlist_iter	iter;

	dlist_foreach(iter, &lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, iter.cur);

		if (lane_room(lane, now, transfers) == 0)
			continue;
		if (lane->has_work)
			next = Min(next, not_before(lane));
		else if (lane->domain_due_at != MONOTONIC_NEVER)
			next = Min(next, Max(not_before(lane), lane->domain_due_at));
	}
	return next;
}

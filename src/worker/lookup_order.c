/*-------------------------------------------------------------------------
 *
 * lookup_order.c
 *	  Finding out about requests in doubt: which is looked up next
 *
 * The API has no idempotency key: a request that is sent twice may be carried
 * out twice.  But DescribeScreenshotTask lists the tasks that exist.  A listed
 * task with the stream, domain, application, template, end and start of a
 * request, which no other row has, is the request's: it takes over the TaskId
 * and is created.  A request whose task is missing from two lists, some time
 * apart, was not carried out, and is sent again.
 *
 * Requests may be equal.  It does not matter then which of them has which
 * task, only that there are as many of both.  So a task that a row has already
 * is not taken again, and nothing is resolved while an equal request is under
 * way, since the listed task may be that one's.  A request without a start and
 * one with a start of about the same time may also be taken for each other: a
 * task with just that start is left to the latter.
 *
 * All this is among rows of the same account.  Rows of another account have
 * tasks elsewhere, whatever TaskIds their roles write into them.  If a row's
 * server or user mapping is gone, nobody knows whose its task is, and a
 * decision that depends on it is left to a person.
 *
 * Roles take turns: of the requests that are due, one of the role that has
 * fewest lookups under way is next, and no role has more of them than are left.
 *
 * A request is not asked about before its bytes can no longer arrive: its
 * time-out after it was sent, beyond which not even the kernel repeats them,
 * and a grace for the API to take it in.
 *
 * A lookup (lookup.c) asks page after page, and is resolved (resolution.c) in a
 * transaction.  Here is when.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "table/request_queue.h"
#include "worker/channel.h"
#include "worker/reconcile.h"
#include "worker/reconcile_private.h"

/* The most lookups at a time: of one server, lest it answers late, and of all */
#define MAX_SERVER_LOOKUPS	4
#define MAX_LOOKUPS		32

/* How many turns a role has had */
typedef struct RoleTurns
{
	Oid			role;
	int			n;
} RoleTurns;

static MonotonicUs due_at = 0;	/* the next request to be asked about */

static void start_lookups(void);
static List *in_turns(List *requests);
static int	compare_turns(const ListCell *a, const ListCell *b);
static bool has_turn(const Channel *channel);

/*
 * Is there something to do in a transaction?
 */
bool
reconcile_has_work(MonotonicUs now)
{
	return reconcile_next_event(now) <= now;
}

/*
 * When there will next be something to do.
 */
MonotonicUs
reconcile_next_event(MonotonicUs now)
{
	MonotonicUs next = n_lookups < MAX_LOOKUPS ? due_at : MONOTONIC_NEVER;
	dlist_iter	iter;

	dlist_foreach(iter, &lookups)
	{
		Lookup	   *lookup = dlist_container(Lookup, node, iter.cur);

		if (lookup->state == LOOKUP_TO_SEND)
		{
			/*
			 * Without room another request is trying the server or the
			 * channel; its end wakes the loop, and no time need be set.
			 */
			if (channel_lookup_room(lookup->job.channel, now, dispatch_room()) > 0)
				next = Min(next, lookup->permit_at);
		}
		else if (lookup->state != LOOKUP_SENT)
			next = Min(next, now);
	}
	return next;
}

/*
 * Look for requests in doubt in the next transaction.
 */
void
reconcile_scan(void)
{
	due_at = 0;
}

/*
 * Resolve the requests whose lookups have ended, and start lookups that are
 * due, within a transaction.
 *
 * reconcile_committed() or reconcile_aborted() must follow.
 */
void
reconcile_work(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &lookups)
	{
		Lookup	   *lookup = dlist_container(Lookup, node, iter.cur);

		if (lookup->state == LOOKUP_TO_SEND || lookup->state == LOOKUP_SENT)
			continue;
		resolve_doubt(lookup);
		/* Forgotten after the commit, or resolved once more after an abort. */
		lookup->resolved = true;
		due_at = 0;
	}
	if (due_at <= monotonic_now() && n_lookups < MAX_LOOKUPS)
		start_lookups();

	dlist_foreach(iter, &lookups)
	{
		Lookup	   *lookup = dlist_container(Lookup, node, iter.cur);

		if (lookup->state == LOOKUP_TO_SEND)
			lookup_ask(lookup);
	}
}

/*
 * The transaction has committed: end the lookups that it resolved.
 */
void
reconcile_committed(void)
{
	dlist_mutable_iter iter;

	resolutions_committed();
	dlist_foreach_modify(iter, &lookups)
	{
		Lookup	   *lookup = dlist_container(Lookup, node, iter.cur);

		if (lookup->resolved)
			lookup_end(lookup);
	}
}

/*
 * The transaction was aborted: resolve the same lookups again.
 */
void
reconcile_aborted(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &lookups)
		dlist_container(Lookup, node, iter.cur)->resolved = false;
	resolutions_aborted();
	due_at = 0;
}

/*
 * Start lookups about requests that are due.
 */
static void
start_lookups(void)
{
	MonotonicUs now = monotonic_now();
	List	   *paused = NIL;
	List	   *requests;
	TimestampTz due;
	ListCell   *cell;
	dlist_iter	iter;

	due_at = MONOTONIC_NEVER;
	dlist_foreach(iter, &channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);

		if (channel_paused_until(channel) <= now)
			continue;
		paused = lappend(paused, &channel->name);
		due_at = Min(due_at, channel_paused_until(channel));
	}

	/*
	 * More than can be asked about at a time, as some are spoken for by the
	 * lookup of an equal one.
	 */
	requests = queue_find_doubtful(paused, 2 * MAX_SERVER_LOOKUPS);
	foreach(cell, in_turns(requests))
	{
		DoubtfulRequest *request = lfirst(cell);
		Channel    *channel = channel_find(&request->channel);

		if (is_asked_about(request) || !has_turn(channel))
			continue;
		if (n_lookups == MAX_LOOKUPS)
		{
			due_at = now;
			return;
		}
		/* Resolving one may have paused the channel for those that follow. */
		if (channel_paused_until(channel) > now || !channel_resolve(channel))
		{
			due_at = Min(due_at, channel_paused_until(channel));
			continue;
		}
		if (!apply_policy(request, channel->options) &&
			!waits_for_another(request, channel->account,
							   queue_find_alike(request)))
			lookup_start(request, channel);
	}

	due = queue_next_doubtful_due(paused);
	if (!TIMESTAMP_NOT_FINITE(due))
	{
		/* Those that are due now are being asked about, or wait for these. */
		TimestampTz wall = GetCurrentTimestamp();

		due_at = Min(due_at, now + Max(due - wall, US_PER_SECOND));
	}
}

/*
 * Put requests into the order in which their roles take turns: of each role as
 * many have gone before, at each place, that are being asked about or stand before
 * it.  Among those, the role whose turn is longest ago goes first.
 */
static List *
in_turns(List *requests)
{
	HASHCTL		info = {
		.keysize = sizeof(Oid),
		.entrysize = sizeof(RoleTurns),
		.hcxt = CurrentMemoryContext
	};
	HTAB	   *turns = hash_create("screenshot_task turns", 16, &info,
									HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	ListCell   *cell;

	foreach(cell, requests)
	{
		DoubtfulRequest *request = lfirst(cell);
		const Requester *requester = channel_find(&request->channel)->requester;
		bool		found;
		RoleTurns  *entry = hash_search(turns, &request->channel.role, HASH_ENTER,
										&found);

		/* Lookups under way count as turns that the role has had. */
		if (!found)
			entry->n = requester->n_lookups;
		request->turn = entry->n++;
		request->last_turn_at = requester->looked_up_at;
	}
	hash_destroy(turns);
	list_sort(requests, compare_turns);
	return requests;
}

/*
 * list_sort comparator, see in_turns().
 */
static int
compare_turns(const ListCell *a, const ListCell *b)
{
	const DoubtfulRequest *one = lfirst(a);
	const DoubtfulRequest *other = lfirst(b);

	if (one->turn != other->turn)
		return one->turn < other->turn ? -1 : 1;
	if (one->last_turn_at != other->last_turn_at)
		return one->last_turn_at < other->last_turn_at ? -1 : 1;
	return (one->id > other->id) - (one->id < other->id);
}

/*
 * May one more request of a channel be asked about?  Of the lookups that there may
 * be, no role takes more than it leaves to others; and some are of one server
 * alone.
 */
static bool
has_turn(const Channel *channel)
{
	int 		n = channel->requester->n_lookups + 1;

	return (n == 1 || n <= MAX_LOOKUPS - n_lookups - 1) &&
		lookups_of_server(channel->server) < MAX_SERVER_LOOKUPS;
}


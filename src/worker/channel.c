/*-------------------------------------------------------------------------
 *
 * channel.c
 *	  Who sends to where: the worker's channels and servers, and their room
 *
 * Of a server that was not heard of for a while one request is sent first,
 * and the others once a connection stands: else as many connections would be
 * opened at once as there are requests, and their permits held meanwhile.
 *
 * The transfers that are free are shared among roles, and what a role may have
 * among its channels.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "settings.h"
#include "shmem/shared_state.h"
#include "worker/channel.h"

/* How long a channel goes behind others, at first and at the most */
#define MIN_BEHIND			US_PER_SECOND
#define MAX_BEHIND			(16 * US_PER_SECOND)

/*
 * A server is trusted again after so many answers beside the first: a connection
 * may break with its second request.
 */
#define MORE_ANSWERS		7

dlist_head	channels = DLIST_STATIC_INIT(channels);
dlist_head	servers = DLIST_STATIC_INIT(servers);
static dlist_head requesters = DLIST_STATIC_INIT(requesters);
static int	n_busy_requesters = 0;	/* those with requests in flight */

/* Outcomes that could not be written yet, and the roles that have any of them */
static int	n_unsaved = 0;
static int	n_unsaved_requesters = 0;

/* Channels, to be found by their names */
typedef struct ChannelEntry
{
	ChannelName name;
	Channel    *channel;
} ChannelEntry;

static HTAB *channel_table = NULL;

static int	compare_cursors(const void *a, const void *b);
static Server *find_server(const Name name);
static Requester *find_requester(Oid role);
static MonotonicUs not_before(const Channel *channel);
static int	part_of(int n_free, int own, int n_others);
static int	unsaved_room(const Channel *channel);

/*
 * The channel of a name, made if there is none.
 */
Channel *
channel_find(const ChannelName *name)
{
	HASHCTL		info = {
		.keysize = sizeof(ChannelName),
		.entrysize = sizeof(ChannelEntry)
	};
	ChannelName key = {.role = name->role};
	ChannelEntry *entry;
	Channel    *channel;

	/* Padded with zeros, as the key is hashed and compared by its bytes. */
	namestrcpy(&key.server, NameStr(name->server));
	if (channel_table == NULL)
		channel_table = hash_create("screenshot_task channels", 16, &info,
								 HASH_ELEM | HASH_BLOBS);

	/*
	 * Found first and entered last, so that an error in between leaves no
	 * entry without a channel.
	 */
	entry = hash_search(channel_table, &key, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->channel;

	/*
	 * Never freed: there are as many as pairs of a role and a server, and jobs
	 * point to them.
	 */
	channel = MemoryContextAllocZero(TopMemoryContext, sizeof(Channel));
	channel->name = key;
	snprintf(NameStr(channel->role_name), NAMEDATALEN, "%u", name->role);
	channel->server = find_server(&channel->name.server);
	channel->requester = find_requester(name->role);
	dlist_init(&channel->domains);
	channel->domain_due_at = MONOTONIC_NEVER;
	channel->bit = channel_bit(NameStr(key.server), key.role);
	channel->cursor_start = DT_NOBEGIN;
	entry = hash_search(channel_table, &key, HASH_ENTER, NULL);
	entry->channel = channel;
	dlist_push_tail(&channels, &channel->node);
	return channel;
}

/*
 * Sort the channels by the place of what they will send next.
 */
void
channels_sort(void)
{
	int 		n = (int) hash_get_num_entries(channel_table);
	Channel   **sorted = palloc(n * sizeof(Channel *));
	dlist_iter	iter;

	n = 0;
	dlist_foreach(iter, &channels)
		sorted[n++] = dlist_container(Channel, node, iter.cur);
	qsort(sorted, n, sizeof(Channel *), compare_cursors);
	dlist_init(&channels);
	for (int i = 0; i < n; i++)
		dlist_push_tail(&channels, &sorted[i]->node);
	pfree(sorted);
}

/*
 * qsort comparator: by the place of what they will send next.
 */
static int
compare_cursors(const void *a, const void *b)
{
	const Channel *channel_a = *(Channel *const *) a;
	const Channel *channel_b = *(Channel *const *) b;

	if (channel_a->cursor_start != channel_b->cursor_start)
		return channel_a->cursor_start < channel_b->cursor_start ? -1 : 1;
	return (channel_a->cursor_id > channel_b->cursor_id) -
		(channel_a->cursor_id < channel_b->cursor_id);
}

/*
 * What is known of a server, from nothing on if it is new.
 */
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
	/* Until its options are read. */
	server->max_in_flight = 1;
	server->breaker.more_answers = MORE_ANSWERS;
	dlist_push_tail(&servers, &server->node);
	return server;
}

/*
 * What is known of a role, from nothing on if it is new.
 */
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
 * Note that a commit may have made a request of a channel ready.  It is likely
 * to come after those that were claimed.
 */
void
channel_wake(Channel *channel)
{
	channel->has_work = true;

	/*
	 * A commit tells of a channel by a bit that others may share.  Being woken
	 * in vain once is enough while it rests.
	 */
	channel->woken = !channel->woken_in_vain;
}

/*
 * Note which request of a channel is the first that is ready.
 */
void
channel_has_head(Channel *channel, TimestampTz start, int64 id)
{
	channel->cursor_start = start;
	channel->cursor_id = id;
	channel->was_seen = true;
	channel->has_work = true;
	channel->rest_until = 0;
	channel->woken_in_vain = false;
}

/*
 * Note that a request of a channel is ready; or, with DT_NOBEGIN, that any may
 * be.
 */
void
channel_has_work_from(Channel *channel, TimestampTz start, int64 id)
{
	if (start < channel->cursor_start ||
		(start == channel->cursor_start && id < channel->cursor_id))
	{
		channel->cursor_start = start;
		channel->cursor_id = id;
	}
	channel->woken_in_vain = false;
	channel_wake(channel);
}

/*
 * Note that a request of a channel was claimed, and with it those that go
 * before it.
 */
void
channel_claimed(Channel *channel, TimestampTz start, int64 id)
{
	if (start < channel->cursor_start ||
		(start == channel->cursor_start && id < channel->cursor_id))
		return;
	channel->cursor_start = start;

	/*
	 * From behind this one on: what was claimed leaves a dead row, which the
	 * next search need not walk over.
	 */
	channel->cursor_id = id + 1;
}

/*
 * Does a channel rest, since a search for its requests took long?  It claims
 * no more than one request at a time then, and only if it is woken.
 */
bool
channel_rests(const Channel *channel, MonotonicUs now)
{
	return channel->rest_until > now;
}

/*
 * May requests of a channel be claimed now?
 */
bool
channel_may_claim(const Channel *channel, MonotonicUs now, int n_free)
{
	return (channel->has_work || channel->domain_due_at <= now) &&
		not_before(channel) <= now && channel_room(channel, now, n_free) > 0;
}

/*
 * Are there requests that may be sent, if not now?
 */
bool
channels_have_work(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &channels)
	{
		if (dlist_container(Channel, node, iter.cur)->has_work)
			return true;
	}
	return false;
}

/*
 * When a channel's permit has come, and all its pauses have ended; and its rest,
 * unless it was woken.
 */
static MonotonicUs
not_before(const Channel *channel)
{
	return Max(Max(Max(channel->permit_at, channel->list_look_at),
				   channel->woken ? 0 : channel->rest_until),
			   channel_paused_until(channel));
}

/*
 * When all pauses of a channel have ended, and it waits for nothing.
 */
MonotonicUs
channel_paused_until(const Channel *channel)
{
	/* Until its options are read again, for they have changed. */
	if (channel->server->disabled)
		return MONOTONIC_NEVER;
	return Max(Max(channel->breaker.open_until, channel->waits_until),
			   channel->server->breaker.open_until);
}

/*
 * How many more requests of a channel may be under way, where so many transfers are
 * free.
 *
 * What is free is shared twice: among roles, however many servers they use; and
 * what a role may have among its channels.  So servers that do not answer leave
 * something to others, of other roles and of the same one.
 *
 * A server whose breaker is half-open need not wait for what it has not answered
 * before.
 *
 * A role can lock its rows as long as it likes, so that outcomes cannot be written.
 * That takes room from the role, and from nobody else that uses the server.
 */
int
channel_room(const Channel *channel, MonotonicUs now, int n_free)
{
	const Server *server = channel->server;
	const Requester *requester = channel->requester;
	int			room;
	int			share;

	/*
	 * To a server that was not reached lately one request makes a connection,
	 * and the others follow when it has left.
	 */
	if (!breaker_is_closed(&server->breaker))
		room = Min(breaker_room(&server->breaker),
				   server->max_in_flight - server->breaker.in_flight);
	else if (server->known_until < now)
		room = server->n_left + 1 - server->in_flight;
	else
		room = server->max_in_flight - server->in_flight;
	room = Min(room, breaker_room(&channel->breaker));
	room = Min(room, unsaved_room(channel));

	share = part_of(n_free, requester->in_flight,
					n_busy_requesters - (requester->in_flight > 0));
	share = part_of(share, channel->in_flight,
					requester->n_busy - (channel->in_flight > 0));
	return Max(Min(room, share), 0);
}

/*
 * How many more of n_free transfers one party may have, which has "own"
 * already: its part if all were shared with the n_others that have any, and
 * with one more, who may come yet.  Negative if it has more than its part.
 */
static int
part_of(int n_free, int own, int n_others)
{
	int			most = Max((n_free + own) / (n_others + 2), 1);

	return Min(most - own, n_free);
}

/*
 * How many more requests of a channel may be in flight without too many
 * outcomes that cannot be saved, of the channel or of its role.
 */
static int
unsaved_room(const Channel *channel)
{
	const Requester *requester = channel->requester;
	int			share = part_of(MAX_UNSAVED - n_unsaved, requester->n_unsaved,
								n_unsaved_requesters - (requester->n_unsaved > 0));

	return Min(share - requester->in_flight,
			   channel->server->max_in_flight - channel->n_unsaved -
			   channel->in_flight);
}

/*
 * How many lookups may begin for a channel, where so many transfers are free.
 *
 * Where one request goes first it is a lookup if there is one: it can be repeated.
 * But then they take turns with requests that make tasks: one of both may be
 * answered, and the other not.
 */
int
channel_lookup_room(const Channel *channel, MonotonicUs now, int n_free)
{
	const Server *server = channel->server;
	dlist_iter	iter;

	if (server->create_next && screenshot_task_enabled &&
		!breaker_is_closed(&server->breaker))
	{
		dlist_foreach(iter, &channels)
		{
			const Channel *other = dlist_container(Channel, node, iter.cur);

			if (other->server == server && channel_may_claim(other, now, n_free))
				return 0;
		}
	}
	return Min(breaker_room(&server->breaker), breaker_room(&channel->breaker));
}

/*
 * Count so many more requests of a channel as in flight, or fewer.
 */
void
channel_count(Channel *channel, int n)
{
	Requester  *requester = channel->requester;

	/*
	 * Taken off before and added after, so that a change from 0 or to 0 is
	 * counted whichever way it goes.
	 */
	n_busy_requesters -= requester->in_flight > 0;
	requester->n_busy -= channel->in_flight > 0;
	channel->in_flight += n;
	requester->in_flight += n;
	channel->server->in_flight += n;
	requester->n_busy += channel->in_flight > 0;
	n_busy_requesters += requester->in_flight > 0;
}

/*
 * Count so many more outcomes of a channel's requests as not written, or fewer.
 */
void
channel_count_unsaved(Channel *channel, int n)
{
	Requester  *requester = channel->requester;

	n_unsaved_requesters -= requester->n_unsaved > 0;
	n_unsaved += n;
	channel->n_unsaved += n;
	requester->n_unsaved += n;
	n_unsaved_requesters += requester->n_unsaved > 0;
}

/*
 * How many outcomes of all channels are not saved.
 */
int
channels_unsaved(void)
{
	return n_unsaved;
}

/*
 * Count requests that are about to be claimed as in flight, or no longer.
 */
void
channel_plan(Channel *channel, int n)
{
	channel_count(channel, n);
	channel->breaker.in_flight += n;
	channel->server->breaker.in_flight += n;
}

/*
 * Note that the API has refused a request of a channel by its rate limit: for
 * a while other channels of the account go first, twice as long each time in a
 * row.  The refusal may be no matter of theirs, and this channel would take
 * all permits if its requests start sooner.
 */
void
channel_put_behind(Channel *channel)
{
	MonotonicUs now = monotonic_now();

	/* All that were in flight with the first refusal are refused with it. */
	if (channel->behind_until > now)
		return;
	channel->behind_until = now + Min(MIN_BEHIND << Min(channel->n_behind, 10),
									  MAX_BEHIND);
	channel->n_behind++;
}

/*
 * When the next channel may claim, which may be now.  A channel that lacks
 * room goes on when a request ends.
 */
MonotonicUs
channels_next_chance(MonotonicUs now, int n_free)
{
	MonotonicUs next = MONOTONIC_NEVER;
	dlist_iter	iter;

	dlist_foreach(iter, &channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);

		if (channel_room(channel, now, n_free) == 0)
			continue;
		if (channel->has_work)
			next = Min(next, not_before(channel));
		else if (channel->domain_due_at != MONOTONIC_NEVER)
			next = Min(next, Max(not_before(channel), channel->domain_due_at));
	}
	return next;
}

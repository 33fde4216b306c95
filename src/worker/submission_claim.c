/*-------------------------------------------------------------------------
 *
 * submission_claim.c
 *	  Claiming requests of the table, for all channels that may send
 *
 * As many requests are claimed as the accounts' limits have permits for and the
 * servers room; permits are taken first, and those that no request was found
 * for are given back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "settings.h"
#include "shmem/activity.h"
#include "shmem/shared_state.h"
#include "worker/submission.h"

/* The most requests that one transaction claims */
#define MAX_CLAIM			200

/*
 * A search that takes longer than this, and this for each request, has walked over
 * thousands of rows, which are locked, or dead and kept for an old snapshot.  The
 * channel rests for so many times as long.
 */
#define LONG_SEARCH			US_PER_MS
#define LONG_SEARCH_OF_REQUEST	20
#define REST_AFTER_SEARCH	100

/*
 * Permits are taken ahead of their time, so that the claim has committed when
 * it comes; but not further than needed, as calls have to wait for what is
 * left.
 */
#define MIN_CLAIM_AHEAD		(6 * US_PER_MS)
#define MAX_CLAIM_AHEAD		(40 * US_PER_MS)

/*
 * So many requests of a channel in a row that triggers keep from being claimed
 * pause the channel: once the skip list is full, nobody's requests are
 * claimed.
 */
#define MAX_PASSED_OVER		20

/* The claim under way, and what the last ones were like */
static struct
{
	RatePermit	permits[MAX_CLAIM]; /* taken for it, until its requests have them */
	int			n_permits;
	MonotonicUs began;			/* the last one */
	MonotonicUs time;			/* how long they take, at the most, lately */
	MonotonicUs scan_by;		/* see submission_scan_by() */
}			claims = {.scan_by = MONOTONIC_NEVER};

static void share_room(MonotonicUs now);
static bool gives_way(const Channel *channel);
static bool is_passed_over(const Channel *channel);
static List *claim_for_account(Channel *first, MonotonicUs *scan_again_at);
static int	collect_demands(const Channel *first, ChannelDemand *demands,
							int *wanted);
static void note_claim(const Claim *claim);
static void note_searched(const Claim *claim, const ChannelDemand *demands,
						  int n_demands, MonotonicUs *scan_again_at);
static MonotonicUs claim_ahead(void);

/*
 * Are there requests that may be claimed now?
 */
bool
submission_may_claim(MonotonicUs now)
{
	dlist_iter	iter;

	if (!screenshot_task_enabled || dispatch_room() == 0)
		return false;
	dlist_foreach(iter, &channels)
	{
		if (channel_may_claim(dlist_container(Channel, node, iter.cur), now,
						   dispatch_room()))
			return true;
	}
	return false;
}

/*
 * Claim requests for all channels that may send, within a transaction.
 *
 * *scan_again_at is when to look at the table again, if there are requests
 * that somebody has locked; else never.
 *
 * Returns a list of ClaimedRequest.  Either way submission_end_claim() must
 * follow; if the transaction commits, submission_claimed() before it.
 */
List *
submission_claim(MonotonicUs *scan_again_at)
{
	MonotonicUs now = monotonic_now();
	List	   *claimed = NIL;
	List	   *more;
	dlist_iter	iter;

	*scan_again_at = MONOTONIC_NEVER;
	if (!submission_may_claim(now))
		return NIL;
	dlist_foreach(iter, &channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);

		channel_look_for_domains(channel, now);
		if (channel_may_claim(channel, now, dispatch_room()) &&
			channel_resolve(channel))
			template_check_prepare(channel, now);
	}
	claims.began = now;

	/*
	 * Those whose requests start soonest come first, where there is not enough
	 * for all.
	 */
	channels_sort();
	share_room(now);
	dlist_foreach(iter, &channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);

		if (channel->demand == 0)
			continue;
		more = claim_for_account(channel, scan_again_at);
		/* The list outlives the transaction: not one of SPI's memory. */
		claimed = claimed == NIL ? more : list_concat(claimed, more);
	}
	return claimed;
}

/*
 * Set the demand of each channel.  Channels of one server share its room; where
 * there is not enough for all, those come first whose requests do.
 */
static void
share_room(MonotonicUs now)
{
	int			n_free = dispatch_room();
	dlist_iter	iter;

	dlist_foreach(iter, &channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);

		channel->demand = 0;
		channel->server->n_sharing = 0;
		channel->server->tries_first = MONOTONIC_NEVER;
	}
	dlist_foreach(iter, &channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);

		if (!channel_may_claim(channel, now, n_free))
			continue;
		channel->server->n_sharing++;
		channel->server->tries_first = Min(channel->server->tries_first,
										   channel->failed_at);
	}
	dlist_foreach(iter, &channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);
		Server	   *server = channel->server;

		if (!channel_may_claim(channel, now, n_free))
			continue;
		if (gives_way(channel))
		{
			server->n_sharing--;
			continue;
		}
		channel->demand = is_passed_over(channel) || channel_rests(channel, now) ? 1 :
			(channel_room(channel, now, n_free) + server->n_sharing - 1) /
			server->n_sharing;
		server->n_sharing--;
		/* What it asks for is not free for those that follow. */
		channel_plan(channel, channel->demand);
		n_free -= channel->demand;
	}
	dlist_foreach(iter, &channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);

		channel_plan(channel, -channel->demand);
	}
}

/*
 * Do others try the server before a channel?  The fault that was taken for the
 * server's may be its account's: if it tried each time, as its requests start
 * sooner, nobody else would find out.
 */
static bool
gives_way(const Channel *channel)
{
	return !breaker_is_closed(&channel->server->breaker) &&
		channel->failed_at > channel->server->tries_first;
}

static bool
is_passed_over(const Channel *channel)
{
	return channel->n_passed_over >= MAX_PASSED_OVER;
}

/*
 * Claim for all channels of one account and limit: the first one's.
 */
static List *
claim_for_account(Channel *first, MonotonicUs *scan_again_at)
{
	ChannelDemand *demands = palloc(MAX_CLAIM * sizeof(ChannelDemand));
	int			n_demands;
	int			wanted;
	int			n;
	MonotonicUs retry_at;
	Claim		claim = {0};

	n_demands = collect_demands(first, demands, &wanted);
	wanted = Min(wanted, MAX_CLAIM - claims.n_permits);
	/* Permits of earlier accounts of this claim will be jobs, too. */
	wanted = Min(wanted, dispatch_room() - claims.n_permits);
	if (wanted <= 0)
		return NIL;

	/*
	 * Before the claim, and not for what it finds: a request must not be
	 * claimed, and on disk as "sending", while it waits for a permit.
	 */
	n = rate_acquire(shared_rate_table(), first->key,
					 first->options->requests_per_second, wanted,
					 claim_ahead(), &claims.permits[claims.n_permits], &retry_at);
	claims.n_permits += n;
	if (n > 0)
		claim = queue_claim(demands, n_demands, n);
	/* The search that follows a wake-up has been made, whatever it found. */
	for (int i = 0; i < n_demands && n > 0; i++)
		channel_find(&demands[i].name)->woken = false;
	note_claim(&claim);
	activity_note_claimed(list_length(claim.requests));

	/*
	 * Fewer requests than permits: the channels have no more.  If some could
	 * not be changed, the next claim tells.
	 */
	if (claim.n_chosen < n && list_length(claim.requests) == claim.n_chosen)
		note_searched(&claim, demands, n_demands, scan_again_at);
	else if (claim.n_chosen == n && n < wanted)
	{
		for (int i = 0; i < n_demands; i++)
			channel_find(&demands[i].name)->permit_at = retry_at;
	}
	return claim.requests;
}

/*
 * Take the demands of all channels of the first one's account and limit; these
 * are 0 from then on.  Returns how many channels there are, and in *wanted how
 * many requests they demand.
 */
static int
collect_demands(const Channel *first, ChannelDemand *demands, int *wanted)
{
	MonotonicUs now = monotonic_now();
	int			n = 0;
	dlist_iter	iter;

	*wanted = 0;
	dlist_foreach(iter, &channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);

		if (channel->demand == 0 || channel->key != first->key ||
			channel->options->requests_per_second !=
			first->options->requests_per_second ||
			n == MAX_CLAIM)
			continue;
		demands[n].name = channel->name;
		demands[n].most = channel->demand;
		demands[n].from_start = channel->cursor_start;
		demands[n].from_id = channel->cursor_id;
		demands[n].goes_last = channel->behind_until > now;
		demands[n].refused_domains = channel_refused_domains(channel, now);
		*wanted += channel->demand;
		n++;
		channel->demand = 0;
	}
	return n;
}

/*
 * Note for the channels what was claimed, and what could not be.
 */
static void
note_claim(const Claim *claim)
{
	ListCell   *cell;

	/*
	 * Requests before those that were claimed may have been passed over
	 * because they were locked.
	 */
	if (claim->n_chosen > 0)
		claims.scan_by = Min(claims.scan_by, monotonic_now() + QUEUE_LOCKED_RETRY);
	foreach(cell, claim->passed_over)
		channel_find(lfirst(cell))->n_passed_over++;
	foreach(cell, claim->requests)
	{
		ClaimedRequest *row = lfirst(cell);
		Channel    *channel = channel_find(&row->channel);

		if (!row->expired)
			channel->was_seen = false;
		channel->n_passed_over = 0;
	}
	foreach(cell, claim->passed_over)
	{
		Channel    *channel = channel_find(lfirst(cell));

		if (is_passed_over(channel))
			channel_pause(channel, "triggers on screenshot_task_request prevent updates of its requests", NULL);
	}
}

/*
 * There were more permits than requests: note which channels have no more, as far
 * as they were searched.
 */
static void
note_searched(const Claim *claim, const ChannelDemand *demands, int n_demands,
			  MonotonicUs *scan_again_at)
{
	MonotonicUs now = monotonic_now();
	ListCell   *cell;

	for (int i = 0; i < n_demands; i++)
		channel_find(&demands[i].name)->claimed = 0;
	foreach(cell, claim->requests)
		channel_find(&((ClaimedRequest *) lfirst(cell))->channel)->claimed++;
	for (int i = 0; i < n_demands; i++)
	{
		Channel    *channel = channel_find(&demands[i].name);

		channel->has_work = channel->claimed == demands[i].most;
		channel->woken_in_vain = channel_rests(channel, now) &&
			channel->claimed == 0;
		if (channel->has_work)
			continue;

		/*
		 * Dead rows made this search long, and the next one will walk over
		 * them again.  Resting in proportion bounds the share of the time.
		 */
		if (claim->search_time >
			LONG_SEARCH + claim->n_chosen * LONG_SEARCH_OF_REQUEST)
			channel->rest_until = now + REST_AFTER_SEARCH * claim->search_time;
		/* What it was woken for may be before its cursor. */
		if (channel->claimed == 0 && !channel->was_seen)
			claims.scan_by = now;
		/*
		 * A request that was seen and cannot be claimed is locked; unless its
		 * domain is refused, which channel_look_for_domains() sees to.
		 */
		if (channel->was_seen && dlist_is_empty(&channel->domains))
			*scan_again_at = now + QUEUE_LOCKED_RETRY;
		channel->was_seen = false;
	}
}

/*
 * When to find the first request of each channel again, since some were
 * claimed: in another transaction, if there is none before that for another
 * reason.  Never, if there is no reason.
 */
MonotonicUs
submission_scan_by(void)
{
	return claims.scan_by;
}

/*
 * The first request of each channel was found: no search is due any more.
 */
void
submission_scanned(void)
{
	claims.scan_by = MONOTONIC_NEVER;
}

/*
 * Forget what a claim needed, keys first of all, and give back the permits that
 * no request has taken.
 */
void
submission_end_claim(void)
{
	/* At once, since another process may be waiting for them. */
	for (int i = 0; i < claims.n_permits; i++)
		rate_release(&claims.permits[i]);
	claims.n_permits = 0;
	channels_forget_options();
}

/*
 * How far ahead of their time to take permits: another claim has the first half
 * of it, and its commit the second.
 */
static MonotonicUs
claim_ahead(void)
{
	return Min(Max(2 * claims.time, MIN_CLAIM_AHEAD), MAX_CLAIM_AHEAD);
}

/*
 * The claim has committed, and found requests: note how long it took.
 */
void
claim_committed(void)
{
	/*
	 * Rises at once and falls slowly: a permit that starts before the claim is
	 * on disk is held unused, one that starts later makes its request wait a
	 * little.
	 */
	claims.time = Max(monotonic_now() - claims.began,
					 claims.time - claims.time / 16);
}

/*
 * Give a job one of the permits that were taken for its account.  Returns
 * whether there was one, as there should.
 */
bool
claim_take_permit(ChannelJob *job)
{
	for (int i = 0; i < claims.n_permits; i++)
	{
		/* The claim may have taken permits of several accounts. */
		if (claims.permits[i].window == NULL || claims.permits[i].key != job->attempt.key)
			continue;
		job->job.permit = claims.permits[i];
		claims.permits[i].window = NULL;
		return true;
	}
	return false;
}

/*-------------------------------------------------------------------------
 *
 * submission.c
 *	  Requests of the table, from their claim to their outcome
 *
 * As many requests are claimed as the accounts' limits have permits for and the
 * servers room; permits are taken first, and those that no request was found
 * for are given back.  Once the claim has committed, the requests are signed
 * and become jobs.  What their replies mean for them is decided here, and
 * written down by the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "settings.h"
#include "api/actions.h"
#include "shmem/activity.h"
#include "shmem/shared_state.h"
#include "shmem/statistics.h"
#include "worker/log_throttling.h"
#include "worker/status_change.h"
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
 * Permits are taken ahead of their time, so that the claim's commit is over when
 * it comes; but no more than needed, as those who call wait for what is left.
 */
#define MIN_CLAIM_AHEAD		(6 * US_PER_MS)
#define MAX_CLAIM_AHEAD		(40 * US_PER_MS)

/*
 * So many requests of a channel in a row that a trigger does not let be claimed
 * pause it: if too many are passed over, nothing is looked for, for anybody.
 */
#define MAX_PASSED_OVER		20

#define MIN_BACKOFF			US_PER_SECOND
#define MAX_BACKOFF			(60 * US_PER_SECOND)

dlist_head	outcomes = DLIST_STATIC_INIT(outcomes);

/* Permits taken for a claim, until its requests have them */
static RatePermit claim_permits[MAX_CLAIM];
static int	n_claim_permits = 0;

static MonotonicUs claim_began; /* the last one */
static MonotonicUs claim_time = 0;	/* how long claims take, at the most, lately */

static MonotonicUs scan_by = MONOTONIC_NEVER;	/* see submission_scan_by() */

static void share_room(MonotonicUs now);
static bool is_passed_over(const Channel *channel);
static List *claim_for_account(Channel *first, MonotonicUs *scan_again_at);
static int	collect_demands(const Channel *first, ChannelDemand *demands,
							int *wanted);
static void note_claim(const Claim *claim);
static void note_searched(const Claim *claim, const ChannelDemand *demands,
						  int n_demands, MonotonicUs *scan_again_at);
static MonotonicUs claim_ahead(void);
static bool take_permit(Job *job);
static MonotonicUs worth_sending_until(const ClaimedRequest *claimed);
static Request *make_request(const ClaimedRequest *claimed, Channel *channel);
static void sign_request(Request *request, const ClaimedRequest *claimed);
static void on_reply(Job *job, const HttpReply *reply);
static void classify(Request *request, const HttpReply *reply,
				  const LiveAnswer *answer);
static void put_in_doubt(Request *request, const char *message);
static void put_back(Request *request, bool free_of_charge);
static void put_off(Request *request, MonotonicUs least);
static void finish(Request *request);

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
		if (channel_may_claim(channel, now, dispatch_room()))
			(void) channel_resolve(channel);
	}
	claim_began = now;

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
	}
	dlist_foreach(iter, &channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);

		if (channel_may_claim(channel, now, n_free))
			channel->server->n_sharing++;
	}
	dlist_foreach(iter, &channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);
		Server	   *server = channel->server;

		if (!channel_may_claim(channel, now, n_free))
			continue;
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
	wanted = Min(wanted, MAX_CLAIM - n_claim_permits);
	/* Permits of earlier accounts of this claim will be jobs, too. */
	wanted = Min(wanted, dispatch_room() - n_claim_permits);
	if (wanted <= 0)
		return NIL;

	/*
	 * Before the claim, and not for what it finds: a request must not be
	 * claimed, and on disk as "sending", while it waits for a permit.
	 */
	n = rate_acquire(shared_rate_table(), first->key,
					 first->options->requests_per_second, wanted,
					 claim_ahead(), &claim_permits[n_claim_permits], &retry_at);
	n_claim_permits += n;
	if (n > 0)
		claim = queue_claim(demands, n_demands, n);
	/* What it was woken for has been searched for now. */
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

	/* Some may be locked, or have been, before those that were claimed. */
	if (claim->n_chosen > 0)
		scan_by = Min(scan_by, monotonic_now() + QUEUE_LOCKED_RETRY);
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
			scan_by = now;
		/*
		 * What was seen and cannot be claimed is locked; or of a domain that is
		 * refused, and looked for when that may be tried.
		 */
		if (channel->was_seen && dlist_is_empty(&channel->domains))
			*scan_again_at = now + QUEUE_LOCKED_RETRY;
		channel->was_seen = false;
	}
}

/*
 * When to find the first request of each channel again, since some were claimed:
 * in a transaction that there is anyway before that, or in another.  Never, if
 * there is no reason.
 */
MonotonicUs
submission_scan_by(void)
{
	return scan_by;
}

/*
 * They were looked for.
 */
void
submission_scanned(void)
{
	scan_by = MONOTONIC_NEVER;
}

/*
 * Forget what a claim needed, keys first of all, and give back the permits that
 * no request has taken.
 */
void
submission_end_claim(void)
{
	/* At once another's, who may be waiting for it. */
	for (int i = 0; i < n_claim_permits; i++)
		rate_release(&claim_permits[i]);
	n_claim_permits = 0;
	channels_forget_options();
}

/*
 * Requests have been claimed, and the claim has committed: make jobs of them.
 */
void
submission_claimed(List *claimed)
{
	ListCell   *cell;

	/*
	 * Rises at once and falls slowly: a permit that starts before the claim is
	 * on disk is held unused, one that starts later makes its request wait a
	 * little.
	 */
	if (claimed != NIL)
		claim_time = Max(monotonic_now() - claim_began,
						 claim_time - claim_time / 16);
	foreach(cell, claimed)
	{
		ClaimedRequest *row = lfirst(cell);
		Channel    *channel = channel_find(&row->channel);
		Request    *request;

		channel_claimed(channel, row->start, row->id);
		if (row->expired)
		{
			ChangedRequest expired = {row->id, row->channel.server};

			request_expired(&expired);
			continue;
		}
		request = make_request(row, channel);

		/*
		 * A trigger has given it a server or a role that was not claimed for;
		 * or it is one of several of a domain that one is to try.
		 */
		if (channel->options == NULL ||
			(row->domain_name != NULL &&
			 !channel_takes_domain(channel, row->domain_name)))
			put_back(request, true);
		else
			sign_request(request, row);
		/* Decided without being sent: written down with the next outcomes. */
		if (request->outcome.status != STATUS_SENDING)
		{
			finish(request);
			continue;
		}
		if (take_permit(&request->job))
		{
			/* Not sent either if it could only arrive after its end. */
			request->job.permit.deadline =
				Min(request->job.permit.deadline, worth_sending_until(row));
			dispatch_add(&request->job);
		}
		else
		{
			put_back(request, true);
			finish(request);
		}
	}
}

/*
 * How far ahead of their time to take permits: another claim has the first half
 * of it, and its commit the second.
 */
static MonotonicUs
claim_ahead(void)
{
	return Min(Max(2 * claim_time, MIN_CLAIM_AHEAD), MAX_CLAIM_AHEAD);
}

/*
 * Give a job one of the permits that were taken for its account.  Returns
 * whether there was one, as there should.
 */
static bool
take_permit(Job *job)
{
	for (int i = 0; i < n_claim_permits; i++)
	{
		/* The claim may have taken permits of several accounts. */
		if (claim_permits[i].window == NULL || claim_permits[i].key != job->attempt.key)
			continue;
		job->permit = claim_permits[i];
		claim_permits[i].window = NULL;
		return true;
	}
	return false;
}

/*
 * Until when the API may take a request, which must arrive before its end.
 */
static MonotonicUs
worth_sending_until(const ClaimedRequest *claimed)
{
	/*
	 * The end is by the wall clock, and deadlines by the monotonic one;
	 * microseconds both.
	 */
	return monotonic_now() + claimed->end_time - GetCurrentTimestamp() -
		QUEUE_END_MARGIN;
}

/*
 * A job for a request that was claimed, with an outcome that is still open.
 */
static Request *
make_request(const ClaimedRequest *claimed, Channel *channel)
{
	/*
	 * A context for each, so that one call frees all of a request, whatever
	 * its answer has allocated.
	 */
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "screenshot_task request",
												  ALLOCSET_SMALL_SIZES);
	Request    *request = MemoryContextAllocZero(context, sizeof(Request));

	request->context = context;
	request->job.channel = channel;
	request->job.attempt.key = channel->key;
	if (claimed->domain_name != NULL)
		request->job.attempt.domain = MemoryContextStrdup(context,
														  claimed->domain_name);
	request->job.ended = on_reply;
	request->start = claimed->start;
	request->end_time = claimed->end_time;
	if (channel->options != NULL)
		request->request_timeout = channel->options->request_timeout;
	request->outcome.id = claimed->id;
	request->outcome.status = STATUS_SENDING;	/* until it is known */
	request->outcome.attempt = claimed->attempt;
	request->outcome.requested_at = claimed->requested_at;
	return request;
}

/*
 * Sign a request with the channel's credentials.  Sets its outcome if that is not
 * possible.
 */
static void
sign_request(Request *request, const ClaimedRequest *claimed)
{
	MemoryContext old = MemoryContextSwitchTo(request->context);
	const char *problem = NULL;

	if (claimed->body == NULL)
	{
		request->outcome.error_message = pstrdup(claimed->problem);
		/* Nothing was sent, which is what attempts count. */
		request->outcome.free_of_charge = true;
		request->outcome.status = STATUS_FAILED;
	}
	else
	{
		problem = channel_sign(request->job.channel, LIVE_CREATE, claimed->body,
							claimed->trace_id, &request->job.http);
		if (problem != NULL)
		{
			/*
			 * What keeps one request from being signed, such as a key that is
			 * gone, keeps all of the channel.
			 */
			channel_pause(request->job.channel, problem, NULL);
			put_back(request, true);
		}
	}
	MemoryContextSwitchTo(old);
}

/*
 * A job has ended: see what follows for its request.
 */
static void
on_reply(Job *job, const HttpReply *reply)
{
	Request    *request = (Request *) job;
	MemoryContext old = MemoryContextSwitchTo(request->context);
	LiveAnswer	answer;

	live_actions[LIVE_CREATE].read(reply, &answer);
	classify(request, reply, &answer);
	MemoryContextSwitchTo(old);
	finish(request);
}

/*
 * Set the outcome of a request to what follows from its answer.
 */
static void
classify(Request *request, const HttpReply *reply, const LiveAnswer *answer)
{
	FinishedRequest *outcome = &request->outcome;
	Channel    *channel = request->job.channel;

	outcome->sent_at = request->job.left_at;
	outcome->task_id = answer->task_id;
	outcome->request_id = answer->request_id;
	outcome->error_code = answer->error_code;
	outcome->error_message = answer->message;
	channel_note_answer(channel, &request->job.attempt, reply, answer);

	switch (answer->outcome)
	{
		case LIVE_DONE:
			channel->n_behind = 0;
			outcome->status = STATUS_CREATED;
			break;
		/* The request's own fault, the only one that fails it for good. */
		case LIVE_REFUSED:
			outcome->status = STATUS_FAILED;
			break;
		case LIVE_UNKNOWN:
			put_in_doubt(request, answer->message);
			break;
		case LIVE_QUOTA:
			/*
			 * Counted as an attempt, so that it backs off: a quota is not soon
			 * free again.
			 */
			put_back(request, false);
			if (answer->retry_after > 0)
				put_off(request, answer->retry_after * US_PER_SECOND);
			break;
		case LIVE_NOT_SENT:
			/*
			 * It waited for a connection that another request was making,
			 * which is nothing to tell of.
			 */
			if (reply->missed_deadline && reply->connections == 0)
				outcome->error_message = NULL;
			put_back(request, true);
			break;
		case LIVE_THROTTLED:
			channel_put_behind(channel);
			put_back(request, true);
			break;
		case LIVE_CREDENTIALS:
		case LIVE_PERMISSION:
		case LIVE_SERVICE_STATE:
		case LIVE_ENVIRONMENT:
			put_back(request, true);
			break;
	}
}

/*
 * A request may have become a task.  What is looked for is there, if it ever
 * will be, once it can no longer be on its way and the grace has passed.
 */
static void
put_in_doubt(Request *request, const char *message)
{
	FinishedRequest *outcome = &request->outcome;

	outcome->status = STATUS_IN_DOUBT;
	outcome->error_message =
		psprintf("%s; outcome unknown",
				 message ? message : "no conclusive answer");

	/*
	 * The request may arrive until its time-out, and the task be listed a
	 * while after that.
	 */
	outcome->next_attempt_at =
		Max(GetCurrentTimestamp(),
			outcome->sent_at + request->request_timeout * INT64CONST(1000)) +
		screenshot_task_reconcile_grace * INT64CONST(1000);
}

/*
 * A request goes back to pending.  One that is free of charge may go again as
 * soon as its channel and server may; another backs off.
 */
static void
put_back(Request *request, bool free_of_charge)
{
	FinishedRequest *outcome = &request->outcome;

	outcome->status = STATUS_PENDING;
	outcome->free_of_charge = free_of_charge;
	/* No later than its end, at which it expires. */
	if (!free_of_charge)
		outcome->next_attempt_at =
			Min(GetCurrentTimestamp() + submission_backoff(outcome->attempt),
				request->end_time);
	channel_has_work_from(request->job.channel, request->start, outcome->id);
}

/*
 * A request that has gone back to pending goes again no sooner than this, and up
 * to twice as late: others may have been refused with it.
 */
static void
put_off(Request *request, MonotonicUs least)
{
	FinishedRequest *outcome = &request->outcome;
	double		share = pg_prng_double(&pg_global_prng_state);

	outcome->next_attempt_at =
		Min(GetCurrentTimestamp() + least +
			(MonotonicUs) (share * (double) least), request->end_time);
}

/*
 * Hand a request over to be written down.
 */
static void
finish(Request *request)
{
	dlist_push_tail(&outcomes, &request->node);
}

/*
 * An outcome is on disk, or its row is gone.
 */
void
submission_written(const Request *request)
{
	const FinishedRequest *outcome = &request->outcome;
	const char *server = NameStr(request->job.channel->server->name);

	switch (outcome->status)
	{
		case STATUS_CREATED:
		case STATUS_FAILED:
			activity_note_answered();
			break;
		case STATUS_PENDING:
			activity_note_put_back(outcome->next_attempt_at != 0);
			/* It may have been locked when a claim last found all there was. */
			if (outcome->next_attempt_at == 0)
				channel_has_work_from(request->job.channel, request->start,
								   outcome->id);
			break;
		default:
			activity_note_news();
			break;
	}
	status_changed(find_transition(STATUS_SENDING, outcome->status,
								   BY_WORKER),
				   server, outcome->id, outcome->error_code,
				   outcome->error_message, outcome->request_id);
}

/*
 * How long to wait after the n-th failure in a row, in microseconds: at
 * random up to a time that doubles each time ("full jitter"), and no less
 * than a second.
 */
MonotonicUs
submission_backoff(int n)
{
	MonotonicUs most = Min(MIN_BACKOFF << Min(n, 6), MAX_BACKOFF);

	return MIN_BACKOFF + (MonotonicUs) (pg_prng_double(&pg_global_prng_state) *
										(double) (most - MIN_BACKOFF));
}

/*-------------------------------------------------------------------------
 *
 * withdrawal.c
 *	  Stopping and deleting the tasks of requests that were withdrawn
 *
 * DeleteScreenshotTask removes a task that has not begun; what runs goes on.
 * StopScreenshotTask ends one that runs.  Which of them is needed depends on when
 * they arrive:
 *
 *	  - so long before the start that no request sent now can arrive after it,
 *		the task is deleted;
 *	  - later than the start by any clock, it is stopped, and then deleted;
 *	  - in between it is stopped, if it should run already, and is seen to again
 *		when it must run.
 *
 * Both may be repeated without harm, and an answer that there is no such task is
 * as good as one that it was done.  So nothing needs to be known of an attempt
 * that came before: a worker that follows one which is gone begins anew.
 *
 * An attempt is claimed in a transaction before its first request leaves; see
 * withdrawing.c, in table/, for why.  Its requests have permits of their own
 * actions, so that tasks are created meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "settings.h"
#include "api/actions.h"
#include "config/server.h"
#include "shmem/activity.h"
#include "shmem/shared_state.h"
#include "table/request_queue.h"
#include "util/backoff.h"
#include "util/crash_point.h"
#include "worker/channel.h"
#include "worker/status_change.h"
#include "worker/withdrawal.h"

/* The most attempts at a time: of one channel, and of all */
#define MAX_CHANNEL_ATTEMPTS	24
#define MAX_ATTEMPTS		96

/* The most requests that are given up at their end in one transaction */
#define MAX_ENDED			100

/*
 * By how much the API's clock may differ from ours.  Signatures would bear more,
 * but nobody runs a schedule by such a clock.
 */
#define CLOCK_MARGIN		(5 * USECS_PER_SEC)

/* A request leaves no later than this after it was signed. */
#define LEAVE_WITHIN		(2 * US_PER_SECOND)

/* How much ahead of its time a permit is taken */
#define ASK_AHEAD			(20 * US_PER_MS)

/* When to try again what the API does not offer, or refuses */
#define REFUSED_RETRY		(5 * 60 * USECS_PER_SEC)

/* When to write again to a row that somebody has locked */
#define WRITE_RETRY			US_PER_SECOND

typedef enum AttemptState
{
	ATTEMPT_CLAIMED,			/* in the transaction under way */
	ATTEMPT_TO_SEND,			/* its first request, or the next */
	ATTEMPT_SENT,				/* which is a job */
	ATTEMPT_ENDED,				/* its result is to be written down */
	ATTEMPT_WRITTEN,			/* in the transaction under way */
	ATTEMPT_DROPPED				/* its row is gone, or its channel is paused */
} AttemptState;

typedef struct Withdrawal
{
	ChannelJob	job;			/* while ATTEMPT_SENT */
	dlist_node	node;			/* in attempts */
	MemoryContext context;		/* has the attempt and all it points to */
	MemoryContext request_context;	/* has what belongs to one request alone */
	WithdrawingRequest request;
	AttemptState state;
	MonotonicUs next_at;		/* not to be sent, or written, before */
	LiveActionId action;		/* that is sent */
	bool		is_decisive;	/* does a task that is gone after it stay so? */
	bool		must_run;		/* was it stopped when it ran for certain? */
	WithdrawalResult result;
} Withdrawal;

/* A request that was not withdrawn before its end, in the transaction under way */
static List *ended = NIL;		/* of WithdrawingRequest */

static dlist_head attempts = DLIST_STATIC_INIT(attempts);
static int	n_attempts = 0;
static MonotonicUs due_at = 0;	/* the next request to try */
static bool sweep_is_due = false;

static bool write_results(void);
static bool begin_attempts(void);
static bool claim(const int64 *ids, int n);
static int	attempts_of_channel(const Channel *channel);
static List *paused_channels(MonotonicUs now);
static void begin_attempt(const WithdrawingRequest *request);
static void send_next(Withdrawal *attempt);
static void choose_action(Withdrawal *attempt, int request_timeout);
static void on_reply(ChannelJob *job, const HttpReply *reply);
static void action_done(Withdrawal *attempt);
static bool means_no_such_task(const LiveAnswer *answer);
static void try_again(Withdrawal *attempt, TimestampTz at, const char *message);
static TimestampTz after_backoff(const Withdrawal *attempt);
static void note_written(Withdrawal *attempt);
static void forget(Withdrawal *attempt);

/*
 * When there next is something to do in a transaction.
 */
MonotonicUs
withdrawal_next_event(MonotonicUs now)
{
	MonotonicUs next = n_attempts < MAX_ATTEMPTS &&
		(screenshot_task_enabled || sweep_is_due) ? due_at : MONOTONIC_NEVER;
	dlist_iter	iter;

	dlist_foreach(iter, &attempts)
	{
		Withdrawal *attempt = dlist_container(Withdrawal, node, iter.cur);

		/* The end of the request that goes first tells. */
		if (attempt->state == ATTEMPT_ENDED ||
			(attempt->state == ATTEMPT_TO_SEND && screenshot_task_enabled &&
			 channel_lookup_room(attempt->job.channel, now, dispatch_room()) > 0))
			next = Min(next, attempt->next_at);
	}
	return next;
}

/*
 * There may be requests in the table that are to be withdrawn now.
 */
void
withdrawal_scan(void)
{
	due_at = 0;
}

/*
 * See to those whose end has come, too, whatever keeps them from being tried.
 */
void
withdrawal_sweep(void)
{
	sweep_is_due = true;
	due_at = 0;
}

/*
 * Write down what has become of attempts, claim others, and send what is to be
 * sent, within a transaction.  Returns whether anything was written or claimed.
 *
 * withdrawal_committed() or withdrawal_aborted() must follow.
 */
bool
withdrawal_work(void)
{
	bool		has_changed = write_results();
	dlist_iter	iter;

	if (due_at <= monotonic_now() && n_attempts < MAX_ATTEMPTS)
		has_changed |= begin_attempts();
	dlist_foreach(iter, &attempts)
	{
		Withdrawal *attempt = dlist_container(Withdrawal, node, iter.cur);

		if (attempt->state == ATTEMPT_TO_SEND)
			send_next(attempt);
	}
	return has_changed;
}

static bool
write_results(void)
{
	MonotonicUs now = monotonic_now();
	bool		has_changed = false;
	dlist_iter	iter;

	dlist_foreach(iter, &attempts)
	{
		Withdrawal *attempt = dlist_container(Withdrawal, node, iter.cur);

		if (attempt->state != ATTEMPT_ENDED || attempt->next_at > now)
			continue;
		switch (queue_finish_withdrawing(&attempt->result))
		{
			case WITHDRAWAL_WRITTEN:
				attempt->state = ATTEMPT_WRITTEN;
				has_changed = true;
				break;
			case WITHDRAWAL_LOCKED:
				attempt->next_at = now + WRITE_RETRY;
				break;
			case WITHDRAWAL_MISSING:
				attempt->state = ATTEMPT_DROPPED;
				break;
		}
	}
	return has_changed;
}

/*
 * Claim requests that are due.
 */
static bool
begin_attempts(void)
{
	MonotonicUs now = monotonic_now();
	List	   *paused = paused_channels(now);
	int64	   *without = palloc((n_attempts + 1) * sizeof(int64));
	int64	   *ids;
	bool		has_claimed = false;
	TimestampTz due;
	List	   *found;
	ListCell   *cell;
	dlist_iter	iter;
	int			n = 0;

	dlist_foreach(iter, &attempts)
		without[n++] = dlist_container(Withdrawal, node, iter.cur)->request.id;
	if (sweep_is_due)
	{
		sweep_is_due = false;
		ids = palloc(MAX_ENDED * sizeof(int64));
		n = queue_find_ended_withdrawing(MAX_ENDED, ids);
		has_claimed |= claim(ids, n);
		n = n_attempts;
	}
	if (!screenshot_task_enabled)
		return has_claimed;
	found = queue_find_withdrawing(paused, without, n, MAX_CHANNEL_ATTEMPTS);
	ids = palloc((list_length(found) + 1) * sizeof(int64));
	n = 0;
	foreach(cell, found)
	{
		const DueWithdrawal *withdrawal = lfirst(cell);
		Channel    *channel = channel_find(&withdrawal->channel);

		/* A claim changes the row: not for a channel that cannot send. */
		if (n_attempts + n < MAX_ATTEMPTS && channel_paused_until(channel) <= now &&
			channel_resolve(channel))
			ids[n++] = withdrawal->id;
	}
	has_claimed |= claim(ids, n);

	due_at = n > 0 ? now + WRITE_RETRY : MONOTONIC_NEVER;
	due = queue_next_withdrawing_due(paused);
	if (!TIMESTAMP_NOT_FINITE(due))
		due_at = Min(due_at, now + Max(due - GetCurrentTimestamp(), 0));
	dlist_foreach(iter, &channels)
	{
		const Channel *channel = dlist_container(Channel, node, iter.cur);

		if (channel_paused_until(channel) > now)
			due_at = Min(due_at, channel_paused_until(channel));
	}
	return has_claimed;
}

/*
 * Claim requests.  Returns whether any was.
 */
static bool
claim(const int64 *ids, int n)
{
	ListCell   *cell;
	List	   *claimed = n == 0 ? NIL : queue_claim_withdrawing(ids, n);

	foreach(cell, claimed)
	{
		const WithdrawingRequest *request = lfirst(cell);

		if (!request->has_ended)
			begin_attempt(request);
		else
			ended = lappend(ended, unconstify(WithdrawingRequest *, request));
	}
	return claimed != NIL;
}

static int
attempts_of_channel(const Channel *channel)
{
	int			n = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &attempts)
		n += dlist_container(Withdrawal, node, iter.cur)->job.channel == channel;
	return n;
}

/*
 * The channels of which nothing is to be tried now: a list of ChannelName.
 */
static List *
paused_channels(MonotonicUs now)
{
	List	   *paused = NIL;
	dlist_iter	iter;

	dlist_foreach(iter, &channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);

		if (channel_paused_until(channel) > now ||
			attempts_of_channel(channel) >= MAX_CHANNEL_ATTEMPTS)
			paused = lappend(paused, &channel->name);
	}
	return paused;
}

static void
begin_attempt(const WithdrawingRequest *request)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "screenshot_task withdrawal",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Withdrawal *attempt = palloc0(sizeof(Withdrawal));

	attempt->context = context;
	attempt->request_context = AllocSetContextCreate(context,
													 "screenshot_task withdrawal request",
													 ALLOCSET_SMALL_SIZES);
	attempt->request = *request;
	attempt->request.task_id = pstrdup(request->task_id ? request->task_id : "");
	attempt->request.trace_id = pstrdup(request->trace_id ? request->trace_id : "");
	attempt->request.message = NULL;
	attempt->result.id = request->id;
	attempt->result.requested_at = request->requested_at;
	attempt->job.channel = channel_find(&request->channel);
	attempt->job.ended = on_reply;
	attempt->state = ATTEMPT_CLAIMED;
	MemoryContextSwitchTo(old);
	dlist_push_tail(&attempts, &attempt->node);
	n_attempts++;
}

/*
 * Send the next request of an attempt, if there is a permit.
 */
static void
send_next(Withdrawal *attempt)
{
	Channel    *channel = attempt->job.channel;
	MonotonicUs now = monotonic_now();
	MonotonicUs retry_at;
	MemoryContext old;
	const char *problem;

	if (attempt->next_at > now || !screenshot_task_enabled)
		return;
	if (channel_paused_until(channel) > now || !channel_resolve(channel))
	{
		/* It would keep others from being tried; it stays due. */
		attempt->state = ATTEMPT_DROPPED;
		return;
	}
	if (channel_lookup_room(channel, now, dispatch_room()) == 0)
		return;
	choose_action(attempt, channel->options->request_timeout);
	attempt->job.attempt.key = rate_key(channel->account,
										live_actions[attempt->action].name);
	attempt->job.attempt.is_lookup = true;
	if (dispatch_room() == 0 ||
		rate_acquire(shared_rate_table(), attempt->job.attempt.key,
					 channel->options->requests_per_second, 1, ASK_AHEAD,
					 &attempt->job.job.permit, &retry_at) == 0)
	{
		attempt->next_at = dispatch_room() == 0 ? now + US_PER_SECOND : retry_at;
		return;
	}

	MemoryContextReset(attempt->request_context);
	old = MemoryContextSwitchTo(attempt->request_context);
	problem = channel_sign(channel, attempt->action,
						   live_actions[attempt->action].body(attempt->request.task_id),
						   attempt->request.trace_id, &attempt->job.job.http);
	if (problem != NULL)
	{
		rate_release(&attempt->job.job.permit);
		try_again(attempt, after_backoff(attempt), problem);
		MemoryContextSwitchTo(old);
		return;
	}
	MemoryContextSwitchTo(old);
	attempt->job.job.permit.deadline = Min(attempt->job.job.permit.deadline,
									   now + LEAVE_WITHIN);
	attempt->state = ATTEMPT_SENT;
	channel_job_add(&attempt->job);
}

/*
 * What to send next, if it leaves now; and what follows from its being done.
 */
static void
choose_action(Withdrawal *attempt, int request_timeout)
{
	const WithdrawingRequest *request = &attempt->request;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz arrives_by = now + LEAVE_WITHIN +
		request_timeout * INT64CONST(1000);

	if (attempt->must_run)
	{
		attempt->action = LIVE_DELETE;
		attempt->is_decisive = true;
	}
	else if (request->has_start &&
			 arrives_by < request->start_time - CLOCK_MARGIN &&
			 !MUTANT("started-task-deleted"))
	{
		attempt->action = LIVE_DELETE;
		attempt->is_decisive = true;
	}
	else
	{
		attempt->action = MUTANT("started-task-deleted") ? LIVE_DELETE : LIVE_STOP;
		attempt->is_decisive = !request->has_start ||
			now >= request->start_time + CLOCK_MARGIN ||
			MUTANT("started-task-deleted");
	}
}

/*
 * A request of an attempt has been answered, or not.
 */
static void
on_reply(ChannelJob *job, const HttpReply *reply)
{
	Withdrawal *attempt = (Withdrawal *) job;
	Channel    *channel = job->channel;
	MemoryContext old = MemoryContextSwitchTo(attempt->request_context);
	LiveAnswer	answer;
	const char *message;

	live_actions[attempt->action].read(reply, &answer);
	message = answer.message != NULL ? answer.message : "no message";
	attempt->result.request_id = answer.request_id;
	attempt->result.error_code = answer.error_code;
	attempt->state = ATTEMPT_TO_SEND;
	attempt->next_at = 0;

	/* That this action is not to be had says nothing of the others. */
	if (!live_means_no_such_action(&answer))
		channel_note_answer(channel, &job->attempt, reply, &answer);
	if (answer.outcome == LIVE_DONE || means_no_such_task(&answer))
		action_done(attempt);
	else if (answer.outcome == LIVE_REFUSED || live_means_no_such_action(&answer))
		try_again(attempt, GetCurrentTimestamp() + REFUSED_RETRY, message);
	else if (answer.outcome == LIVE_THROTTLED ||
			 (answer.outcome == LIVE_NOT_SENT && reply->missed_deadline))
	{
		/* behind others, which may not be refused */
		dlist_delete(&attempt->node);
		dlist_push_tail(&attempts, &attempt->node);
	}
	else
		try_again(attempt, after_backoff(attempt), message);
	MemoryContextSwitchTo(old);
}

/*
 * A task was stopped or deleted, or is not there.
 */
static void
action_done(Withdrawal *attempt)
{
	const WithdrawingRequest *request = &attempt->request;

	if (attempt->action == LIVE_STOP && attempt->is_decisive)
		attempt->must_run = true;	/* to be deleted now */
	else if (!attempt->is_decisive)
		try_again(attempt, request->start_time + CLOCK_MARGIN,
				  "the task may begin just now, and is stopped again");
	else
	{
		attempt->result.is_withdrawn = true;
		attempt->result.error_code = NULL;
		attempt->result.error_message = NULL;
		attempt->state = ATTEMPT_ENDED;
	}
}

/*
 * Does an answer say that there is no such task?  No parameter but its TaskId is
 * sent, and which code is given for one that is not known is not documented.
 */
static bool
means_no_such_task(const LiveAnswer *answer)
{
	const char *code = answer->error_code;

	return answer->outcome == LIVE_REFUSED && code != NULL &&
		(strncmp(code, "InvalidParameter", 16) == 0 ||
		 strncmp(code, "ResourceNotFound", 16) == 0);
}

/*
 * An attempt has ended, and another follows at the given time.
 */
static void
try_again(Withdrawal *attempt, TimestampTz at, const char *message)
{
	attempt->result.is_withdrawn = false;
	attempt->result.next_attempt_at = at;
	attempt->result.error_message =
		psprintf("withdrawing; %s: %s", live_actions[attempt->action].name, message);
	attempt->state = ATTEMPT_ENDED;
	attempt->next_at = 0;
}

static TimestampTz
after_backoff(const Withdrawal *attempt)
{
	return GetCurrentTimestamp() + backoff_after(attempt->request.n_failed);
}

/*
 * What was claimed and written is on disk.
 */
void
withdrawal_committed(void)
{
	dlist_mutable_iter iter;
	ListCell   *cell;

	foreach(cell, ended)
	{
		const WithdrawingRequest *request = lfirst(cell);

		status_changed(find_transition(STATUS_WITHDRAWING, STATUS_CREATED,
									   BY_WORKER),
					   NameStr(request->channel.server), request->id, NULL,
					   request->message, NULL);
	}
	ended = NIL;
	dlist_foreach_modify(iter, &attempts)
	{
		Withdrawal *attempt = dlist_container(Withdrawal, node, iter.cur);

		if (attempt->state == ATTEMPT_CLAIMED)
			attempt->state = ATTEMPT_TO_SEND;
		else if (attempt->state == ATTEMPT_WRITTEN)
			note_written(attempt);
		if (attempt->state == ATTEMPT_WRITTEN ||
			attempt->state == ATTEMPT_DROPPED)
			forget(attempt);
	}
}

/*
 * The result of an attempt is on disk.
 */
static void
note_written(Withdrawal *attempt)
{
	const WithdrawalResult *result = &attempt->result;
	RequestStatus became = result->is_withdrawn ? STATUS_WITHDRAWN :
		STATUS_WITHDRAWING;

	if (!result->is_withdrawn)
		due_at = Min(due_at, monotonic_now() +
					 Max(result->next_attempt_at - GetCurrentTimestamp(), 0));
	else
		due_at = 0;				/* its channel has room for another */
	activity_note_news();
	status_changed(find_transition(STATUS_WITHDRAWING, became, BY_WORKER),
				   NameStr(attempt->request.channel.server), result->id,
				   result->error_code, result->error_message,
				   result->request_id);
}

/*
 * Nothing was claimed or written.
 */
void
withdrawal_aborted(void)
{
	dlist_mutable_iter iter;

	ended = NIL;
	dlist_foreach_modify(iter, &attempts)
	{
		Withdrawal *attempt = dlist_container(Withdrawal, node, iter.cur);

		if (attempt->state == ATTEMPT_CLAIMED)
			forget(attempt);
		else if (attempt->state == ATTEMPT_WRITTEN)
			attempt->state = ATTEMPT_ENDED;
		else if (attempt->state == ATTEMPT_DROPPED)
			forget(attempt);
	}
	due_at = 0;
}

static void
forget(Withdrawal *attempt)
{
	dlist_delete(&attempt->node);
	n_attempts--;
	MemoryContextDelete(attempt->context);
}

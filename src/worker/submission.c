/*-------------------------------------------------------------------------
 *
 * submission.c
 *	  Requests of the table, from their claim to their outcome
 *
 * Once a claim (submission_claim.c) has committed, its requests are signed and
 * become jobs.  What their replies mean for them is decided here, and written
 * down by the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "settings.h"
#include "api/actions.h"
#include "shmem/activity.h"
#include "util/backoff.h"
#include "worker/status_change.h"
#include "worker/submission.h"
#include "worker/withdrawal.h"


dlist_head	outcomes = DLIST_STATIC_INIT(outcomes);

static MonotonicUs worth_sending_until(const ClaimedRequest *claimed);
static Request *make_request(const ClaimedRequest *claimed, Channel *channel);
static bool may_use_template(Request *request, const ClaimedRequest *claimed);
static void sign_request(Request *request, const ClaimedRequest *claimed);
static void on_reply(ChannelJob *job, const HttpReply *reply);
static void classify(Request *request, const HttpReply *reply,
				  const LiveAnswer *answer);
static void put_in_doubt(Request *request, const char *message);
static void put_back(Request *request, bool free_of_charge);
static void put_off(Request *request, MonotonicUs least);
static void finish(Request *request);

/*
 * Requests have been claimed, and the claim has committed: make jobs of them.
 */
void
submission_claimed(List *claimed)
{
	ListCell   *cell;

	if (claimed != NIL)
		claim_committed();
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
		else if (may_use_template(request, row))
			sign_request(request, row);
		/* Decided without being sent: written down with the next outcomes. */
		if (request->outcome.status != STATUS_SENDING)
		{
			finish(request);
			continue;
		}
		if (claim_take_permit(&request->job))
		{
			/* Not sent either if it could only arrive after its end. */
			request->job.job.permit.deadline =
				Min(request->job.job.permit.deadline, worth_sending_until(row));
			channel_job_add(&request->job);
		}
		else
		{
			put_back(request, true);
			finish(request);
		}
	}
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
 * May a request be sent with its template?  If not, its outcome is set; if it may,
 * although that does not exist, its warning is.
 */
static bool
may_use_template(Request *request, const ClaimedRequest *claimed)
{
	Channel    *channel = request->job.channel;
	FinishedRequest *outcome = &request->outcome;
	MemoryContext old;

	/* What cannot be sent at all has no template that was read. */
	if (claimed->body == NULL)
		return true;
	switch (template_check(channel, claimed))
	{
		case TEMPLATE_EXISTS:
		case TEMPLATE_UNCHECKED:
			return true;
		case TEMPLATE_UNLISTED:
			put_back(request, true);
			return false;
		case TEMPLATE_MISSING:
			break;
	}
	old = MemoryContextSwitchTo(request->context);
	if (channel->options->check_template == CHECK_WARN)
		request->warning =
			psprintf("template %lld does not exist: the task takes no screenshots; describe_screenshot_templates() lists the templates of the account",
					 (long long) claimed->template_id);
	else
	{
		outcome->status = STATUS_FAILED;
		/* Nothing was sent, which is what attempts count. */
		outcome->free_of_charge = true;
		outcome->error_code = "TemplateNotFound";
		outcome->error_message =
			psprintf("template %lld does not exist; describe_screenshot_templates() lists the templates of the account",
					 (long long) claimed->template_id);
	}
	MemoryContextSwitchTo(old);
	return outcome->status == STATUS_SENDING;
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
							claimed->trace_id, &request->job.job.http);
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
on_reply(ChannelJob *job, const HttpReply *reply)
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

	outcome->sent_at = request->job.job.left_at;
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
			outcome->error_message = request->warning;
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
		case LIVE_ADDRESS:
		case LIVE_ENVIRONMENT:
			put_back(request, true);
			break;
	}
}

/*
 * Put a request in doubt, since it may have become a task.  Its lookup waits
 * until the request can no longer arrive and screenshot_task.reconcile_grace
 * has passed: if it has a task, that is listed by then.
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
 * Put a request back to pending.  If that is free of charge it may go again as
 * soon as its channel and server may; otherwise it backs off.
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
			Min(GetCurrentTimestamp() + backoff_after(outcome->attempt),
				request->end_time);
	channel_has_work_from(request->job.channel, request->start, outcome->id);
}

/*
 * Have a request that was put back wait for at least this long, and at random
 * up to twice as long: others may have been refused with it.
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
	request->outcome.became = request->outcome.status;
	dlist_push_tail(&outcomes, &request->node);
}

/*
 * An outcome was committed, or its row is gone: count and log it.
 */
void
submission_written(const Request *request)
{
	const FinishedRequest *outcome = &request->outcome;
	const char *server = NameStr(request->job.channel->server->name);

	switch (outcome->became)
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
		case STATUS_WITHDRAWING:
			withdrawal_scan();
			activity_note_news();
			break;
		default:
			activity_note_news();
			break;
	}
	status_changed(find_transition(STATUS_SENDING, outcome->became,
								   BY_WORKER),
				   server, outcome->id, outcome->error_code,
				   outcome->error_message, outcome->request_id);
}

/*-------------------------------------------------------------------------
 *
 * lookup.c
 *	  Asking DescribeScreenshotTask about a request in doubt
 *
 * A lookup asks page after page, each a job with a permit of its own, and keeps the
 * tasks that may be the request's.  What follows from these is in resolution.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "api/actions.h"
#include "api/body.h"
#include "api/task.h"
#include "config/server.h"
#include "shmem/shared_state.h"
#include "worker/reconcile_private.h"

/* The most pages that a lookup asks for, lest a list that never ends */
#define MAX_PAGES			500

/* The most tasks that may match a request, for the same reason */
#define MAX_FOUND			5000

/* A task without a start begins within this of its request, in seconds */
#define START_TOLERANCE		300

/* The window asked about is wider than the task by this, in seconds */
#define WINDOW_MARGIN		60

/*
 * How far ahead of its time a permit is taken: as far as for the requests that
 * are claimed meanwhile, so that lookups have their share of the permits.
 */
#define ASK_AHEAD			(20 * US_PER_MS)

dlist_head	lookups = DLIST_STATIC_INIT(lookups);
int			n_lookups = 0;

static void on_reply(ChannelJob *job, const HttpReply *reply);
static void take_page(Lookup *lookup, List *tasks, const char *scroll_token);
static bool matches(const Lookup *lookup, const ListedTask *task);
static void take_failure(Lookup *lookup, const HttpReply *reply,
						 const LiveAnswer *answer);

/*
 * Start a lookup about a request of a channel that is resolved.  It owns a memory
 * context, until lookup_end().
 */
void
lookup_start(const DoubtfulRequest *request, Channel *channel)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "screenshot_task lookup",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Lookup	   *lookup = palloc0(sizeof(Lookup));

	lookup->context = context;
	/* Reset for each page, of which there may be hundreds. */
	lookup->page_context = AllocSetContextCreate(context,
												  "screenshot_task page",
												  ALLOCSET_DEFAULT_SIZES);
	lookup->request = *request;
	lookup->account = channel->account;
	lookup->request.stream_name = pstrdup(request->stream_name);
	lookup->request.domain_name = pstrdup(request->domain_name);
	lookup->request.app_name = pstrdup(request->app_name);

	/*
	 * Converted once, as the names are compared with each task of each page.
	 */
	lookup->listed_stream_name = pstrdup(live_listed_text(request->stream_name));
	lookup->listed_domain_name = pstrdup(live_listed_text(request->domain_name));
	lookup->listed_app_name = pstrdup(live_listed_text(request->app_name));
	lookup->request_timeout = channel->options->request_timeout;
	lookup->job.channel = channel;
	lookup->job.attempt.is_lookup = true;
	lookup->job.ended = on_reply;
	lookup->state = LOOKUP_TO_SEND;
	MemoryContextSwitchTo(old);
	dlist_push_tail(&lookups, &lookup->node);
	n_lookups++;
	channel->requester->n_lookups++;
	channel->requester->looked_up_at = monotonic_now();
}

/*
 * Is there a lookup whose list answers for this request: one about it, or
 * about one that is equal to it, of the same role and server?
 */
bool
is_asked_about(const DoubtfulRequest *request)
{
	const Channel *channel = channel_find(&request->channel);
	dlist_iter	iter;

	dlist_foreach(iter, &lookups)
	{
		const Lookup *lookup = dlist_container(Lookup, node, iter.cur);

		/* One list answers for all requests that are equal. */
		if (request->id == lookup->request.id ||
			(lookup->job.channel == channel &&
			 requests_are_equal(request, &lookup->request)))
			return true;
	}
	return false;
}

/*
 * How many lookups there are about requests to a server.
 */
int
lookups_of_server(const Server *server)
{
	int			n = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &lookups)
	{
		if (dlist_container(Lookup, node, iter.cur)->job.channel->server == server)
			n++;
	}
	return n;
}

/*
 * Ask for the next page of a lookup's list, if there is a permit.
 */
void
lookup_ask(Lookup *lookup)
{
	const DoubtfulRequest *request = &lookup->request;
	Channel    *channel = lookup->job.channel;
	MonotonicUs now = monotonic_now();
	int64		sent = live_seconds(request->sent_at);
	TaskQuery to_ask = {
		/*
		 * Only tasks that lie wholly in the window are listed
		 * (DescribeScreenshotTask), so that it is wider than the task on both
		 * sides.
		 */
		.start_time = (request->has_start ? request->start_time :
					   sent - START_TOLERANCE) - WINDOW_MARGIN,
		.end_time = request->end_time + WINDOW_MARGIN,
		.stream_name = request->stream_name,
		.domain_name = request->domain_name,
		.app_name = request->app_name,
		.scroll_token = lookup->scroll_token
	};
	MonotonicUs retry_at;
	MemoryContext old;

	/*
	 * Given up, since it would hold up the lookups behind it, or ask about the
	 * wrong account.  Its requests stay due.
	 */
	if (channel_paused_until(channel) > now || !channel_resolve(channel) ||
		channel->account != lookup->account)
	{
		lookup->state = LOOKUP_ABANDONED;
		return;
	}
	if (channel_lookup_room(channel, now, dispatch_room()) == 0)
		return;
	lookup->job.attempt.key = rate_key(channel->account,
									   live_actions[LIVE_DESCRIBE].name);
	if (dispatch_room() == 0 ||
		rate_acquire(shared_rate_table(), lookup->job.attempt.key,
					 channel->options->requests_per_second, 1, ASK_AHEAD,
					 &lookup->job.job.permit, &retry_at) == 0)
	{
		lookup->permit_at = dispatch_room() == 0 ? now + US_PER_SECOND :
			retry_at;
		return;
	}

	MemoryContextReset(lookup->page_context);
	old = MemoryContextSwitchTo(lookup->page_context);
	lookup->message = channel_sign(channel, LIVE_DESCRIBE,
								 live_actions[LIVE_DESCRIBE].body(&to_ask), NULL,
								 &lookup->job.job.http);
	MemoryContextSwitchTo(old);
	if (lookup->message != NULL)
	{
		rate_release(&lookup->job.job.permit);
		lookup->state = LOOKUP_FAILED;
		return;
	}
	lookup->state = LOOKUP_SENT;

	/*
	 * When the first page was asked for: only requests sent long enough before
	 * that are judged by the list.
	 */
	if (lookup->asked_at == 0)
		lookup->asked_at = GetCurrentTimestamp();
	channel_job_add(&lookup->job);
}

/*
 * A page of a list was answered, or the request has failed.
 */
static void
on_reply(ChannelJob *job, const HttpReply *reply)
{
	Lookup	   *lookup = (Lookup *) job;
	MemoryContext old = MemoryContextSwitchTo(lookup->page_context);
	LiveAnswer	answer;

	live_actions[LIVE_DESCRIBE].read(reply, &answer);
	if (answer.outcome == LIVE_DONE)
	{
		channel_note_answer(lookup->job.channel, &lookup->job.attempt, reply,
							&answer);
		take_page(lookup, answer.tasks, answer.scroll_token);
	}
	else
		take_failure(lookup, reply, &answer);
	MemoryContextSwitchTo(old);
}

/*
 * Keep the tasks of a page that match; the page is gone when the next one is
 * asked for.
 */
static void
take_page(Lookup *lookup, List *tasks, const char *scroll_token)
{
	MemoryContext old = MemoryContextSwitchTo(lookup->context);
	bool		repeated = scroll_token != NULL &&
		lookup->scroll_token != NULL &&
		strcmp(scroll_token, lookup->scroll_token) == 0;
	ListCell   *cell;

	foreach(cell, tasks)
	{
		ListedTask *task = lfirst(cell);
		FoundTask  *found;

		if (!matches(lookup, task) || list_length(lookup->found) == MAX_FOUND)
			continue;
		found = palloc(sizeof(FoundTask));
		found->task_id = pstrdup(task->task_id);
		found->start_time = task->start_time;
		lookup->found = lappend(lookup->found, found);
	}
	if (lookup->scroll_token != NULL)
		pfree(lookup->scroll_token);

	/*
	 * A copy, since the page's memory is reset before the next one is asked
	 * for.
	 */
	lookup->scroll_token = scroll_token ? pstrdup(scroll_token) : NULL;
	MemoryContextSwitchTo(old);

	/*
	 * A list without an end proves nothing: left to a person rather than sent
	 * again.
	 */
	if (++lookup->n_pages == MAX_PAGES || repeated ||
		list_length(lookup->found) == MAX_FOUND)
	{
		lookup->state = LOOKUP_REFUSED;
		lookup->message = "the task list did not terminate";
	}
	else
		lookup->state = scroll_token == NULL ? LOOKUP_LISTED : LOOKUP_TO_SEND;
}

/*
 * Is a task one that the request would have become?
 */
static bool
matches(const Lookup *lookup, const ListedTask *task)
{
	const DoubtfulRequest *request = &lookup->request;
	int64		sent = live_seconds(request->sent_at);

	if (task->end_time != request->end_time ||
		task->template_id != request->template_id ||
		strcmp(task->stream_name, lookup->listed_stream_name) != 0 ||
		strcmp(task->domain_name, lookup->listed_domain_name) != 0 ||
		strcmp(task->app_name, lookup->listed_app_name) != 0)
		return false;
	if (request->has_start)
		return task->start_time == request->start_time;

	/*
	 * Without a start the task begins when the API gets the request: between
	 * sending and time-out, by a clock of its own.
	 */
	return task->start_time >= sent - START_TOLERANCE &&
		task->start_time <= sent + lookup->request_timeout / 1000 +
		START_TOLERANCE;
}

/*
 * A page has failed: decide whether to ask again, later, or not at all.
 */
static void
take_failure(Lookup *lookup, const HttpReply *reply,
			 const LiveAnswer *answer)
{
	const char *message = answer->message ? answer->message : "no message";

	lookup->message = answer->error_code == NULL ? message :
		psprintf("%s: %s", answer->error_code, message);

	/*
	 * A refusal of this action alone says nothing about the account's other
	 * actions, so that the channel is not paused.
	 */
	if (live_means_no_such_action(answer) || answer->outcome == LIVE_REFUSED)
	{
		lookup->state = LOOKUP_REFUSED;
		return;
	}
	channel_note_answer(lookup->job.channel, &lookup->job.attempt, reply, answer);
	switch (answer->outcome)
	{
		case LIVE_THROTTLED:
			/* behind others, which may not be refused */
			dlist_delete(&lookup->node);
			dlist_push_tail(&lookups, &lookup->node);
			lookup->state = LOOKUP_TO_SEND;
			break;
		case LIVE_NOT_SENT:
		case LIVE_CREDENTIALS:
		case LIVE_PERMISSION:
		case LIVE_SERVICE_STATE:
		case LIVE_ADDRESS:
		case LIVE_ENVIRONMENT:
			/* paused: the request stays due */
			lookup->state = LOOKUP_ABANDONED;
			break;
		default:
			lookup->state = LOOKUP_FAILED;
			break;
	}
}

/*
 * Free a lookup, and what it holds.
 */
void
lookup_end(Lookup *lookup)
{
	dlist_delete(&lookup->node);
	n_lookups--;
	lookup->job.channel->requester->n_lookups--;
	MemoryContextDelete(lookup->context);
}

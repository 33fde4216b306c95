/*-------------------------------------------------------------------------
 *
 * template_check.c
 *	  Whether the templates of requests exist
 *
 * The list of an account's templates is asked for before the first request of
 * it is claimed; and again when a request was claimed whose template is not on
 * the list, which goes back until that is here.  Channels of the account wait for
 * it meanwhile, but once and no longer than a request may take; a list that is
 * only old is asked for beside.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "compat.h"
#include "config/server.h"
#include "shmem/activity.h"
#include "shmem/shared_state.h"
#include "worker/channel.h"
#include "worker/dispatch.h"

/* How much ahead of its time a permit is taken */
#define ASK_AHEAD			(20 * US_PER_MS)

/* How long until there may be room for a job */
#define RETRY_ROOM			(50 * US_PER_MS)

/* A list that is asked for */
typedef struct ListJob
{
	Job			job;			/* first, so that a Job can be cast to this */
	MemoryContext context;		/* has all of it */
	uint64		account;
	NameData	server;
} ListJob;

static MonotonicUs ask(Channel *channel);
static void on_reply(Job *job, const HttpReply *reply);
static void end(uint64 account, const char *server, const LiveAnswer *answer);
static void let_go_on(uint64 account);

/*
 * A channel that is resolved may claim, within a transaction: ask for the list of
 * its account, if it is time to, and have it wait if it needs that first.
 */
void
template_check_prepare(Channel *channel, MonotonicUs now)
{
	const LiveServer *options = channel->options;
	MonotonicUs retry_at = MONOTONIC_NEVER;
	bool		waits;

	if (options->check_template == CHECK_OFF)
		return;
	waits = channel->wants_list || !template_list_is_had(channel->account);
	if (waits && channel->list_until == 0)
		channel->list_until = now + US_PER_MS *
			(options->connect_timeout + options->request_timeout);
	if (waits && channel->list_until <= now)
	{
		/* It has waited for long enough. */
		end(channel->account, NameStr(channel->server->name), NULL);
		return;
	}
	if (template_list_is_due(channel->account))
		retry_at = ask(channel);
	if (waits)
		channel->list_look_at = Min(retry_at, channel->list_until);
}

/*
 * Ask for the list.  If there is no permit, this returns when there may be one;
 * else never.
 */
static MonotonicUs
ask(Channel *channel)
{
	MemoryContext context;
	MemoryContext old;
	ListJob    *list;
	RatePermit	permit;
	MonotonicUs retry_at;

	if (dispatch_room() == 0)
		return monotonic_now() + RETRY_ROOM;
	if (rate_acquire(shared_rate_table(),
					 rate_key(channel->account, live_actions[LIVE_DESCRIBE_TEMPLATES].name),
					 channel->options->requests_per_second, 1, ASK_AHEAD,
					 &permit, &retry_at) == 0)
		return retry_at;
	context = AllocSetContextCreate(TopMemoryContext,
									"screenshot_task template list",
									ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	list = palloc0(sizeof(ListJob));
	list->context = context;
	list->account = channel->account;
	list->server = channel->server->name;
	list->job.permit = permit;
	list->job.ended = on_reply;
	if (channel_sign(channel, LIVE_DESCRIBE_TEMPLATES,
					 live_actions[LIVE_DESCRIBE_TEMPLATES].body(NULL), NULL,
					 &list->job.http) != NULL)
	{
		/* The requests will tell why. */
		rate_release(&permit);
		MemoryContextSwitchTo(old);
		MemoryContextDelete(context);
		return MONOTONIC_NEVER;
	}
	MemoryContextSwitchTo(old);
	template_list_begin(channel->account);
	dispatch_add(&list->job);
	return MONOTONIC_NEVER;
}

/*
 * What an answer says of the account or the network is for requests to
 * find out: that the list is refused is no reason to send nothing.
 */
static void
on_reply(Job *job, const HttpReply *reply)
{
	ListJob    *list = (ListJob *) job;
	MemoryContext context = list->context;
	MemoryContext old = MemoryContextSwitchTo(context);
	LiveAnswer	answer;

	live_actions[LIVE_DESCRIBE_TEMPLATES].read(reply, &answer);
	if (answer.outcome == LIVE_THROTTLED)
		rate_refused(shared_rate_table(), list->job.permit.key);
	end(list->account, NameStr(list->server), &answer);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/*
 * The list is here, or will not be: NULL.
 */
static void
end(uint64 account, const char *server, const LiveAnswer *answer)
{
	const char *problem = answer == NULL ? "there was no permit in time" :
		answer->message != NULL ? answer->message : "the API gave no message";

	if (template_list_end(account, answer))
		ereport(LOG,
				(errmsg("could not list the templates of server \"%s\": %s%s%s",
						server,
						answer != NULL && answer->error_code != NULL ?
						answer->error_code : "",
						answer != NULL && answer->error_code != NULL ? ": " : "",
						problem),
				 errdetail("Templates that are not known to exist are not checked.")));
	let_go_on(account);
}

static void
let_go_on(uint64 account)
{
	dlist_iter	iter;

	dlist_foreach(iter, &channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);

		if (channel->account != account)
			continue;
		channel->wants_list = false;
		channel->list_until = 0;
		channel->list_look_at = 0;
	}
}

/*
 * See whether the template of a request exists that was claimed.  If it must be
 * asked for first, its channel waits from now on.
 */
TemplateState
template_check(Channel *channel, const ClaimedRequest *claimed)
{
	TemplateState state;

	if (channel->options->check_template == CHECK_OFF)
		return TEMPLATE_EXISTS;
	state = template_look(channel->account, claimed->template_id);
	if (state == TEMPLATE_UNLISTED)
		channel->wants_list = true;
	if (state == TEMPLATE_MISSING &&
		template_tell_missing(channel->account, claimed->template_id))
	{
		char	   *summary = psprintf("template %lld does not exist",
									   (long long) claimed->template_id);

		activity_note_error(summary);
		ereport(LOG,
				(errmsg("template %lld of screenshot task request %lld does not exist",
						(long long) claimed->template_id,
						(long long) claimed->id),
				 errdetail("Server is \"%s\".  Tasks with the template take no screenshots.  This is logged once for each template.",
						   NameStr(channel->server->name)),
				 errhint("describe_screenshot_templates() lists the templates of the account.")));
		pfree(summary);
	}
	return state;
}

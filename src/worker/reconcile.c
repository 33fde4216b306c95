/*-------------------------------------------------------------------------
 *
 * reconcile.c
 *	  Finding out about requests in doubt
 *
 * The API has no key by which a request could be sent twice and done once.
 * But DescribeScreenshotTask lists the tasks that there are: one with the
 * stream, domain, application, template, end and start of a request, that is
 * no other row's, is the request's.  The request takes over its TaskId and is
 * created.  One that is not listed twice, some time apart, was not carried
 * out, and is sent again.
 *
 * Requests may be equal.  It does not matter then which of them has which
 * task, only that there are as many: so a task that a row has already is
 * nobody's, and nothing is resolved while an equal request is under way, to
 * which the task that is listed may belong.  One without a start and one with
 * a start of about then may be taken for each other as well: what is listed
 * with just that start is left to the latter.
 *
 * All that goes for rows of the same account.  Those of others have tasks
 * elsewhere, whatever they say: their roles may have them say anything.  Where
 * a row's server or user mapping is gone, nobody knows whose its task is; what
 * depends on it is left to a person.
 *
 * Roles take turns: of the requests that are due, one of the role that has
 * fewest lookups under way is next, and no role has more of them than are left.
 *
 * A request is not asked about before its bytes can no longer arrive: its
 * time-out after it was sent, beyond which not even the kernel repeats them,
 * and a grace for the API to take it in.
 *
 * A lookup asks page after page, each a job with a permit of its own, and is
 * resolved in a transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "settings.h"
#include "api/actions.h"
#include "api/body.h"
#include "api/task.h"
#include "config/server.h"
#include "shmem/activity.h"
#include "shmem/shared_state.h"
#include "table/request_queue.h"
#include "util/crash_point.h"
#include "util/text.h"
#include "worker/dispatch.h"
#include "worker/reconcile.h"
#include "worker/status_change.h"

/* The most lookups at a time: of one server, lest it answers late, and of all */
#define MAX_SERVER_LOOKUPS	4
#define MAX_LOOKUPS		32

/* The most pages that a lookup asks for, lest a list that never ends */
#define MAX_PAGES			500

/* The most tasks that may match a request, for the same reason */
#define MAX_FOUND			5000

/* A task without a start begins within this of its request, in seconds */
#define START_TOLERANCE		300

/* The window asked about is wider than the task by this, in seconds */
#define WINDOW_MARGIN		60

/*
 * How much ahead of its time a permit is taken, as for the requests that are
 * claimed beside: lookups have their share of the workers' permits.
 */
#define ASK_AHEAD			(20 * US_PER_MS)

/* How long to wait for an equal request that is under way */
#define EQUAL_WAIT			(1 * USECS_PER_SEC)

typedef enum LookupState
{
	LOOKUP_TO_SEND,				/* for the first or the next page */
	LOOKUP_SENT,				/* is a job */
	LOOKUP_LISTED,				/* all pages are there */
	LOOKUP_FAILED,			/* was not answered: ask later */
	LOOKUP_REFUSED,			/* cannot be asked: a person's turn */
	LOOKUP_ABANDONED,			/* nothing to resolve_doubt */
} LookupState;

typedef struct Lookup
{
	Job 		job;			/* while LOOKUP_SENT */
	dlist_node	node;			/* in lookups */
	MemoryContext context;		/* has the lookup and all it points to */
	MemoryContext page_context; /* has what belongs to one page alone */
	TimestampTz asked_at;		/* when it began to ask */
	LookupState state;
	MonotonicUs permit_at;		/* the next permit, if there was none */
	DoubtfulRequest request;
	uint64		account;		/* that is asked; 0: none yet */
	const char *listed_stream_name; /* its names, as a list would have them */
	const char *listed_domain_name;
	const char *listed_app_name;
	int			request_timeout;	/* ms */
	char	   *scroll_token;	/* of the next page; NULL: the first */
	int			n_pages;
	List	   *found;			/* the tasks that match, of FoundTask */
	const char *message;		/* if in vain, or refused; of the page */
	bool		resolved;		/* in the transaction under way */
} Lookup;

/* How many turns a role has had */
typedef struct RoleTurns
{
	Oid			role;
	int			n;
} RoleTurns;

/* What became of a request in doubt, in the transaction under way */
typedef enum ResolutionKind
{
	FOUND,
	NOT_FOUND,					/* twice, and is sent again */
	SENT_AGAIN,					/* by the server's option */
	REFUSED,					/* cannot be asked: left to a person */
	DISPUTED					/* may be another's task: left to a person */
} ResolutionKind;

typedef struct Resolution
{
	ResolutionKind kind;
	int64		id;
	NameData	server;
	char		message[256];	/* clipped; may be empty */
} Resolution;

static List *resolutions = NIL; /* of Resolution */
static dlist_head lookups = DLIST_STATIC_INIT(lookups);
static int	n_lookups = 0;
static MonotonicUs due_at = 0;	/* the next request to be asked about */

static void note(const DoubtfulRequest *request, ResolutionKind kind,
				 const char *message);
static void count_left_doubt(const Resolution *resolution,
							 RequestStatus status);
static void tell(const Resolution *resolution);
static void start_lookups(void);
static List *in_turns(List *requests);
static int	compare_turns(const ListCell *a, const ListCell *b);
static bool has_turn(const Channel *channel);
static int	lookups_of_server(const Server *server);
static bool is_asked_about(const DoubtfulRequest *request);
static bool apply_policy(const DoubtfulRequest *request,
						 const LiveServer *options);
static void start_lookup(const DoubtfulRequest *request, Channel *channel);
static void ask(Lookup *lookup);
static void on_reply(Job *job, const HttpReply *reply);
static void take_page(Lookup *lookup, List *tasks, const char *scroll_token);
static bool matches(const Lookup *lookup, const ListedTask *task);
static void take_failure(Lookup *lookup, const HttpReply *reply,
						 const LiveAnswer *answer);
static bool means_no_such_action(const LiveAnswer *answer);
static void resolve_doubt(Lookup *lookup);
static void resolve_listed(Lookup *lookup);
static List *drop_claimed(const Lookup *lookup, bool *disputed);
static void leave_disputed(const DoubtfulRequest *request);
static bool waits_for_another(const DoubtfulRequest *request, uint64 account,
							  List *alike);
static bool is_of_account(const DoubtfulRequest *request, uint64 account);
static List *leave_to_others(const Lookup *lookup, List *tasks,
							 List *alike);
static void not_found(const Lookup *lookup, const DoubtfulRequest *request);
static TimestampTz may_be_asked_at(TimestampTz sent_at, int request_timeout);

/*
 * Is there something to do in a transaction?
 */
bool
reconcile_has_work(MonotonicUs now)
{
	return reconcile_next_event(now) <= now;
}

/*
 * When there next is.
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
			/* The end of the request that goes first tells. */
			if (channel_lookup_room(lookup->job.channel, now, dispatch_room()) > 0)
				next = Min(next, lookup->permit_at);
		}
		else if (lookup->state != LOOKUP_SENT)
			next = Min(next, now);
	}
	return next;
}

/*
 * There may be news in the table.
 */
void
reconcile_scan(void)
{
	due_at = 0;
}

/*
 * Conclude what was found out, and ask what is due, within a transaction.
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
		lookup->resolved = true;
		due_at = 0;
	}
	if (due_at <= monotonic_now() && n_lookups < MAX_LOOKUPS)
		start_lookups();

	dlist_foreach(iter, &lookups)
	{
		Lookup	   *lookup = dlist_container(Lookup, node, iter.cur);

		if (lookup->state == LOOKUP_TO_SEND)
			ask(lookup);
	}
}

/*
 * Note what became of a request, to be told of once it is on disk.
 */
static void
note(const DoubtfulRequest *request, ResolutionKind kind, const char *message)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	Resolution *resolution = palloc0(sizeof(Resolution));

	resolution->kind = kind;
	resolution->id = request->id;
	resolution->server = request->channel.server;
	if (message != NULL)
		clip_text(resolution->message, message, sizeof(resolution->message));
	resolutions = lappend(resolutions, resolution);
	MemoryContextSwitchTo(old);
}

static void
count_left_doubt(const Resolution *resolution, RequestStatus status)
{
	status_changed(find_transition(STATUS_IN_DOUBT, status, BY_WORKER),
				   NameStr(resolution->server), resolution->id, NULL, NULL,
				   NULL);
}

static void
tell(const Resolution *resolution)
{
	long long	id = (long long) resolution->id;

	activity_note_news();
	switch (resolution->kind)
	{
		case FOUND:
			count_left_doubt(resolution, STATUS_CREATED);
			ereport(LOG,
					(errmsg("resolved screenshot task request %lld: task found",
							id)));
			break;
		case NOT_FOUND:
			count_left_doubt(resolution, STATUS_PENDING);
			ereport(LOG,
					(errmsg("resending screenshot task request %lld: no task found in two lookups",
							id)));
			break;
		case SENT_AGAIN:
			count_left_doubt(resolution, STATUS_PENDING);
			break;
		case REFUSED:
			ereport(LOG,
					(errmsg("screenshot task request %lld remains in doubt: task lookup refused",
							id),
					 errdetail_internal("%s", resolution->message),
					 errhint("Check whether the task exists, then call resolve_screenshot_task_request().")));
			break;
		case DISPUTED:
			ereport(LOG,
					(errmsg("screenshot task request %lld remains in doubt: the task found may belong to another request",
							id),
					 errdetail("The account of the other request is unknown because its server or user mapping no longer exists."),
					 errhint("Check which of them has a task, then call resolve_screenshot_task_request().")));
			break;
	}
}

/*
 * What was resolved is on disk.
 */
void
reconcile_committed(void)
{
	dlist_mutable_iter iter;
	ListCell   *cell;

	foreach(cell, resolutions)
		tell(lfirst(cell));
	list_free_deep(resolutions);
	resolutions = NIL;

	dlist_foreach_modify(iter, &lookups)
	{
		Lookup	   *lookup = dlist_container(Lookup, node, iter.cur);

		if (!lookup->resolved)
			continue;
		dlist_delete(&lookup->node);
		n_lookups--;
		lookup->job.channel->requester->n_lookups--;
		MemoryContextDelete(lookup->context);
	}
}

/*
 * Nothing was resolved.
 */
void
reconcile_aborted(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &lookups)
		dlist_container(Lookup, node, iter.cur)->resolved = false;
	list_free_deep(resolutions);
	resolutions = NIL;
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
		if (channel_paused_until(channel) > now || !channel_resolve(channel))
		{
			due_at = Min(due_at, channel_paused_until(channel));
			continue;
		}
		if (!apply_policy(request, channel->options) &&
			!waits_for_another(request, channel->account,
							   queue_find_alike(request)))
			start_lookup(request, channel);
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

		if (!found)
			entry->n = requester->n_lookups;
		request->turn = entry->n++;
		request->last_turn_at = requester->looked_up_at;
	}
	hash_destroy(turns);
	list_sort(requests, compare_turns);
	return requests;
}

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

static int
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
 * Is there a lookup that speaks of this request, or of one equal to it of the
 * same role and server?
 */
static bool
is_asked_about(const DoubtfulRequest *request)
{
	const Channel *channel = channel_find(&request->channel);
	dlist_iter	iter;

	dlist_foreach(iter, &lookups)
	{
		const Lookup *lookup = dlist_container(Lookup, node, iter.cur);

		if (request->id == lookup->request.id ||
			(lookup->job.channel == channel &&
			 requests_are_equal(request, &lookup->request)))
			return true;
	}
	return false;
}

/*
 * Do what the server's option in_doubt says, where that is not to ask, and not
 * before it is to be asked.  Returns whether that was all.
 */
static bool
apply_policy(const DoubtfulRequest *request, const LiveServer *options)
{
	TimestampTz at = may_be_asked_at(request->sent_at,
									 options->request_timeout);

	if (options->in_doubt == IN_DOUBT_HOLD)
	{
		queue_leave_to_person(request,
							  psprintf("in doubt; server option in_doubt is \"hold\". Check whether the task exists, then call resolve_screenshot_task_request(%lld, TaskId), or with NULL if it does not.",
									   (long long) request->id));
		return true;
	}
	if (at > GetCurrentTimestamp())
	{
		queue_ask_later(request, at, NULL);
		return true;
	}
	if (options->in_doubt == IN_DOUBT_RECONCILE && !MUTANT("sent-again-unasked"))
		return false;
	if (queue_send_again(request,
						 "was in doubt; resent because server option in_doubt is \"resend\""))
	{
		channel_has_work_from(channel_find(&request->channel), DT_NOBEGIN, 0);
		note(request, SENT_AGAIN, NULL);
	}
	return true;
}

/*
 * When a request can no longer arrive, and has had its grace.
 */
static TimestampTz
may_be_asked_at(TimestampTz sent_at, int request_timeout)
{
	return sent_at +
		(request_timeout + screenshot_task_reconcile_grace) * INT64CONST(1000);
}

static void
start_lookup(const DoubtfulRequest *request, Channel *channel)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "screenshot_task lookup",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Lookup	   *lookup = palloc0(sizeof(Lookup));

	lookup->context = context;
	lookup->page_context = AllocSetContextCreate(context,
												  "screenshot_task page",
												  ALLOCSET_DEFAULT_SIZES);
	lookup->request = *request;
	lookup->account = channel->account;
	lookup->request.stream_name = pstrdup(request->stream_name);
	lookup->request.domain_name = pstrdup(request->domain_name);
	lookup->request.app_name = pstrdup(request->app_name);
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
 * Ask for a page, if there is a permit.
 */
static void
ask(Lookup *lookup)
{
	const DoubtfulRequest *request = &lookup->request;
	Channel    *channel = lookup->job.channel;
	MonotonicUs now = monotonic_now();
	int64		sent = live_seconds(request->sent_at);
	TaskQuery to_ask = {
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

	/* It would keep others from being asked about, or ask another account. */
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
					 &lookup->job.permit, &retry_at) == 0)
	{
		lookup->permit_at = dispatch_room() == 0 ? now + US_PER_SECOND :
			retry_at;
		return;
	}

	MemoryContextReset(lookup->page_context);
	old = MemoryContextSwitchTo(lookup->page_context);
	lookup->message = channel_sign(channel, LIVE_DESCRIBE,
								 live_actions[LIVE_DESCRIBE].body(&to_ask), NULL,
								 &lookup->job.http);
	MemoryContextSwitchTo(old);
	if (lookup->message != NULL)
	{
		rate_release(&lookup->job.permit);
		lookup->state = LOOKUP_FAILED;
		return;
	}
	lookup->state = LOOKUP_SENT;
	if (lookup->asked_at == 0)
		lookup->asked_at = GetCurrentTimestamp();
	dispatch_add(&lookup->job);
}

/*
 * A page has come, or not.
 */
static void
on_reply(Job *job, const HttpReply *reply)
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
 * Keep what is needed of a page, which is gone when the next one is asked for.
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
	lookup->scroll_token = scroll_token ? pstrdup(scroll_token) : NULL;
	MemoryContextSwitchTo(old);

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
	return task->start_time >= sent - START_TOLERANCE &&
		task->start_time <= sent + lookup->request_timeout / 1000 +
		START_TOLERANCE;
}

static void
take_failure(Lookup *lookup, const HttpReply *reply,
			 const LiveAnswer *answer)
{
	const char *message = answer->message ? answer->message : "no message";

	lookup->message = answer->error_code == NULL ? message :
		psprintf("%s: %s", answer->error_code, message);

	/* That this action is not to be had says nothing of the others. */
	if (means_no_such_action(answer) || answer->outcome == LIVE_REFUSED)
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
		case LIVE_ENVIRONMENT:
			/* paused: the request stays due */
			lookup->state = LOOKUP_ABANDONED;
			break;
		default:
			lookup->state = LOOKUP_FAILED;
			break;
	}
}

static bool
means_no_such_action(const LiveAnswer *answer)
{
	const char *code = answer->error_code;

	return answer->outcome == LIVE_PERMISSION ||
		(code != NULL &&
		 (strncmp(code, "InvalidAction", 13) == 0 ||
		  strncmp(code, "ActionOffline", 13) == 0 ||
		  strncmp(code, "UnsupportedOperation", 20) == 0));
}

/*
 * Write down what a lookup has found out.
 */
static void
resolve_doubt(Lookup *lookup)
{
	const DoubtfulRequest *request = &lookup->request;

	switch (lookup->state)
	{
		case LOOKUP_LISTED:
			resolve_listed(lookup);
			break;
		case LOOKUP_FAILED:
			queue_ask_later(request,
							GetCurrentTimestamp() +
							screenshot_task_reconcile_spacing * INT64CONST(1000),
							psprintf("in doubt; task lookup failed: %s",
									 lookup->message));
			break;
		case LOOKUP_REFUSED:
			if (queue_leave_to_person(request,
									  psprintf("in doubt; task lookup refused: %s. Check whether the task exists, then call resolve_screenshot_task_request(%lld, TaskId), or with NULL if it does not.",
											   lookup->message,
											   (long long) request->id)))
				note(request, REFUSED, lookup->message);
			break;
		default:
			break;
	}
}

/*
 * Share out the tasks that were found among the requests that are equal.
 */
static void
resolve_listed(Lookup *lookup)
{
	const DoubtfulRequest *request = &lookup->request;
	List	   *alike = queue_find_alike(request);
	List	   *unclaimed;
	bool		disputed = false;
	ListCell   *cell;

	/* The list is another account's: it is asked anew. */
	if (channel_account(lookup->job.channel) != lookup->account)
		return;
	if (waits_for_another(request, lookup->account, alike))
		return;
	unclaimed = drop_claimed(lookup, &disputed);
	if (!request->has_start)
		unclaimed = leave_to_others(lookup, unclaimed, alike);
	foreach(cell, alike)
	{
		DoubtfulRequest *other = lfirst(cell);

		if (!requests_are_equal(request, other) ||
			channel_find(&other->channel) != lookup->job.channel || !other->is_due ||
			may_be_asked_at(other->sent_at, lookup->request_timeout) >
			lookup->asked_at)
			continue;
		/* What was sent at another time has another list of tasks. */
		if (!request->has_start && other->id != request->id)
			continue;
		if (unclaimed == NIL && disputed)
			leave_disputed(other);
		else if (unclaimed == NIL)
			not_found(lookup, other);
		else
		{
			if (queue_adopt_task(other,
								 ((FoundTask *) linitial(unclaimed))->task_id))
				note(other, FOUND, NULL);
			unclaimed = list_delete_first(unclaimed);
		}
	}
}

/*
 * Of the tasks that were found those, each once, that no row of the same account
 * has.  Sets *disputed if a row has one of them that may be of that account, or
 * not.
 */
static List *
drop_claimed(const Lookup *lookup, bool *disputed)
{
	List	   *taken = NIL;	/* of String, the TaskIds */
	List	   *unclaimed = NIL;
	ListCell   *cell;

	foreach(cell, queue_find_claims(&lookup->request, lookup->found))
	{
		const TaskClaim *claim = lfirst(cell);
		Channel    *channel = channel_find(&claim->channel);
		uint64		account = channel == lookup->job.channel ?
			lookup->account : channel_account(channel);

		if (account == 0)
			*disputed = true;
		if (account == 0 || account == lookup->account)
			taken = lappend(taken, makeString(unconstify(char *, claim->task_id)));
	}
	foreach(cell, lookup->found)
	{
		FoundTask  *task = lfirst(cell);
		String	   *id = makeString(unconstify(char *, task->task_id));

		if (list_member(taken, id) && !MUTANT("task-adopted-twice"))
			continue;
		taken = lappend(taken, id);
		unclaimed = lappend(unclaimed, task);
	}
	return unclaimed;
}

static void
leave_disputed(const DoubtfulRequest *request)
{
	if (queue_leave_to_person(request,
							  psprintf("in doubt; the task found may belong to another request, whose server or user mapping no longer exists. Check which of them has a task, then call resolve_screenshot_task_request(%lld, TaskId), or with NULL if this one has none.",
									   (long long) request->id)))
		note(request, DISPUTED, NULL);
}

/*
 * Is a request of the same account under way whose task may be taken for this
 * one's?  Then this one is asked about later.
 */
static bool
waits_for_another(const DoubtfulRequest *request, uint64 account, List *alike)
{
	ListCell   *cell;

	foreach(cell, alike)
	{
		DoubtfulRequest *other = lfirst(cell);

		if (other->is_sending &&
			(!other->has_start || !request->has_start ||
			 other->start_time == request->start_time) &&
			is_of_account(other, account))
		{
			queue_ask_later(request, GetCurrentTimestamp() + EQUAL_WAIT, NULL);
			return true;
		}
	}
	return false;
}

/*
 * Is a request sent for a certain account?  One that is under way was signed
 * with what its channel had when this process last looked.
 */
static bool
is_of_account(const DoubtfulRequest *request, uint64 account)
{
	Channel    *channel = channel_find(&request->channel);

	if (request->is_sending && channel->account != 0)
		return channel->account == account;
	return channel_account(channel) == account;
}

/*
 * Of the tasks found for a request without a start, those that are not to be
 * left to a request in doubt that has just that start.
 */
static List *
leave_to_others(const Lookup *lookup, List *tasks, List *alike)
{
	ListCell   *other_cell;

	foreach(other_cell, alike)
	{
		DoubtfulRequest *other = lfirst(other_cell);
		ListCell   *cell;

		if (!other->has_start || !is_of_account(other, lookup->account))
			continue;
		foreach(cell, tasks)
		{
			if (((FoundTask *) lfirst(cell))->start_time != other->start_time)
				continue;
			tasks = foreach_delete_current(tasks, cell);
			break;
		}
	}
	return tasks;
}

static void
not_found(const Lookup *lookup, const DoubtfulRequest *request)
{
	if (request->misses == 0 && !MUTANT("sent-again-too-soon"))
	{
		queue_count_miss(request,
						 GetCurrentTimestamp() +
						 screenshot_task_reconcile_spacing * INT64CONST(1000));
		return;
	}
	if (!queue_send_again(request,
						  "was in doubt; resent: no task found in two lookups"))
		return;
	channel_has_work_from(lookup->job.channel, DT_NOBEGIN, 0);
	note(request, NOT_FOUND, NULL);
}

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
 * nobody's, and nothing is concluded while an equal request is under way, to
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
 * An inquiry asks page after page, each a job with a permit of its own, and is
 * concluded in a transaction.
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
#include "util/legible.h"
#include "worker/dispatch.h"
#include "worker/reconcile.h"
#include "worker/status_change.h"

/* The most inquiries at a time: of one server, lest it answers late, and of all */
#define MAX_SERVER_INQUIRIES	4
#define MAX_INQUIRIES		32

/* The most pages that an inquiry asks for, lest a list that never ends */
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

typedef enum InquiryState
{
	INQUIRY_TO_ASK,				/* for the first or the next page */
	INQUIRY_ASKING,				/* is a job */
	INQUIRY_LISTED,				/* all pages are there */
	INQUIRY_IN_VAIN,			/* was not answered: ask later */
	INQUIRY_REFUSED,			/* cannot be asked: a person's turn */
	INQUIRY_GIVEN_UP,			/* nothing to conclude */
} InquiryState;

typedef struct Inquiry
{
	Job			job;			/* while INQUIRY_ASKING */
	dlist_node	node;			/* in inquiries */
	MemoryContext context;		/* has the inquiry and all it points to */
	MemoryContext page_context; /* has what belongs to one page alone */
	TimestampTz asked_at;		/* when it began to ask */
	InquiryState state;
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
	bool		concluded;		/* in the transaction under way */
} Inquiry;

/* How many turns a role has had */
typedef struct RoleTurns
{
	Oid			role;
	int			n;
} RoleTurns;

/* What became of a request in doubt, in the transaction under way */
typedef enum ConclusionKind
{
	FOUND,
	NOT_FOUND,					/* twice, and is sent again */
	SENT_AGAIN,					/* by the server's option */
	REFUSED,					/* cannot be asked: left to a person */
	DISPUTED					/* may be another's task: left to a person */
} ConclusionKind;

typedef struct Conclusion
{
	ConclusionKind kind;
	int64		id;
	NameData	server;
	char		message[256];	/* clipped; may be empty */
} Conclusion;

static List *conclusions = NIL; /* of Conclusion */
static dlist_head inquiries = DLIST_STATIC_INIT(inquiries);
static int	n_inquiries = 0;
static MonotonicUs due_at = 0;	/* the next request to be asked about */

static void note(const DoubtfulRequest *request, ConclusionKind kind,
				 const char *message);
static void count_left_doubt(const Conclusion *conclusion,
							 RequestStatus status);
static void tell(const Conclusion *conclusion);
static void start_inquiries(void);
static List *in_turns(List *requests);
static int	compare_turns(const ListCell *a, const ListCell *b);
static bool has_turn(const Lane *lane);
static int	inquiries_of_server(const Server *server);
static bool is_asked_about(const DoubtfulRequest *request);
static bool apply_policy(const DoubtfulRequest *request,
						 const LiveServer *options);
static void start_inquiry(const DoubtfulRequest *request, Lane *lane);
static void ask(Inquiry *inquiry);
static void on_reply(Job *job, const HttpReply *reply);
static void take_page(Inquiry *inquiry, List *tasks, const char *scroll_token);
static bool matches(const Inquiry *inquiry, const ListedTask *task);
static void take_failure(Inquiry *inquiry, const HttpReply *reply,
						 const LiveAnswer *answer);
static bool means_no_such_action(const LiveAnswer *answer);
static void conclude(Inquiry *inquiry);
static void conclude_listed(Inquiry *inquiry);
static List *drop_claimed(const Inquiry *inquiry, bool *disputed);
static void leave_disputed(const DoubtfulRequest *request);
static bool waits_for_another(const DoubtfulRequest *request, uint64 account,
							  List *alike);
static bool is_of_account(const DoubtfulRequest *request, uint64 account);
static List *leave_to_others(const Inquiry *inquiry, List *tasks,
							 List *alike);
static void not_found(const Inquiry *inquiry, const DoubtfulRequest *request);
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
	MonotonicUs next = n_inquiries < MAX_INQUIRIES ? due_at : MONOTONIC_NEVER;
	dlist_iter	iter;

	dlist_foreach(iter, &inquiries)
	{
		Inquiry    *inquiry = dlist_container(Inquiry, node, iter.cur);

		if (inquiry->state == INQUIRY_TO_ASK)
			next = Min(next, inquiry->permit_at);
		else if (inquiry->state != INQUIRY_ASKING)
			next = Min(next, now);
	}
	return next;
}

/*
 * There may be news in the table.
 */
void
reconcile_look(void)
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

	dlist_foreach(iter, &inquiries)
	{
		Inquiry    *inquiry = dlist_container(Inquiry, node, iter.cur);

		if (inquiry->state == INQUIRY_TO_ASK || inquiry->state == INQUIRY_ASKING)
			continue;
		conclude(inquiry);
		inquiry->concluded = true;
		due_at = 0;
	}
	if (due_at <= monotonic_now() && n_inquiries < MAX_INQUIRIES)
		start_inquiries();

	dlist_foreach(iter, &inquiries)
	{
		Inquiry    *inquiry = dlist_container(Inquiry, node, iter.cur);

		if (inquiry->state == INQUIRY_TO_ASK)
			ask(inquiry);
	}
}

/*
 * Note what became of a request, to be told of once it is on disk.
 */
static void
note(const DoubtfulRequest *request, ConclusionKind kind, const char *message)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	Conclusion *conclusion = palloc0(sizeof(Conclusion));

	conclusion->kind = kind;
	conclusion->id = request->id;
	conclusion->server = request->lane.server;
	if (message != NULL)
		clip_text(conclusion->message, message, sizeof(conclusion->message));
	conclusions = lappend(conclusions, conclusion);
	MemoryContextSwitchTo(old);
}

static void
count_left_doubt(const Conclusion *conclusion, RequestStatus status)
{
	status_changed(find_transition(STATUS_IN_DOUBT, status, BY_WORKER),
				   NameStr(conclusion->server), conclusion->id, NULL, NULL,
				   NULL);
}

static void
tell(const Conclusion *conclusion)
{
	long long	id = (long long) conclusion->id;

	activity_note_news();
	switch (conclusion->kind)
	{
		case FOUND:
			count_left_doubt(conclusion, STATUS_CREATED);
			ereport(LOG,
					(errmsg("screenshot task request %lld was in doubt, and has been found to be created",
							id)));
			break;
		case NOT_FOUND:
			count_left_doubt(conclusion, STATUS_PENDING);
			ereport(LOG,
					(errmsg("screenshot task request %lld was in doubt, was not found twice, and is sent again",
							id)));
			break;
		case SENT_AGAIN:
			count_left_doubt(conclusion, STATUS_PENDING);
			break;
		case REFUSED:
			ereport(LOG,
					(errmsg("screenshot task request %lld stays in doubt: DescribeScreenshotTask is refused",
							id),
					 errdetail_internal("%s", conclusion->message),
					 errhint("Look whether the task exists, then call resolve_screenshot_task_request().")));
			break;
		case DISPUTED:
			ereport(LOG,
					(errmsg("screenshot task request %lld stays in doubt: its task may be that of another request",
							id),
					 errdetail("The other's server or user mapping is gone, so that its account is not known."),
					 errhint("See which of them has a task, then call resolve_screenshot_task_request().")));
			break;
	}
}

/*
 * What was concluded is on disk.
 */
void
reconcile_committed(void)
{
	dlist_mutable_iter iter;
	ListCell   *cell;

	foreach(cell, conclusions)
		tell(lfirst(cell));
	list_free_deep(conclusions);
	conclusions = NIL;

	dlist_foreach_modify(iter, &inquiries)
	{
		Inquiry    *inquiry = dlist_container(Inquiry, node, iter.cur);

		if (!inquiry->concluded)
			continue;
		dlist_delete(&inquiry->node);
		n_inquiries--;
		inquiry->job.lane->requester->n_lookups--;
		MemoryContextDelete(inquiry->context);
	}
}

/*
 * Nothing was concluded.
 */
void
reconcile_aborted(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &inquiries)
		dlist_container(Inquiry, node, iter.cur)->concluded = false;
	list_free_deep(conclusions);
	conclusions = NIL;
	due_at = 0;
}

/*
 * Start inquiries about requests that are due.
 */
static void
start_inquiries(void)
{
	MonotonicUs now = monotonic_now();
	List	   *paused = NIL;
	List	   *requests;
	TimestampTz due;
	ListCell   *cell;
	dlist_iter	iter;

	due_at = MONOTONIC_NEVER;
	dlist_foreach(iter, &lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, iter.cur);

		if (lane_paused_until(lane) <= now)
			continue;
		paused = lappend(paused, &lane->name);
		due_at = Min(due_at, lane_paused_until(lane));
	}
	requests = queue_find_doubtful(paused, 2 * MAX_SERVER_INQUIRIES);
	foreach(cell, in_turns(requests))
	{
		DoubtfulRequest *request = lfirst(cell);
		Lane	   *lane = lane_find(&request->lane);

		if (is_asked_about(request) || !has_turn(lane))
			continue;
		if (n_inquiries == MAX_INQUIRIES)
		{
			due_at = now;
			return;
		}
		if (lane_paused_until(lane) > now || !lane_resolve(lane))
		{
			due_at = Min(due_at, lane_paused_until(lane));
			continue;
		}
		if (!apply_policy(request, lane->options) &&
			!waits_for_another(request, lane->account,
							   queue_find_alike(request)))
			start_inquiry(request, lane);
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
		const Requester *requester = lane_find(&request->lane)->requester;
		bool		found;
		RoleTurns  *entry = hash_search(turns, &request->lane.role, HASH_ENTER,
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
 * May one more request of a lane be asked about?  Of the inquiries that there may
 * be, no role takes more than it leaves to others; and some are of one server
 * alone.
 */
static bool
has_turn(const Lane *lane)
{
	int			n = lane->requester->n_lookups + 1;

	return (n == 1 || n <= MAX_INQUIRIES - n_inquiries - 1) &&
		inquiries_of_server(lane->server) < MAX_SERVER_INQUIRIES;
}

static int
inquiries_of_server(const Server *server)
{
	int			n = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &inquiries)
	{
		if (dlist_container(Inquiry, node, iter.cur)->job.lane->server == server)
			n++;
	}
	return n;
}

/*
 * Is there an inquiry that speaks of this request, or of one equal to it of the
 * same role and server?
 */
static bool
is_asked_about(const DoubtfulRequest *request)
{
	const Lane *lane = lane_find(&request->lane);
	dlist_iter	iter;

	dlist_foreach(iter, &inquiries)
	{
		const Inquiry *inquiry = dlist_container(Inquiry, node, iter.cur);

		if (request->id == inquiry->request.id ||
			(inquiry->job.lane == lane &&
			 requests_are_equal(request, &inquiry->request)))
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
							  psprintf("in doubt, and the server's option in_doubt is \"hold\": look whether the task exists, then call resolve_screenshot_task_request(%lld, its TaskId), or with NULL if there is none",
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
						 "was in doubt, and sent again by the server's option in_doubt"))
	{
		lane_has_work_from(lane_find(&request->lane), DT_NOBEGIN, 0);
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
start_inquiry(const DoubtfulRequest *request, Lane *lane)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "screenshot_task inquiry",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Inquiry    *inquiry = palloc0(sizeof(Inquiry));

	inquiry->context = context;
	inquiry->page_context = AllocSetContextCreate(context,
												  "screenshot_task page",
												  ALLOCSET_DEFAULT_SIZES);
	inquiry->request = *request;
	inquiry->account = lane->account;
	inquiry->request.stream_name = pstrdup(request->stream_name);
	inquiry->request.domain_name = pstrdup(request->domain_name);
	inquiry->request.app_name = pstrdup(request->app_name);
	inquiry->listed_stream_name = pstrdup(live_listed_text(request->stream_name));
	inquiry->listed_domain_name = pstrdup(live_listed_text(request->domain_name));
	inquiry->listed_app_name = pstrdup(live_listed_text(request->app_name));
	inquiry->request_timeout = lane->options->request_timeout;
	inquiry->job.lane = lane;
	inquiry->job.ended = on_reply;
	inquiry->state = INQUIRY_TO_ASK;
	MemoryContextSwitchTo(old);
	dlist_push_tail(&inquiries, &inquiry->node);
	n_inquiries++;
	lane->requester->n_lookups++;
	lane->requester->looked_up_at = monotonic_now();
}

/*
 * Ask for a page, if there is a permit.
 */
static void
ask(Inquiry *inquiry)
{
	const DoubtfulRequest *request = &inquiry->request;
	Lane	   *lane = inquiry->job.lane;
	MonotonicUs now = monotonic_now();
	int64		sent = live_seconds(request->sent_at);
	TaskInquiry to_ask = {
		.start_time = (request->has_start ? request->start_time :
					   sent - START_TOLERANCE) - WINDOW_MARGIN,
		.end_time = request->end_time + WINDOW_MARGIN,
		.stream_name = request->stream_name,
		.domain_name = request->domain_name,
		.app_name = request->app_name,
		.scroll_token = inquiry->scroll_token
	};
	MonotonicUs retry_at;
	MemoryContext old;

	/* It would keep others from being asked about, or ask another account. */
	if (lane_paused_until(lane) > now || !lane_resolve(lane) ||
		lane->account != inquiry->account)
	{
		inquiry->state = INQUIRY_GIVEN_UP;
		return;
	}
	inquiry->job.key = rate_key(lane->account,
									 live_actions[LIVE_DESCRIBE].name);
	if (dispatch_room() == 0 ||
		rate_acquire(shared_rate_table(), inquiry->job.key,
					 lane->options->requests_per_second, 1, ASK_AHEAD,
					 &inquiry->job.permit, &retry_at) == 0)
	{
		inquiry->permit_at = dispatch_room() == 0 ? now + US_PER_SECOND :
			retry_at;
		return;
	}

	MemoryContextReset(inquiry->page_context);
	old = MemoryContextSwitchTo(inquiry->page_context);
	inquiry->message = lane_sign(lane, LIVE_DESCRIBE,
								 live_actions[LIVE_DESCRIBE].body(&to_ask), NULL,
								 &inquiry->job.http);
	MemoryContextSwitchTo(old);
	if (inquiry->message != NULL)
	{
		rate_release(&inquiry->job.permit);
		inquiry->state = INQUIRY_IN_VAIN;
		return;
	}
	inquiry->state = INQUIRY_ASKING;
	if (inquiry->asked_at == 0)
		inquiry->asked_at = GetCurrentTimestamp();
	dispatch_add(&inquiry->job);
}

/*
 * A page has come, or not.
 */
static void
on_reply(Job *job, const HttpReply *reply)
{
	Inquiry    *inquiry = (Inquiry *) job;
	MemoryContext old = MemoryContextSwitchTo(inquiry->page_context);
	LiveAnswer	answer;

	live_actions[LIVE_DESCRIBE].read(reply, &answer);
	if (answer.outcome == LIVE_DONE)
		take_page(inquiry, answer.tasks, answer.scroll_token);
	else
		take_failure(inquiry, reply, &answer);
	MemoryContextSwitchTo(old);
}

/*
 * Keep what is needed of a page, which is gone when the next one is asked for.
 */
static void
take_page(Inquiry *inquiry, List *tasks, const char *scroll_token)
{
	MemoryContext old = MemoryContextSwitchTo(inquiry->context);
	bool		repeated = scroll_token != NULL &&
		inquiry->scroll_token != NULL &&
		strcmp(scroll_token, inquiry->scroll_token) == 0;
	ListCell   *cell;

	foreach(cell, tasks)
	{
		ListedTask *task = lfirst(cell);
		FoundTask  *found;

		if (!matches(inquiry, task) || list_length(inquiry->found) == MAX_FOUND)
			continue;
		found = palloc(sizeof(FoundTask));
		found->task_id = pstrdup(task->task_id);
		found->start_time = task->start_time;
		inquiry->found = lappend(inquiry->found, found);
	}
	if (inquiry->scroll_token != NULL)
		pfree(inquiry->scroll_token);
	inquiry->scroll_token = scroll_token ? pstrdup(scroll_token) : NULL;
	MemoryContextSwitchTo(old);

	if (++inquiry->n_pages == MAX_PAGES || repeated ||
		list_length(inquiry->found) == MAX_FOUND)
	{
		inquiry->state = INQUIRY_REFUSED;
		inquiry->message = "it lists no end of tasks";
	}
	else
		inquiry->state = scroll_token == NULL ? INQUIRY_LISTED : INQUIRY_TO_ASK;
}

/*
 * Is a task one that the request would have become?
 */
static bool
matches(const Inquiry *inquiry, const ListedTask *task)
{
	const DoubtfulRequest *request = &inquiry->request;
	int64		sent = live_seconds(request->sent_at);

	if (task->end_time != request->end_time ||
		task->template_id != request->template_id ||
		strcmp(task->stream_name, inquiry->listed_stream_name) != 0 ||
		strcmp(task->domain_name, inquiry->listed_domain_name) != 0 ||
		strcmp(task->app_name, inquiry->listed_app_name) != 0)
		return false;
	if (request->has_start)
		return task->start_time == request->start_time;
	return task->start_time >= sent - START_TOLERANCE &&
		task->start_time <= sent + inquiry->request_timeout / 1000 +
		START_TOLERANCE;
}

static void
take_failure(Inquiry *inquiry, const HttpReply *reply,
			 const LiveAnswer *answer)
{
	const char *message = answer->message ? answer->message : "no message";

	inquiry->message = answer->error_code == NULL ? message :
		psprintf("%s: %s", answer->error_code, message);

	/* That this action is not to be had says nothing of the others. */
	if (means_no_such_action(answer) || answer->outcome == LIVE_REFUSED)
	{
		inquiry->state = INQUIRY_REFUSED;
		return;
	}
	lane_note_answer(inquiry->job.lane, inquiry->job.key,
					 inquiry->job.signed_at, inquiry->job.started_at, reply,
					 answer);
	switch (answer->outcome)
	{
		case LIVE_THROTTLED:
			inquiry->state = INQUIRY_TO_ASK;
			break;
		case LIVE_NOT_SENT:
		case LIVE_CREDENTIALS:
		case LIVE_PERMISSION:
		case LIVE_SERVICE_STATE:
		case LIVE_ENVIRONMENT:
			/* paused: the request stays due */
			inquiry->state = INQUIRY_GIVEN_UP;
			break;
		default:
			inquiry->state = INQUIRY_IN_VAIN;
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
 * Write down what an inquiry has found out.
 */
static void
conclude(Inquiry *inquiry)
{
	const DoubtfulRequest *request = &inquiry->request;

	switch (inquiry->state)
	{
		case INQUIRY_LISTED:
			conclude_listed(inquiry);
			break;
		case INQUIRY_IN_VAIN:
			queue_ask_later(request,
							GetCurrentTimestamp() +
							screenshot_task_reconcile_spacing * INT64CONST(1000),
							psprintf("in doubt, and DescribeScreenshotTask was asked in vain: %s",
									 inquiry->message));
			break;
		case INQUIRY_REFUSED:
			if (queue_leave_to_person(request,
									  psprintf("in doubt, and DescribeScreenshotTask is refused (%s): look whether the task exists, then call resolve_screenshot_task_request(%lld, its TaskId), or with NULL if there is none",
											   inquiry->message,
											   (long long) request->id)))
				note(request, REFUSED, inquiry->message);
			break;
		default:
			break;
	}
}

/*
 * Share out the tasks that were found among the requests that are equal.
 */
static void
conclude_listed(Inquiry *inquiry)
{
	const DoubtfulRequest *request = &inquiry->request;
	List	   *alike = queue_find_alike(request);
	List	   *unclaimed;
	bool		disputed = false;
	ListCell   *cell;

	/* The list is another account's: it is asked anew. */
	if (lane_account(inquiry->job.lane) != inquiry->account)
		return;
	if (waits_for_another(request, inquiry->account, alike))
		return;
	unclaimed = drop_claimed(inquiry, &disputed);
	if (!request->has_start)
		unclaimed = leave_to_others(inquiry, unclaimed, alike);
	foreach(cell, alike)
	{
		DoubtfulRequest *other = lfirst(cell);

		if (!requests_are_equal(request, other) ||
			lane_find(&other->lane) != inquiry->job.lane || !other->is_due ||
			may_be_asked_at(other->sent_at, inquiry->request_timeout) >
			inquiry->asked_at)
			continue;
		/* What was sent at another time has another list of tasks. */
		if (!request->has_start && other->id != request->id)
			continue;
		if (unclaimed == NIL && disputed)
			leave_disputed(other);
		else if (unclaimed == NIL)
			not_found(inquiry, other);
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
drop_claimed(const Inquiry *inquiry, bool *disputed)
{
	List	   *taken = NIL;	/* of String, the TaskIds */
	List	   *unclaimed = NIL;
	ListCell   *cell;

	foreach(cell, queue_find_claims(&inquiry->request, inquiry->found))
	{
		const TaskClaim *claim = lfirst(cell);
		Lane	   *lane = lane_find(&claim->lane);
		uint64		account = lane == inquiry->job.lane ?
			inquiry->account : lane_account(lane);

		if (account == 0)
			*disputed = true;
		if (account == 0 || account == inquiry->account)
			taken = lappend(taken, makeString(unconstify(char *, claim->task_id)));
	}
	foreach(cell, inquiry->found)
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
							  psprintf("in doubt: the task that is listed may be that of another request, whose server or user mapping is gone; see which of them has a task, then call resolve_screenshot_task_request(%lld, its TaskId), or with NULL if there is none",
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
 * with what its lane had when this process last looked.
 */
static bool
is_of_account(const DoubtfulRequest *request, uint64 account)
{
	Lane	   *lane = lane_find(&request->lane);

	if (request->is_sending && lane->account != 0)
		return lane->account == account;
	return lane_account(lane) == account;
}

/*
 * Of the tasks found for a request without a start, those that are not to be
 * left to a request in doubt that has just that start.
 */
static List *
leave_to_others(const Inquiry *inquiry, List *tasks, List *alike)
{
	ListCell   *other_cell;

	foreach(other_cell, alike)
	{
		DoubtfulRequest *other = lfirst(other_cell);
		ListCell   *cell;

		if (!other->has_start || !is_of_account(other, inquiry->account))
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
not_found(const Inquiry *inquiry, const DoubtfulRequest *request)
{
	if (request->misses == 0 && !MUTANT("sent-again-too-soon"))
	{
		queue_count_miss(request,
						 GetCurrentTimestamp() +
						 screenshot_task_reconcile_spacing * INT64CONST(1000));
		return;
	}
	if (!queue_send_again(request,
						  "was in doubt: DescribeScreenshotTask did not list the task, asked twice"))
		return;
	lane_has_work_from(inquiry->job.lane, DT_NOBEGIN, 0);
	note(request, NOT_FOUND, NULL);
}

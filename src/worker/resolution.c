/*-------------------------------------------------------------------------
 *
 * resolution.c
 *	  What follows for a request in doubt from what a lookup has found
 *
 * Here is which task is whose: each task that the API lists for a request is that of
 * one of the equal requests of its account at most, and they have it in turn.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "settings.h"
#include "config/server.h"
#include "shmem/activity.h"
#include "util/crash_point.h"
#include "util/text.h"
#include "worker/reconcile_private.h"
#include "worker/status_change.h"
#include "worker/withdrawal.h"

/* How long to wait for an equal request that is under way */
#define EQUAL_WAIT			(1 * USECS_PER_SEC)

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
	RequestStatus became;
	int64		id;
	NameData	server;
	char		message[256];	/* clipped; may be empty */
} Resolution;

static List *resolutions = NIL; /* of Resolution: in the transaction under way */

static void note(const DoubtfulRequest *request, ResolutionKind kind,
				 RequestStatus became, const char *message);
static void count_left_doubt(const Resolution *resolution);
static void tell(const Resolution *resolution);
static TimestampTz may_be_asked_at(TimestampTz sent_at, int request_timeout);
static void resolve_listed(Lookup *lookup);
static int	compare_wanted(const ListCell *a, const ListCell *b);
static List *drop_claimed(const Lookup *lookup, bool *disputed);
static void leave_disputed(const DoubtfulRequest *request);
static bool is_of_account(const DoubtfulRequest *request, uint64 account);
static List *leave_to_others(const Lookup *lookup, List *tasks,
							 List *alike);
static void not_found(const Lookup *lookup, const DoubtfulRequest *request);

/*
 * Note how a request was resolved, to be counted and logged after the commit.
 */
static void
note(const DoubtfulRequest *request, ResolutionKind kind,
	 RequestStatus became, const char *message)
{
	/*
	 * It is told of after the commit, when the transaction's memory is gone.
	 */
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	Resolution *resolution = palloc0(sizeof(Resolution));

	resolution->kind = kind;
	resolution->became = became;
	resolution->id = request->id;
	resolution->server = request->channel.server;
	if (message != NULL)
		clip_text(resolution->message, message, sizeof(resolution->message));
	resolutions = lappend(resolutions, resolution);
	MemoryContextSwitchTo(old);
}

/*
 * Count that a request has left doubt for another status.
 */
static void
count_left_doubt(const Resolution *resolution)
{
	if (resolution->became == STATUS_WITHDRAWING)
		withdrawal_scan();
	status_changed(find_transition(STATUS_IN_DOUBT, resolution->became,
								   BY_WORKER),
				   NameStr(resolution->server), resolution->id, NULL, NULL,
				   NULL);
}

/*
 * Count and log how a request was resolved.
 */
static void
tell(const Resolution *resolution)
{
	long long	id = (long long) resolution->id;

	activity_note_news();
	switch (resolution->kind)
	{
		case FOUND:
			count_left_doubt(resolution);
			ereport(LOG,
					(errmsg("resolved screenshot task request %lld: task found",
							id)));
			break;
		case NOT_FOUND:
			count_left_doubt(resolution);
			ereport(LOG,
					(resolution->became == STATUS_CANCELLED ?
					 errmsg("cancelled screenshot task request %lld: it was withdrawn, and no task found in two lookups",
							id) :
					 errmsg("resending screenshot task request %lld: no task found in two lookups",
							id)));
			break;
		case SENT_AGAIN:
			count_left_doubt(resolution);
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
 * Handle a request as the server's option in_doubt says, if that asks for no
 * lookup; or put it off, if it is too early to look.  Returns false if its
 * task should be looked up now.
 */
bool
apply_policy(const DoubtfulRequest *request, const LiveServer *options)
{
	TimestampTz at = may_be_asked_at(request->sent_at,
									 options->request_timeout);

	/* At once, since no time makes the answer known. */
	if (options->in_doubt == IN_DOUBT_HOLD)
	{
		queue_leave_to_person(request,
							  psprintf("in doubt; server option in_doubt is \"hold\". Check whether the task exists, then call resolve_screenshot_task_request(%lld, TaskId), or with NULL if it does not.",
									   (long long) request->id));
		return true;
	}

	/*
	 * Also for "resend": the first copy could still arrive, and there would be
	 * two tasks.
	 */
	if (at > GetCurrentTimestamp())
	{
		queue_ask_later(request, at, NULL);
		return true;
	}
	/* A task that nobody wants any more has to be found, to be stopped. */
	if ((options->in_doubt == IN_DOUBT_RECONCILE || request->is_withdrawn) &&
		!MUTANT("sent-again-unasked"))
		return false;
	if (queue_send_again(request,
						 "was in doubt; resent because server option in_doubt is \"resend\"") ==
		STATUS_PENDING)
	{
		channel_has_work_from(channel_find(&request->channel), DT_NOBEGIN, 0);
		note(request, SENT_AGAIN, STATUS_PENDING, NULL);
	}
	return true;
}

/*
 * When a request can no longer arrive at the API and
 * screenshot_task.reconcile_grace has passed.
 */
static TimestampTz
may_be_asked_at(TimestampTz sent_at, int request_timeout)
{
	return sent_at +
		(request_timeout + screenshot_task_reconcile_grace) * INT64CONST(1000);
}

/*
 * Resolve the requests that a lookup was about, by what it found.
 */
void
resolve_doubt(Lookup *lookup)
{
	const DoubtfulRequest *request = &lookup->request;

	switch (lookup->state)
	{
		case LOOKUP_LISTED:
			resolve_listed(lookup);
			break;
		/* Nothing is known: this is no miss. */
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
				note(request, REFUSED, STATUS_IN_DOUBT, lookup->message);
			break;
		default:
			break;
	}
}

/*
 * Distribute the tasks that were found among the requests that are equal.
 */
static void
resolve_listed(Lookup *lookup)
{
	const DoubtfulRequest *request = &lookup->request;
	List	   *alike = queue_find_alike(request);
	List	   *unclaimed;
	bool		disputed = false;
	ListCell   *cell;

	/*
	 * The list is another account's, so that it says nothing of the request,
	 * which is looked up again.
	 */
	if (channel_account(lookup->job.channel) != lookup->account)
		return;
	/*
	 * The list may have that request's task, which would be taken for this
	 * one's.
	 */
	if (waits_for_another(request, lookup->account, alike))
		return;
	unclaimed = drop_claimed(lookup, &disputed);
	if (!request->has_start)
		unclaimed = leave_to_others(lookup, unclaimed, alike);
	/* A task that is wanted need not be stopped, and made again. */
	list_sort(alike, compare_wanted);
	foreach(cell, alike)
	{
		DoubtfulRequest *other = lfirst(cell);

		/*
		 * All equal requests share the tasks of one list.  One that was sent
		 * too late for it waits for its own.
		 */
		if (!requests_are_equal(request, other) ||
			channel_find(&other->channel) != lookup->job.channel || !other->is_due ||
			may_be_asked_at(other->sent_at, lookup->request_timeout) >
			lookup->asked_at)
			continue;
		/*
		 * Without a start, which tasks match depends on when the request was
		 * sent: the list was searched for this one alone.
		 */
		if (!request->has_start && other->id != request->id)
			continue;

		/*
		 * A row has the TaskId that was found, but perhaps of another
		 * account's task.  The one found may then be this request's, and to
		 * send it again could make a second.
		 */
		if (unclaimed == NIL && disputed)
			leave_disputed(other);
		else if (unclaimed == NIL)
			not_found(lookup, other);
		else
		{
			RequestStatus became =
				queue_adopt_task(other,
								 ((FoundTask *) linitial(unclaimed))->task_id);

			if (became != N_STATUSES)
				note(other, FOUND, became, NULL);

			/*
			 * Each task is one request's.  Which of several equal ones has it
			 * makes no difference.
			 */
			unclaimed = list_delete_first(unclaimed);
		}
	}
}

/*
 * The order in which equal requests have the tasks that there are.
 */
static int
compare_wanted(const ListCell *a, const ListCell *b)
{
	const DoubtfulRequest *one = lfirst(a);
	const DoubtfulRequest *other = lfirst(b);

	if (one->is_withdrawn != other->is_withdrawn)
		return one->is_withdrawn ? 1 : -1;
	return (one->id > other->id) - (one->id < other->id);
}

/*
 * Return the tasks that were found, each once, without those that a row of the
 * same account has.  Sets *disputed if a row that may or may not be of that
 * account has one of them.
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
		/* A list may have a task twice, on two pages. */
		taken = lappend(taken, id);
		unclaimed = lappend(unclaimed, task);
	}
	return unclaimed;
}

/*
 * Leave a request to a person: the task found may be another's.
 */
static void
leave_disputed(const DoubtfulRequest *request)
{
	if (queue_leave_to_person(request,
							  psprintf("in doubt; the task found may belong to another request, whose server or user mapping no longer exists. Check which of them has a task, then call resolve_screenshot_task_request(%lld, TaskId), or with NULL if this one has none.",
									   (long long) request->id)))
		note(request, DISPUTED, STATUS_IN_DOUBT, NULL);
}

/*
 * Is a request of the same account under way whose task may be taken for this
 * one's?  Then this one is asked about later.
 */
bool
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
 * Return the tasks that were found for a request without a start, without
 * those that a request in doubt with just that start should have.
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

/*
 * The list has no task for a request: ask once more, or send it again.
 */
static void
not_found(const Lookup *lookup, const DoubtfulRequest *request)
{
	RequestStatus became;

	/*
	 * A task may be listed late.  Only a second look, some time after the
	 * first, is trusted.
	 */
	if (request->misses == 0 && !MUTANT("sent-again-too-soon"))
	{
		queue_count_miss(request,
						 GetCurrentTimestamp() +
						 screenshot_task_reconcile_spacing * INT64CONST(1000));
		return;
	}
	became = queue_send_again(request, request->is_withdrawn ?
							  "was in doubt; withdrawn: no task found in two lookups" :
							  "was in doubt; resent: no task found in two lookups");
	if (became == N_STATUSES)
		return;
	if (became == STATUS_PENDING)
		channel_has_work_from(lookup->job.channel, DT_NOBEGIN, 0);
	note(request, NOT_FOUND, became, NULL);
}

/*
 * The transaction has committed: tell of what it resolved.
 */
void
resolutions_committed(void)
{
	ListCell   *cell;

	foreach(cell, resolutions)
		tell(lfirst(cell));
	resolutions_aborted();
}

/*
 * The transaction was aborted: forget what it resolved.
 */
void
resolutions_aborted(void)
{
	list_free_deep(resolutions);
	resolutions = NIL;
}

/*-------------------------------------------------------------------------
 *
 * scan.c
 *	  Scanning the table, when there is reason to
 *
 * A commit is one, and the time of a request that waits, and a sweep now and then.
 * A scan makes ready what may be sent, and finds the first request of each channel.
 * Where that takes long, since an old snapshot keeps thousands of dead rows before
 * these, channels go on from where they are meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "settings.h"
#include "shmem/activity.h"
#include "shmem/shared_state.h"
#include "table/request_queue.h"
#include "table/skip_list.h"
#include "worker/channel.h"
#include "worker/expiry.h"
#include "worker/reconcile.h"
#include "worker/removal.h"
#include "worker/status_change.h"
#include "worker/submission.h"
#include "worker/withdrawal.h"
#include "worker/worker_private.h"

/* Held requests are counted no further, of a kind */
#define MOST_HELD			1000

/* The most rows that one statement makes ready */
#define MAX_ROWS			1000

/*
 * Scans that follow each other take at most one part in so many of the time,
 * with pauses of at most so long: commits may come faster than each can be
 * looked at.
 */
#define SCAN_SHARE			40
#define MAX_SCAN_PAUSE		(5 * US_PER_MS)

/*
 * A search for the first ready request of each channel that takes longer than
 * this, and this for each channel, has walked over thousands of dead rows.
 * Such searches take one part in so many of the time; if there is reason to
 * think that they find something, one in fewer.
 */
#define LONG_SEARCH			US_PER_MS
#define LONG_SEARCH_OF_CHANNEL	50
#define SEARCH_SHARE		100
#define URGENT_SEARCH_SHARE	20

/* When to scan the table, and what for */
static struct
{
	bool		woken;			/* is there something new? */
	uint64		channels;		/* and of which channels? */
	MonotonicUs next_wakeup_at; /* when to ask again whether there is */
	MonotonicUs sweep_at;
	MonotonicUs swept_at;		/* that, when the transaction began */
	MonotonicUs due_at;			/* the next waiting request */
	List	   *doubtful;		/* of ChangedRequest: left by the worker before
								 * this one, in the transaction under way */

	/* the search for the first request of each channel */
	bool		search_is_due;
	MonotonicUs searched_at;	/* the last time */
	MonotonicUs search_time;	/* how long that took; 0: not long */
	uint64		known_channels; /* that a search had a chance to find */
}			scan = {
	.woken = true, .channels = ALL_CHANNELS, .due_at = MONOTONIC_NEVER,
	.search_is_due = true
};

static void sweep(int slot, MonotonicUs now);
static MonotonicUs next_due(MonotonicUs now);
static MonotonicUs next_search(void);
static void find_channels(void);
static void find_heads(void);
static void tell_of_held_requests(int slot, int n);
static TimestampTz after_grace(void);

/*
 * Take the worker's wake-up, if there is one, and scan the table then.  Unless it
 * is at once, one that comes soon after a scan is left for later.
 */
void
scan_take_wakeup(int slot, bool at_once)
{
	if ((at_once || scan.next_wakeup_at <= monotonic_now()) &&
		take_wake(slot, &scan.channels))
		scan.woken = true;
}

/*
 * When to take a wake-up that has come; never, if none has.
 */
MonotonicUs
scan_next_wakeup(int slot)
{
	return has_wake(slot) ? scan.next_wakeup_at : MONOTONIC_NEVER;
}

/*
 * Is there something new that is not scanned for yet?
 */
bool
scan_is_woken(void)
{
	return scan.woken;
}

/*
 * When to scan next, which may be now.
 */
MonotonicUs
scan_next_event(void)
{
	if (scan.woken)
		return 0;
	return sooner(Min(scan.sweep_at, scan.due_at),
				  sooner(skip_list_next_event(), next_search()));
}

/*
 * Scan no later than at the given time.
 */
void
scan_by(MonotonicUs at)
{
	scan.due_at = Min(scan.due_at, at);
}

/*
 * The settings have changed: the next sweep may be sooner now.
 */
void
scan_reloaded(void)
{
	scan.sweep_at = Min(scan.sweep_at, monotonic_now() +
						screenshot_task_sweep_interval * US_PER_SECOND);
	scan_anew();
}

/*
 * Note that there is no table.  It may come back while requests are under way.
 */
void
scan_gone_table(void)
{
	scan.woken = false;
	scan.due_at = MONOTONIC_NEVER;
	scan.sweep_at = monotonic_now() +
		screenshot_task_sweep_interval * US_PER_SECOND;
}

/*
 * Begin a transaction that may scan; scan_committed() or scan_aborted() must
 * follow.
 */
void
scan_begin(void)
{
	scan.doubtful = NIL;
	/* So that a sweep whose transaction fails is not counted as done. */
	scan.swept_at = scan.sweep_at;
}

/*
 * The transaction was aborted: scan once more, and sweep again if this one
 * did.
 */
void
scan_aborted(void)
{
	scan_anew();
	scan.sweep_at = scan.swept_at;
}

/*
 * See to the requests that the last worker was sending, within a transaction.
 * Returns how many there were.
 */
int
scan_orphans(void)
{
	return queue_orphans_to_doubt(after_grace(), &scan.doubtful);
}

/*
 * Have the table scanned again, from the first ready request of each channel
 * on.
 */
void
scan_anew(void)
{
	scan.woken = true;
	scan.channels = ALL_CHANNELS;
}

/*
 * Scan the table, if it is time to.
 */
void
scan_table(int slot)
{
	MonotonicUs now = monotonic_now();
	bool		was_told = scan.woken;
	bool		more = false;
	List	   *ready = NIL;
	ListCell   *cell;

	/*
	 * Once more in the transaction: the invalidations of whoever woke the
	 * worker have been received by now.
	 */
	check_catalog_change();
	check_database_change();
	if (skip_list_next_event() <= now)
	{
		skip_list_expire(now);
		scan_anew();
	}

	/*
	 * Nothing new: this transaction is for results, and a scan is not worth
	 * it.
	 */
	if (!scan.woken && scan.due_at > now && scan.sweep_at > now)
	{
		if (submission_scan_by() != MONOTONIC_NEVER || scan.search_is_due)
			find_channels();
		return;
	}
	activity_note_news();
	if (activity_count_is_cheap())
		count_requests();

	queue_left_orphans_to_doubt(after_grace(), &scan.doubtful);
	more = queue_has_orphans();

	if (scan.sweep_at <= now)
		sweep(slot, now);

	/*
	 * Before channels are searched, so that what becomes ready now is found at
	 * once.
	 */
	more |= queue_wake_waiting(MAX_ROWS, &ready) == MAX_ROWS;
	foreach(cell, ready)
	{
		const ReadyPosition *position = lfirst(cell);

		channel_has_work_from(channel_find(&position->channel),
							  position->start, position->id);
	}
	reconcile_scan();
	withdrawal_scan();
	find_channels();

	scan.due_at = next_due(now);
	scan.woken = more;

	/*
	 * Under a stream of commits the worker scans for a share of the time, and
	 * sends for the rest.
	 */
	scan.next_wakeup_at = monotonic_now() +
		Min((monotonic_now() - now) * (SCAN_SHARE - 1), MAX_SCAN_PAUSE);
	/* After a look of its own accord there is no reason to expect news. */
	if (was_told)
		put_off_wake(slot);
}

/*
 * See to what no commit tells of: rows that came in a dump, requests whose end
 * has passed, old ones.
 */
static void
sweep(int slot, MonotonicUs now)
{
	tell_of_held_requests(slot, queue_count_held());
	expiry_begin(true);
	removal_begin(false);
	withdrawal_sweep();
	scan.sweep_at = now + screenshot_task_sweep_interval * US_PER_SECOND;
}

/*
 * When the next waiting request is due, if the scan began at the given time;
 * never, if none waits.
 */
static MonotonicUs
next_due(MonotonicUs now)
{
	TimestampTz due = queue_next_due();

	if (TIMESTAMP_NOT_FINITE(due))
		return MONOTONIC_NEVER;

	/*
	 * The statement that makes due requests ready compared them with the same
	 * time, and left this one because somebody has locked it.
	 */
	if (due <= GetCurrentStatementStartTimestamp())
		return now + QUEUE_LOCKED_RETRY;

	/* The clock may have passed it since, so that it is due at once. */
	return now + Max(due - GetCurrentTimestamp(), 0);
}

/*
 * When to find the first request of each channel; never, if there is no reason.
 */
static MonotonicUs
next_search(void)
{
	MonotonicUs next = submission_scan_by();

	next = Max(next, scan.searched_at + scan.search_time * URGENT_SEARCH_SHARE);
	if (scan.search_is_due)
		next = Min(next, scan.searched_at + scan.search_time * SEARCH_SHARE);
	return next;
}

/*
 * See which channels have requests that may be sent: find the first of each, or,
 * if that took long the last time, have those go on from where they are that
 * commits tell of.
 */
static void
find_channels(void)
{
	dlist_iter	iter;

	scan.search_is_due = true;
	/* A channel that commits tell of for the first time may be a new one. */
	if (scan.search_time == 0 || next_search() <= monotonic_now() ||
		(scan.channels != ALL_CHANNELS && (scan.channels & ~scan.known_channels)))
		find_heads();
	else
	{
		dlist_foreach(iter, &channels)
		{
			Channel    *channel = dlist_container(Channel, node, iter.cur);

			if (channel->bit & scan.channels)
				channel_wake(channel);
		}
	}
	if (scan.channels != ALL_CHANNELS)
		scan.known_channels |= scan.channels;
	scan.channels = NO_CHANNELS;
}

/*
 * Find the first request of each channel.
 */
static void
find_heads(void)
{
	MonotonicUs began = monotonic_now();
	MonotonicUs enough = LONG_SEARCH;
	ListCell   *cell;
	dlist_iter	iter;

	foreach(cell, queue_find_channels())
	{
		const ReadyPosition *head = lfirst(cell);

		/*
		 * Until it is expired it heads the index, and each search finds it
		 * first.
		 */
		if (head->has_ended)
			expiry_begin(false);
		channel_has_head(channel_find(&head->channel), head->start, head->id);
	}
	dlist_foreach(iter, &channels)
		enough += LONG_SEARCH_OF_CHANNEL;
	submission_scanned();
	scan.search_is_due = false;
	scan.searched_at = monotonic_now();
	scan.search_time = scan.searched_at - began;
	if (scan.search_time <= enough)
		scan.search_time = 0;
}

/*
 * The transaction has committed: tell of the requests that it has put in
 * doubt.
 */
void
scan_committed(void)
{
	ListCell   *cell;

	foreach(cell, scan.doubtful)
	{
		ChangedRequest *request = lfirst(cell);

		status_changed(find_transition(STATUS_SENDING, STATUS_IN_DOUBT,
									   BY_WORKER),
					   NameStr(request->server), request->id, NULL,
					   QUEUE_ORPHAN_MESSAGE, NULL);
	}
	scan.doubtful = NIL;
}

/*
 * Log, once, that there are requests that came in a dump or a copy.
 */
static void
tell_of_held_requests(int slot, int n)
{
	/*
	 * The number before is in shared memory, so that a new worker does not say
	 * it again.
	 */
	if (note_held_requests(slot, n) > 0 || n == 0)
		return;
	ereport(WARNING,
			(n >= MOST_HELD ?
			 errmsg("%d or more screenshot task requests are held: they came in a dump or a copy of a database",
					n) :
			 errmsg_plural("%d screenshot task request is held: it came in a dump or a copy of a database",
						   "%d screenshot task requests are held: they came in a dump or a copy of a database",
						   n, n),
			 errdetail_plural("It is not sent because it may already have been carried out, by the original database or here.",
							  "They are not sent because they may already have been carried out, by the original database or here.",
							  n),
			 errhint_plural("Use adopt_screenshot_task_requests() to have it sent from this database.",
							"Use adopt_screenshot_task_requests() to have them sent from this database.",
							n)));
}

/*
 * When to ask about requests that another worker was sending.
 */
static TimestampTz
after_grace(void)
{
	return GetCurrentTimestamp() +
		screenshot_task_reconcile_grace * INT64CONST(1000);
}

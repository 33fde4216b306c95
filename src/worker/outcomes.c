/*-------------------------------------------------------------------------
 *
 * outcomes.c
 *	  Saving the outcomes of requests, and keeping those that cannot be
 *
 * An outcome stays in memory until it is on disk.  One that cannot be written,
 * since somebody has locked its row or a trigger refuses it, is skipped for a
 * while; see skip_list.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "compat.h"
#include "table/skip_list.h"
#include "worker/submission.h"
#include "worker/worker_private.h"

/* How long others wait for a worker that has some */
#define UNSAVED_PATIENCE		(60 * US_PER_SECOND)

/* Since when there are outcomes that could not be written; 0: there are none */
static MonotonicUs unsaved_since = 0;

static void log_unwritten(const FinishedRequest *outcome);

/*
 * How many outcomes are not saved.
 */
int
outcomes_count(void)
{
	int			n = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &outcomes)
		n++;
	return n;
}

/*
 * May more requests be sent, without too many outcomes that cannot be saved?
 */
bool
outcomes_have_room(void)
{
	return channels_unsaved() < MAX_UNSAVED;
}

/*
 * May this process end, to make room for another?  Not with outcomes that it
 * would forget, unless they could not be saved for a long time.
 */
bool
outcomes_may_be_left(MonotonicUs now)
{
	return dlist_is_empty(&outcomes) ||
		(unsaved_since != 0 && unsaved_since + UNSAVED_PATIENCE < now);
}

/*
 * Note that a transaction that should save outcomes has ended, in whatever
 * way.
 */
void
outcomes_tried(void)
{
	if (dlist_is_empty(&outcomes))
		unsaved_since = 0;
	else if (unsaved_since == 0)
		unsaved_since = monotonic_now();
}

/*
 * Save the outcomes in the table, within a transaction.
 */
void
outcomes_write(void)
{
	FinishedRequest **array;
	int			n = outcomes_count();
	dlist_iter	iter;
	ListCell   *cell;

	if (n == 0)
		return;
	array = palloc(n * sizeof(FinishedRequest *));
	n = 0;
	dlist_foreach(iter, &outcomes)
		array[n++] = &dlist_container(Request, node, iter.cur)->outcome;

	/*
	 * In the transaction, though the log cannot be undone: if it fails, the
	 * line comes once more, which is better than never.
	 */
	foreach(cell, queue_finish(array, n))
		log_unwritten(lfirst(cell));
}

/*
 * Log the outcome of a request whose row is gone.  Its task is not: this is
 * the last that is known of it.
 */
static void
log_unwritten(const FinishedRequest *outcome)
{
	if (outcome->task_id != NULL)
		ereport(LOG,
				(errmsg("screenshot task request %lld no longer exists, but its task was created",
						(long long) outcome->id),
				 errdetail("The TaskId is %s.", outcome->task_id),
				 errhint("Use stop_screenshot_task() to end the task.")));
	else
		ereport(LOG,
				(errmsg("screenshot task request %lld no longer exists; its status would be %s",
						(long long) outcome->id,
						status_name(outcome->status))));
}

/*
 * The transaction has committed: forget the outcomes that it saved.  Returns
 * when the soonest of the requests that wait is due, by their time in the
 * table; never, if none does.
 */
MonotonicUs
outcomes_written(void)
{
	MonotonicUs now = monotonic_now();
	TimestampTz wall = GetCurrentTimestamp();
	MonotonicUs soonest = MONOTONIC_NEVER;
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &outcomes)
	{
		Request    *request = dlist_container(Request, node, iter.cur);
		TimestampTz next = request->outcome.next_attempt_at;
		/* 1 if it is unsaved from now on, -1 if it no longer is. */
		int			more = request->outcome.kept - request->is_unsaved;

		request->is_unsaved = request->outcome.kept;
		channel_count_unsaved(request->job.channel, more);
		if (request->is_unsaved)
			continue;
		dlist_delete(iter.cur);
		if (next != 0)
			soonest = Min(soonest, now + Max(next - wall, 0));
		submission_written(request);
		MemoryContextDelete(request->context);
	}
	return soonest;
}

/*
 * Log the outcomes, since there is no table to save them in.
 */
void
outcomes_give_up(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &outcomes)
	{
		FinishedRequest *outcome =
			&dlist_container(Request, node, iter.cur)->outcome;

		log_unwritten(outcome);
		/* Nothing will be written; outcomes_written() forgets them. */
		outcome->kept = false;
	}
}

/*
 * Is there an outcome to save that is not passed over for now?
 */
bool
outcomes_to_write(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &outcomes)
	{
		if (!skip_list_has(dlist_container(Request, node,
										   iter.cur)->outcome.id))
			return true;
	}
	return false;
}

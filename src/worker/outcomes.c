/*-------------------------------------------------------------------------
 *
 * outcomes.c
 *	  Writing down what has become of requests, and keeping what cannot be
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
 * How many there are that are not on disk.
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
 * May more be sent, or are there too many that cannot be written?
 */
bool
outcomes_have_room(void)
{
	return channels_unsaved() < MAX_UNSAVED;
}

/*
 * May this process end, so that another may have its slot?  Not with outcomes that
 * it would forget, unless they could not be written for long.
 */
bool
outcomes_may_be_left(MonotonicUs now)
{
	return dlist_is_empty(&outcomes) ||
		(unsaved_since != 0 && unsaved_since + UNSAVED_PATIENCE < now);
}

/*
 * A transaction that was to write them has ended, in whatever way.
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
 * Write them to the table, within a transaction.
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
 * A request is no longer there to be written to.  Its task is: this is the
 * last that is known of it.
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
 * Outcomes are on disk, and are forgotten, but for those that are kept.  What is to
 * be looked at again later has its time in the table: returns the soonest, or
 * never.
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
 * There is no table to write outcomes to: the log has them.
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
 * Is there one that is not passed over for now?
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

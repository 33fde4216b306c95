/*-------------------------------------------------------------------------
 *
 * counting.c
 *	  Counting what is not finished, for others to see
 *
 * With each scan, where that is cheap; else when somebody asks for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "shmem/activity.h"
#include "shmem/shared_state.h"
#include "table/request_queue.h"
#include "worker/worker_private.h"

static MonotonicUs count_at = MONOTONIC_NEVER;

static void count(void *arg);

/*
 * See whether somebody has asked for a count.
 */
void
counting_check(int slot)
{
	/* Without news since the last count it would only be the same. */
	if (take_wanted_count(slot) && activity_is_uncounted())
		count_at = activity_count_at();
}

/*
 * When to count; never, if there is no reason to.
 */
MonotonicUs
counting_next_event(void)
{
	return count_at;
}

/*
 * Count what is not finished, for others to see, in a transaction of its own.
 */
void
counting_run(void)
{
	const char *error;

	count_at = MONOTONIC_NEVER;
	/* It is for information alone, and will be tried again. */
	if (queue_run("counting screenshot task requests", false, count, NULL,
				  &error) == QUEUE_FAILED)
		activity_note_error(error);
}

static void
count(void *arg)
{
	(void) arg;
	count_requests();
}

/*
 * Count the requests, in the transaction that is open, for the view
 * screenshot_task_worker.
 */
void
count_requests(void)
{
	MonotonicUs began = monotonic_now();
	QueueCounts counts;

	queue_count(&counts);
	activity_set_counts(counts.ready, counts.waiting, counts.in_doubt,
						counts.withdrawing, counts.oldest,
						monotonic_now() - began);
}

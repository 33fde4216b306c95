/*-------------------------------------------------------------------------
 *
 * expiry.c
 *	  Expiring requests that nobody sends before their end
 *
 * Each sweep begins a pass over all that are ready and have started, some
 * thousand rows at a time, each in a transaction of its own, with a rest between
 * them; so does a look at the table that finds one whose turn has come.  However
 * many there are, the requests to be sent do not wait for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "shmem/activity.h"
#include "table/request_queue.h"
#include "worker/expiry.h"
#include "worker/status_change.h"

/* The most rows that are looked at in one go, and how long others come first */
#define MAX_ROWS			1000
#define REST				(20 * US_PER_MS)

/* How long after a pass none begins but a sweep's */
#define LONG_REST			(5 * US_PER_SECOND)

/* The next try, after one that failed, and when the table is locked */
#define RETRY				US_PER_SECOND

/* The pass that is under way, or the last */
static struct
{
	MonotonicUs next_at;		/* the next rows; never: none is under way */
	MonotonicUs ended_at;		/* the last pass */
	ReadyPosition place;		/* of the last row that was looked at */
	bool		one_by_one;		/* has a transaction failed? */
}			pass = {.next_at = MONOTONIC_NEVER, .ended_at = -LONG_REST};

/* What a transaction has found */
typedef struct Expired
{
	int			n;				/* rows that were looked at */
	List	   *changed;		/* of ChangedRequest */
} Expired;

static void expire(void *arg);

/*
 * Begin a pass, if none is under way; and if not at once, none ended just now:
 * what it could not expire is locked, or a trigger refuses it.
 */
void
expiry_begin(bool at_once)
{
	if (pass.next_at != MONOTONIC_NEVER ||
		(!at_once && monotonic_now() < pass.ended_at + LONG_REST))
		return;
	memset(&pass.place, 0, sizeof(pass.place));
	pass.place.start = DT_NOBEGIN;
	pass.next_at = 0;
}

/*
 * When there next is something to do; never, if no pass is under way.
 */
MonotonicUs
expiry_next_event(void)
{
	return pass.next_at;
}

/*
 * Look at some rows, in a transaction, and expire those whose end has passed.
 *
 * An error is logged; after a second in a row the pass ends.  The current
 * memory context is for what is needed meanwhile.
 */
void
expiry_run(void)
{
	ReadyPosition before = pass.place;
	Expired		found = {0};
	const char *error;
	QueueState	state;

	pass.next_at = MONOTONIC_NEVER;
	state = queue_run("expiring screenshot task requests", pass.one_by_one,
					  expire, &found, &error);
	if (state == QUEUE_BUSY)
		pass.next_at = monotonic_now() + RETRY;
	/* Only what is committed is told of. */
	else if (state == QUEUE_OPEN)
	{
		ListCell   *cell;

		foreach(cell, found.changed)
			request_expired((ChangedRequest *) lfirst(cell));
	}
	else if (state == QUEUE_FAILED)
		activity_note_error(error);

	if (state == QUEUE_FAILED)
	{
		/* Once more from where it began, now row by row. */
		pass.place = before;
		if (!pass.one_by_one)
			pass.next_at = monotonic_now() + RETRY;
	}
	/*
	 * Fewer rows than were asked for mean that the end of the index was
	 * reached.
	 */
	else if (found.n == MAX_ROWS)
		pass.next_at = monotonic_now() + REST;
	pass.one_by_one = state == QUEUE_FAILED && !pass.one_by_one;
	if (pass.next_at == MONOTONIC_NEVER)
		pass.ended_at = monotonic_now();
}

/*
 * The same, in the transaction that is open.  "arg" is an Expired.
 */
static void
expire(void *arg)
{
	Expired    *found = arg;

	found->n = queue_expire(&pass.place, MAX_ROWS, &found->changed);
}

/*-------------------------------------------------------------------------
 *
 * removal.c
 *	  Removing finished requests that need not be kept any longer
 *
 * Each sweep begins a pass over the requests that are older than the setting
 * screenshot_task.retention allows, from the oldest on, in batches with a
 * pause between them.  A batch has a transaction of its own, and is of so many
 * as can be removed in little time: others refer to requests by foreign keys,
 * and put triggers on the table, and the requests to be sent must not wait for
 * what those do.  A lock is waited for no longer than that either.
 *
 * A batch that fails is tried again in parts, down to the requests that cannot
 * be removed, which are passed over.  The log says how many there were in a
 * pass, and the next one is an hour away then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "settings.h"
#include "shmem/activity.h"
#include "table/request_queue.h"
#include "util/subtransaction.h"
#include "util/text.h"
#include "worker/removal.h"

/* The most requests of a batch, and what it should take at the most */
#define MAX_BATCH			200
#define BATCH_TIME			(50 * US_PER_MS)
#define LOCK_TIMEOUT		"50ms"
#define DELETE_TIMEOUT		500 /* ms */

/* How long others come first, between batches; and after a pass in vain */
#define REST				(100 * US_PER_MS)
#define SHORT_REST			(10 * US_PER_MS)	/* after a small one */
#define REST_SHARE			10	/* times what the batch took, at the least */
#define LONG_REST			(3600 * US_PER_SECOND)

/* The pass that is under way, or the next */
static struct
{
	MonotonicUs next_at;		/* the next batch */
	MonotonicUs not_before;		/* the next pass */
	OldRequest	last;			/* that was removed, or passed over */
	int			batch;			/* as many as were removed in BATCH_TIME */
	int			n_left;			/* passed over */
	char		first_problem[256]; /* why, clipped */
}			pass = {.next_at = MONOTONIC_NEVER, .batch = MAX_BATCH};

/* Requests that have been chosen */
typedef struct Batch
{
	const int64 *ids;
	int			n;
} Batch;

static void remove_batch(void *arg);
static bool try_to_remove(const int64 *ids, int n);
static void remove_all(void *arg);
static void note_problem(const char *message);
static void end_pass(void);

/*
 * Begin a pass, if it is time to and none is under way, or if "again" says so.
 * With nothing to be removed, end the one that is.
 */
void
removal_begin(bool again)
{
	if (screenshot_task_retention < 0)
	{
		pass.next_at = MONOTONIC_NEVER;
		return;
	}

	/*
	 * After a pass that left rows, an hour of rest: what keeps them, such as a
	 * foreign key, rarely goes by itself.
	 */
	if (!again &&
		(pass.next_at != MONOTONIC_NEVER || pass.not_before > monotonic_now()))
		return;
	pass.last.over_at = DT_NOBEGIN;
	pass.last.id = 0;
	pass.n_left = 0;
	pass.not_before = 0;
	pass.next_at = 0;
}

/*
 * When there next is something to do; never, if no pass is under way.
 */
MonotonicUs
removal_next_event(void)
{
	return pass.next_at;
}

/*
 * Remove a batch, in a transaction.
 *
 * An error is logged, and ends the pass.  The current memory context is for
 * what is needed meanwhile.
 */
void
removal_run(void)
{
	MonotonicUs began = monotonic_now();
	const char *error;
	int			n = 0;

	/* If the table is locked, it is tried again after a rest, as after a batch. */
	switch (queue_run("removing old screenshot task requests", false,
					  remove_batch, &n, &error))
	{
		case QUEUE_BUSY:
			n = MAX_BATCH;
			break;
		case QUEUE_FAILED:
			n = 0;
			break;
		default:
			break;
	}

	/*
	 * The rest grows with what a batch took, so that removal uses a bounded
	 * share of the time.
	 */
	if (n > 0)
		pass.next_at = monotonic_now() + Max(n == MAX_BATCH ? REST : SHORT_REST,
										(monotonic_now() - began) * REST_SHARE);
	else
		end_pass();
}

/*
 * Remove a batch.  "arg" is an int, which becomes how many were found; 0 ends the
 * pass.
 */
static void
remove_batch(void *arg)
{
	MonotonicUs began = monotonic_now();
	OldRequest	before = pass.last;
	int64		ids[MAX_BATCH];
	int			n = queue_choose_old(screenshot_task_retention * INT64CONST(60),
									 &pass.last, pass.batch, ids);
	int			level = NewGUCNestLevel();
	bool		removed;

	/*
	 * Rows of other tables may be locked, which foreign keys check.  With
	 * PGC_S_OVERRIDE the setting would not go back to what it was.
	 */
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_SUSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);

	/*
	 * A foreign key without an index reads all of its table for each row that
	 * is removed.
	 */
	enable_timeout_after(STATEMENT_TIMEOUT, DELETE_TIMEOUT);
	removed = n == 0 || try_to_remove(ids, n);
	disable_timeout(STATEMENT_TIMEOUT, false);
	AtEOXact_GUC(false, level);

	/* Smaller and smaller, until the row that cannot be removed is alone. */
	if (!removed && n > 1)
	{
		pass.last = before;
		pass.batch = Max(n / 4, 1);
	}
	/* "last" is this row by now, so that the pass goes on behind it. */
	else if (!removed)
		pass.n_left++;
	else if (monotonic_now() - began > BATCH_TIME)
		pass.batch = Max(pass.batch / 2, 1);
	else
		pass.batch = Min(pass.batch * 2, MAX_BATCH);
	*(int *) arg = n;
}

/*
 * Remove requests, all or none, in a subtransaction.  Returns whether they are
 * removed.
 */
static bool
try_to_remove(const int64 *ids, int n)
{
	Batch		batch = {ids, n};
	ErrorData  *error = run_in_subtransaction(remove_all, &batch);

	if (error == NULL)
		return true;
	note_problem(error->message);
	FreeErrorData(error);
	return false;
}

/*
 * All or none, or it would not be known which row was left out.
 */
static void
remove_all(void *arg)
{
	Batch	   *batch = arg;

	if (queue_remove(batch->ids, batch->n) < batch->n)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				 errmsg("a trigger on screenshot_task_request suppressed the DELETE")));
}

/*
 * Remember why the first row of a pass could not be removed.
 */
static void
note_problem(const char *message)
{
	if (pass.n_left == 0)
		clip_text(pass.first_problem, message, sizeof(pass.first_problem));
}

/*
 * A pass is over: say in the log what it has left.
 */
static void
end_pass(void)
{
	pass.next_at = MONOTONIC_NEVER;
	if (pass.n_left == 0)
		return;
	pass.not_before = monotonic_now() + LONG_REST;
	ereport(LOG,
			(errmsg_plural("could not remove %d old screenshot task request",
						   "could not remove %d old screenshot task requests",
						   pass.n_left, pass.n_left),
			 errdetail_internal("%s", pass.first_problem),
			 errhint("Check the triggers on screenshot_task_request, and the foreign keys that reference it, which need an index on their columns.  Removal will be retried in an hour, or at a reload.")));
	activity_note_error(pass.first_problem);
}

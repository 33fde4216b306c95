/*-------------------------------------------------------------------------
 *
 * work.c
 *	  The worker's transactions on the table
 *
 * In one transaction the worker writes down the outcomes of requests, scans the table,
 * resolves doubt, and claims.
 *
 * A transaction that fails is logged, and tried again later and later.  One
 * row may be to blame for it: so after a failure rows are changed one by one,
 * and those that cannot be are passed over for a while; see skip_list.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "compat.h"
#include "shmem/activity.h"
#include "shmem/shared_state.h"
#include "shmem/statistics.h"
#include "table/request_queue.h"
#include "table/skip_list.h"
#include "util/backoff.h"
#include "util/crash_point.h"
#include "worker/dispatch.h"
#include "worker/reconcile.h"
#include "worker/submission.h"
#include "worker/withdrawal.h"
#include "worker/worker_private.h"

#define BUSY_RETRY			(100 * US_PER_MS)	/* the table is locked */

/* For how long it may be, before the worker is blocked; and when a worker that
 * is tries again, at the latest */
#define BLOCKED_AFTER		(5 * US_PER_SECOND)
#define BLOCKED_RETRY		(10 * US_PER_SECOND)

/* How its transactions go */
static struct
{
	bool		row_by_row;		/* has one failed? */
	bool		table_gone;		/* and the extension, as the last one saw */
	int			n_failed;		/* in succession */
	MonotonicUs busy_since;		/* the table is locked; 0: it is not */
	MonotonicUs not_before;		/* the next one */
}			transactions;

static MemoryContext cycle_context; /* reset before each transaction */

/* Steps of a transaction, a set of which it has */
enum
{
	WRITE_OUTCOMES = 1,
	SCAN = 2,
	BEGIN = 4					/* what is then waited for: requests, lookups */
};

/* One, and what is known of it once they are taken */
typedef struct Transaction
{
	int			slot;
	int			steps;
	List	   *claimed;		/* of ClaimedRequest */
	bool		has_results;	/* are outcomes written? */
	bool		has_withdrawals;	/* are any claimed, or written? */
	int			n_orphans;
} Transaction;

static void mark_orphans(void *arg);
static void note_transaction(QueueState state);
static void end_block(void);
static List *send_uncommitted(List *claimed);
static void take_steps(void *arg);
static QueueState run_transaction(int slot, int steps);

/*
 * Make the memory context of the loop.
 */
void
work_init(void)
{
	cycle_context = AllocSetContextCreate(TopMemoryContext,
										  "screenshot_task cycle",
										  ALLOCSET_DEFAULT_SIZES);
}

/*
 * Free what the last transaction, or whatever else of the loop, has left, and have
 * what is needed from now on allocated in its place.
 */
void
begin_cycle(void)
{
	MemoryContextReset(cycle_context);
	MemoryContextSwitchTo(cycle_context);
}

/*
 * The time before which no transaction is begun.
 */
MonotonicUs
work_not_before(void)
{
	return transactions.not_before;
}

/*
 * Try at once what failed: the reason may have gone.
 */
void
work_at_once(void)
{
	transactions.not_before = 0;
}

/*
 * Was there no table, the last time?
 */
bool
work_has_no_table(void)
{
	return transactions.table_gone;
}

/*
 * Put in doubt, in a transaction, the requests that the last worker was
 * sending.  Notes how the transaction ended, and returns the state of the
 * table.  *n becomes how many there were.
 */
QueueState
work_on_orphans(int *n)
{
	Transaction transaction = {0};
	const char *error;
	QueueState	state;

	begin_cycle();
	scan_begin();

	/*
	 * Row by row from the start: rows that cannot be changed must not keep the
	 * worker from starting.
	 */
	state = queue_run("looking for requests that were being sent", true,
					  mark_orphans, &transaction, &error);
	*n = transaction.n_orphans;
	if (state == QUEUE_GONE)
		return state;
	note_transaction(state);
	if (state == QUEUE_OPEN)
		scan_committed();
	else if (state == QUEUE_FAILED)
	{
		activity_note_error(error);
		/*
		 * Counted twice: this was row by row already, so that nothing is left
		 * to try before the worker counts as blocked.
		 */
		note_transaction(state);
	}
	return state;
}

static void
mark_orphans(void *arg)
{
	Transaction *transaction = arg;

	stat_know_servers();
	transaction->n_orphans = scan_orphans();
}

/*
 * Is there reason for a transaction?
 */
bool
work_is_due(MonotonicUs now, bool may_begin)
{
	if (transactions.not_before > now)
		return false;
	return outcomes_to_write() || scan_next_event() <= now ||
		(may_begin &&
		 (submission_may_claim(now) || reconcile_has_work(now) ||
		  withdrawal_next_event(now) <= now));
}

/*
 * Save outcomes, scan the table if there is reason to, and claim.
 */
void
work_on_table(int slot, bool may_begin)
{
	QueueState	state = QUEUE_OPEN;

	set_idle(slot, false);
	/*
	 * A transaction of its own, so that results which can be saved are,
	 * whatever fails in the rest.
	 */
	if (transactions.row_by_row && outcomes_to_write())
		state = run_transaction(slot, WRITE_OUTCOMES);
	if (state == QUEUE_OPEN || state == QUEUE_GONE)
		state = run_transaction(slot, (may_begin ? SCAN | BEGIN : SCAN) |
								 (transactions.row_by_row ? 0 : WRITE_OUTCOMES));
	note_transaction(state);
	outcomes_tried();
	/* A wait in a transaction may have taken a wake-up that was for the loop. */
	SetLatch(MyLatch);
}

/*
 * A transaction on the table has ended: see when the next may be tried, and how.
 * One that fails is tried again at once, row by row.  If that fails, too, it is
 * not a row's fault: the worker is blocked.
 */
static void
note_transaction(QueueState state)
{
	MonotonicUs now = monotonic_now();

	if (state != QUEUE_BUSY)
		transactions.busy_since = 0;
	switch (state)
	{
		case QUEUE_OPEN:
		case QUEUE_GONE:
			/* Row by row, some outcomes may be left over for want of time. */
			transactions.row_by_row &= outcomes_to_write();
			transactions.n_failed = 0;
			queue_forget_error();
			if (activity_is_blocked() && !transactions.table_gone)
				end_block();
			break;
		case QUEUE_FAILED:
			/*
			 * The next one tries row by row, which tells a row's fault from
			 * the table's.
			 */
			transactions.row_by_row = true;
			if (transactions.n_failed++ == 0)
				break;
			activity_set_blocked(true);
			transactions.not_before = now +
				Min(backoff_after(transactions.n_failed), BLOCKED_RETRY);
			break;
		case QUEUE_BUSY:
			activity_note_error("table screenshot_task_request is locked by another session; nothing is sent or saved until the lock is released");
			if (transactions.busy_since == 0)
				transactions.busy_since = now;

			/*
			 * VACUUM FULL of a small table, or a short ALTER, is nothing to
			 * report.
			 */
			if (now > transactions.busy_since + BLOCKED_AFTER)
				activity_set_blocked(true);
			transactions.not_before = now + BUSY_RETRY;
			break;
	}
}

/*
 * Note that transactions on the table succeed again.
 */
static void
end_block(void)
{
	activity_set_blocked(false);
	ereport(LOG,
			(errmsg("screenshot_task worker is no longer blocked")));
	skip_list_expire(MONOTONIC_NEVER);
	scan_anew();
}

/*
 * A mistake that tests must notice: requests leave before their claim is
 * committed.
 */
static List *
send_uncommitted(List *claimed)
{
	MonotonicUs until = monotonic_now() + US_PER_SECOND;

	submission_claimed(claimed);
	for (; monotonic_now() < until; dispatch_wait(until, 0))
		dispatch_start();
	return NIL;
}

/*
 * The steps of a transaction that is open.  "arg" is a Transaction.
 */
static void
take_steps(void *arg)
{
	Transaction *transaction = arg;
	int			steps = transaction->steps;
	MonotonicUs scan_again_at;

	if (steps & WRITE_OUTCOMES)
	{
		transaction->has_results = outcomes_count() > 0;
		outcomes_write();
	}
	/* Here, since it reads the catalog and a transaction is open. */
	if (take_server_change())
		stat_know_servers();
	if (steps & SCAN)
	{
		/* If no row at all can be changed, that is not the fault of each. */
		if (transactions.row_by_row)
			queue_probe();
		scan_table(transaction->slot);
	}
	/* The scan may have seen that the database is not served any more. */
	if ((steps & BEGIN) && database_is_served())
	{
		/*
		 * Before new requests are claimed, so that lookups have their share of
		 * what is free.
		 */
		reconcile_work();
		transaction->has_withdrawals = withdrawal_work();
		transaction->claimed = submission_claim(&scan_again_at);
		scan_by(scan_again_at);
	}
	if (transaction->claimed != NIL)
	{
		if (MUTANT("claim-uncommitted"))
			transaction->claimed = send_uncommitted(transaction->claimed);
		CRASH_POINT("claim-before-commit");
	}
	if (transaction->has_withdrawals)
		CRASH_POINT("withdrawal-before-commit");
	if (transaction->has_results)
		CRASH_POINT("result-before-commit");
}

/*
 * One transaction, with the given steps.
 *
 * If it failed, the error is logged and the outcomes are kept.
 */
static QueueState
run_transaction(int slot, int steps)
{
	Transaction transaction = {.slot = slot, .steps = steps};
	const char *error;
	QueueState	state;

	begin_cycle();
	scan_begin();
	state = queue_run("working on screenshot task requests",
					  transactions.row_by_row, take_steps, &transaction, &error);
	if (state == QUEUE_FAILED)
	{
		activity_note_error(error);
		if (steps & SCAN)
			scan_aborted();

		/*
		 * What was prepared in memory for the commit is undone as well: the
		 * rows are as they were.
		 */
		reconcile_aborted();
		withdrawal_aborted();
		submission_end_claim();
		return state;
	}
	if (state == QUEUE_BUSY)
		return state;
	if (transaction.claimed != NIL)
		CRASH_POINT("claim-after-commit");
	if (transaction.has_withdrawals)
		CRASH_POINT("withdrawal-after-commit");
	if (transaction.has_results)
		CRASH_POINT("result-after-commit");
	/* DROP EXTENSION does not wait for requests in flight. */
	transactions.table_gone = state == QUEUE_GONE;
	if (transactions.table_gone)
	{
		if (steps & WRITE_OUTCOMES)
			outcomes_give_up();
		scan_gone_table();
		transactions.not_before = monotonic_now() + BUSY_RETRY;
	}
	scan_committed();
	if (steps & WRITE_OUTCOMES)
		scan_by(outcomes_written());
	reconcile_committed();
	withdrawal_committed();

	/*
	 * Only after the commit: now the requests are "sending" on disk, and may
	 * be sent.
	 */
	submission_claimed(transaction.claimed);
	submission_end_claim();
	return state;
}

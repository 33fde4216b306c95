/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The process that sends a database's requests
 *
 * One loop around one wait.  In a short transaction the worker writes down
 * what has become of the requests that have ended, and claims as many new
 * ones as the account's limit lets through; it commits, signs them and sends
 * them.  No transaction is open while it waits.
 *
 * What is done to requests is in submission.c and reconcile.c; here is when.
 *
 * A claimed request is "sending" on disk before its first byte leaves.  It
 * stays so until its outcome is on disk; as long as that cannot be written,
 * the worker keeps it in memory.  A worker that ends loses that memory, so
 * the next one calls in doubt what it finds "sending".
 *
 * A transaction that fails is logged, and tried again later and later.  One
 * row may be to blame for it: so after a failure rows are changed one by one,
 * and those that cannot be are passed over for a while; see skip_list.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "settings.h"
#include "shmem/activity.h"
#include "shmem/shared_state.h"
#include "shmem/statistics.h"
#include "table/skip_list.h"
#include "table/request_queue.h"
#include "util/crash_point.h"
#include "worker/background_worker.h"
#include "worker/database.h"
#include "worker/dispatch.h"
#include "worker/expiry.h"
#include "worker/log_throttling.h"
#include "worker/channel.h"
#include "worker/reconcile.h"
#include "worker/removal.h"
#include "worker/renewal.h"
#include "worker/status_change.h"
#include "worker/submission.h"

/* The most requests under way, over all servers */
#define MAX_TRANSFERS		250

/* Held requests are counted no further, of a kind */
#define MOST_HELD			1000

/* The most rows that one statement makes ready */
#define MAX_ROWS			1000

/* The most outcomes that cannot be written before nothing more is sent */
#define MAX_UNSAVED			1000

/* How long others wait for a worker that has some */
#define UNSAVED_PATIENCE		(60 * US_PER_SECOND)

#define BUSY_RETRY			(100 * US_PER_MS)	/* the table is locked */

/* For how long it may be, before the worker is blocked; and when a worker that
 * is tries again, at the latest */
#define BLOCKED_AFTER		(5 * US_PER_SECOND)
#define BLOCKED_RETRY		(10 * US_PER_SECOND)

/*
 * Looks at the table that follow each other take at most one part in so many
 * of the time, up to a pause: commits may come faster than they can be looked
 * at, one by one.
 */
#define SCAN_SHARE			40
#define MAX_SCAN_PAUSE		(5 * US_PER_MS)

/*
 * To find the first ready request of each channel takes longer than this, and
 * this for each, if there are thousands of dead rows before them.  Such searches
 * take one part in so many of the time; if there is reason to think that they find
 * something, one in fewer.
 */
#define LONG_SEARCH			US_PER_MS
#define LONG_SEARCH_OF_CHANNEL	50
#define SEARCH_SHARE		100
#define URGENT_SEARCH_SHARE	20

/*
 * How soon a change of a server, a mapping or a role ends pauses again: any
 * role may change its own password as often as it likes.
 */
#define CHANGE_REST			(5 * US_PER_SECOND)

/* How long another worker waits for requests under way, at the most */
#define PATIENCE			(10 * US_PER_SECOND)

/* A worker that has something to do sooner than this is not idle */
#define IDLE_AFTER			US_PER_SECOND

PGDLLEXPORT void screenshot_task_worker_main(Datum database);

/* What a worker is */
static struct
{
	int			slot;			/* of its database, in shared memory */
	MemoryContext cycle_context;	/* reset before each transaction */
	bool		preempted;		/* is this process to end soon? */
	MonotonicUs give_up_at;		/* and does it then, whatever is in hand? */
	MonotonicUs count_at;		/* when to count the pending requests */
}			worker = {.give_up_at = MONOTONIC_NEVER, .count_at = MONOTONIC_NEVER};

/* How its transactions go */
static struct
{
	bool		row_by_row;		/* has one failed? */
	bool		table_gone;		/* and the extension, as the last one saw */
	int			n_failed;		/* in succession */
	MonotonicUs busy_since;		/* the table is locked; 0: it is not */
	MonotonicUs not_before;		/* the next one */
}			transactions;

/* Results that could not be written, among the outcomes */
static struct
{
	int			n;
	MonotonicUs since;			/* there are any; 0: there were none */
}			unsaved;

/* When to scan the table, and what for */
static struct
{
	bool		woken;			/* is there something new? */
	uint64		channels;		/* and of which channels? */
	MonotonicUs next_wakeup_at; /* when to ask again whether there is */
	MonotonicUs sweep_at;
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

/* What has changed in the catalogs */
static struct
{
	bool		any;			/* that may end pauses */
	bool		servers;		/* has one been made, or altered? */
	MonotonicUs check_at;		/* the next time that any has */
	bool		database;		/* may it be served still? */
	bool		is_served;		/* it was, at last sight */
}			changes = {.database = true, .is_served = true};

/* What became of a transaction */
typedef enum TransactionResult
{
	TRANSACTION_DONE,
	TRANSACTION_FAILED,
	TABLE_BUSY					/* it was not begun: the table is locked */
} TransactionResult;

static void fix_settings(void);
static void require_durable_commits(void);
static void on_catalog_change(Datum arg, int cache, uint32 hash);
static void on_database_change(Datum arg, int cache, uint32 hash);
static void reload(void);
static void begin_work(void);
static bool see_to_orphans(int *n);
static void wait_to_begin(void);
static TimestampTz after_grace(void);
static void leave_database(void);

static void do_what_can_wait(void);
static void count_aside(void);
static void count_requests(void);
static void tell_activity(void);
static void log_bursts_at_exit(int code, Datum arg);
static int	in_hand(void);
static void check_preemption(void);
static bool may_give_up_slot(void);
static bool has_database_work(MonotonicUs now);
static bool has_outcome_to_write(void);
static bool may_begin_more(void);
static bool may_send(MonotonicUs now);
static void work_on_database(void);
static void note_transaction(TransactionResult result);
static void end_block(void);
static List *send_uncommitted(List *claimed);
static TransactionResult run_transaction(dlist_head *finished, bool go_on);
static void give_up_outcomes(dlist_head *finished);
static void write_outcomes(dlist_head *finished);
static void log_unwritten(const FinishedRequest *outcome);
static void forget_requests(dlist_head *finished);
static void forget_request(Request *request);
static void check_catalog_change(void);
static void check_database_change(void);
static void scan_anew(void);
static void scan_table(void);
static MonotonicUs next_search(void);
static void find_channels(void);
static void find_heads(void);
static void tell_of_changed(void);
static void tell_of_held_requests(int n);

static MonotonicUs next_event(void);

void
screenshot_task_worker_main(Datum database)
{
	uint32		wait_event;

	worker_begin();
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);

	/*
	 * A cancel has nothing here to cancel, but could end the wait of a
	 * claim's commit for a synchronous standby.  The request would then be
	 * sent without the standby knowing.
	 */
	pqsignal(SIGINT, SIG_IGN);
	BackgroundWorkerUnblockSignals();

	worker.slot = announce_worker(DatumGetObjectId(database));
	if (worker.slot < 0)
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(database),
											  InvalidOid, 0);
	fix_settings();
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, on_catalog_change, (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGOID, on_catalog_change, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, on_catalog_change, (Datum) 0);
	CacheRegisterSyscacheCallback(DATABASEOID, on_database_change,
								  UInt32GetDatum(GetSysCacheHashValue1(DATABASEOID, database)));
	worker.cycle_context = AllocSetContextCreate(TopMemoryContext,
										  "screenshot_task cycle",
										  ALLOCSET_DEFAULT_SIZES);
	wait_event = WaitEventExtensionNew("ScreenshotTaskWorker");

	before_shmem_exit(log_bursts_at_exit, (Datum) 0);
	activity_start(worker.slot);
	(void) take_wake(worker.slot, &scan.channels);
	begin_work();
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (worker_must_leave(worker.slot))
			proc_exit(0);
		if (ConfigReloadPending)
			reload();
		if (scan.next_wakeup_at <= monotonic_now() && take_wake(worker.slot, &scan.channels))
			scan.woken = true;
		if (take_wanted_count(worker.slot) && activity_is_uncounted())
			worker.count_at = activity_count_at();
		check_catalog_change();
		check_database_change();
		check_preemption();
		if (has_database_work(monotonic_now()))
			work_on_database();
		if (worker.preempted && may_give_up_slot())
		{
			if (!changes.is_served)
				leave_database();
			worker.preempted = false;
			if (take_wake(worker.slot, &scan.channels))
				scan.woken = true;
			/* What is left unfinished is for the next worker, and soon. */
			give_up_slot(worker.slot, in_hand() == 0 ? next_event() : 0);
			proc_exit(0);
		}
		renew_credentials();

		/* Nothing leaves that a termination has come before. */
		CHECK_FOR_INTERRUPTS();
		dispatch_start();
		pgstat_report_stat(dispatch_jobs() == 0);
		log_throttling_flush(false);
		tell_activity();
		dispatch_wait(Min(next_event(), log_throttling_next_event()), wait_event);
		do_what_can_wait();
	}
}

/*
 * What requests to be sent need not wait for has transactions of its own, once
 * they are on their way.
 */
static void
do_what_can_wait(void)
{
	MonotonicUs now = monotonic_now();

	MemoryContextReset(worker.cycle_context);
	MemoryContextSwitchTo(worker.cycle_context);
	if (worker.count_at <= now)
		count_aside();
	if (!worker.preempted && expiry_next_event() <= now)
		expiry_run();
	if (!worker.preempted && removal_next_event() <= now)
		removal_run();
}

/*
 * Count what is not finished, for others to see, in a transaction of its own.
 */
static void
count_aside(void)
{
	worker.count_at = MONOTONIC_NEVER;
	PG_TRY();
	{
		if (queue_begin("counting screenshot task requests", false) == QUEUE_OPEN)
		{
			count_requests();
			queue_commit();
		}
	}
	PG_CATCH();
	{
		/* It was for information alone, and will be tried again. */
		activity_note_error(queue_abort());
	}
	PG_END_TRY();
}

/*
 * The same, in the transaction that is open.
 */
static void
count_requests(void)
{
	MonotonicUs began = monotonic_now();
	QueueCounts counts;

	queue_count(&counts);
	activity_set_counts(counts.ready, counts.waiting, counts.in_doubt,
						counts.oldest, monotonic_now() - began);
}

/*
 * Let others see what this process is doing.
 */
static void
tell_activity(void)
{
	bool		idle = in_hand() == 0 &&
		next_event() > monotonic_now() + IDLE_AFTER;
	StringInfoData pauses;

	set_idle(worker.slot, idle);
	MemoryContextSwitchTo(worker.cycle_context);
	initStringInfo(&pauses);
	activity_set_pauses(channels_describe_pauses(monotonic_now(), &pauses),
						pauses.data);
	pfree(pauses.data);
	activity_set_work(scan.woken || channels_have_work());
	activity_publish(worker.slot, !idle, in_hand());
}

static void
log_bursts_at_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
	log_throttling_flush(true);
}

/*
 * How much would be in doubt, or forgotten, if this process ended now: what is
 * under way, and outcomes that are not written down.
 */
static int
in_hand(void)
{
	int			n = dispatch_jobs();
	dlist_iter	iter;

	dlist_foreach(iter, &outcomes)
		n++;
	return n;
}

/*
 * See whether this process is to end: its database may not be served any more,
 * or another worker needs its slot.
 */
static void
check_preemption(void)
{
	worker.preempted = !changes.is_served || worker_preemption_requested(worker.slot);
	if (!worker.preempted)
		worker.give_up_at = MONOTONIC_NEVER;
	else if (worker.give_up_at == MONOTONIC_NEVER)
		worker.give_up_at = monotonic_now() + PATIENCE;
}

/*
 * May this process make room for another?  Not with something in hand, unless
 * others should not wait for that any longer: a request that is not answered,
 * which will be in doubt, or an outcome that cannot be written.
 */
static bool
may_give_up_slot(void)
{
	MonotonicUs now = monotonic_now();

	return (dlist_is_empty(&outcomes) ||
			(unsaved.since != 0 && unsaved.since + UNSAVED_PATIENCE < now)) &&
		(dispatch_jobs() == 0 || worker.give_up_at <= now);
}

/*
 * Make the settings that matter to the worker what it needs, whatever the
 * configuration, the database or the role says.
 */
static void
fix_settings(void)
{
	static const struct
	{
		const char *name;
		const char *value;
	}			settings[] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"session_replication_role", "origin"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"transaction_timeout", "0"},
		/* for triggers of the owner; see run_firing_triggers() */
		{"lock_timeout", "500ms"},
		{"idle_in_transaction_session_timeout", "0"},
		/* for triggers of the owner, on tables of others */
		{"row_security", "on"},
		/* an error is one of a statement, not the end of the worker */
		{"exit_on_error", "off"},
		/* an empty table's statistics would have it scanned when it is full */
		{"plan_cache_mode", "force_generic_plan"},
		{"enable_seqscan", "off"},
		{"enable_bitmapscan", "off"},
		{"enable_hashjoin", "off"},
		{"enable_mergejoin", "off"},
		{"jit", "off"},
	};

	for (int i = 0; i < (int) lengthof(settings); i++)
	{
		if (GetConfigOption(settings[i].name, true, false) != NULL)
			SetConfigOption(settings[i].name, settings[i].value,
							PGC_SUSET, PGC_S_OVERRIDE);
	}
	require_durable_commits();
}

/*
 * A claim must be on disk, and on a synchronous standby, to be one.
 */
static void
require_durable_commits(void)
{
	if (synchronous_commit < SYNCHRONOUS_COMMIT_ON &&
		!MUTANT("claim-unflushed"))
		SetConfigOption("synchronous_commit", "on", PGC_SUSET,
						PGC_S_OVERRIDE);
}

/*
 * A server, a user mapping or a role has changed.
 */
static void
on_catalog_change(Datum arg, int cache, uint32 hash)
{
	(void) arg;
	(void) hash;
	changes.any = true;
	changes.servers |= cache == FOREIGNSERVEROID;
}

/*
 * A database has changed.
 */
static void
on_database_change(Datum arg, int cache, uint32 hash)
{
	(void) cache;
	if (hash == 0 || hash == DatumGetUInt32(arg))
		changes.database = true;
}

static void
reload(void)
{
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	require_durable_commits();
	(void) channels_end_pauses();
	transactions.not_before = 0;
	/* It may be more often from now on. */
	scan.sweep_at = Min(scan.sweep_at, monotonic_now() +
				   screenshot_task_sweep_interval * US_PER_SECOND);
	skip_list_expire(MONOTONIC_NEVER);
	removal_begin(true);
	scan_anew();
}

/*
 * See whether the extension is here, and see to the requests that the last
 * worker was sending.
 */
static void
begin_work(void)
{
	int			n;

	MemoryContextSwitchTo(worker.cycle_context);
	if (!queue_exists())
		leave_database();
	/* The launcher need not wait for a lock that this one waits for. */
	confirm_extension(worker.slot);
	while (!see_to_orphans(&n))
	{
		activity_publish(worker.slot, true, 0);
		wait_to_begin();
	}
	tell_of_changed();
	MemoryContextReset(worker.cycle_context);

	if (n > 0)
		ereport(LOG,
				(errmsg_plural("%d screenshot task request is in doubt: worker exited while it was in flight",
							   "%d screenshot task requests are in doubt: worker exited while they were in flight",
							   n, n),
				 errhint("Check the rows of screenshot_task_request with status in_doubt.")));
	dispatch_init(MAX_TRANSFERS);
}

/*
 * Have requests be in doubt that the last worker was sending.  Returns false if
 * that is to be tried again; *n becomes how many there were.
 */
static bool
see_to_orphans(int *n)
{
	volatile QueueState state = QUEUE_BUSY;
	volatile bool failed = false;

	MemoryContextReset(worker.cycle_context);
	MemoryContextSwitchTo(worker.cycle_context);
	scan.doubtful = NIL;
	PG_TRY();
	{
		state = queue_begin("looking for requests that were being sent", true);
		if (state == QUEUE_OPEN)
		{
			stat_know_servers();
			*n = queue_orphans_to_doubt(after_grace(), &scan.doubtful);
			queue_commit();
		}
	}
	PG_CATCH();
	{
		activity_note_error(queue_abort());
		failed = true;
	}
	PG_END_TRY();

	if (state == QUEUE_GONE)
		leave_database();
	note_transaction(failed ? TRANSACTION_FAILED :
					 state == QUEUE_BUSY ? TABLE_BUSY : TRANSACTION_DONE);
	/* There is nothing to do row by row instead. */
	if (failed)
		note_transaction(TRANSACTION_FAILED);
	return !failed && state == QUEUE_OPEN;
}

/*
 * Wait until the next transaction may be tried.
 */
static void
wait_to_begin(void)
{
	while (transactions.not_before > monotonic_now())
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 monotonic_wait_ms(monotonic_now(), transactions.not_before),
						 WaitEventExtensionNew("ScreenshotTaskLocked"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (worker_must_leave(worker.slot) || worker_preemption_requested(worker.slot))
			proc_exit(0);
		if (ConfigReloadPending)
			reload();
	}
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

/*
 * The extension is not, or no longer, in this database; or the database may not
 * be served.
 */
static void
leave_database(void)
{
	set_no_extension(worker.slot);
	proc_exit(0);
}

/* ----------------------------------------------------------------- database
 */

/*
 * Is there reason for a transaction?
 */
static bool
has_database_work(MonotonicUs now)
{
	if (transactions.not_before > now)
		return false;
	return has_outcome_to_write() || scan.woken || scan.sweep_at <= now ||
		scan.due_at <= now || next_search() <= now ||
		skip_list_next_event() <= now || may_send(now);
}

/*
 * Is there one that is not passed over for now?
 */
static bool
has_outcome_to_write(void)
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

/*
 * May something be begun that is then waited for?
 */
static bool
may_begin_more(void)
{
	return unsaved.n < MAX_UNSAVED && !worker.preempted && changes.is_served;
}

static bool
may_send(MonotonicUs now)
{
	return may_begin_more() &&
		(submission_may_claim(now) || reconcile_has_work(now));
}

/*
 * Write down outcomes, look at the table if there is reason to, and claim.
 */
static void
work_on_database(void)
{
	dlist_head	none = DLIST_STATIC_INIT(none);
	TransactionResult result = TRANSACTION_DONE;

	set_idle(worker.slot, false);
	/* Outcomes need not wait for what else may have failed. */
	if (transactions.row_by_row && has_outcome_to_write())
		result = run_transaction(&outcomes, false);
	if (result == TRANSACTION_DONE)
		result = run_transaction(transactions.row_by_row ? &none : &outcomes, true);
	note_transaction(result);
	if (dlist_is_empty(&outcomes))
		unsaved.since = 0;
	else if (unsaved.since == 0)
		unsaved.since = monotonic_now();
	if (transactions.table_gone && in_hand() == 0)
		leave_database();
	/* A wait in a transaction may have taken a wake-up that was for the loop. */
	SetLatch(MyLatch);
}

/*
 * A transaction on the table has ended: see when the next may be tried, and how.
 * One that fails is tried again at once, row by row.  If that fails, too, it is
 * not a row's fault: the worker is blocked.
 */
static void
note_transaction(TransactionResult result)
{
	MonotonicUs now = monotonic_now();

	if (result != TABLE_BUSY)
		transactions.busy_since = 0;
	switch (result)
	{
		case TRANSACTION_DONE:
			/* There may have been no time for all of them. */
			transactions.row_by_row = transactions.row_by_row && has_outcome_to_write();
			transactions.n_failed = 0;
			queue_forget_error();
			if (activity_is_blocked() && !transactions.table_gone)
				end_block();
			break;
		case TRANSACTION_FAILED:
			transactions.row_by_row = true;
			if (transactions.n_failed++ == 0)
				break;
			activity_set_blocked(true);
			transactions.not_before = now + Min(submission_backoff(transactions.n_failed),
								   BLOCKED_RETRY);
			break;
		case TABLE_BUSY:
			activity_note_error("table screenshot_task_request is locked by another session; nothing is sent or saved until the lock is released");
			if (transactions.busy_since == 0)
				transactions.busy_since = now;
			if (now > transactions.busy_since + BLOCKED_AFTER)
				activity_set_blocked(true);
			transactions.not_before = now + BUSY_RETRY;
			break;
	}
}

/*
 * What kept the worker from its table is mended.
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
 * One transaction: write the outcomes given, which are forgotten once it has
 * committed, but for those that cannot be written; and if it is to go on, look
 * at the table, and claim.
 *
 * If it failed, the error is logged and the outcomes are kept.
 */
static TransactionResult
run_transaction(dlist_head *finished, bool go_on)
{
	List	   *volatile claimed = NIL;
	volatile QueueState state = QUEUE_OPEN;
	volatile bool failed = false;
	MonotonicUs swept_at = scan.sweep_at;
	MonotonicUs scan_again_at;

	MemoryContextReset(worker.cycle_context);
	MemoryContextSwitchTo(worker.cycle_context);
	scan.doubtful = NIL;
	PG_TRY();
	{
		state = queue_begin("working on screenshot task requests", transactions.row_by_row);
		if (state == QUEUE_OPEN)
		{
			write_outcomes(finished);
			if (changes.servers)
			{
				changes.servers = false;
				stat_know_servers();
			}
			if (go_on)
			{
				if (transactions.row_by_row)
					queue_probe();
				scan_table();
				if (may_begin_more())
				{
					reconcile_work();
					claimed = submission_claim(&scan_again_at);
					scan.due_at = Min(scan.due_at, scan_again_at);
				}
			}
			if (claimed != NIL)
			{
				if (MUTANT("claim-uncommitted"))
					claimed = send_uncommitted(claimed);
				CRASH_POINT("claim-before-commit");
			}
			if (!dlist_is_empty(finished))
				CRASH_POINT("result-before-commit");
			queue_commit();
			if (claimed != NIL)
				CRASH_POINT("claim-after-commit");
			if (!dlist_is_empty(finished))
				CRASH_POINT("result-after-commit");
		}
	}
	PG_CATCH();
	{
		activity_note_error(queue_abort());
		failed = true;
		claimed = NIL;
		if (go_on)
		{
			/* What this look has seen to is undone. */
			scan_anew();
			scan.sweep_at = swept_at;
		}
		reconcile_aborted();
		submission_end_claim();
	}
	PG_END_TRY();

	if (failed)
		return TRANSACTION_FAILED;
	if (state == QUEUE_BUSY)
		return TABLE_BUSY;
	transactions.table_gone = state == QUEUE_GONE;
	if (transactions.table_gone)
		give_up_outcomes(finished);
	tell_of_changed();
	forget_requests(finished);
	reconcile_committed();
	submission_claimed(claimed);
	submission_end_claim();
	return TRANSACTION_DONE;
}

/*
 * There is no table to write outcomes to: the log has them.
 */
static void
give_up_outcomes(dlist_head *finished)
{
	dlist_iter	iter;

	dlist_foreach(iter, finished)
	{
		FinishedRequest *outcome =
			&dlist_container(Request, node, iter.cur)->outcome;

		log_unwritten(outcome);
		outcome->kept = false;
	}
	scan.woken = false;
	scan.due_at = MONOTONIC_NEVER;
	/* The extension may come back while requests are under way. */
	scan.sweep_at = monotonic_now() +
		screenshot_task_sweep_interval * US_PER_SECOND;
	transactions.not_before = monotonic_now() + BUSY_RETRY;
}

/*
 * Write outcomes to the table.
 */
static void
write_outcomes(dlist_head *finished)
{
	FinishedRequest **array;
	int			n = 0;
	dlist_iter	iter;
	ListCell   *cell;

	dlist_foreach(iter, finished)
		n++;
	if (n == 0)
		return;
	array = palloc(n * sizeof(FinishedRequest *));
	n = 0;
	dlist_foreach(iter, finished)
		array[n++] = &dlist_container(Request, node, iter.cur)->outcome;

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
 * Outcomes are on disk, but for those that are kept.
 */
static void
forget_requests(dlist_head *finished)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, finished)
	{
		Request    *request = dlist_container(Request, node, iter.cur);
		int			more = request->outcome.kept - request->is_unsaved;

		request->is_unsaved = request->outcome.kept;
		unsaved.n += more;
		request->job.channel->server->n_unsaved += more;
		if (request->is_unsaved)
			continue;
		dlist_delete(iter.cur);
		forget_request(request);
	}
}

/*
 * An outcome is.  What is to be looked at again later has its time in the table;
 * remember the soonest.
 */
static void
forget_request(Request *request)
{
	TimestampTz next = request->outcome.next_attempt_at;

	if (next != 0)
		scan.due_at = Min(scan.due_at, monotonic_now() +
					 Max(next - GetCurrentTimestamp(), 0));
	submission_written(request);
	MemoryContextDelete(request->context);
}

/*
 * End pauses, if something has changed that may be a reason to.
 */
static void
check_catalog_change(void)
{
	MonotonicUs now = monotonic_now();

	if (!changes.any || changes.check_at > now)
		return;
	changes.any = false;
	changes.check_at = now + CHANGE_REST;
	if (channels_end_pauses())
		reconcile_scan();
}

/*
 * See whether this database may be served still, if it has changed.  In a
 * transaction or outside of one.
 */
static void
check_database_change(void)
{
	if (!changes.database)
		return;
	changes.database = false;
	changes.is_served = database_may_be_served(MyDatabaseId);
}

/*
 * Look at the table, from the first ready request on.
 */
static void
scan_anew(void)
{
	scan.woken = true;
	scan.channels = ALL_CHANNELS;
}

/*
 * See what is new in the table, if it is time to.
 */
static void
scan_table(void)
{
	MonotonicUs now = monotonic_now();
	bool		was_told = scan.woken;
	bool		more = false;
	List	   *ready = NIL;
	ListCell   *cell;
	TimestampTz due;
	TimestampTz wall;

	check_catalog_change();
	check_database_change();
	if (skip_list_next_event() <= now)
	{
		skip_list_expire(now);
		scan_anew();
	}
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
	{
		tell_of_held_requests(queue_count_held());
		expiry_begin(true);
		scan.sweep_at = now + screenshot_task_sweep_interval * US_PER_SECOND;
		removal_begin(false);
	}
	more |= queue_wake_waiting(MAX_ROWS, &ready) == MAX_ROWS;
	foreach(cell, ready)
	{
		const ReadyPosition *position = lfirst(cell);

		channel_has_work_from(channel_find(&position->channel),
							  position->start, position->id);
	}
	reconcile_scan();
	find_channels();

	due = queue_next_due();
	wall = GetCurrentTimestamp();
	if (TIMESTAMP_NOT_FINITE(due))
		scan.due_at = MONOTONIC_NEVER;
	else if (due > GetCurrentStatementStartTimestamp())
		scan.due_at = now + Max(due - wall, 0);
	else						/* it was not made ready: it is locked */
		scan.due_at = now + QUEUE_LOCKED_RETRY;
	scan.woken = more;
	scan.next_wakeup_at = monotonic_now() +
		Min((monotonic_now() - now) * (SCAN_SHARE - 1), MAX_SCAN_PAUSE);
	/* After a look of its own accord there is no reason to expect news. */
	if (was_told)
		put_off_wake(worker.slot);
}

/*
 * When to find the first request of each channel; never, if there is no reason.
 */
static MonotonicUs
next_search(void)
{
	MonotonicUs next = Max(submission_scan_by(),
						   scan.searched_at + scan.search_time * URGENT_SEARCH_SHARE);

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
 * Requests are in doubt, and stand so on disk.
 */
static void
tell_of_changed(void)
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
 * Say so, once, if there are requests that came in a dump or a copy.
 */
static void
tell_of_held_requests(int n)
{
	if (note_held_requests(worker.slot, n) > 0 || n == 0)
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
 * When to look up again, if nothing happens before.
 */
static MonotonicUs
next_event(void)
{
	MonotonicUs now = monotonic_now();
	MonotonicUs next = Min(Min(scan.sweep_at, scan.due_at),
						   Min(skip_list_next_event(), next_search()));

	/* Once that has passed, it is an outcome kept that is waited for. */
	if (worker.give_up_at > now)
		next = Min(next, worker.give_up_at);
	if (scan.woken || has_outcome_to_write())
		next = 0;
	if (has_wake(worker.slot))
		next = Min(next, scan.next_wakeup_at);
	if (changes.any)
		next = Min(next, changes.check_at);
	if (may_begin_more())
	{
		next = Min(next, reconcile_next_event(now));
		if (screenshot_task_enabled && dispatch_room() > 0)
			next = Min(next, channels_next_chance(now, dispatch_room()));
	}
	next = Max(next, transactions.not_before);
	next = Min(next, worker.count_at);
	if (!worker.preempted)
		next = Min(next, Min(expiry_next_event(), removal_next_event()));
	return next;
}

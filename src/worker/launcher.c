/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  The process that keeps a worker for each database
 *
 * Which databases have the extension is written in each of them alone.  So
 * when the launcher starts it starts a worker in every database, one after
 * the other; a worker that finds no extension says so and ends.  Afterwards
 * the launcher is told: by the commit of a CREATE EXTENSION, or of the first
 * request, in a database that has no worker.
 *
 * A worker that ends for another reason is started again, later and later.
 *
 * More databases than there are database slots are looked into little by little,
 * as others are found to need none.
 *
 * Where there are more such databases than slots for background workers, they
 * take turns: a worker that is idle, or else one that has had its turn, makes
 * room for the one that has been waiting longest.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "net/rate_limit.h"
#include "shmem/shared_state.h"
#include "util/monotonic.h"
#include "worker/background_worker.h"
#include "worker/database.h"
#include "worker/launcher.h"

/* A worker that ran this long was well: its next failure is a first one. */
#define WELL_AFTER			(60 * US_PER_SECOND)
#define MAX_BACKOFF			(60 * US_PER_SECOND)

/* Where slots are scarce, a worker that has work keeps its one this long. */
#define TURN				(10 * US_PER_SECOND)

/* One that was asked to make room, and has not by then, is held up. */
#define ASKED_FOR			(2 * US_PER_SECOND)

/* What the launcher remembers of the workers of a database slot */
typedef struct Attempt
{
	Oid			database;		/* that the following is about */
	BackgroundWorkerHandle *handle; /* NULL: none was started, or it ended */
	MonotonicUs started_at;		/* the last one; 0: none was */
	MonotonicUs not_before;		/* when one may be started again */
	int			failures;		/* in a row */
	bool		was_held;		/* was it made to leave? */
	MonotonicUs waiting_since;	/* for a worker to be started; 0: it is not */
	MonotonicUs asked_at;		/* when its worker was asked to make room */
} Attempt;

/* What it remembers */
static struct
{
	Attempt		attempts[MAX_DATABASES]; /* by the slot */
	MonotonicUs full_until;		/* no background worker slot may be free before */
	bool		full_was_logged;
	Oid			last_found;		/* databases have slots up to this one, by OID; */
	bool		all_are_found;	/* none after it, if there are more */
	bool		lack_was_logged;
}			launcher;

PGDLLEXPORT void screenshot_task_launcher_main(Datum arg);

static void find_more_databases(void);
static void find_databases(void);
static List *list_databases(void);
static MonotonicUs keep_workers(void);
static MonotonicUs worker_wanted_at(const Attempt *attempt,
									const DatabaseStatus *status);
static int	longest_waiting(bool one_is_looking);
static MonotonicUs make_room(int needed);
static void reap(Attempt *attempt, const DatabaseStatus *status);
static bool start(int slot, const DatabaseStatus *status);
static void give_up(int slot, Oid database);

/*
 * Have the postmaster start the launcher.  To be called as the library is
 * preloaded.
 */
void
launcher_register(void)
{
	BackgroundWorker worker = {0};

	/*
	 * pg_upgrade must find no other connections, and nothing may be sent by a
	 * cluster that is only being copied.
	 */
	if (IsBinaryUpgrade)
		return;

	snprintf(worker.bgw_name, BGW_MAXLEN, "screenshot_task launcher");
	snprintf(worker.bgw_type, BGW_MAXLEN, "screenshot_task launcher");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	/* Never on a standby: only where requests can be written to. */
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;

	/*
	 * A worker is started again by the launcher, the launcher by the
	 * postmaster.
	 */
	worker.bgw_restart_time = 5;
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "screenshot_task");
	snprintf(worker.bgw_function_name, BGW_MAXLEN,
			 "screenshot_task_launcher_main");
	RegisterBackgroundWorker(&worker);
}

/*
 * Main function of the launcher.
 */
void
screenshot_task_launcher_main(Datum arg)
{
	uint32		wait_event;

	(void) arg;
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	/*
	 * Without a database it can read the shared catalogs, which is all that it
	 * needs.
	 */
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	announce_launcher();

	/*
	 * After a fail-over the former primary may have sent just now; the limits
	 * count as used up for a second.
	 */
	rate_recovery_ended(shared_rate_table());
	wait_event = WaitEventExtensionNew("ScreenshotTaskLauncher");

	for (;;)
	{
		MonotonicUs next;
		long		timeout;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			launcher.full_was_logged = false;
		}

		find_more_databases();
		next = keep_workers();
		timeout = monotonic_wait_ms(monotonic_now(), next);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH |
						 (timeout >= 0 ? WL_TIMEOUT : 0),
						 timeout, wait_event);
		ResetLatch(MyLatch);
	}
}

/*
 * If there are databases without a slot, and slots are free now, look for them.
 */
static void
find_more_databases(void)
{
	int			n_free;
	int			n_unknown;

	if (launcher.all_are_found && !database_slot_was_refused())
		return;
	count_database_slots(&n_free, &n_unknown);
	if (n_free > 0)
		find_databases();
	else if (n_unknown == 0 && !launcher.lack_was_logged && !database_slot_was_refused())
	{
		log_lack_of_database_slots();
		launcher.lack_was_logged = true;
	}
}

/*
 * Give every database that may have the extension a slot: all those that come
 * after the last one found, as long as there are slots.
 */
static void
find_databases(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *databases;
	ListCell   *cell;

	/*
	 * A database that is refused from now on is found by another search, after
	 * this one.
	 */
	if (launcher.last_found == InvalidOid)
		forget_refused_database_slots();
	StartTransactionCommand();
	databases = list_databases();
	launcher.all_are_found = true;
	foreach(cell, databases)
	{
		/*
		 * By OID, so that an interrupted search goes on where it stopped,
		 * whatever was created or dropped meanwhile.
		 */
		if (lfirst_oid(cell) <= launcher.last_found)
			continue;
		launcher.all_are_found = give_database_slot(lfirst_oid(cell));
		if (!launcher.all_are_found)
			break;
		launcher.last_found = lfirst_oid(cell);
	}
	if (launcher.all_are_found)
	{
		launcher.last_found = InvalidOid;
		launcher.lack_was_logged = false;
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	/* At once: the next transaction may be days away. */
	pgstat_report_stat(true);
}

/*
 * The databases that may have the extension, by OID.
 */
static List *
list_databases(void)
{
	Relation	catalog;
	TableScanDesc scan;
	HeapTuple	tuple;
	List	   *databases = NIL;

	/*
	 * Not used itself.  It sets the horizon up to which reading a page may
	 * prune it, as in autovacuum's get_database_list().
	 */
	(void) GetTransactionSnapshot();
	catalog = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(catalog, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (can_be_served(database))
			databases = lappend_oid(databases, database->oid);
	}
	table_endscan(scan);
	table_close(catalog, AccessShareLock);
	list_sort(databases, list_oid_cmp);
	return databases;
}

/*
 * Start the workers that are missing, as far as they may be started: those
 * first that have been waiting longest.
 *
 * Of the workers that have not found out yet whether their database has the
 * extension only one runs at a time, so that a cluster of many databases does
 * not take up all the slots of background workers to learn that.
 *
 * Returns when to look again if nothing happens before.
 */
static MonotonicUs
keep_workers(void)
{
	MonotonicUs now = monotonic_now();
	MonotonicUs next = MONOTONIC_NEVER;
	bool		one_is_looking = false;
	int			n_waiting = 0;	/* that are known to have the extension */
	bool		one_is_to_look = false;
	int 		slot;

	for (slot = 0; slot < MAX_DATABASES; slot++)
	{
		DatabaseStatus status;
		Attempt    *attempt = &launcher.attempts[slot];
		MonotonicUs wanted_at;

		read_database(slot, &status);

		/*
		 * Remembered, since the hold may be over by the time at which its end
		 * is noticed: a worker that made room for a command has not failed.
		 */
		attempt->was_held |= status.held && attempt->handle != NULL;
		reap(attempt, &status);
		if (attempt->handle != NULL && !status.has_extension)
			one_is_looking = true;

		/*
		 * The slot is another database's now, which starts without failures.
		 */
		if (attempt->database != status.database && attempt->handle == NULL)
		{
			memset(attempt, 0, sizeof(*attempt));
			attempt->database = status.database;
		}

		wanted_at = worker_wanted_at(attempt, &status);
		if (wanted_at > now)
		{
			attempt->waiting_since = 0;
			next = Min(next, wanted_at);
			continue;
		}
		if (attempt->waiting_since == 0)
			attempt->waiting_since = now;
		if (status.has_extension)
			n_waiting++;
		else
			one_is_to_look = true;
	}

	/* In a second pass, when it is known who has been waiting longest. */
	while (launcher.full_until <= now &&
		   (slot = longest_waiting(one_is_looking)) >= 0)
	{
		DatabaseStatus status;

		read_database(slot, &status);
		if (!start(slot, &status))
			continue;
		launcher.attempts[slot].waiting_since = 0;
		if (status.has_extension)
			n_waiting--;
		else
			one_is_looking = true;
	}
	if (launcher.full_until > now)
	{
		/*
		 * One more is enough for all whose extension is not known: they are
		 * looked into one at a time.
		 */
		if (one_is_to_look && !one_is_looking)
			n_waiting++;
		next = sooner(next, sooner(launcher.full_until, make_room(n_waiting)));
	}
	return next;
}

/*
 * When a database slot needs a worker to be started; never, if it does not.
 */
static MonotonicUs
worker_wanted_at(const Attempt *attempt, const DatabaseStatus *status)
{
	if (!OidIsValid(status->database) || status->worker_pid != 0 ||
		attempt->handle != NULL || status->held ||
		(status->no_extension && !status->woken))
		return MONOTONIC_NEVER;
	/* Nothing is new there; next_look is when its next request is due. */
	if (status->preempted && !status->woken)
		return Max(attempt->not_before, status->next_look);
	return attempt->not_before;
}

/*
 * The database slot that has been waiting longest for a worker that may be started
 * now; -1 if there is none.
 */
static int
longest_waiting(bool one_is_looking)
{
	int			longest = -1;

	for (int slot = 0; slot < MAX_DATABASES; slot++)
	{
		DatabaseStatus status;

		if (launcher.attempts[slot].waiting_since == 0 ||
			(longest >= 0 && launcher.attempts[slot].waiting_since >=
			 launcher.attempts[longest].waiting_since))
			continue;
		read_database(slot, &status);
		if (status.has_extension || !one_is_looking)
			longest = slot;
	}
	return longest;
}

/*
 * There are more databases than slots: have as many workers give up theirs as
 * are needed, first those that are idle, then those that have had theirs for
 * longest, and for a turn at least.
 *
 * Returns when to look again.
 */
static MonotonicUs
make_room(int needed)
{
	MonotonicUs now = monotonic_now();

	for (int slot = 0; slot < MAX_DATABASES; slot++)
	{
		DatabaseStatus status;

		read_database(slot, &status);

		/*
		 * Some were asked already, and are about to make room.  One that does
		 * not, since it waits for a lock, no longer counts after a while.
		 */
		if (status.worker_pid != 0 && status.preempt &&
			launcher.attempts[slot].asked_at + ASKED_FOR > now)
			needed--;
	}
	for (; needed > 0; needed--)
	{
		int			first = -1;
		bool		first_is_idle = false;

		for (int slot = 0; slot < MAX_DATABASES; slot++)
		{
			const Attempt *attempt = &launcher.attempts[slot];
			DatabaseStatus status;

			/*
			 * Not from attempts[]: the worker may have been started by an
			 * earlier launcher.
			 */
			read_database(slot, &status);
			if (status.worker_pid == 0 || !status.has_extension || status.preempt ||
				(!status.idle && attempt->started_at + TURN > now))
				continue;
			if (first < 0 || (status.idle && !first_is_idle) ||
				(status.idle == first_is_idle &&
				 attempt->started_at < launcher.attempts[first].started_at))
			{
				first = slot;
				first_is_idle = status.idle;
			}
		}
		if (first < 0)
			break;
		request_preemption(first);
		launcher.attempts[first].asked_at = now;
	}
	return now + US_PER_SECOND;
}

/*
 * See whether the worker of a database slot has ended, and when another may be
 * started.
 */
static void
reap(Attempt *attempt, const DatabaseStatus *status)
{
	MonotonicUs now = monotonic_now();
	pid_t		pid;

	if (attempt->handle == NULL ||
		GetBackgroundWorkerPid(attempt->handle, &pid) != BGWH_STOPPED)
		return;

	pfree(attempt->handle);
	attempt->handle = NULL;
	/* Its slot is free now. */
	launcher.full_until = 0;
	/* All of these end for a good reason, and may be started again at once. */
	if (status->no_extension || status->held || status->preempted ||
		attempt->was_held)
	{
		attempt->was_held = false;
		attempt->failures = 0;
		attempt->not_before = 0;
		return;
	}
	if (now - attempt->started_at > WELL_AFTER)
		attempt->failures = 0;

	/*
	 * Doubling: a worker that dies as it starts must not keep the postmaster
	 * forking.
	 */
	attempt->not_before = now +
		Min(US_PER_SECOND << Min(attempt->failures, 6), MAX_BACKOFF);
	attempt->failures++;
}

/*
 * Start a worker.  Returns whether one is starting.
 */
static bool
start(int slot, const DatabaseStatus *status)
{
	Attempt    *attempt = &launcher.attempts[slot];
	MonotonicUs now = monotonic_now();

	/*
	 * Asked before each start: a worker in a database that was dropped or
	 * closed would die, again and again.
	 */
	if (!database_may_be_served(status->database))
	{
		give_up(slot, status->database);
		attempt->waiting_since = 0;
		return false;
	}
	attempt->started_at = now;
	if (worker_start(status->database, &attempt->handle))
		return true;

	launcher.full_until = now + 5 * US_PER_SECOND;
	if (!launcher.full_was_logged)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start a screenshot_task worker: all background worker slots are in use"),
				 errdetail("The database with OID %u is waiting for a slot.  Workers will be scheduled in turn.",
						   status->database),
				 errhint("Raise \"max_worker_processes\".")));
	launcher.full_was_logged = true;
	return false;
}

/*
 * Have no worker started in a database that cannot be served until it is
 * altered.  Until then commits of sessions that are still connected to it wake
 * nobody.
 */
static void
give_up(int slot, Oid database)
{
	uint64		channels = NO_CHANNELS;

	/* Taken, so that only what comes later wakes the launcher for it. */
	(void) take_wake(slot, &channels);
	put_off_wake(slot);
	set_no_extension(slot);
	/* It may have been altered before its wake was taken. */
	if (database_may_be_served(database))
		wake_for_altered_database(slot);
	/* Another database may have its database slot. */
	SetLatch(MyLatch);
}

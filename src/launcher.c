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
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "launcher.h"
#include "monotonic.h"
#include "shared_state.h"
#include "worker.h"

/* A worker that ran this long was well: its next failure is a first one. */
#define WELL_AFTER			(60 * US_PER_SECOND)
#define MAX_BACKOFF			(60 * US_PER_SECOND)

/* What the launcher knows of a place in shared memory */
typedef struct Attempt
{
	Oid			database;		/* that the following is about */
	BackgroundWorkerHandle *handle; /* NULL: none was started, or it ended */
	MonotonicUs started_at;
	MonotonicUs not_before;		/* when one may be started again */
	int			failures;		/* in a row */
	bool		was_held;		/* was it made to leave? */
} Attempt;

static Attempt attempts[MAX_DATABASES];
static bool full_was_logged = false;

PGDLLEXPORT void screenshot_task_launcher_main(Datum arg);

static void find_databases(void);
static MonotonicUs keep_workers(void);
static void reap(Attempt *attempt, const DatabaseStatus *status);
static bool start(int place, const DatabaseStatus *status);
static bool may_be_served(Oid database);

/*
 * Have the postmaster start the launcher.  To be called as the library is
 * preloaded.
 */
void
launcher_register(void)
{
	BackgroundWorker worker = {0};

	if (IsBinaryUpgrade)
		return;

	snprintf(worker.bgw_name, BGW_MAXLEN, "screenshot_task launcher");
	snprintf(worker.bgw_type, BGW_MAXLEN, "screenshot_task launcher");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	/* Never on a standby: only where requests can be written to. */
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "screenshot_task");
	snprintf(worker.bgw_function_name, BGW_MAXLEN,
			 "screenshot_task_launcher_main");
	RegisterBackgroundWorker(&worker);
}

void
screenshot_task_launcher_main(Datum arg)
{
	uint32		wait_event;

	(void) arg;
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	announce_launcher();
	wait_event = WaitEventExtensionNew("ScreenshotTaskLauncher");

	find_databases();
	for (;;)
	{
		MonotonicUs next;
		long		timeout;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			full_was_logged = false;
		}

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
 * Give every database that may have the extension a place.
 */
static void
find_databases(void)
{
	Relation	catalog;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	catalog = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(catalog, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (database->datallowconn && !database->datistemplate)
			(void) database_place(database->oid);
	}
	table_endscan(scan);
	table_close(catalog, AccessShareLock);
	CommitTransactionCommand();
	pgstat_report_stat(true);
}

/*
 * Start the workers that are missing, as far as they may be started.
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
	MonotonicUs next = MONOTONIC_NEVER;
	MonotonicUs now = monotonic_now();
	bool		one_is_looking = false;

	for (int place = 0; place < MAX_DATABASES; place++)
	{
		DatabaseStatus status;

		read_database(place, &status);
		attempts[place].was_held |= status.held && attempts[place].handle != NULL;
		reap(&attempts[place], &status);
		if (attempts[place].handle != NULL && !status.confirmed)
			one_is_looking = true;
	}
	for (int place = 0; place < MAX_DATABASES; place++)
	{
		DatabaseStatus status;
		Attempt    *attempt = &attempts[place];

		read_database(place, &status);
		if (attempt->database != status.database && attempt->handle == NULL)
		{
			memset(attempt, 0, sizeof(*attempt));
			attempt->database = status.database;
		}
		if (!OidIsValid(status.database) || status.worker_pid != 0 ||
			attempt->handle != NULL || status.held ||
			(status.unwanted && !status.woken))
			continue;
		if (attempt->not_before > now)
			next = Min(next, attempt->not_before);
		else if (!one_is_looking)
		{
			if (start(place, &status))
				one_is_looking = true;
			else
				next = Min(next, Max(attempt->not_before, now));
		}
	}
	return next;
}

/*
 * See whether the worker of a place has ended.
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
	if (status->unwanted || status->held || attempt->was_held)
	{
		attempt->was_held = false;
		attempt->failures = 0;
		attempt->not_before = 0;
		return;
	}
	if (now - attempt->started_at > WELL_AFTER)
		attempt->failures = 0;
	attempt->not_before = now +
		Min(US_PER_SECOND << Min(attempt->failures, 6), MAX_BACKOFF);
	attempt->failures++;
}

/*
 * Start a worker.  Returns whether one is starting.
 */
static bool
start(int place, const DatabaseStatus *status)
{
	Attempt    *attempt = &attempts[place];
	MonotonicUs now = monotonic_now();

	if (!may_be_served(status->database))
	{
		(void) take_wake(place);
		set_unwanted(place);
		return false;
	}
	attempt->started_at = now;
	if (worker_start(status->database, &attempt->handle))
	{
		full_was_logged = false;
		return true;
	}

	attempt->not_before = now + 5 * US_PER_SECOND;
	if (!full_was_logged)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("screenshot_task could not start a worker: all slots for background workers are taken"),
				 errdetail("Requests in the database of OID %u wait until one is free.",
						   status->database),
				 errhint("Raise \"max_worker_processes\".")));
	full_was_logged = true;
	return false;
}

/*
 * Is there still such a database, and one that a worker may connect to?  A
 * worker in a template would be in the way of its copies.
 */
static bool
may_be_served(Oid database)
{
	HeapTuple	tuple;
	bool		result = false;

	StartTransactionCommand();
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		result = form->datallowconn && !form->datistemplate;
		ReleaseSysCache(tuple);
	}
	CommitTransactionCommand();
	return result;
}

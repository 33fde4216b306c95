/*-------------------------------------------------------------------------
 *
 * background_worker.c
 *	  A worker as a background process: starting one, and being one
 *
 * Apart from worker.c, so that the launcher and what SQL calls need not know
 * what a worker does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"

#include "worker/background_worker.h"

static bool is_worker = false;	/* is this process one? */

/*
 * Have the postmaster start the worker of a database.  Returns false if there
 * is no free slot for one; else *handle is palloc'd.
 */
bool
worker_start(Oid database, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {0};

	snprintf(worker.bgw_name, BGW_MAXLEN, "screenshot_task worker");
	snprintf(worker.bgw_type, BGW_MAXLEN, "screenshot_task worker");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	/* The launcher starts it again: it knows when. */
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "screenshot_task");
	snprintf(worker.bgw_function_name, BGW_MAXLEN,
			 "screenshot_task_worker_main");
	worker.bgw_main_arg = ObjectIdGetDatum(database);

	/*
	 * The postmaster signals the launcher when the worker has started or
	 * ended.
	 */
	worker.bgw_notify_pid = MyProcPid;
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

/*
 * Note that this process is a worker.
 */
void
worker_begin(void)
{
	is_worker = true;
}

/*
 * Is this process a worker of the extension's?
 */
bool
worker_is_me(void)
{
	return is_worker;
}

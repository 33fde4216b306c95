/*-------------------------------------------------------------------------
 *
 * wait.c
 *	  Waiting for what becomes of a request
 *
 * A session that waits sleeps on a condition variable of its database, which
 * is broadcast by every commit that may have changed a request: the worker's,
 * and those that cancel, retry or resolve one.  In between it looks at the
 * request with a snapshot of the moment, whatever the isolation level of its
 * transaction, and holds none while it sleeps.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "request_queue.h"
#include "shared_state.h"
#include "steer.h"

/* A request as it is now */
typedef struct Sight
{
	HeapTupleHeader row;		/* in the caller's memory */
	Oid			role;			/* whose it is; InvalidOid: of one that is gone */
	bool		is_over;		/* does nothing become of it by itself? */
	bool		is_mine;		/* made or changed by this transaction */
	bool		is_held;
} Sight;

static MonotonicUs read_deadline(FunctionCallInfo fcinfo);
static bool look(const char *statement, int64 id, Oid owner, Sight *sight);
static void read_sight(HeapTuple tuple, TupleDesc desc, MemoryContext context,
					   Sight *sight);
static void refuse_hopeless(int64 id, const Sight *sight);

PG_FUNCTION_INFO_V1(wait_for_screenshot_task);

/*
 * wait_for_screenshot_task(request_id, timeout) returns the request once
 * nothing more becomes of it by itself, or as it is when the time is over
 */
Datum
wait_for_screenshot_task(PG_FUNCTION_ARGS)
{
	static uint32 wait_event = 0;
	Oid			schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	Oid			owner;
	MonotonicUs deadline;
	const char *statement;
	int64		id;
	int			place;
	Sight		sight = {0};

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("request_id must not be null")));
	id = PG_GETARG_INT64(0);
	deadline = read_deadline(fcinfo);
	require_shared_state();
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot wait for a screenshot task during recovery"),
				 errhint("Wait for it on the primary.")));
	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("ScreenshotTaskResult");

	(void) find_request_table(schema, &owner);
	/* One in doubt that is left to a person has no next attempt. */
	statement = psprintf("SELECT t, t.xmin, " REQUEST_ROLE ","
						 " t.status::pg_catalog.text OPERATOR(pg_catalog.=) ANY ('{created,failed,expired,cancelled}'::pg_catalog.text[])"
						 " OR t.status::pg_catalog.text OPERATOR(pg_catalog.=) 'in_doubt' AND t.next_attempt_at IS NULL,"
						 " t.origin OPERATOR(pg_catalog.<>) $2"
						 " FROM %s.screenshot_task_request AS t"
						 " WHERE t.id OPERATOR(pg_catalog.=) $1",
						 quote_identifier(get_namespace_name(schema)));
	place = database_place(MyDatabaseId);
	if (place < 0)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("screenshot_task serves no more than %d databases of a cluster",
						MAX_DATABASES)));

	ConditionVariablePrepareToSleep(news_of(place));
	for (;;)
	{
		MonotonicUs now;
		long		left;

		if (!look(statement, id, owner, &sight))
			no_such_request(id);
		if (sight.is_over)
			break;
		refuse_hopeless(id, &sight);
		now = monotonic_now();
		if (now >= deadline)
			break;
		left = monotonic_wait_ms(now, deadline);
		(void) ConditionVariableTimedSleep(news_of(place), left, wait_event);
	}
	ConditionVariableCancelSleep();

	if (IsolationUsesXactSnapshot())
		ereport(NOTICE,
				(errmsg("screenshot task request %lld is returned as it is now",
						(long long) id),
				 errdetail("The transaction is REPEATABLE READ or SERIALIZABLE: its queries still see the request as it was when it began.")));
	PG_RETURN_HEAPTUPLEHEADER(sight.row);
}

/*
 * When the second argument says that the time is over.
 */
static MonotonicUs
read_deadline(FunctionCallInfo fcinfo)
{
	/* longer than anybody waits, shorter than what a sleep can take */
	const double most = 24 * 24 * 3600.0;
	double		seconds;
	Interval   *timeout;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("timeout must not be null")));
	timeout = PG_GETARG_INTERVAL_P(1);
	seconds = (double) timeout->time / USECS_PER_SEC +
		(timeout->day + timeout->month * (double) DAYS_PER_MONTH) * SECS_PER_DAY;
	if (seconds < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must not be negative")));
	return monotonic_now() + (MonotonicUs) (Min(seconds, most) * US_PER_SECOND);
}

/*
 * Look at a request as it is now, as the owner of the table.  Returns false if
 * there is none, or none that the caller may know of.
 */
static bool
look(const char *statement, int64 id, Oid owner, Sight *sight)
{
	Oid			argtypes[2] = {INT8OID, INT8OID};
	Datum		args[2] = {
		Int64GetDatum(id),
		Int64GetDatum(request_origin())
	};
	MemoryContext context = CurrentMemoryContext;
	Oid			caller;
	int			security_context;
	int			guc_level;
	bool		found;

	GetUserIdAndSecContext(&caller, &security_context);
	guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	SetUserIdAndSecContext(owner, security_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION |
						   SECURITY_NOFORCE_RLS);
	/* What an earlier command of this transaction did is to be seen. */
	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	SPI_execute_with_args(statement, lengthof(args), argtypes, args, NULL,
						  true, 1);
	found = SPI_processed > 0;
	if (found)
		read_sight(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, context,
				   sight);
	SPI_finish();
	PopActiveSnapshot();
	AtEOXact_GUC(false, guc_level);
	SetUserIdAndSecContext(caller, security_context);
	return found && may_steer(caller, owner, sight->role);
}

static void
read_sight(HeapTuple tuple, TupleDesc desc, MemoryContext context,
		   Sight *sight)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	bool		isnull;

	if (sight->row != NULL)
		pfree(sight->row);
	sight->row = DatumGetHeapTupleHeaderCopy(SPI_getbinval(tuple, desc, 1,
														   &isnull));
	sight->is_mine =
		TransactionIdIsCurrentTransactionId(DatumGetTransactionId(SPI_getbinval(tuple, desc, 2, &isnull)));
	sight->role = DatumGetObjectId(SPI_getbinval(tuple, desc, 3, &isnull));
	if (isnull)
		sight->role = InvalidOid;
	sight->is_over = DatumGetBool(SPI_getbinval(tuple, desc, 4, &isnull));
	sight->is_held = DatumGetBool(SPI_getbinval(tuple, desc, 5, &isnull));
	MemoryContextSwitchTo(old);
}

/*
 * Raise an error if waiting will not help.
 */
static void
refuse_hopeless(int64 id, const Sight *sight)
{
	if (sight->is_mine)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot wait for screenshot task request %lld in the transaction that made or changed it",
						(long long) id),
				 errdetail("It is sent once this transaction has committed."),
				 errhint("Commit, and wait for it in the next transaction.")));
	if (sight->is_held)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot wait for screenshot task request %lld: it came in a dump or a copy of a database",
						(long long) id),
				 errdetail("It is held, and not sent."),
				 errhint("adopt_screenshot_task_requests() makes it one of this database.")));
}

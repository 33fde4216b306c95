/*-------------------------------------------------------------------------
 *
 * wait.c
 *	  Waiting for what becomes of a request
 *
 * A session that waits sleeps on a condition variable of its database, which
 * is broadcast by every commit that changed requests: the worker's, and those
 * of whoever cancels, retries, resolves or removes some.  In between it looks
 * at the request with a snapshot of the moment, whatever the isolation level
 * of its transaction.
 *
 * While it sleeps it holds neither that snapshot nor a lock on the table,
 * which others may need, and what is waited for most of all: so the row is
 * read straight from the table, as a catalog would be.  The statement that
 * called has a snapshot of its own, which PostgreSQL holds until it ends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "shmem/shared_state.h"
#include "sql/admin_functions.h"
#include "sql/wake.h"
#include "table/request_queue.h"
#include "table/request_table.h"
#include "util/monotonic.h"

/* A request as it is now */
typedef struct Sight
{
	Datum		row;			/* in the caller's memory */
	Oid			role;			/* whose it is; InvalidOid: of one that is gone */
	bool		is_over;		/* does nothing become of it by itself? */
	bool		is_mine;		/* made or changed by this transaction */
	bool		is_held;
} Sight;

static MonotonicUs read_deadline(FunctionCallInfo fcinfo);
static bool look(int64 id, Sight *sight);
static Oid	find_index(Relation relation);
static void read_sight(HeapTuple tuple, TupleDesc desc, Sight *sight);
static void refuse_hopeless(int64 id, const Sight *sight);

PG_FUNCTION_INFO_V1(wait_for_screenshot_task);
PG_FUNCTION_INFO_V1(screenshot_task_request_news);

/*
 * wait_for_screenshot_task(request_id, timeout) returns the request once
 * nothing more becomes of it by itself, or as it is when the time is over
 */
Datum
wait_for_screenshot_task(PG_FUNCTION_ARGS)
{
	static uint32 wait_event = 0;
	MonotonicUs deadline;
	int64		id;
	int 		slot;
	Sight		sight = {0};

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("request_id must not be null")));
	id = PG_GETARG_INT64(0);
	deadline = read_deadline(fcinfo);
	/* Without a worker nothing would ever become of the request. */
	require_shared_state();
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot wait for a screenshot task during recovery"),
				 errhint("Connect to the primary server instead.")));
	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("ScreenshotTaskResult");

	/*
	 * The first wait may come before the first worker has found this database.
	 */
	slot = find_or_make_database_slot(MyDatabaseId);
	if (slot < 0)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("cannot serve more than %d databases of a cluster",
						MAX_DATABASES)));

	/*
	 * Before the first look, so that a commit between a look and the sleep
	 * ends the sleep.
	 */
	ConditionVariablePrepareToSleep(news_of(slot));
	for (;;)
	{
		MonotonicUs now;

		if (!look(id, &sight))
			no_such_request(id);
		if (sight.is_over)
			break;
		refuse_hopeless(id, &sight);
		now = monotonic_now();
		if (now >= deadline)
			break;

		/*
		 * Serves interrupts; an error raised in it ends the sleep, as any end
		 * of a transaction does.
		 */
		(void) ConditionVariableTimedSleep(news_of(slot),
										   monotonic_wait_ms(now, deadline),
										   wait_event);
	}
	ConditionVariableCancelSleep();

	if (IsolationUsesXactSnapshot())
		ereport(NOTICE,
				(errmsg("screenshot task request %lld is returned in its current state",
						(long long) id),
				 errdetail("The transaction is REPEATABLE READ or SERIALIZABLE: its queries still see the request as it was when it began.")));
	PG_RETURN_DATUM(sight.row);
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
	/* A month counts 30 days, as for interval comparison. */
	seconds = (double) timeout->time / USECS_PER_SEC +
		(timeout->day + timeout->month * (double) DAYS_PER_MONTH) * SECS_PER_DAY;
	if (seconds < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must not be negative")));
	return monotonic_now() + (MonotonicUs) (Min(seconds, most) * US_PER_SECOND);
}

/*
 * Look at a request as it is now.  Returns false if there is none, or none
 * that the caller may know of.
 */
static bool
look(int64 id, Sight *sight)
{
	Relation	relation = request_table_open(AccessShareLock);
	Oid			owner = relation->rd_rel->relowner;
	Oid			index;
	Snapshot	snapshot;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	bool		found;

	/* So that what earlier commands of this transaction did is seen. */
	CommandCounterIncrement();

	/*
	 * Not the transaction's, which REPEATABLE READ keeps from the first query
	 * on.
	 */
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyInit(&key, Anum_request_id, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(id));
	index = find_index(relation);
	scan = systable_beginscan(relation, index, OidIsValid(index), snapshot, 1,
							  &key);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
		read_sight(tuple, RelationGetDescr(relation), sight);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);

	/*
	 * Released, unlike elsewhere: the wait may be long, and ALTER TABLE must
	 * not wait for it.
	 */
	table_close(relation, AccessShareLock);
	/* In C, as this scan knows no row-level security. */
	return found && may_administer(GetUserId(), owner, sight->role);
}

/*
 * The index by which to find an id: that of the primary key, unless the owner
 * has made it another one.
 */
static Oid
find_index(Relation relation)
{
	Oid			result = InvalidOid;
	Relation	index;

	/* It is known once the indexes are. */
	list_free(RelationGetIndexList(relation));
	if (!OidIsValid(relation->rd_pkindex))
		return InvalidOid;
	index = index_open(relation->rd_pkindex, AccessShareLock);
	if (index->rd_index->indnkeyatts == 1 &&
		index->rd_index->indkey.values[0] == Anum_request_id)
		result = RelationGetRelid(index);
	index_close(index, AccessShareLock);
	return result;
}

/*
 * Read a row into *sight.
 */
static void
read_sight(HeapTuple tuple, TupleDesc desc, Sight *sight)
{
	bool		isnull;
	bool		has_next_attempt;
	int64		origin;
	Datum		value;
	RequestStatus status;

	/* The copy of the turn before, lest a long wait pile them up. */
	if (DatumGetPointer(sight->row) != NULL)
		pfree(DatumGetPointer(sight->row));

	/*
	 * A copy, since the tuple is in a buffer that is unpinned at the end of
	 * the scan; out-of-line values are fetched by it.
	 */
	sight->row = heap_copy_tuple_as_datum(tuple, desc);

	(void) heap_getattr(tuple, Anum_request_next_attempt_at, desc, &isnull);
	has_next_attempt = !isnull;
	value = heap_getattr(tuple, Anum_request_status, desc, &isnull);
	status = status_of_name(isnull ? NULL :
							DatumGetCString(DirectFunctionCall1(enum_out, value)));
	/* One in doubt that is left to a person has no next attempt. */
	sight->is_over = !status_is_unfinished(status) ||
		(status == STATUS_IN_DOUBT && !has_next_attempt);

	/*
	 * The worker sees nothing of such a version before the commit, which cannot
	 * come while this function waits.
	 */
	sight->is_mine =
		TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));

	origin = DatumGetInt64(heap_getattr(tuple, Anum_request_origin, desc,
										&isnull));
	sight->is_held = isnull || origin != request_origin();
	/* See REQUEST_ROLE. */
	if (isnull || origin == ORIGIN_RESTORED)
	{
		value = heap_getattr(tuple, Anum_request_requested_by, desc, &isnull);
		sight->role = isnull ? InvalidOid :
			get_role_oid(NameStr(*DatumGetName(value)), true);
	}
	else
	{
		value = heap_getattr(tuple, Anum_request_role, desc, &isnull);
		sight->role = isnull ||
			GetUserNameFromId(DatumGetObjectId(value), true) == NULL ?
			InvalidOid : DatumGetObjectId(value);
	}
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
				 errdetail("It will be sent once this transaction has committed."),
				 errhint("Commit, and wait for it in the next transaction.")));
	if (sight->is_held)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot wait for screenshot task request %lld: it is held",
						(long long) id),
				 errdetail("It came in a dump or a copy of a database, and is not sent."),
				 errhint("Use adopt_screenshot_task_requests() to have it sent from this database.")));
}

/*
 * AFTER UPDATE OR DELETE OR TRUNCATE on screenshot_task_request: wake those who
 * wait, at commit.
 */
Datum
screenshot_task_request_news(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("screenshot_task_request_news must be called as a trigger")));
	tell_news_at_commit();
	return PointerGetDatum(NULL);
}

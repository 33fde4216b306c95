/*-------------------------------------------------------------------------
 *
 * upkeep.c
 *	  Requests that wait, expire, are removed, or are counted
 *
 * What is done to the table from time to time, apart from sending: requests
 * whose time has come are made ready, those whose end has passed expire, and
 * old ones are removed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "table/skip_list.h"
#include "table/request_queue.h"
#include "table/request_queue_private.h"
#include "util/statement.h"

static const Statement choose_waiting = {
	"SELECT id FROM %1$s"
	" WHERE origin = $1 AND status = " SQL_PENDING " AND id <> ALL ($2)"
	" AND next_attempt_at <= " NOW
	" ORDER BY next_attempt_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED",
	3, {INT8OID, INT8ARRAYOID, INT4OID}, false
};

static const Statement wake_statement = {
	"UPDATE %1$s SET next_attempt_at = NULL"
	BY_ID(SQL_PENDING)
	" RETURNING id, " KEPT("next_attempt_at IS NULL") ","
	" server, role, COALESCE(start_time, requested_at)",
	1, {INT8ARRAYOID}, false
};

static const Statement next_due_statement = {
	"SELECT next_attempt_at FROM %1$s"
	" WHERE origin = $1 AND status = " SQL_PENDING " AND id <> ALL ($2)"
	" AND next_attempt_at IS NOT NULL"
	" ORDER BY next_attempt_at LIMIT 1",
	2, {INT8OID, INT8ARRAYOID}, false
};

static const Statement walk_statement = {
	"SELECT id, server, role, COALESCE(start_time, requested_at),"
	" end_time <= $6"
	" FROM %1$s"
	" WHERE origin = $1 AND status = " SQL_PENDING " AND next_attempt_at IS NULL"
	" AND server IS NOT NULL"
	" AND (" READY_ORDER ") > ($2, $3, $4, $5)"
	" ORDER BY " READY_ORDER " LIMIT $7",
	7, {INT8OID, NAMEOID, OIDOID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID,
	INT4OID}, false
};

static const Statement choose_expired = {
	"SELECT id FROM %1$s"
	" WHERE origin = $1 AND id <> ALL ($2) AND id = ANY ($3)"
	" AND pg_catalog.enum_eq(status, " SQL_PENDING "::%2$s)"
	" AND next_attempt_at IS NULL AND end_time <= $4"
	" FOR NO KEY UPDATE SKIP LOCKED",
	4, {INT8OID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID}, false
};

static const Statement expire_statement = {
	"UPDATE %1$s SET status = " SQL_EXPIRED ","
	" finished_at = pg_catalog.clock_timestamp(), error_message = $2"
	BY_ID(SQL_PENDING)
	" RETURNING id, " KEPT("status = " SQL_EXPIRED) ", server,"
	" reference, status, task_id",
	2, {INT8ARRAYOID, TEXTOID}, false
};

/*
 * A run of that index, from behind what was removed before.  A task may have
 * been found long after its end.
 */
#define LONG_AGO	NOW " - interval '1 s' * $3"

static const Statement choose_old = {
	"SELECT id, " OVER_AT " FROM %1$s"
	" WHERE finished_at < " LONG_AGO " AND " FINISHED
	" AND (" OVER_AT ", id) > ($1, $2)"
	" AND " OVER_AT " < " LONG_AGO
	" ORDER BY " OVER_AT ", id LIMIT $4 FOR UPDATE SKIP LOCKED",
	4, {TIMESTAMPTZOID, INT8OID, FLOAT8OID, INT4OID}, false
};

static const Statement remove_statement = {
	"DELETE FROM %1$s WHERE id = ANY ($1) AND " FINISHED,
	1, {INT8ARRAYOID}, false
};

/* Made elsewhere, and not finished; a few steps of indexes */
#define HELD(condition) \
	"(SELECT FROM %1$s WHERE " condition " AND origin < $1 LIMIT 1000)" \
	" UNION ALL " \
	"(SELECT FROM %1$s WHERE " condition " AND origin > $1 LIMIT 1000)"

static const Statement held_statement = {
	"SELECT pg_catalog.count(*) FROM ("
	HELD("status = " SQL_PENDING " AND next_attempt_at IS NULL") " UNION ALL "
	HELD("status = " SQL_PENDING " AND next_attempt_at IS NOT NULL") " UNION ALL "
	HELD("status = " SQL_SENDING) " UNION ALL "
	HELD("status = " SQL_IN_DOUBT) " UNION ALL "
	HELD("status = " SQL_WITHDRAWING) ") AS held",
	1, {INT8OID}, false
};

static const Statement count_statement = {
	"SELECT pg_catalog.count(*), pg_catalog.min(requested_at),"
	" (SELECT pg_catalog.count(*) FROM %1$s"
	"  WHERE origin = $1 AND status = " SQL_PENDING
	"  AND next_attempt_at IS NOT NULL),"
	" (SELECT pg_catalog.count(*) FROM %1$s"
	"  WHERE origin = $1 AND status = " SQL_IN_DOUBT "),"
	" (SELECT pg_catalog.count(*) FROM %1$s"
	"  WHERE origin = $1 AND status = " SQL_WITHDRAWING ")"
	" FROM %1$s"
	" WHERE origin = $1 AND status = " SQL_PENDING " AND next_attempt_at IS NULL",
	1, {INT8OID}, false
};

static void take_woken(int n, void *arg);
static void take_expired(int n, void *arg);

/*
 * Make ready at most so many requests whose time has come.  Returns how many
 * were found, and adds their places to *ready, a list of ReadyPosition.
 */
int
queue_wake_waiting(int most, List **ready)
{
	Datum		args[3];
	int			n;
	int64	   *ids;

	args[2] = Int32GetDatum(most);
	ids = choose_rows(&choose_waiting, args, &n);
	change_rows(&wake_statement, ids, n, args, NULL, take_woken, ready);
	return n;
}

/*
 * RowsTaker: add the rows to the List that "arg" points to.
 */
static void
take_woken(int n, void *arg)
{
	List	  **ready = arg;
	MemoryContext old = MemoryContextSwitchTo(queue_transaction.caller_context);

	for (int i = 0; i < n; i++)
	{
		ReadyPosition *position = palloc(sizeof(ReadyPosition));

		position->id = spi_int8(i, 1);
		position->channel.server = spi_name(i, 3);
		position->channel.role = spi_oid(i, 4);
		position->start = spi_timestamptz(i, 5);
		position->has_ended = false;
		*ready = lappend(*ready, position);
	}
	MemoryContextSwitchTo(old);
}

/*
 * When the next of the waiting requests is due; DT_NOEND if none waits.
 */
TimestampTz
queue_next_due(void)
{
	Datum		args[2] = {
		Int64GetDatum(request_origin()),
		skip_list_array()
	};

	return select_time(&next_due_statement, args);
}

/*
 * Look at most at so many ready requests that come after a place, which becomes
 * that of the last of them, and expire those whose end has passed.  Adds these
 * to *expired, a list of ChangedRequest.  Returns how many were looked at.
 *
 * Of a channel whose next request is yet to start, the others are left out.
 */
int
queue_expire(ReadyPosition *after, int most, List **expired)
{
	TimestampTz by = ended_by();
	Datum		args[7] = {
		Int64GetDatum(request_origin()),
		NameGetDatum(&after->channel.server),
		ObjectIdGetDatum(after->channel.role),
		TimestampTzGetDatum(after->start),
		Int64GetDatum(after->id),
		TimestampTzGetDatum(by),
		Int32GetDatum(most)
	};
	int			n_rows = run_statement(&walk_statement, args, NULL);
	int64	   *ids = palloc((n_rows + 1) * sizeof(int64));
	int			n = 0;

	for (int i = 0; i < n_rows; i++)
	{
		/*
		 * The rows are walked in the order of the index and chosen by end
		 * here: no index has the ends.
		 */
		if (spi_bool(i, 5))
			ids[n++] = spi_int8(i, 1);
	}
	if (n_rows > 0)
	{
		after->id = spi_int8(n_rows - 1, 1);
		after->channel.server = spi_name(n_rows - 1, 2);
		after->channel.role = spi_oid(n_rows - 1, 3);
		after->start = spi_timestamptz(n_rows - 1, 4);

		/*
		 * The rest of this channel begins even later, so that none of it can
		 * have ended.  DT_NOEND skips to the next channel.
		 */
		if (after->start > by)
			after->start = DT_NOEND;
	}
	if (n == 0)
		return n_rows;

	args[2] = make_id_array(ids, n);
	args[3] = TimestampTzGetDatum(by);

	/*
	 * Locked and looked at once more, as somebody may have changed them since
	 * the walk.
	 */
	ids = choose_rows(&choose_expired, args, &n);
	args[1] = CStringGetTextDatum(QUEUE_EXPIRED_MESSAGE);
	change_rows(&expire_statement, ids, n, args, NULL, take_expired, expired);
	return n_rows;
}

/*
 * Add the rows that were expired to the List that "arg" points to.
 */
static void
take_expired(int n, void *arg)
{
	notify_of_rows(n, 4);
	take_changed(n, arg);
}

/*
 * Choose and lock at most so many requests that were finished over so many
 * seconds ago, and whose task, if there is one, has ended: the oldest that come
 * after *after, which becomes the last of them.  Returns how many there are.
 */
int
queue_choose_old(int64 age, OldRequest *after, int most, int64 *ids)
{
	Datum		args[4] = {
		TimestampTzGetDatum(after->over_at),
		Int64GetDatum(after->id),
		Float8GetDatum((double) age),
		Int32GetDatum(most)
	};
	int			n = run_statement(&choose_old, args, NULL);

	for (int i = 0; i < n; i++)
	{
		/* The caller goes on from here, past rows that cannot be removed. */
		ids[i] = after->id = spi_int8(i, 1);
		after->over_at = spi_timestamptz(i, 2);
	}
	return n;
}

/*
 * Remove requests that have been chosen for it.  Returns how many are removed:
 * a trigger may leave some out.
 */
int
queue_remove(const int64 *ids, int n)
{
	Datum		args[1] = {make_id_array(ids, n)};

	return run_firing_triggers(&remove_statement, args, NULL);
}

/*
 * Count the requests of this origin that are not finished.
 */
void
queue_count(QueueCounts *counts)
{
	Datum		args[1] = {Int64GetDatum(request_origin())};

	(void) run_statement(&count_statement, args, NULL);
	counts->ready = spi_int8(0, 1);
	counts->oldest = spi_timestamptz(0, 2);
	counts->waiting = spi_int8(0, 3);
	counts->in_doubt = spi_int8(0, 4);
	counts->withdrawing = spi_int8(0, 5);
}

/*
 * How many requests that are not finished came in a dump or a copy.  Thousands are
 * not counted further.
 */
int
queue_count_held(void)
{
	Datum		args[1] = {Int64GetDatum(request_origin())};

	(void) run_statement(&held_statement, args, NULL);
	return (int) spi_int8(0, 1);
}

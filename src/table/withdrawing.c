/*-------------------------------------------------------------------------
 *
 * withdrawing.c
 *	  Requests whose task is to be stopped and deleted
 *
 * Such a request is withdrawing until it is known that its task is there no
 * more, or its end has come.  One that is to be tried at once has no
 * next_attempt_at; the others are tried again at theirs.
 *
 * That a request is withdrawn must be on disk before its task is touched, and the
 * session that did so need not have waited for that.  So a request is claimed
 * for an attempt, which changes its row; what is flushed with that has all that
 * was committed before.
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

#define OF_CHANNEL \
	" FROM %1$s AS t" \
	" WHERE origin = $1 AND status = " SQL_WITHDRAWING " AND id <> ALL ($2)" \
	" AND t.server = channel.server AND t.role = channel.role"

/* In the order of what comes next of a task: its start, or its end */
static const Statement find_statement = {
	CHANNELS_WITH(SQL_WITHDRAWING)
	" SELECT due.id, channel.server, channel.role"
	" FROM channel_to_ask AS channel, LATERAL ("
	" (SELECT id, start_time, end_time" OF_CHANNEL
	"  AND next_attempt_at IS NULL AND id <> ALL ($6)"
	"  ORDER BY next_attempt_at, COALESCE(start_time, requested_at), id LIMIT $5)"
	" UNION ALL"
	" (SELECT id, start_time, end_time" OF_CHANNEL
	"  AND next_attempt_at <= " NOW " AND id <> ALL ($6)"
	"  ORDER BY next_attempt_at LIMIT $5)) AS due"
	" ORDER BY CASE WHEN start_time > " NOW " THEN start_time ELSE end_time END, id",
	6, {INT8OID, INT8ARRAYOID, NAMEARRAYOID, OIDARRAYOID, INT4OID,
	INT8ARRAYOID}, false
};

static const Statement next_due_statement = {
	CHANNELS_WITH(SQL_WITHDRAWING)
	" SELECT next.next_attempt_at FROM channel_to_ask AS channel, LATERAL"
	" (SELECT next_attempt_at" OF_CHANNEL
	"  AND next_attempt_at > " NOW
	"  ORDER BY next_attempt_at LIMIT 1) AS next"
	" ORDER BY next_attempt_at LIMIT 1",
	4, {INT8OID, INT8ARRAYOID, NAMEARRAYOID, OIDARRAYOID}, false
};

/* All of them are gone through, at a sweep. */
static const Statement ended_statement = {
	"SELECT id FROM %1$s"
	" WHERE origin = $1 AND status = " SQL_WITHDRAWING " AND id <> ALL ($2)"
	" AND end_time <= " NOW " LIMIT $3",
	3, {INT8OID, INT8ARRAYOID, INT4OID}, false
};

static const Statement choose_statement = {
	"SELECT id FROM %1$s"
	" WHERE origin = $1 AND id <> ALL ($2) AND id = ANY ($3)"
	" AND pg_catalog.enum_eq(status, " SQL_WITHDRAWING "::%2$s)"
	" FOR NO KEY UPDATE SKIP LOCKED",
	3, {INT8OID, INT8ARRAYOID, INT8ARRAYOID}, false
};

static const Statement claim_statement = {
	"UPDATE %1$s SET" STAMP("$2")
	" status = CASE WHEN end_time <= " NOW
	"  THEN " SQL_CREATED "::%2$s ELSE status END,"
	" finished_at = CASE WHEN end_time <= " NOW
	"  THEN pg_catalog.clock_timestamp() END,"
	" next_attempt_at = CASE WHEN end_time > " NOW " THEN next_attempt_at END,"
	" error_message = CASE WHEN end_time <= " NOW
	"  THEN pg_catalog.concat_ws(': ', $3, error_message) ELSE error_message END,"
	" sent_at = pg_catalog.clock_timestamp(),"
	" trace_id = pg_catalog.gen_random_uuid()"
	BY_ID(SQL_WITHDRAWING)
	" RETURNING id, " KEPT("status IN (" SQL_WITHDRAWING ", " SQL_CREATED ")") ","
	" server, role, requested_at, task_id, trace_id::pg_catalog.text,"
	" start_time, end_time, misses, status = " SQL_CREATED ", error_message,"
	" reference, status, task_id",
	3, {INT8ARRAYOID, INT8OID, TEXTOID}, false
};

#define THIS_REQUEST \
	" AND requested_at = $4 AND pg_catalog.enum_eq(status, " SQL_WITHDRAWING "::%2$s)"

static const Statement choose_finished = {
	"SELECT id FROM %1$s"
	" WHERE origin = $1 AND id <> ALL ($2) AND id = $3" THIS_REQUEST
	" FOR NO KEY UPDATE SKIP LOCKED",
	4, {INT8OID, INT8ARRAYOID, INT8OID, TIMESTAMPTZOID}, false
};

static const Statement is_there_statement = {
	"SELECT id FROM %1$s"
	" WHERE origin = $1 AND id <> ALL ($2) AND id = $3" THIS_REQUEST,
	4, {INT8OID, INT8ARRAYOID, INT8OID, TIMESTAMPTZOID}, false
};

static const Statement finish_statement = {
	"UPDATE %1$s SET" STAMP("$2")
	" status = $3::%2$s,"
	" finished_at = CASE WHEN $3 IN (" SQL_FINISHED ")"
	"  THEN pg_catalog.clock_timestamp() END,"
	" next_attempt_at = CASE WHEN $3 = " SQL_WITHDRAWING
	"  THEN LEAST($4, end_time) END,"
	" misses = misses + CASE WHEN $3 = " SQL_WITHDRAWING " THEN 1 ELSE 0 END,"
	" request_id = $5, error_code = $6, error_message = $7"
	BY_ID(SQL_WITHDRAWING)
	" RETURNING id, " KEPT("status = $3::%2$s") ", reference, status, task_id",
	7, {INT8ARRAYOID, INT8OID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID,
	TEXTOID}, false
};

#define ENDED_MESSAGE	"could not be withdrawn before its end"

static void take_claimed(int n, void *arg);
static void take_finished(int n, void *arg);

/*
 * Requests to try now, the most urgent first, at most so many of each channel, but
 * for those channels that are given, a list of ChannelName, and those requests:
 * a list of DueWithdrawal.
 */
List *
queue_find_withdrawing(List *paused, const int64 *without, int n_without,
					   int most)
{
	Datum		args[6];
	List	   *due = NIL;
	MemoryContext old;
	int			n;

	args[0] = Int64GetDatum(request_origin());
	args[1] = skip_list_array();
	make_channel_arrays(paused, &args[2], &args[3]);
	args[4] = Int32GetDatum(most);
	args[5] = make_id_array(without, n_without);
	n = run_statement(&find_statement, args, NULL);
	old = MemoryContextSwitchTo(queue_transaction.caller_context);
	for (int i = 0; i < n; i++)
	{
		DueWithdrawal *withdrawal = palloc(sizeof(DueWithdrawal));

		withdrawal->id = spi_int8(i, 1);
		withdrawal->channel.server = spi_name(i, 2);
		withdrawal->channel.role = spi_oid(i, 3);
		due = lappend(due, withdrawal);
	}
	MemoryContextSwitchTo(old);
	return due;
}

/*
 * When the next request is due that is not yet, but for those channels; DT_NOEND
 * if none is.
 */
TimestampTz
queue_next_withdrawing_due(List *paused)
{
	Datum		args[4];

	args[0] = Int64GetDatum(request_origin());
	args[1] = skip_list_array();
	make_channel_arrays(paused, &args[2], &args[3]);
	return select_time(&next_due_statement, args);
}

/*
 * The ids of at most so many requests whose end has come.  Returns how many there
 * are.
 */
int
queue_find_ended_withdrawing(int most, int64 *ids)
{
	Datum		args[3] = {
		Int64GetDatum(request_origin()),
		skip_list_array(),
		Int32GetDatum(most)
	};
	int			n = run_statement(&ended_statement, args, NULL);

	for (int i = 0; i < n; i++)
		ids[i] = spi_int8(i, 1);
	return n;
}

/*
 * Claim requests of these ids for an attempt, or make them created for good if
 * their end has come: a list of WithdrawingRequest.
 */
List *
queue_claim_withdrawing(const int64 *ids, int n)
{
	Datum		args[3];
	List	   *claimed = NIL;
	int			n_chosen;
	int64	   *chosen;

	args[2] = make_id_array(ids, n);
	chosen = choose_rows(&choose_statement, args, &n_chosen);
	args[1] = current_stamp();
	args[2] = CStringGetTextDatum(ENDED_MESSAGE);
	change_rows(&claim_statement, chosen, n_chosen, args, NULL, take_claimed,
				&claimed);
	return claimed;
}

/*
 * RowsTaker: add the rows to the List of WithdrawingRequest that "arg" points to.
 */
static void
take_claimed(int n, void *arg)
{
	List	  **claimed = arg;
	MemoryContext old = MemoryContextSwitchTo(queue_transaction.caller_context);

	notify_of_rows(n, 13);
	for (int i = 0; i < n; i++)
	{
		WithdrawingRequest *request = palloc0(sizeof(WithdrawingRequest));
		bool		isnull;

		request->id = spi_int8(i, 1);
		request->channel.server = spi_name(i, 3);
		request->channel.role = spi_oid(i, 4);
		request->requested_at = spi_timestamptz(i, 5);
		request->task_id = spi_text(i, 6);
		request->trace_id = spi_text(i, 7);
		(void) spi_value(i, 8, TIMESTAMPTZOID, &isnull);
		request->has_start = !isnull;
		request->start_time = spi_timestamptz(i, 8);
		request->end_time = spi_timestamptz(i, 9);
		request->n_failed = spi_int4(i, 10);
		request->has_ended = spi_bool(i, 11);
		request->message = spi_text(i, 12);
		*claimed = lappend(*claimed, request);
	}
	MemoryContextSwitchTo(old);
}

/*
 * Write down what has become of an attempt.
 */
WithdrawalWritten
queue_finish_withdrawing(const WithdrawalResult *result)
{
	RequestStatus status = result->is_withdrawn ? STATUS_WITHDRAWN :
		STATUS_WITHDRAWING;
	Datum		args[7];
	char		nulls[8] = "       ";
	const char *texts[3] = {
		result->request_id, result->error_code, result->error_message
	};
	bool		isnull;
	int			n;
	int64	   *ids;
	bool		is_written = false;

	if (find_transition(STATUS_WITHDRAWING, status, BY_WORKER) == NULL)
		elog(ERROR, "request " INT64_FORMAT " cannot be %s after it was withdrawing",
			 result->id, status_name(status));
	args[2] = Int64GetDatum(result->id);
	args[3] = TimestampTzGetDatum(result->requested_at);
	ids = choose_rows(&choose_finished, args, &n);
	if (n == 0)
	{
		args[0] = Int64GetDatum(request_origin());
		args[1] = make_id_array(NULL, 0);
		return run_statement(&is_there_statement, args, NULL) > 0 ?
			WITHDRAWAL_LOCKED : WITHDRAWAL_MISSING;
	}
	args[1] = current_stamp();
	args[2] = CStringGetTextDatum(status_name(status));
	args[3] = TimestampTzGetDatum(result->next_attempt_at);
	if (result->is_withdrawn)
		nulls[3] = 'n';
	for (int i = 0; i < (int) lengthof(texts); i++)
	{
		args[4 + i] = text_or_null(texts[i], &isnull);
		if (isnull)
			nulls[4 + i] = 'n';
	}
	change_rows(&finish_statement, ids, n, args, nulls, take_finished,
				&is_written);
	return is_written ? WITHDRAWAL_WRITTEN : WITHDRAWAL_LOCKED;
}

/*
 * RowsTaker: notify of the row, and set the bool that "arg" points to.
 */
static void
take_finished(int n, void *arg)
{
	bool	   *is_written = arg;

	notify_of_rows(n, 3);
	*is_written = n > 0;
}

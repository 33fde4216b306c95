/*-------------------------------------------------------------------------
 *
 * result.c
 *	  Saving the outcomes of requests that were being sent
 *
 * The rows are locked first.  One that somebody else has locked is left for
 * later, or a role could make the others wait with it.  All are saved by one
 * statement.  If that fails, and with it the transaction, the worker saves
 * each alone in another; those that fail alone are passed over for a while,
 * whatever the reason (skip_list.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "table/skip_list.h"
#include "table/request_queue.h"
#include "table/request_queue_private.h"
#include "util/statement.h"

/*
 * Rows of ids that are being sent, each in its attempt.  A sequence may begin
 * anew, with the extension or by TRUNCATE: when a row was made tells it from
 * one that had its id.
 */
#define BY_ATTEMPT(attempts, requested_at) \
	BY_ID(SQL_SENDING) " AND attempts = " OF_ROW(attempts) \
	" AND requested_at = " OF_ROW(requested_at)

/* Requests that this worker has sent.  Never waits. */
static const Statement lock_sent = {
	"SELECT id FROM %1$s"
	BY_ATTEMPT("$2", "$3") " FOR NO KEY UPDATE SKIP LOCKED",
	3, {INT8ARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID}, false
};

static const Statement find_sent = {
	"SELECT id FROM %1$s" BY_ATTEMPT("$2", "$3"),
	3, {INT8ARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID}, false
};

static const Statement finish_statement = {
	"UPDATE %1$s SET" STAMP("$12")
	" status = " UNLESS_WITHDRAWN(OF_ROW("$4")) "::%2$s,"
	" attempts = attempts - " OF_ROW("$3") ","
	" sent_at = " OF_ROW("$5") ","
	" next_attempt_at = CASE WHEN withdrawn_at IS NULL"
	"  OR " OF_ROW("$4") " = " SQL_IN_DOUBT " THEN " OF_ROW("$6") " END,"
	" finished_at = CASE WHEN " UNLESS_WITHDRAWN(OF_ROW("$4"))
	"  IN (" SQL_FINISHED ") THEN pg_catalog.clock_timestamp() END,"
	" task_id = " OF_ROW("$7") ", request_id = " OF_ROW("$8") ","
	" error_code = " OF_ROW("$9") ", error_message = " OF_ROW("$10")
	BY_ATTEMPT("$2", "$11")
	" RETURNING id, "
	KEPT("status <> " SQL_SENDING " AND task_id IS NOT DISTINCT FROM " OF_ROW("$7"))
	", reference, status, task_id, withdrawn_at IS NOT NULL",
	12, {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID,
		TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT8OID}, false
};

/* The arrays that are its arguments, in their order */
enum
{
	ID, ATTEMPT, REFUND, STATUS, SENT_AT, NEXT_ATTEMPT_AT, TASK_ID,
	REQUEST_ID, ERROR_CODE, ERROR_MESSAGE, REQUESTED_AT, N_COLUMNS
};

/* Results to write */
typedef struct Results
{
	FinishedRequest **finished;
	int			n;
} Results;

static int	lock_finished(FinishedRequest **finished, int n_finished);
static bool is_to_wait(FinishedRequest **finished, int i);
static int	write_at_once(void *arg);
static void write_each(FinishedRequest **finished, int n_finished);
static void make_columns(FinishedRequest **finished, int n_finished,
						 Datum *args);
static void take_withdrawn(Results *results, int n_rows);
static int	compare_ids(const void *a, const void *b);

/*
 * Save the outcomes of requests that were being sent.
 *
 * Those whose rows are locked by somebody else, or cannot be changed, are
 * marked to be kept.  Returns a list of those, out of "finished", whose rows
 * no longer exist or are no longer being sent.
 */
List *
queue_finish(FinishedRequest **finished, int n_finished)
{
	int			n = lock_finished(finished, n_finished);
	Results		results = {finished, n};
	List	   *missing = NIL;

	if (n > 0 && queue_transaction.row_by_row)
		write_each(finished, n);
	else if (n > 0)
		(void) write_at_once(&results);
	for (int i = 0; i < n_finished; i++)
	{
		MemoryContext old;

		if (finished[i]->written || finished[i]->kept)
			continue;
		old = MemoryContextSwitchTo(queue_transaction.caller_context);
		missing = lappend(missing, finished[i]);
		MemoryContextSwitchTo(old);
	}
	return missing;
}

/*
 * Write each result alone, as long as there is time.
 */
static void
write_each(FinishedRequest **finished, int n_finished)
{
	for (int i = 0; i < n_finished; i++)
	{
		Results		result = {&finished[i], 1};

		finished[i]->kept = !change_goes_on(i) ||
			change_alone(finished[i]->id, write_at_once, &result) == 0;
	}
}

/*
 * Lock the rows of requests, and move those that could be to the front.
 * Returns how many that are.  Marks those that could not.
 */
static int
lock_finished(FinishedRequest **finished, int n_finished)
{
	int64	   *ids = palloc(n_finished * sizeof(int64));
	Datum	   *attempts = palloc(n_finished * sizeof(Datum));
	Datum	   *requested_at = palloc(n_finished * sizeof(Datum));
	Datum		args[3];
	int			n_ids = 0;
	int			n_rows;
	int			n = 0;

	/*
	 * In the order of ids, so that two results of one id are neighbours, and
	 * rows are locked in the same order by all.
	 */
	qsort(finished, n_finished, sizeof(FinishedRequest *), compare_ids);
	for (int i = 0; i < n_finished; i++)
	{
		FinishedRequest *request = finished[i];

		request->written = false;
		request->became = request->status;
		request->kept = is_to_wait(finished, i);
		if (request->kept)
			continue;
		ids[n_ids] = request->id;
		attempts[n_ids] = Int32GetDatum(request->attempt);
		requested_at[n_ids] = TimestampTzGetDatum(request->requested_at);
		n_ids++;
	}
	if (n_ids == 0)
		return 0;
	args[0] = make_id_array(ids, n_ids);
	args[1] = make_array(INT4OID, attempts, n_ids);
	args[2] = make_array(TIMESTAMPTZOID, requested_at, n_ids);

	/*
	 * Locked first, in a statement that waits for nobody: the UPDATE would
	 * wait for a lock that a role holds on its own request.
	 */
	n_rows = run_statement(&lock_sent, args, NULL);
	for (int i = 0; i < n_finished; i++)
	{
		FinishedRequest *request = finished[i];

		if (request->kept ||
			(n_rows < n_ids && !was_returned(request->id, n_rows)))
			continue;
		/* The locked ones to the front, for the statements that follow. */
		finished[i] = finished[n];
		finished[n++] = request;
	}
	if (n == n_ids)
		return n;

	/* Those that are there, and were not locked, are locked by somebody else. */
	n_rows = run_statement(&find_sent, args, NULL);
	for (int i = n; i < n_finished; i++)
	{
		if (finished[i]->kept || !was_returned(finished[i]->id, n_rows))
			continue;
		finished[i]->kept = true;
		skip_list_add_locked(finished[i]->id, QUEUE_LOCKED_RETRY);
	}
	return n;
}

/*
 * Must a result wait, in an array that is sorted by id?  It does while its row
 * is on the skip list, or if the one before it has the same id: the requests
 * that had an id are told apart one at a time.
 */
static bool
is_to_wait(FinishedRequest **finished, int i)
{
	int64		id = finished[i]->id;

	return skip_list_has(id) || (i > 0 && id == finished[i - 1]->id);
}

/*
 * Save the outcomes of requests whose rows are locked, and mark those that
 * were saved; a trigger has left out the others, which are kept.  Returns how
 * many were saved.
 */
static int
write_at_once(void *arg)
{
	Results    *results = arg;
	Datum		args[N_COLUMNS + 1];
	int			n;

	qsort(results->finished, results->n, sizeof(FinishedRequest *),
		  compare_ids);
	make_columns(results->finished, results->n, args);
	args[N_COLUMNS] = current_stamp();

	/*
	 * One statement for all results of a turn: the number of commits, and not
	 * of rows, is what costs.
	 */
	n = run_firing_triggers(&finish_statement, args, NULL);
	check_kept(n);
	notify_of_rows(n, 3);
	for (int i = 0; i < results->n; i++)
	{
		FinishedRequest *request = results->finished[i];

		/* If all were changed there is nothing to search for. */
		request->written = n == results->n || was_returned(request->id, n);
		request->kept = !request->written;
		if (request->kept)
			skip_list_add(request->id, LEFT_OUT);
	}
	take_withdrawn(results, n);
	return n;
}

/*
 * Those of the written requests, in so many rows, that were withdrawn while they
 * were being sent, have become something else.  It is not their status yet: the
 * transaction may be undone.
 */
static void
take_withdrawn(Results *results, int n_rows)
{
	for (int row = 0; row < n_rows; row++)
	{
		if (!spi_bool(row, 6))
			continue;
		for (int i = 0; i < results->n; i++)
		{
			FinishedRequest *request = results->finished[i];

			if (request->id == spi_int8(row, 1))
				request->became = status_of_name(spi_text(row, 4));
		}
	}
}

/*
 * The arguments of finish_statement that are arrays, but for the stamp.
 */
static void
make_columns(FinishedRequest **finished, int n_finished, Datum *args)
{
	Datum	   *values[N_COLUMNS];
	bool	   *nulls[N_COLUMNS];
	int			dims[1] = {n_finished};
	int			lower_bounds[1] = {1};

	for (int column = 0; column < N_COLUMNS; column++)
	{
		values[column] = palloc(n_finished * sizeof(Datum));
		nulls[column] = palloc0(n_finished * sizeof(bool));
	}
	for (int i = 0; i < n_finished; i++)
	{
		FinishedRequest *request = finished[i];

		values[ID][i] = Int64GetDatum(request->id);
		values[ATTEMPT][i] = Int32GetDatum(request->attempt);
		values[REFUND][i] = Int32GetDatum(request->free_of_charge ? 1 : 0);

		/*
		 * A result that the table of transitions does not have is a bug of the
		 * caller's.
		 */
		if (find_transition(STATUS_SENDING, request->status, BY_WORKER) == NULL)
			elog(ERROR, "request " INT64_FORMAT " cannot be %s after it was sent",
				 request->id, status_name(request->status));
		values[STATUS][i] = CStringGetTextDatum(status_name(request->status));
		values[SENT_AT][i] = TimestampTzGetDatum(request->sent_at);
		nulls[SENT_AT][i] = request->sent_at == 0;
		values[NEXT_ATTEMPT_AT][i] =
			TimestampTzGetDatum(request->next_attempt_at);
		nulls[NEXT_ATTEMPT_AT][i] = request->next_attempt_at == 0;
		values[TASK_ID][i] = text_or_null(request->task_id,
										  &nulls[TASK_ID][i]);
		values[REQUEST_ID][i] = text_or_null(request->request_id,
											 &nulls[REQUEST_ID][i]);
		values[ERROR_CODE][i] = text_or_null(request->error_code,
											 &nulls[ERROR_CODE][i]);
		values[ERROR_MESSAGE][i] = text_or_null(request->error_message,
												&nulls[ERROR_MESSAGE][i]);
		values[REQUESTED_AT][i] = TimestampTzGetDatum(request->requested_at);
	}
	for (int column = 0; column < N_COLUMNS; column++)
	{
		Oid			element = get_element_type(finish_statement.argtypes[column]);
		int16		length;
		bool		by_value;
		char		align;

		get_typlenbyvalalign(element, &length, &by_value, &align);
		args[column] = PointerGetDatum(construct_md_array(values[column],
														  nulls[column], 1,
														  dims, lower_bounds,
														  element, length,
														  by_value, align));
	}
}

/*
 * qsort comparator: by id, and then by age.
 */
static int
compare_ids(const void *a, const void *b)
{
	const FinishedRequest *one = *(FinishedRequest *const *) a;
	const FinishedRequest *other = *(FinishedRequest *const *) b;

	if (one->id != other->id)
		return one->id < other->id ? -1 : 1;
	return (one->requested_at > other->requested_at) -
		(one->requested_at < other->requested_at);
}

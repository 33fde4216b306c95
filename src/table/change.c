/*-------------------------------------------------------------------------
 *
 * change.c
 *	  Choosing rows of screenshot_task_request, and changing them
 *
 * Most changes take two statements: one chooses rows and locks them, the other
 * changes them.  So it is known which row it was if a trigger of the owner
 * raises an error, or leaves the row out.  Choices pass over such a row for a
 * while; see skip_list.c.
 *
 * Every change of a request's status names the status that it leaves.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "executor/spi.h"

#include "compat.h"
#include "table/notify.h"
#include "table/skip_list.h"
#include "table/request_queue.h"
#include "table/request_queue_private.h"
#include "util/statement.h"
#include "util/subtransaction.h"

/* The most rows in a row that cannot be changed, in one transaction */
#define MAX_FAILED		100

/* Changes nothing, but fails if the table cannot be changed */
static const Statement probe_statement = {
	"UPDATE %1$s SET status = status WHERE id = ANY ('{}'::pg_catalog.int8[])",
	0, {InvalidOid}, false
};

/* A change of rows, for change_at_once() */
typedef struct Change
{
	const Statement *statement;
	const int64 *ids;
	int			n;
	Datum	   *args;
	const char *nulls;
} Change;

/* The same of one row, for change_one() */
typedef struct Alone
{
	RowsChanger change;
	void	   *arg;
	int			n;				/* rows that it has changed */
} Alone;

static int	change_at_once(void *arg);
static void change_one(void *arg);

/*
 * Raise an error if no row of the table can be changed, whichever it is: for
 * instance, since its owner has published it without a replica identity, or a
 * statement-level trigger raises an error.
 */
void
queue_probe(void)
{
	(void) run_firing_triggers(&probe_statement, NULL, NULL);
}

/*
 * Run a statement that chooses rows, and return their ids.  The first two of
 * its arguments are set here.
 */
int64 *
choose_rows(const Statement *statement, Datum *args, int *n)
{
	int64	   *ids;

	*n = 0;

	/*
	 * With a full list the worker would choose rows of which it can no longer
	 * note that they cannot be changed, again and again.
	 */
	if (skip_list_is_full() ||
		(skip_list_is_long() && !statement->sends))
		return NULL;
	args[0] = Int64GetDatum(request_origin());
	args[1] = skip_list_array();
	*n = run_statement(statement, args, NULL);
	ids = palloc((*n + 1) * sizeof(int64));
	for (int i = 0; i < *n; i++)
		ids[i] = spi_int8(i, 1);
	return ids;
}

/*
 * Run a statement that changes rows that were chosen, and returns them with
 * their ids in the first column, and in the second whether they are as it has
 * set them.  The first of its arguments is set here.  What it returns is given
 * to "take".
 *
 * Notes the rows that could not be changed.  Where one after the other takes its
 * time, or too many cannot be, the last are left as they are, for another
 * transaction.  Raises an error if it is not the rows' fault.
 */
void
change_rows(const Statement *statement, const int64 *ids, int n, Datum *args,
			const char *nulls, RowsTaker take, void *arg)
{
	Change		change = {statement, ids, n, args, nulls};

	if (n == 0)
		return;

	/*
	 * All at once while all goes well.  After a failure, one by one, in
	 * subtransactions, which cost a transaction id each.
	 */
	if (!queue_transaction.row_by_row && !skip_list_has_failed())
	{
		take(change_at_once(&change), arg);
		return;
	}
	change.n = 1;
	for (int i = 0; i < n && change_goes_on(i); i++)
	{
		change.ids = &ids[i];
		take(change_alone(ids[i], change_at_once, &change), arg);
	}
}

/*
 * Change all rows by one statement.  Returns how many were changed.  Raises an
 * error if a trigger has changed what the statement sets.
 */
static int
change_at_once(void *arg)
{
	Change	   *change = arg;
	int			changed;

	change->args[0] = make_id_array(change->ids, change->n);
	changed = run_firing_triggers(change->statement, change->args,
								  change->nulls);
	check_kept(changed);
	/* Searched only if some are missing. */
	for (int i = 0; changed < change->n && i < change->n; i++)
	{
		if (!was_returned(change->ids[i], changed))
			skip_list_add(change->ids[i], LEFT_OUT);
	}
	return changed;
}

/*
 * Is there time to change one more row alone, after so many?  Answers may be
 * waiting meanwhile.
 */
bool
change_goes_on(int n_tried)
{
	return queue_transaction.n_failed < MAX_FAILED &&
		(n_tried == 0 || monotonic_now() < queue_transaction.change_by);
}

/*
 * Change one row, in a subtransaction.
 *
 * Returns how many rows were changed.  An error that is the row's fault is noted
 * with it; another is raised again, and so is one that any row would meet.
 */
int
change_alone(int64 id, RowsChanger change, void *arg)
{
	Alone		alone = {change, arg, 0};
	ErrorData  *error = run_in_subtransaction(change_one, &alone);

	if (error != NULL)
	{
		int			category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

		alone.n = 0;
		if (note_lock_timeout(error->sqlerrcode))
			be_impatient();

		/*
		 * A full disk, a shutdown or an I/O error would meet every row: these
		 * are not skipped, but the transaction is given up.
		 */
		if (category == ERRCODE_INSUFFICIENT_RESOURCES ||
			category == ERRCODE_OPERATOR_INTERVENTION ||
			category == ERRCODE_SYSTEM_ERROR)
			ReThrowError(error);
		skip_list_add(id, error->message);
		FreeErrorData(error);
	}
	if (alone.n > 0)
		queue_transaction.n_failed = 0;

	/*
	 * The first failure in a row: find out whether it is this row's, or the
	 * table's.
	 */
	else if (queue_transaction.n_failed++ == 0)
		queue_probe();
	return alone.n;
}

static void
change_one(void *arg)
{
	Alone	   *alone = arg;

	alone->n = alone->change(alone->arg);
}

/*
 * Raise an error if one of n returned rows does not have what the statement
 * has set: it would be changed again and again, or be forgotten.
 */
void
check_kept(int n)
{
	for (int i = 0; i < n; i++)
	{
		if (!spi_bool(i, 2))
			ereport(ERROR,
					(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
					 errmsg("trigger overwrote columns set by the worker in screenshot task request %lld",
							(long long) spi_int8(i, 1)),
					 errhint("Check the triggers on screenshot_task_request.")));
	}
}

/*
 * The stamp of rows that this transaction writes.
 */
Datum
current_stamp(void)
{
	return Int64GetDatum(request_stamp(GetTopFullTransactionId()));
}

/*
 * Add rows that a change returned with id and server to the List of
 * ChangedRequest that "arg" points to.
 */
void
take_changed(int n, void *arg)
{
	List	  **changed = arg;
	MemoryContext old = MemoryContextSwitchTo(queue_transaction.caller_context);

	for (int i = 0; i < n; i++)
	{
		ChangedRequest *request = palloc(sizeof(ChangedRequest));

		request->id = spi_int8(i, 1);
		request->server = spi_name(i, 3);
		*changed = lappend(*changed, request);
	}
	MemoryContextSwitchTo(old);
}

/*
 * Notify listeners of those of the rows that a change returned which are
 * finished.  The rows have the id in the first column, and from a certain
 * column on reference, status and task_id.
 */
void
notify_of_rows(int n, int column)
{
	for (int row = 0; row < n; row++)
		notify_of_row(row, column);
}

void
notify_of_row(int row, int column)
{
	if (notifications_are_wanted())
		notify_result(spi_int8(row, 1), spi_text(row, column),
					  status_of_name(spi_text(row, column + 1)),
					  spi_text(row, column + 2));
}

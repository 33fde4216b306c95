/*-------------------------------------------------------------------------
 *
 * statement.c
 *	  Statements on screenshot_task_request, and their plans
 *
 * The files beside this one say what the worker does to the table, each with
 * its statements.  Here these are prepared, for what the table is called at the
 * time, and run.  What a trigger of the owner's sets is undone after each one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "table/request_queue.h"
#include "table/request_queue_private.h"
#include "table/request_table.h"
#include "util/statement.h"

/* Plans, for what the table and the type of a status are called */
#define MAX_PLANS	48

static struct
{
	char	   *table;			/* NULL: nothing is prepared */
	char	   *status_type;
	int			n;
	struct
	{
		const Statement *statement;
		SPIPlanPtr	plan;
	}			plans[MAX_PLANS];
}			prepared;

static SPIPlanPtr prepare_statement(const Statement *statement);

/*
 * Have statements be prepared from now on with these names of the table and of
 * the status type, and forget those that were prepared with others.
 */
void
use_names(const char *table, const char *status_type)
{
	if (prepared.table != NULL &&
		strcmp(prepared.table, table) == 0 &&
		strcmp(prepared.status_type, status_type) == 0)
		return;

	/*
	 * Plans refer to the table by its old name in their text, by which they
	 * would be analyzed again.
	 */
	forget_statements();

	/*
	 * "table" is set last, since it says that there is something: after an
	 * error here nothing is prepared.
	 */
	prepared.status_type = MemoryContextStrdup(TopMemoryContext, status_type);
	prepared.table = MemoryContextStrdup(TopMemoryContext, table);
}

/*
 * Forget all prepared statements and the names that they have.
 */
void
forget_statements(void)
{
	/*
	 * Counted down first, so that an error in SPI_freeplan() does not free a
	 * plan twice.
	 */
	while (prepared.n > 0)
		SPI_freeplan(prepared.plans[--prepared.n].plan);
	if (prepared.table != NULL)
		pfree(prepared.table);
	if (prepared.status_type != NULL)
		pfree(prepared.status_type);
	prepared.table = prepared.status_type = NULL;
}

/*
 * The plan of a statement, which is prepared when it is needed first.
 */
static SPIPlanPtr
prepare_statement(const Statement *statement)
{
	char	   *origin;
	char	   *text;
	SPIPlanPtr	plan;

	for (int i = 0; i < prepared.n; i++)
	{
		if (prepared.plans[i].statement == statement)
			return prepared.plans[i].plan;
	}

	/*
	 * Each Statement is a static const, so that there are as many plans as
	 * these.
	 */
	if (prepared.n == MAX_PLANS)
		elog(ERROR, "too many statements");

	/*
	 * A constant, not a parameter, since each statement numbers its parameters
	 * in its own way.
	 */
	origin = psprintf("'" INT64_FORMAT "'::pg_catalog.int8", request_origin());
	text = psprintf(statement->text, prepared.table, prepared.status_type,
					origin);
	/* Prepared, since planning took longer than executing most of them. */
	plan = SPI_prepare(psprintf(REQUEST_STATEMENT "%s", text),
					   statement->nargs, (Oid *) statement->argtypes);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", text,
			 SPI_result_code_string(SPI_result));
	prepared.plans[prepared.n].statement = statement;
	prepared.plans[prepared.n++].plan = plan;
	return plan;
}

/*
 * Run a statement, and return how many rows it gave or changed.  What a
 * trigger sets is undone at once: the next statement may have to be prepared.
 */
int
run_statement(const Statement *statement, const Datum *args, const char *nulls)
{
	/*
	 * A trigger of the owner's may SET search_path, which the next statement
	 * would be analyzed with.
	 */
	int			level = NewGUCNestLevel();
	int			result;

	result = SPI_execute_plan(prepare_statement(statement),
							  unconstify(Datum *, args), nulls, false, 0);
	if (result < 0)
		elog(ERROR, "could not execute \"%s\": %s", statement->text,
			 SPI_result_code_string(result));
	AtEOXact_GUC(false, level);
	return (int) SPI_processed;
}

/*
 * Run a statement that fires triggers of the owner's; otherwise like
 * run_statement().  These triggers may wait for locks, but not for longer than
 * lock_timeout.
 */
int
run_firing_triggers(const Statement *statement, const Datum *args,
					const char *nulls)
{
	volatile int n = 0;

	/*
	 * lock_timeout works by SIGINT to the own process; elsewhere the worker
	 * ignores it, as nobody should cancel half of its work.
	 */
	pqsignal(SIGINT, StatementCancelHandler);
	PG_TRY();
	{
		n = run_statement(statement, args, nulls);
	}
	PG_FINALLY();
	{
		pqsignal(SIGINT, SIG_IGN);
		/* One that came too late must not cancel what follows. */
		QueryCancelPending = false;
	}
	PG_END_TRY();
	return n;
}

/*
 * The time that a statement gives; DT_NOEND if it gives none.
 */
TimestampTz
select_time(const Statement *statement, const Datum *args)
{
	if (run_statement(statement, args, NULL) == 0)
		return DT_NOEND;
	return spi_timestamptz(0, 1);
}

/*
 * Is an id one of those in the rows, so many, that a statement gave?
 */
bool
was_returned(int64 id, int n_rows)
{
	for (int row = 0; row < n_rows; row++)
	{
		if (spi_int8(row, 1) == id)
			return true;
	}
	return false;
}

/*
 * A bigint[], palloc'd.
 */
Datum
make_id_array(const int64 *ids, int n)
{
	Datum	   *datums = palloc((n + 1) * sizeof(Datum));

	for (int i = 0; i < n; i++)
		datums[i] = Int64GetDatum(ids[i]);
	return make_array(INT8OID, datums, n);
}

/*
 * An array of another type, palloc'd.
 */
Datum
make_array(Oid element, Datum *datums, int n)
{
	int16		length;
	bool		by_value;
	char		align;

	get_typlenbyvalalign(element, &length, &by_value, &align);
	return PointerGetDatum(construct_array(datums, n, element, length,
										   by_value, align));
}

/*
 * A text as an argument, palloc'd; NULL is a null.
 */
Datum
text_or_null(const char *value, bool *isnull)
{
	*isnull = value == NULL;
	return value == NULL ? (Datum) 0 : CStringGetTextDatum(value);
}

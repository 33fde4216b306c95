/*-------------------------------------------------------------------------
 *
 * statement.c
 *	  Statements of the extension's own, and what they return
 *
 * A statement names tables and columns, and whoever owns these decides what
 * they are.  So a value is read as what its row says that it is, or not at all.
 *
 * A statement that a user has not written, and does not see, says nothing to
 * them: an error of one that spi_execute() executes reads like one of a
 * function in C.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "util/statement.h"

pg_noreturn static void rethrow_without(const char *text,
										MemoryContext context);

/*
 * Prepare a statement.  The plan ends with SPI_finish(), unless it is kept.
 *
 * Raises an error if it is not valid, without quoting it.
 */
SPIPlanPtr
spi_prepare(const char *text, int nargs, Oid *argtypes)
{
	MemoryContext context = CurrentMemoryContext;
	SPIPlanPtr	plan = NULL;

	PG_TRY();
	{
		/*
		 * SPI's error callback adds the statement to CONTEXT, which would show
		 * users queries of which they know nothing.
		 */
		plan = SPI_prepare(text, nargs, argtypes);
	}
	PG_CATCH();
	{
		rethrow_without(text, context);
	}
	PG_END_TRY();
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", text,
			 SPI_result_code_string(SPI_result));
	return plan;
}

/*
 * Execute a plan of one statement.  As SPI_execute_plan(), but the statement is
 * not quoted in an error.
 */
void
spi_execute(SPIPlanPtr plan, Datum *args, const char *nulls)
{
	MemoryContext context = CurrentMemoryContext;
	CachedPlanSource *source = linitial(SPI_plan_get_plan_sources(plan));

	PG_TRY();
	{
		/*
		 * Not read-only, even for a SELECT: with the snapshot of the calling
		 * statement it would not see what the transaction has done.
		 */
		int			result = SPI_execute_plan(plan, args, nulls, false, 0);

		if (result < 0)
			elog(ERROR, "could not execute \"%s\": %s",
				 source->query_string, SPI_result_code_string(result));
	}
	PG_CATCH();
	{
		rethrow_without(source->query_string, context);
	}
	PG_END_TRY();
}

/*
 * Raise the caught error again without its quotations of a statement: the line
 * of its CONTEXT, and the position of the error in it.
 */
pg_noreturn static void
rethrow_without(const char *text, MemoryContext context)
{
	ErrorData  *error;
	char	   *found;

	/*
	 * CopyErrorData() must not copy into ErrorContext, which FlushErrorState()
	 * resets.
	 */
	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();

	/*
	 * The line is found by the statement's text, since SPI has worded it, and
	 * translated it, in ways that differ between versions.
	 */
	if (error->context != NULL &&
		(found = strstr(error->context, text)) != NULL)
	{
		char	   *end = found + strcspn(found, "\n");
		char	   *line = found;

		/* Its whole line goes, and one of the newlines around it. */
		while (line > error->context && line[-1] != '\n')
			line--;
		if (*end == '\n')
			end++;
		else if (line > error->context)
			line--;
		memmove(line, end, strlen(end) + 1);
		if (error->context[0] == '\0')
			error->context = NULL;
	}

	/*
	 * A syntax error, or one of analysis, points into the statement by
	 * position.
	 */
	if (error->internalquery != NULL &&
		strcmp(error->internalquery, text) == 0)
	{
		error->internalquery = NULL;
		error->internalpos = 0;
	}
	/* Not PG_RE_THROW(), which would go on with the error as it was. */
	ReThrowError(error);
}

/*
 * The value in a column, from 1 on, of a row of SPI_tuptable, from 0 on.
 *
 * Raises an error if the column is of another type.
 */
Datum
spi_value(int row, int column, Oid type, bool *isnull)
{
	/*
	 * An owner may have altered a column's type: a Datum read as another type
	 * is a wild pointer.
	 */
	Oid			real = SPI_gettypeid(SPI_tuptable->tupdesc, column);

	if (real != type)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column %d of a statement's result has type %s instead of %s",
						column, format_type_be(real), format_type_be(type))));
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 column, isnull);
}

/*
 * A column of the result, of a type that is known; false, 0, or an empty name
 * where it is null.
 */
bool
spi_bool(int row, int column)
{
	bool		isnull;
	Datum		value = spi_value(row, column, BOOLOID, &isnull);

	return !isnull && DatumGetBool(value);
}

int32
spi_int4(int row, int column)
{
	bool		isnull;
	Datum		value = spi_value(row, column, INT4OID, &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

int64
spi_int8(int row, int column)
{
	bool		isnull;
	Datum		value = spi_value(row, column, INT8OID, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

Oid
spi_oid(int row, int column)
{
	bool		isnull;
	Datum		value = spi_value(row, column, OIDOID, &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(value);
}

NameData
spi_name(int row, int column)
{
	NameData	name = {{0}};
	bool		isnull;
	Datum		value = spi_value(row, column, NAMEOID, &isnull);

	return isnull ? name : *DatumGetName(value);
}

TimestampTz
spi_timestamptz(int row, int column)
{
	bool		isnull;
	Datum		value = spi_value(row, column, TIMESTAMPTZOID, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(value);
}

/*
 * A value of any type as text, palloc'd; NULL where it is null.
 */
char *
spi_text(int row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						column);
}

/*-------------------------------------------------------------------------
 *
 * kept_statement.c
 *	  Statements on screenshot_task_request whose plans a session keeps
 *
 * A statement is prepared when it is first run, for what the table is called,
 * and anew when that changes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/rel.h"

#include "sql/kept_statement.h"
#include "table/request_table.h"
#include "util/statement.h"

static struct
{
	char	   *table;			/* qualified; NULL: nothing is prepared */
	char	   *status_type;
	KeptStatement *statements;	/* that are prepared */
	int			n_running;		/* one in the other, by triggers */
}			kept;

/*
 * Have statements be for the request table, which is open, under the names that
 * it has now.
 */
void
kept_statements_use(Relation relation)
{
	char	   *table = request_table_name(relation);
	char	   *status_type = request_table_status_type(relation);

	if (kept.table != NULL && strcmp(kept.table, table) == 0 &&
		strcmp(kept.status_type, status_type) == 0)
		return;
	if (kept.n_running > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("the request table was renamed while it was used")));
	while (kept.statements != NULL)
	{
		SPI_freeplan(kept.statements->plan);
		kept.statements->plan = NULL;
		kept.statements = kept.statements->next;
	}
	if (kept.table != NULL)
	{
		pfree(kept.table);
		pfree(kept.status_type);
		kept.table = NULL;
	}
	kept.status_type = MemoryContextStrdup(TopMemoryContext, status_type);
	kept.table = MemoryContextStrdup(TopMemoryContext, table);
}

/*
 * The plan of a statement, for the names that were last given.
 */
SPIPlanPtr
kept_plan(KeptStatement *statement)
{
	if (statement->plan == NULL)
	{
		SPIPlanPtr	plan = kept_plan_once(statement);

		(void) SPI_keepplan(plan);
		statement->plan = plan;
		statement->next = kept.statements;
		kept.statements = statement;
	}
	return statement->plan;
}

/*
 * The plan of a statement, for the time until SPI_finish().
 */
SPIPlanPtr
kept_plan_once(const KeptStatement *statement)
{
	return spi_prepare(psprintf(statement->text, kept.table, kept.status_type),
					   statement->nargs, unconstify(Oid *, &statement->types[0]));
}

/*
 * A plan is about to be executed, and must not be freed meanwhile.
 * kept_plan_ends() must follow, whatever happens.
 */
void
kept_plan_begins(void)
{
	kept.n_running++;
}

void
kept_plan_ends(void)
{
	kept.n_running--;
}

/*
 * Run a statement.  Returns how many rows it gave or changed.
 */
int
kept_statement_run(KeptStatement *statement, Datum *args, const char *nulls)
{
	SPIPlanPtr	plan = kept_plan(statement);

	kept_plan_begins();
	PG_TRY();
	{
		spi_execute(plan, args, nulls);
	}
	PG_FINALLY();
	{
		kept_plan_ends();
	}
	PG_END_TRY();
	return (int) SPI_processed;
}

/*-------------------------------------------------------------------------
 *
 * make_request.c
 *	  Inserting a request, unless there is one of its reference
 *
 * For enqueue_screenshot_task() and screenshot_task_trigger().  The request is
 * inserted as the current role, which needs the right to insert.  What this
 * transaction has withdrawn, and would be made again, is restored instead.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "compat.h"
#include "sql/admin_functions.h"
#include "sql/kept_statement.h"
#include "sql/make_request.h"
#include "sql/new_request.h"
#include "sql/withdraw.h"
#include "sql/withdrawal_notes.h"
#include "table/request_table.h"
#include "table/status.h"
#include "util/statement.h"

/* How often a reference may be found to be taken, by a row that then is gone */
#define MAX_TURNS			10

/* Statements of an INSERT: a set of parameters has one, and few sets are in use */
#define MAX_INSERTS			8

/* Of all the parameters, in their order */
#define PARAMETER_COLUMNS \
	"stream_name, domain_name, app_name, end_time, template_id, start_time," \
	" stream_type, extension, server, reference"

static KeptStatement find_statement = {
	REQUEST_STATEMENT "SELECT " PARAMETER_COLUMNS ", id FROM %1$s"
	" WHERE role OPERATOR(pg_catalog.=) $1"
	" AND reference OPERATOR(pg_catalog.=) $2 AND withdrawn_at IS NULL",
	2, {OIDOID, TEXTOID}, NULL, NULL
};

static struct
{
	int			n;
	struct
	{
		uint32		given;		/* a bit for each parameter */
		KeptStatement statement;
	}			sets[MAX_INSERTS];
}			inserts;

static void insert_or_find(const RequestValues *values, OtherRequest other,
						   const char *table, Oid owner, MadeRequest *made);
static bool restore(const RequestValues *values, MadeRequest *made);
static bool find(Datum reference, RequestValues *found);
static bool insert(const RequestValues *values, int64 replaces);
static SPIPlanPtr insert_plan(const RequestValues *values);
static char *write_insert(const RequestValues *values, KeptStatement *statement);
static void refuse_not_inserted(const RequestValues *values,
								const char *table, Oid owner);
static void refuse_held(const char *table, Oid owner, Datum reference);

/*
 * Insert a request of these parameters, unless the role has one of the same
 * reference; where that has other parameters, "other" says what becomes of it.
 * The new one takes the place of "replaces", unless that is 0.  What is said of
 * it is palloc'd.
 *
 * Raises an error if that is not possible.
 */
void
make_request(const RequestValues *values, OtherRequest other, int64 replaces,
			 MadeRequest *made)
{
	MemoryContext context = CurrentMemoryContext;
	Relation	relation = request_table_open(RowExclusiveLock);
	char	   *table = request_table_name(relation);
	Oid			owner = relation->rd_rel->relowner;

	check_may_insert(relation);
	kept_statements_use(relation);
	table_close(relation, NoLock);
	memset(made, 0, sizeof(MadeRequest));
	made->replaces = replaces;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	insert_or_find(values, other, table, owner, made);
	if (made->differing != NULL)
		made->differing = MemoryContextStrdup(context, made->differing);
	SPI_finish();
}

static void
insert_or_find(const RequestValues *values, OtherRequest other,
			   const char *table, Oid owner, MadeRequest *made)
{
	Datum		reference = values->values[PARAMETER_REFERENCE];
	bool		has_reference = !values->nulls[PARAMETER_REFERENCE];
	Oid			role = GetUserId();
	char	   *chars = has_reference ? TextDatumGetCString(reference) : NULL;

	for (int turn = 0;; turn++)
	{
		RequestValues found;

		if (has_reference && restore(values, made))
			return;
		if (insert(values, made->replaces))
		{
			const char *status = spi_text(0, 2);

			made->id = spi_int8(0, 1);
			made->existed = false;
			made->has_expired = status != NULL &&
				status_of_name(status) == STATUS_EXPIRED;
			return;
		}
		if (!has_reference || turn == MAX_TURNS)
			refuse_not_inserted(values, table, owner);

		/* The role has a request of this reference, or had one just now. */
		if (find(reference, &found))
		{
			made->id = spi_int8(0, N_PARAMETERS + 1);
			made->existed = true;
			made->differing = differing_parameters(values, &found);
			if (other == OTHER_ROW_IS_REPLACED)
				notes_change_holders(reference_key(role, chars), 1);
			if (made->differing == NULL || other == OTHER_STAYS)
				return;
			made->replaces = withdraw_reference(role, chars,
												other == OTHER_ROW_IS_REPLACED);
			other = OTHER_IS_REPLACED;
		}
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Have the request back that this transaction has withdrawn, if it was the same.
 */
static bool
restore(const RequestValues *values, MadeRequest *made)
{
	Datum		reference = values->values[PARAMETER_REFERENCE];
	char	   *chars = TextDatumGetCString(reference);
	Oid			role = GetUserId();
	List	   *withdrawn = notes_withdrawn_of(reference_key(role, chars));
	RequestValues found;

	if (withdrawn == NIL || find(reference, &found))
		return false;
	if (!restore_reference(role, chars, values, &made->id))
	{
		/* That one goes, and this one comes, for the same row. */
		if (made->replaces == 0)
			made->replaces = ((WithdrawalNote *) linitial(withdrawn))->id;
		return false;
	}
	made->existed = true;
	made->differing = NULL;
	return true;
}

/*
 * Find the request that the role has of a reference.  Returns whether there is
 * one, which SPI has in its row then, and its parameters, in SPI's memory.
 */
static bool
find(Datum reference, RequestValues *found)
{
	Datum		args[2] = {ObjectIdGetDatum(GetUserId()), reference};

	if (kept_statement_run(&find_statement, args, NULL) == 0)
		return false;
	for (int i = 0; i < N_PARAMETERS; i++)
	{
		found->given[i] = true;
		found->values[i] = spi_value(0, i + 1, request_parameters[i].type,
									 &found->nulls[i]);
	}
	return true;
}

/*
 * Returns whether a request was inserted: its id and status are in the row that
 * SPI has then.
 */
static bool
insert(const RequestValues *values, int64 replaces)
{
	Datum		args[N_PARAMETERS];
	char		nulls[N_PARAMETERS];
	SPIPlanPtr	plan = insert_plan(values);
	int			n = 0;

	for (int i = 0; i < N_PARAMETERS; i++)
	{
		if (!values->given[i])
			continue;
		args[n] = values->values[i];
		nulls[n++] = values->nulls[i] ? 'n' : ' ';
	}
	kept_plan_begins();
	PG_TRY();
	{
		insert_request(plan, args, nulls, replaces);
	}
	PG_FINALLY();
	{
		kept_plan_ends();
	}
	PG_END_TRY();
	return SPI_processed > 0;
}

/*
 * The plan of an INSERT of the parameters that are given.
 */
static SPIPlanPtr
insert_plan(const RequestValues *values)
{
	uint32		given = 0;
	KeptStatement *statement;

	for (int i = 0; i < N_PARAMETERS; i++)
		given |= values->given[i] ? 1U << i : 0;
	for (int i = 0; i < inserts.n; i++)
	{
		if (inserts.sets[i].given == given)
			return kept_plan(&inserts.sets[i].statement);
	}
	if (inserts.n == MAX_INSERTS)
	{
		KeptStatement once = {0};

		once.text = write_insert(values, &once);
		return kept_plan_once(&once);
	}
	statement = &inserts.sets[inserts.n].statement;
	statement->nargs = 0;
	statement->text = MemoryContextStrdup(TopMemoryContext,
										  write_insert(values, statement));
	inserts.sets[inserts.n++].given = given;
	return kept_plan(statement);
}

/*
 * The text of such an INSERT.  Sets the types of its arguments.
 */
static char *
write_insert(const RequestValues *values, KeptStatement *statement)
{
	StringInfoData names;
	StringInfoData numbers;

	initStringInfo(&names);
	initStringInfo(&numbers);
	for (int i = 0; i < N_PARAMETERS; i++)
	{
		const char *separator = statement->nargs > 0 ? ", " : "";

		if (!values->given[i])
			continue;
		statement->types[statement->nargs++] = request_parameters[i].type;
		appendStringInfo(&names, "%s%s", separator, request_parameters[i].name);
		appendStringInfo(&numbers, "%s$%d", separator, statement->nargs);
	}
	/* The table is a place in it. */
	return psprintf(REQUEST_STATEMENT "INSERT INTO %%1$s (%s) VALUES (%s)"
					" ON CONFLICT (role, reference)"
					" WHERE reference IS NOT NULL AND withdrawn_at IS NULL"
					" DO NOTHING RETURNING id, status",
					names.data, numbers.data);
}

/*
 * Raise an error: something keeps the request out.
 */
static void
refuse_not_inserted(const RequestValues *values, const char *table, Oid owner)
{
	if (!values->nulls[PARAMETER_REFERENCE])
		refuse_held(table, owner, values->values[PARAMETER_REFERENCE]);
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
			 errmsg("the request was not inserted"),
			 errhint("Check the triggers, rules and policies on table %s.",
					 table)));
}

/*
 * Raise an error if the reference is that of a request which came in a dump
 * under another name of the role: the policy hides it, and the index counts
 * it.  Looks as the owner of the table, at what is the role's own.
 */
static void
refuse_held(const char *table, Oid owner, Datum reference)
{
	Oid			argtypes[2] = {OIDOID, TEXTOID};
	Datum		args[2] = {ObjectIdGetDatum(GetUserId()), reference};
	Oid			user;
	int			security_context;

	GetUserIdAndSecContext(&user, &security_context);
	SetUserIdAndSecContext(owner, security_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION |
						   SECURITY_NOFORCE_RLS);
	SPI_execute_with_args(psprintf(REQUEST_STATEMENT "SELECT requested_by FROM %s"
								   " WHERE role OPERATOR(pg_catalog.=) $1"
								   " AND reference OPERATOR(pg_catalog.=) $2"
								   " AND withdrawn_at IS NULL"
								   " AND origin OPERATOR(pg_catalog.=) 0::pg_catalog.int8",
								   table),
						  lengthof(args), argtypes, args, NULL, false, 1);
	SetUserIdAndSecContext(user, security_context);
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the request was not inserted: a held request has reference \"%s\"",
						TextDatumGetCString(reference)),
				 errdetail("It came in a dump or a copy of a database, as a request of role \"%s\".",
						   spi_text(0, 1)),
				 errhint("The owner of the table can delete it, or set its requested_by to the role's current name so that it can be adopted.")));
}

/*-------------------------------------------------------------------------
 *
 * make_request.c
 *	  Inserting a request, unless there is one of its reference
 *
 * For enqueue_screenshot_task() and screenshot_task_trigger().  The request is
 * inserted as the current role, which needs the right to insert.
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
#include "sql/make_request.h"
#include "sql/new_request.h"
#include "table/request_table.h"
#include "table/status.h"
#include "util/statement.h"

/* How often a reference may be found to be taken, by a row that then is gone */
#define MAX_TURNS			10

/* Plans of an INSERT: a set of parameters has one, and few sets are in use */
#define MAX_INSERTS			8

/* Of all the parameters, in their order */
#define PARAMETER_COLUMNS \
	"stream_name, domain_name, app_name, end_time, template_id, start_time," \
	" stream_type, extension, server, reference"

/* Plans that are kept for the session, for what the table was called */
static struct
{
	char	   *table;			/* qualified; NULL: there are none */
	int			n_running;		/* executions under way, one in the other */
	SPIPlanPtr	find;
	int			n_inserts;
	struct
	{
		uint32		given;		/* a bit for each parameter */
		SPIPlanPtr	plan;
	}			inserts[MAX_INSERTS];
}			plans;

static void insert_or_find(const RequestValues *values, const char *table,
						   Oid owner, MadeRequest *made);
static bool insert(const RequestValues *values, const char *table);
static SPIPlanPtr insert_plan(const RequestValues *values, const char *table);
static SPIPlanPtr prepare_insert(const RequestValues *values,
								 const char *table);
static bool find(Datum reference, const char *table, RequestValues *found);
static void refuse_not_inserted(const RequestValues *values,
								const char *table, Oid owner);
static void refuse_held(const char *table, Oid owner, Datum reference);
static void use_plans_of(const char *table);

/*
 * Insert a request of these parameters, unless the role has one of the same
 * reference.  What is said of it is palloc'd.
 *
 * Raises an error if that is not possible.
 */
void
make_request(const RequestValues *values, MadeRequest *made)
{
	MemoryContext context = CurrentMemoryContext;
	Relation	relation = request_table_open(RowExclusiveLock);
	char	   *table = request_table_name(relation);
	Oid			owner = relation->rd_rel->relowner;

	check_may_insert(relation);
	table_close(relation, NoLock);
	memset(made, 0, sizeof(MadeRequest));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	use_plans_of(table);
	plans.n_running++;
	PG_TRY();
	{
		insert_or_find(values, table, owner, made);
	}
	PG_FINALLY();
	{
		plans.n_running--;
	}
	PG_END_TRY();
	if (made->differing != NULL)
		made->differing = MemoryContextStrdup(context, made->differing);
	SPI_finish();
}

static void
insert_or_find(const RequestValues *values, const char *table, Oid owner,
			   MadeRequest *made)
{
	Datum		reference = values->values[PARAMETER_REFERENCE];

	for (int turn = 0;; turn++)
	{
		RequestValues found;

		if (insert(values, table))
		{
			const char *status = spi_text(0, 2);

			made->id = spi_int8(0, 1);
			made->has_expired = status != NULL &&
				status_of_name(status) == STATUS_EXPIRED;
			return;
		}
		if (values->nulls[PARAMETER_REFERENCE] || turn == MAX_TURNS)
			refuse_not_inserted(values, table, owner);

		/* The role has a request of this reference, or had one just now. */
		if (find(reference, table, &found))
		{
			made->id = spi_int8(0, N_PARAMETERS + 1);
			made->existed = true;
			made->differing = differing_parameters(values, &found);
			return;
		}
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Returns whether a request was inserted: its id and status are in the row that
 * SPI has then.
 */
static bool
insert(const RequestValues *values, const char *table)
{
	Datum		args[N_PARAMETERS];
	char		nulls[N_PARAMETERS];
	int			n = 0;

	for (int i = 0; i < N_PARAMETERS; i++)
	{
		if (!values->given[i])
			continue;
		args[n] = values->values[i];
		nulls[n++] = values->nulls[i] ? 'n' : ' ';
	}
	insert_request(insert_plan(values, table), args, nulls);
	return SPI_processed > 0;
}

static SPIPlanPtr
insert_plan(const RequestValues *values, const char *table)
{
	uint32		given = 0;
	SPIPlanPtr	plan;

	for (int i = 0; i < N_PARAMETERS; i++)
		given |= values->given[i] ? 1U << i : 0;
	for (int i = 0; i < plans.n_inserts; i++)
	{
		if (plans.inserts[i].given == given)
			return plans.inserts[i].plan;
	}
	plan = prepare_insert(values, table);
	if (plans.n_inserts < MAX_INSERTS)
	{
		(void) SPI_keepplan(plan);
		plans.inserts[plans.n_inserts].given = given;
		plans.inserts[plans.n_inserts++].plan = plan;
	}
	return plan;
}

static SPIPlanPtr
prepare_insert(const RequestValues *values, const char *table)
{
	StringInfoData names;
	StringInfoData numbers;
	Oid			types[N_PARAMETERS];
	int			n = 0;

	initStringInfo(&names);
	initStringInfo(&numbers);
	for (int i = 0; i < N_PARAMETERS; i++)
	{
		const char *separator = n > 0 ? ", " : "";

		if (!values->given[i])
			continue;
		types[n++] = request_parameters[i].type;
		appendStringInfo(&names, "%s%s", separator, request_parameters[i].name);
		appendStringInfo(&numbers, "%s$%d", separator, n);
	}
	return spi_prepare(psprintf("INSERT INTO %s (%s) VALUES (%s)"
								" ON CONFLICT (role, reference)"
								" WHERE reference IS NOT NULL DO NOTHING"
								" RETURNING id, status",
								table, names.data, numbers.data), n, types);
}

/*
 * Find the request that the role has of a reference.  Returns whether there is
 * one, which SPI has in its row then, and its parameters, in SPI's memory.
 */
static bool
find(Datum reference, const char *table, RequestValues *found)
{
	Oid			types[2] = {OIDOID, TEXTOID};
	Datum		args[2] = {ObjectIdGetDatum(GetUserId()), reference};

	if (plans.find == NULL)
	{
		SPIPlanPtr	plan = spi_prepare(psprintf("SELECT " PARAMETER_COLUMNS ", id FROM %s"
												" WHERE role OPERATOR(pg_catalog.=) $1"
												" AND reference OPERATOR(pg_catalog.=) $2",
												table),
									   lengthof(types), types);

		(void) SPI_keepplan(plan);
		plans.find = plan;
	}
	spi_execute(plans.find, args, NULL);
	for (int i = 0; SPI_processed > 0 && i < N_PARAMETERS; i++)
	{
		found->given[i] = true;
		found->values[i] = spi_value(0, i + 1, request_parameters[i].type,
									 &found->nulls[i]);
	}
	return SPI_processed > 0;
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

/*
 * Forget the plans of a table that had another name, unless one is being
 * executed, by a trigger which fired this one.
 */
static void
use_plans_of(const char *table)
{
	if (plans.table != NULL && strcmp(plans.table, table) == 0)
		return;
	if (plans.n_running > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("the request table was renamed while a request was inserted")));
	if (plans.find != NULL)
		SPI_freeplan(plans.find);
	plans.find = NULL;
	while (plans.n_inserts > 0)
		SPI_freeplan(plans.inserts[--plans.n_inserts].plan);
	if (plans.table != NULL)
		pfree(plans.table);
	plans.table = NULL;
	plans.table = MemoryContextStrdup(TopMemoryContext, table);
}

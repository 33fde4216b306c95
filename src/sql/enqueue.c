/*-------------------------------------------------------------------------
 *
 * enqueue.c
 *	  enqueue_screenshot_task(): a request into the table, once for each reference
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "sql/row_triggers.h"
#include "sql/admin_functions.h"
#include "table/request_table.h"
#include "table/status.h"
#include "util/statement.h"

/* How often a reference may be found to be taken, by a row that then is gone */
#define MAX_TURNS			10

static void notice_if_expired(void);
static void refuse_held(const char *table, Oid owner, Datum reference);
static SPIPlanPtr prepare(SPIPlanPtr *plan, char **plan_table,
						  const char *table, const char *text, int nargs,
						  Oid *argtypes);

PG_FUNCTION_INFO_V1(enqueue_screenshot_task);

/*
 * enqueue_screenshot_task(...) returns the id of the request
 */
Datum
enqueue_screenshot_task(PG_FUNCTION_ARGS)
{
	enum
	{
		N_ARGS = 10,
		ARG_REFERENCE = 9
	};
	static SPIPlanPtr insert_plan = NULL;
	static char *insert_table = NULL;
	static SPIPlanPtr find_plan = NULL;
	static char *find_table = NULL;
	Oid			argtypes[N_ARGS] = {
		TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID,
		INT4OID, TEXTOID, NAMEOID, TEXTOID
	};
	Datum		args[N_ARGS];
	char		nulls[N_ARGS];
	Oid			find_argtypes[2] = {OIDOID, TEXTOID};
	Datum		find_args[2];
	Relation	relation;
	char	   *table;
	Oid			owner;
	int64		id;

	for (int i = 0; i < N_ARGS; i++)
	{
		args[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}

	find_args[0] = ObjectIdGetDatum(GetUserId());
	find_args[1] = args[ARG_REFERENCE];
	relation = request_table_open(RowExclusiveLock);
	table = request_table_name(relation);
	owner = relation->rd_rel->relowner;
	check_may_insert(relation);
	table_close(relation, NoLock);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	for (int turn = 0;; turn++)
	{
		SPIPlanPtr	plan;

		plan = prepare(&insert_plan, &insert_table, table,
					   "INSERT INTO %s (stream_name, domain_name, app_name,"
					   " end_time, template_id, start_time, stream_type,"
					   " extension, server, reference)"
					   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
					   " ON CONFLICT (role, reference)"
					   " WHERE reference IS NOT NULL DO NOTHING"
					   " RETURNING id, status",
					   N_ARGS, argtypes);
		insert_request(plan, args, nulls);
		if (SPI_processed > 0)
		{
			notice_if_expired();
			break;
		}
		if (!PG_ARGISNULL(ARG_REFERENCE) && turn == MAX_TURNS)
			refuse_held(table, owner, args[ARG_REFERENCE]);
		if (PG_ARGISNULL(ARG_REFERENCE) || turn == MAX_TURNS)
			ereport(ERROR,
					(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
					 errmsg("the request was not inserted"),
					 errhint("Look for a trigger, a rule or a policy on table %s that keeps it out.",
							 table)));

		/* The role has a request of this reference, or had one just now. */
		plan = prepare(&find_plan, &find_table, table,
					   "SELECT id FROM %s"
					   " WHERE role OPERATOR(pg_catalog.=) $1"
					   " AND reference OPERATOR(pg_catalog.=) $2",
					   lengthof(find_args), find_argtypes);
		spi_execute(plan, find_args, NULL);
		if (SPI_processed > 0)
			break;
		CHECK_FOR_INTERRUPTS();
	}
	id = spi_int8(0, 1);
	SPI_finish();
	PG_RETURN_INT64(id);
}

/*
 * Say so if the request that was inserted is not going to be sent.
 */
static void
notice_if_expired(void)
{
	const char *status = spi_text(0, 2);

	if (status != NULL && status_of_name(status) == STATUS_EXPIRED)
		ereport(NOTICE,
				(errmsg("screenshot task request %lld has expired: its end_time has passed",
						(long long) spi_int8(0, 1)),
				 errdetail("It is kept, and not sent.")));
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
				 errmsg("the request was not inserted: one with reference \"%s\" is held",
						TextDatumGetCString(reference)),
				 errdetail("It came in a dump or a copy of a database, as a request of role \"%s\".",
						   spi_text(0, 1)),
				 errhint("The owner of the table may delete it, or set its requested_by to the name that the role has now, to be adopted.")));
}

/*
 * A plan that is kept for the session, made anew if the table has another
 * name than it was made for.  The text has the table as %s.
 */
static SPIPlanPtr
prepare(SPIPlanPtr *plan, char **plan_table, const char *table,
		const char *text, int nargs, Oid *argtypes)
{
	SPIPlanPtr	made;
	char	   *name;

	if (*plan != NULL && strcmp(*plan_table, table) == 0)
		return *plan;

	if (*plan != NULL)
	{
		SPI_freeplan(*plan);
		*plan = NULL;
		pfree(*plan_table);
	}
	made = spi_prepare(psprintf(text, table), nargs, argtypes);
	name = MemoryContextStrdup(TopMemoryContext, table);
	(void) SPI_keepplan(made);
	*plan_table = name;
	*plan = made;
	return made;
}

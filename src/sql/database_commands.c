/*-------------------------------------------------------------------------
 *
 * database_commands.c
 *	  Keeping the worker out of the way of commands on its database
 *
 * DROP DATABASE, ALTER DATABASE ... RENAME and SET TABLESPACE, and CREATE
 * DATABASE with a template refuse a database that anybody is connected to.
 * Before such a command the worker of the database leaves, and none comes
 * until the command's transaction has ended, well or not, or a savepoint
 * before it was rolled back to.  Requests that the worker was sending are in
 * doubt then, as whenever a worker ends.
 *
 * Only for roles that may run the command: nobody else should be able to make
 * a worker leave, by a command that is refused.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/syscache.h"

#include "compat.h"
#include "shmem/shared_state.h"
#include "sql/database_commands.h"

static ProcessUtility_hook_type previous_utility = NULL;

/* A database slot that the transaction holds */
typedef struct Hold
{
	int 		slot;
	int			level;			/* of the subtransaction that it is for */
} Hold;

/* Databases that commands of this session keep workers out of */
static struct
{
	Hold	   *databases;
	int			n;
	int			max;
}			holds;

static void at_utility(PlannedStmt *statement, const char *query_string,
					   bool read_only_tree, ProcessUtilityContext context,
					   ParamListInfo params, QueryEnvironment *environment,
					   DestReceiver *dest, QueryCompletion *completion);
static const char *database_to_have_alone(Node *statement);
static const char *option_value(List *options, const char *name);
static void have_alone(const char *name, bool to_copy);
static bool may_have_alone(Oid database, bool to_copy);
static bool may_create_databases(void);
static void make_room(void);
static void release(int level);
static void at_transaction_end(XactEvent event, void *arg);
static void at_subtransaction_end(SubXactEvent event, SubTransactionId mine,
								  SubTransactionId parent, void *arg);

/*
 * Set up the callbacks, once a process.  To be called as the library is preloaded.
 */
void
database_commands_init(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = at_utility;
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}

/*
 * ProcessUtility_hook: have the worker leave before such a command runs.
 */
static void
at_utility(PlannedStmt *statement, const char *query_string,
		   bool read_only_tree, ProcessUtilityContext context,
		   ParamListInfo params, QueryEnvironment *environment,
		   DestReceiver *dest, QueryCompletion *completion)
{
	const char *name = database_to_have_alone(statement->utilityStmt);

	/* Before the command: it waits 5 s for others to leave, and then fails. */
	if (name != NULL)
		have_alone(name, IsA(statement->utilityStmt, CreatedbStmt));
	if (previous_utility)
		previous_utility(statement, query_string, read_only_tree, context,
						 params, environment, dest, completion);
	else
		standard_ProcessUtility(statement, query_string, read_only_tree,
								context, params, environment, dest,
								completion);
}

/*
 * The database that nobody may be connected to for a statement, or NULL.
 */
static const char *
database_to_have_alone(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) statement)->dbname;
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				return ((RenameStmt *) statement)->subname;
			return NULL;
		case T_AlterDatabaseStmt:
			if (option_value(((AlterDatabaseStmt *) statement)->options,
							 "tablespace") != NULL)
				return ((AlterDatabaseStmt *) statement)->dbname;
			return NULL;
		case T_CreatedbStmt:
			return option_value(((CreatedbStmt *) statement)->options,
								"template");
		default:
			return NULL;
	}
}

/*
 * The value of an option of a command; NULL if it is not given.
 */
static const char *
option_value(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, name) == 0 && option->arg != NULL)
			return defGetString(option);
	}
	return NULL;
}

/*
 * Have the worker leave the database of a name, if it is one that the user
 * may have alone.
 */
static void
have_alone(const char *name, bool to_copy)
{
	static uint32 wait_event = 0;
	Oid			database = get_database_oid(name, true);
	int 		slot;

	/* What does not exist, or is this database, the command itself refuses. */
	if (!OidIsValid(database) || database == MyDatabaseId ||
		!may_have_alone(database, to_copy))
		return;
	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("ScreenshotTaskStepAside");
	make_room();
	slot = hold_database(database);
	if (slot < 0)
		return;
	holds.databases[holds.n].slot = slot;

	/*
	 * Noted before the wait, which can be interrupted: the hold ends with the
	 * (sub)transaction in any case.
	 */
	holds.databases[holds.n].level = GetCurrentTransactionNestLevel();
	holds.n++;
	wait_for_worker_to_leave(slot, wait_event);
}

/*
 * Have room for one more hold: once there is a hold, nothing may fail before
 * it is known.
 */
static void
make_room(void)
{
	int			n = Max(2 * holds.max, 8);

	if (holds.n < holds.max)
		return;
	if (holds.databases == NULL)
		holds.databases = MemoryContextAlloc(TopMemoryContext, n * sizeof(Hold));
	else
		holds.databases = repalloc(holds.databases, n * sizeof(Hold));
	holds.max = n;
}

/*
 * End the holds of a nesting level, and of those within it.
 */
static void
release(int level)
{
	/* A stack: holds of inner levels are always on top. */
	while (holds.n > 0 && holds.databases[holds.n - 1].level >= level)
		release_database(holds.databases[--holds.n].slot);
}

/*
 * May the user do what needs a database alone?  Who may create databases may
 * copy any template.
 */
static bool
may_have_alone(Oid database, bool to_copy)
{
	HeapTuple	tuple;
	bool		is_template;

	if (database_ownercheck(database, GetUserId()))
		return true;
	if (!to_copy || !may_create_databases())
		return false;
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (!HeapTupleIsValid(tuple))
		return false;
	is_template = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
	ReleaseSysCache(tuple);
	return is_template;
}

/*
 * PostgreSQL's have_createdb_privilege(), which not every minor version of 15
 * lets extensions call.
 */
static bool
may_create_databases(void)
{
	HeapTuple	tuple;
	bool		may;

	if (superuser())
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (!HeapTupleIsValid(tuple))
		return false;
	may = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
	ReleaseSysCache(tuple);
	return may;
}

/*
 * The transaction has ended, one way or another.
 */
static void
at_transaction_end(XactEvent event, void *arg)
{
	(void) arg;
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;

	/*
	 * At PREPARE, too: the command has run, and its lock on the database,
	 * which the prepared transaction keeps, lets nobody connect.
	 */
	release(0);
}

/*
 * A subtransaction has ended, one way or another.
 */
static void
at_subtransaction_end(SubXactEvent event, SubTransactionId mine,
					  SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	(void) mine;
	(void) parent;
	(void) arg;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		release(level);
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		/* They are the parent's now, and end with it. */
		for (int i = holds.n - 1; i >= 0 && holds.databases[i].level >= level; i--)
			holds.databases[i].level = level - 1;
	}
}

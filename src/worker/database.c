/*-------------------------------------------------------------------------
 *
 * database.c
 *	  Which databases may have a worker
 *
 * The launcher asks before it starts a worker, and the worker when its
 * database was altered.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "utils/syscache.h"

#include "compat.h"
#include "worker/database.h"

/*
 * May a worker connect to a database, and have something to do there?  In a
 * template it would be in the way of its copies.
 */
bool
can_be_served(Form_pg_database database)
{
	/* what DROP DATABASE leaves when it is interrupted */
	const int	invalid = -2;

	return database->datallowconn && !database->datistemplate &&
		database->datconnlimit != invalid;
}

/*
 * May a worker connect to the database of an OID, which may be gone, and have
 * something to do there?  Looks in the transaction that is open, or else in
 * one of its own.
 */
bool
database_may_be_served(Oid database)
{
	MemoryContext context = CurrentMemoryContext;
	bool		begins = !IsTransactionState();
	HeapTuple	tuple;
	bool		result = false;

	if (begins)
		StartTransactionCommand();
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (HeapTupleIsValid(tuple))
	{
		result = can_be_served((Form_pg_database) GETSTRUCT(tuple));
		ReleaseSysCache(tuple);
	}
	if (begins)
		CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return result;
}

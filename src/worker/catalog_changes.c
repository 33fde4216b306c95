/*-------------------------------------------------------------------------
 *
 * catalog_changes.c
 *	  What has changed in the catalogs that matters to the worker
 *
 * A change of a server, a user mapping or a role may be a reason to end pauses,
 * and one of the database, to leave it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/inval.h"
#include "utils/syscache.h"

#include "compat.h"
#include "worker/channel.h"
#include "worker/database.h"
#include "worker/reconcile.h"
#include "worker/withdrawal.h"
#include "worker/worker_private.h"

/*
 * How soon a change of a server, a mapping or a role ends pauses again: any
 * role may change its own password as often as it likes.
 */
#define CHANGE_REST			(5 * US_PER_SECOND)

/* What has changed in the catalogs */
static struct
{
	bool		any;			/* that may end pauses */
	bool		servers;		/* has one been made, or altered? */
	bool		options;		/* the same, for those that are disabled */
	MonotonicUs check_at;		/* the next time that any has */
	bool		database;		/* may it be served still? */
	bool		is_served;		/* it was, at last sight */
}			changes = {.database = true, .is_served = true};

static void on_catalog_change(Datum arg, int cache, uint32 hash);
static void on_database_change(Datum arg, int cache, uint32 hash);

/*
 * Register for changes of catalogs, and of the database.
 */
void
catalog_changes_init(Oid database)
{
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, on_catalog_change, (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGOID, on_catalog_change, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, on_catalog_change, (Datum) 0);
	CacheRegisterSyscacheCallback(DATABASEOID, on_database_change,
								  UInt32GetDatum(GetSysCacheHashValue1(DATABASEOID,
																	   ObjectIdGetDatum(database))));
}

/*
 * A server, a user mapping or a role has changed.
 */
static void
on_catalog_change(Datum arg, int cache, uint32 hash)
{
	(void) arg;
	(void) hash;
	/* Only noted: callbacks run in the middle of catalog access. */
	changes.any = true;
	changes.servers |= cache == FOREIGNSERVEROID;
	changes.options |= cache == FOREIGNSERVEROID;
}

/*
 * A database has changed.
 */
static void
on_database_change(Datum arg, int cache, uint32 hash)
{
	(void) cache;
	/* 0 means that the whole cache was reset. */
	if (hash == 0 || hash == DatumGetUInt32(arg))
		changes.database = true;
}

/*
 * End pauses, if something has changed that may be a reason to.
 */
void
check_catalog_change(void)
{
	MonotonicUs now = monotonic_now();

	/* A server is enabled at once, since nothing is sent to see whether it is. */
	if (changes.options)
	{
		changes.options = false;
		if (servers_read_anew())
		{
			reconcile_scan();
			withdrawal_scan();
		}
	}
	if (!changes.any || changes.check_at > now)
		return;
	changes.any = false;
	changes.check_at = now + CHANGE_REST;
	/*
	 * Scanned for again, since the last scan left out the requests in doubt of
	 * paused channels.
	 */
	if (channels_end_pauses())
	{
		reconcile_scan();
		withdrawal_scan();
	}
}

/*
 * See whether this database may be served still, if it has changed.  In a
 * transaction or outside of one.
 */
void
check_database_change(void)
{
	if (!changes.database)
		return;
	/* Before it is looked at, so that a change meanwhile is not lost. */
	changes.database = false;
	changes.is_served = database_may_be_served(MyDatabaseId);
}

/*
 * Was a server created or altered since this was last called?
 */
bool
take_server_change(void)
{
	bool		changed = changes.servers;

	changes.servers = false;
	return changed;
}

/*
 * May this database be served, as far as was seen?
 */
bool
database_is_served(void)
{
	return changes.is_served;
}

/*
 * When to check next; never, if nothing has changed.
 */
MonotonicUs
catalog_changes_next_event(void)
{
	return changes.any ? changes.check_at : MONOTONIC_NEVER;
}

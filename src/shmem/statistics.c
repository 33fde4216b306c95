/*-------------------------------------------------------------------------
 *
 * statistics.c
 *	  What has become of the requests to each server, counted
 *
 * Counters in shared memory, by database and name of the server, since the
 * cluster started or they were reset.  To count is an atomic addition under a
 * shared lock, so that it may always be done; without shared memory nothing is
 * counted.
 *
 * Latencies are kept in a histogram whose buckets are as wide as a sixteenth
 * of the power of two that they lie above.  A percentile is the middle of its
 * bucket, and so is off by no more than a 32nd, or 3.2 %.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "config/wrapper.h"
#include "shmem/shared_state.h"
#include "shmem/statistics.h"
#include "util/text.h"

/* The most servers of a cluster that are counted */
#define MAX_SERVERS			512

/* Buckets for a power of two; and for all up to 2^30 us, or 18 minutes */
#define SUB_BITS			4
#define SUB_BUCKETS			(1 << SUB_BITS)
#define MAX_BITS			30
#define N_BUCKETS			((MAX_BITS - SUB_BITS + 1) * SUB_BUCKETS)

typedef struct ServerStat
{
	Oid			database;		/* InvalidOid: free */
	NameData	server;
	bool		known;			/* is there a server of that name, as last seen? */
	TimestampTz since;			/* when counting began */
	pg_atomic_uint64 counters[N_SERVER_COUNTERS];	/* by ServerCounter */
	pg_atomic_uint64 latencies[N_BUCKETS];	/* answers, by bucket_of() */
	pg_atomic_uint64 max_latency;	/* us */
} ServerStat;

struct StatTable
{
	int			n_used;			/* those after it are free */
	bool		overflow_was_logged;
	ServerStat	servers[MAX_SERVERS];
};

/* A row of the view screenshot_task_stat, without the database's name */
typedef struct StatRow
{
	NameData	server;
	Datum		values[2 + N_SERVER_COUNTERS + 4];
	bool		nulls[2 + N_SERVER_COUNTERS + 4];
} StatRow;

static ServerStat *find_server(StatTable *table, const char *server);
static ServerStat *add_server(StatTable *table, const char *server);
static ServerStat *find_room(StatTable *table);
static ServerStat *lock_server(const char *server);
static void clear(ServerStat *stat);
static void read_row(ServerStat *stat, StatRow *row);
static List *list_gone_databases(StatTable *table);
static bool has_counted(const ServerStat *stat);
static int	bucket_of(uint64 latency);
static uint64 middle_of(int bucket);
static Datum percentile(const ServerStat *stat, double fraction, bool *isnull);
static Datum latency_datum(uint64 us);

/* Of the segment; NULL without shared memory */
static struct
{
	StatTable  *table;
	LWLock	   *lock;			/* protects it */
}			shared = {NULL, NULL};

PG_FUNCTION_INFO_V1(screenshot_task_stat);
PG_FUNCTION_INFO_V1(screenshot_task_stat_reset);

/*
 * Bytes of this part of the segment.
 */
Size
stat_table_size(void)
{
	return sizeof(StatTable);
}

/*
 * Set up this part of the segment, as the cluster starts.
 */
void
stat_table_init(StatTable *table)
{
	table->n_used = 0;
	table->overflow_was_logged = false;
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		ServerStat *stat = &table->servers[i];

		stat->database = InvalidOid;
		for (int j = 0; j < N_SERVER_COUNTERS; j++)
			pg_atomic_init_u64(&stat->counters[j], 0);
		for (int j = 0; j < N_BUCKETS; j++)
			pg_atomic_init_u64(&stat->latencies[j], 0);
		pg_atomic_init_u64(&stat->max_latency, 0);
	}
}

/*
 * Have this process use this part of the segment, and the lock that protects
 * it.
 */
void
stat_table_attach(StatTable *table, LWLock *lock)
{
	shared.table = table;
	shared.lock = lock;
}

/*
 * Make entries for the servers of this database that have none yet, so that
 * the first event is seen as a change from 0.
 *
 * Needs a transaction.
 */
void
stat_know_servers(void)
{
	List	   *names;
	StatTable  *table;
	ListCell   *cell;

	if (shared.table == NULL)
		return;

	/*
	 * The catalog is read before the lock is taken: catalog access may wait,
	 * and raise errors.
	 */
	names = list_truncate(live_server_names(InvalidOid), MAX_SERVERS);
	table = shared.table;
	LWLockAcquire(shared.lock, LW_EXCLUSIVE);

	/*
	 * Servers of this database that are not found again below have been
	 * dropped.
	 */
	for (int i = 0; i < table->n_used; i++)
		table->servers[i].known &= table->servers[i].database != MyDatabaseId;
	foreach(cell, names)
	{
		ServerStat *stat = find_server(table, lfirst(cell));

		/*
		 * Only into free entries: a zero is not worth throwing another
		 * server's counts out.
		 */
		if (stat == NULL && table->n_used < MAX_SERVERS)
			stat = add_server(table, lfirst(cell));
		if (stat != NULL)
			stat->known = true;
	}
	LWLockRelease(shared.lock);
	list_free_deep(names);
}

/*
 * Add to a counter of a server of this database.
 */
void
stat_count(const char *server, ServerCounter counter, uint64 n)
{
	/* Counting nothing must not make an entry. */
	ServerStat *stat = n > 0 ? lock_server(server) : NULL;

	if (stat == NULL)
		return;
	pg_atomic_fetch_add_u64(&stat->counters[counter], n);
	LWLockRelease(shared.lock);
}

/*
 * Note how long a server of this database took to answer.
 */
void
stat_latency(const char *server, MonotonicUs latency)
{
	ServerStat *stat = lock_server(server);
	uint64		us = (uint64) Max(latency, 0);
	uint64		max;

	if (stat == NULL)
		return;
	pg_atomic_fetch_add_u64(&stat->latencies[bucket_of(us)], 1);
	max = pg_atomic_read_u64(&stat->max_latency);

	/*
	 * Others may raise it meanwhile.  A failed exchange loads the new value,
	 * with which it is tried again.
	 */
	while (us > max &&
		   !pg_atomic_compare_exchange_u64(&stat->max_latency, &max, us))
		;
	LWLockRelease(shared.lock);
}

/*
 * The entry of a server of this database, with the lock held; NULL, without
 * it, if there is none to be had.
 */
static ServerStat *
lock_server(const char *server)
{
	StatTable  *table;
	ServerStat *stat;
	bool		full = false;

	if (shared.table == NULL)
		return NULL;
	table = shared.table;
	LWLockAcquire(shared.lock, LW_SHARED);
	stat = find_server(table, server);
	if (stat != NULL)
		return stat;
	LWLockRelease(shared.lock);

	LWLockAcquire(shared.lock, LW_EXCLUSIVE);
	stat = find_server(table, server);
	if (stat == NULL)
		stat = add_server(table, server);
	if (stat != NULL)
		return stat;

	/*
	 * Noted under the lock, so that one process says it once for the cluster.
	 */
	full = !table->overflow_was_logged;
	table->overflow_was_logged = true;
	LWLockRelease(shared.lock);

	/* After the lock is released, since writing to the log may be slow. */
	if (full)
		ereport(LOG,
				(errmsg("cannot keep statistics of more than %d servers of a cluster",
						MAX_SERVERS),
				 errhint("Call screenshot_task_stat_reset() to remove dropped databases, and dropped servers that had no activity since the last reset.")));
	return NULL;
}

/*
 * The entry of a server of this database, or NULL.  Under the lock.
 */
static ServerStat *
find_server(StatTable *table, const char *server)
{
	for (int i = 0; i < table->n_used; i++)
	{
		if (table->servers[i].database == MyDatabaseId &&
			strcmp(NameStr(table->servers[i].server), server) == 0)
			return &table->servers[i];
	}
	return NULL;
}

/*
 * Make an entry for a server of this database; NULL if there is no room.  Under
 * the exclusive lock.
 */
static ServerStat *
add_server(StatTable *table, const char *server)
{
	ServerStat *stat = find_room(table);

	if (stat == NULL)
		return NULL;
	stat->database = MyDatabaseId;
	namestrcpy(&stat->server, server);
	stat->known = false;
	clear(stat);
	return stat;
}

/*
 * A free entry, or one of a server that nothing was counted for; NULL if there
 * is none.
 */
static ServerStat *
find_room(StatTable *table)
{
	if (table->n_used < MAX_SERVERS)
		return &table->servers[table->n_used++];
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		/*
		 * Such an entry holds nothing, and is made again when there is
		 * something to count.
		 */
		if (!has_counted(&table->servers[i]))
			return &table->servers[i];
	}
	return NULL;
}

/*
 * Set the counters of an entry to 0.  Under the exclusive lock.
 */
static void
clear(ServerStat *stat)
{
	stat->since = GetCurrentTimestamp();
	for (int i = 0; i < N_SERVER_COUNTERS; i++)
		pg_atomic_write_u64(&stat->counters[i], 0);
	for (int i = 0; i < N_BUCKETS; i++)
		pg_atomic_write_u64(&stat->latencies[i], 0);
	pg_atomic_write_u64(&stat->max_latency, 0);
}

/*
 * Has anything been counted for a server?
 */
static bool
has_counted(const ServerStat *stat)
{
	for (int i = 0; i < N_SERVER_COUNTERS; i++)
	{
		if (pg_atomic_read_u64(unconstify(pg_atomic_uint64 *,
										  &stat->counters[i])) != 0)
			return true;
	}
	return false;
}

/*
 * The bucket of a latency, in us.
 */
static int
bucket_of(uint64 latency)
{
	int			bits;

	if (latency < SUB_BUCKETS)
		return (int) latency;
	bits = pg_leftmost_one_pos64(latency);

	/*
	 * Longer than any request_timeout, but it must not write beyond the array
	 * in any case.
	 */
	if (bits >= MAX_BITS)
		return N_BUCKETS - 1;

	/*
	 * The highest bit chooses the power of two, and the SUB_BITS after it the
	 * bucket within.
	 */
	return (bits - SUB_BITS + 1) * SUB_BUCKETS +
		(int) ((latency >> (bits - SUB_BITS)) & (SUB_BUCKETS - 1));
}

/*
 * The middle of a bucket, in us.
 */
static uint64
middle_of(int bucket)
{
	int			shift = bucket / SUB_BUCKETS - 1;
	uint64		low;

	if (shift < 0)
		return bucket;
	low = (uint64) (SUB_BUCKETS + bucket % SUB_BUCKETS) << shift;
	return low + (UINT64CONST(1) << shift) / 2;
}

/*
 * The latency that the fraction of all do not exceed, as an interval.
 */
static Datum
percentile(const ServerStat *stat, double fraction, bool *isnull)
{
	uint64		latencies[N_BUCKETS];
	uint64		total = 0;
	uint64		seen = 0;
	uint64		max = pg_atomic_read_u64(unconstify(pg_atomic_uint64 *,
													&stat->max_latency));

	for (int i = 0; i < N_BUCKETS; i++)
	{
		/*
		 * A copy, since others go on counting: the total must be that of the
		 * buckets that are walked below.
		 */
		latencies[i] = pg_atomic_read_u64(unconstify(pg_atomic_uint64 *,
													 &stat->latencies[i]));
		total += latencies[i];
	}
	*isnull = total == 0;
	for (int i = 0; i < N_BUCKETS; i++)
	{
		seen += latencies[i];

		/*
		 * The middle of a bucket may lie above the longest latency that was
		 * measured.
		 */
		if ((double) seen >= fraction * (double) total)
			return latency_datum(Min(middle_of(i), max));
	}
	return latency_datum(max);
}

/*
 * A latency as an interval.
 */
static Datum
latency_datum(uint64 us)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = (TimeOffset) us;
	return IntervalPGetDatum(interval);
}

/*
 * screenshot_task_stat() returns a row for each server of each database
 */
Datum
screenshot_task_stat(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	StatTable  *table;
	StatRow    *rows;
	int			n;

	require_shared_state();
	InitMaterializedSRF(fcinfo, 0);
	stat_know_servers();
	table = shared.table;
	/* Before the lock, so that it is held for as short as possible. */
	rows = palloc0(MAX_SERVERS * sizeof(StatRow));
	LWLockAcquire(shared.lock, LW_SHARED);
	n = table->n_used;
	for (int i = 0; i < n; i++)
		read_row(&table->servers[i], &rows[i]);
	LWLockRelease(shared.lock);

	for (int i = 0; i < n; i++)
	{
		/* After the lock, since it looks into the catalog. */
		make_readable(NameStr(rows[i].server),
					 DatumGetObjectId(rows[i].values[0]));
		tuplestore_putvalues(result->setResult, result->setDesc,
							 rows[i].values, rows[i].nulls);
	}
	return (Datum) 0;
}

/*
 * Make a row of an entry, whose pointers are into the row itself.
 */
static void
read_row(ServerStat *stat, StatRow *row)
{
	Datum	   *values = row->values;
	bool	   *nulls = row->nulls;
	int			n = 0;

	row->server = stat->server;
	values[n++] = ObjectIdGetDatum(stat->database);
	values[n++] = NameGetDatum(&row->server);
	for (int i = 0; i < N_SERVER_COUNTERS; i++)
		values[n++] = Int64GetDatum((int64) pg_atomic_read_u64(&stat->counters[i]));
	values[n] = percentile(stat, 0.5, &nulls[n]);
	n++;
	values[n] = percentile(stat, 0.99, &nulls[n]);
	n++;
	nulls[n] = nulls[n - 1];
	values[n++] = latency_datum(pg_atomic_read_u64(&stat->max_latency));
	values[n] = TimestampTzGetDatum(stat->since);
}

/*
 * screenshot_task_stat_reset() sets all counters to 0.  Entries of databases
 * that no longer exist are dropped, and so are those of servers that no longer
 * exist, if nothing was counted for them since the last reset.
 */
Datum
screenshot_task_stat_reset(PG_FUNCTION_ARGS)
{
	StatTable  *table;
	List	   *gone;
	int			n = 0;

	(void) fcinfo;
	require_shared_state();
	stat_know_servers();
	table = shared.table;
	gone = list_gone_databases(table);
	LWLockAcquire(shared.lock, LW_EXCLUSIVE);
	for (int i = 0; i < table->n_used; i++)
	{
		/*
		 * A dropped server that has counts is shown once more, with zeros, so
		 * that a monitoring system sees the reset.  It goes with the next one.
		 */
		if ((!has_counted(&table->servers[i]) && !table->servers[i].known) ||
			list_member_oid(gone, table->servers[i].database))
			continue;
		table->servers[n].database = table->servers[i].database;
		table->servers[n].server = table->servers[i].server;
		table->servers[n].known = table->servers[i].known;
		/* Entries are moved up, and cleared at their new place. */
		clear(&table->servers[n++]);
	}
	table->n_used = n;
	table->overflow_was_logged = false;
	LWLockRelease(shared.lock);
	PG_RETURN_VOID();
}

/*
 * The databases of the table that do not exist.  The catalog is not read while
 * the lock is held.
 */
static List *
list_gone_databases(StatTable *table)
{
	Oid			databases[MAX_SERVERS];
	List	   *gone = NIL;
	int			n;

	LWLockAcquire(shared.lock, LW_SHARED);
	n = table->n_used;
	for (int i = 0; i < n; i++)
		databases[i] = table->servers[i].database;
	LWLockRelease(shared.lock);

	for (int i = 0; i < n; i++)
	{
		if (!SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(databases[i])))
			gone = list_append_unique_oid(gone, databases[i]);
	}
	return gone;
}

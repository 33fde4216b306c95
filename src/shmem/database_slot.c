/*-------------------------------------------------------------------------
 *
 * database_slot.c
 *	  Which databases have a slot in shared memory
 *
 * A database takes a slot when the launcher starts, when the extension is
 * created in it, or with its first request.  A slot whose worker found no
 * extension is marked so, and another database may have it when there is none
 * left that nobody ever had.  (A background worker slot is something else: one
 * of max_worker_processes.)
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "compat.h"
#include "shmem/shared_state_private.h"

SharedState *shared_state = NULL;
LWLock	   *database_slots_lock = NULL;
static struct RateTable *rate_table = NULL;	/* what shared_rate_table() returns */

static int	take_database_slot(Oid database);
static bool is_free(DatabaseSlot *slot);

/*
 * Bytes of this part of the segment.
 */
Size
shared_state_size(void)
{
	return sizeof(SharedState);
}

/*
 * Set up this part of the segment, as the cluster starts.
 */
void
shared_state_setup(SharedState *shared)
{
	memset(shared, 0, sizeof(SharedState));
	pg_atomic_init_u32(&shared->launcher_proc, NOBODY);
	ConditionVariableInit(&shared->worker_left);
	pg_atomic_init_u32(&shared->refused, 0);
	for (int i = 0; i < MAX_DATABASES; i++)
	{
		pg_atomic_init_u32(&shared->databases[i].wake, 0);
		pg_atomic_init_u64(&shared->databases[i].channels, NO_CHANNELS);
		pg_atomic_init_u32(&shared->databases[i].holds, 0);
		pg_atomic_init_u32(&shared->databases[i].held_requests, 0);
		pg_atomic_init_u32(&shared->databases[i].idle, 0);
		pg_atomic_init_u32(&shared->databases[i].preempt, 0);
		pg_atomic_init_u32(&shared->databases[i].worker_proc, NOBODY);
		pg_atomic_init_u32(&shared->databases[i].want_count, 0);
		ConditionVariableInit(&shared->databases[i].news);
	}
}

/*
 * Have this process use this part of the segment, the lock that protects which
 * database slot is whose, and the rate limits.
 */
void
shared_state_attach(SharedState *shared, LWLock *slots_lock,
					struct RateTable *shared_rates)
{
	shared_state = shared;
	database_slots_lock = slots_lock;
	rate_table = shared_rates;
}

/*
 * Was the library preloaded, so that there is shared memory?
 */
bool
shared_state_available(void)
{
	return shared_state != NULL;
}

/*
 * The rate limits of the cluster.  Only if shared_state_available().
 */
struct RateTable *
shared_rate_table(void)
{
	return rate_table;
}

/*
 * Raise an error if there is no shared memory.
 */
void
require_shared_state(void)
{
	if (!shared_state_available())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("screenshot_task must be loaded via \"shared_preload_libraries\""),
				 errhint("Add screenshot_task to \"shared_preload_libraries\" in postgresql.conf, and restart the server.")));
}

/*
 * The slot of a database; -1 if it has none.  Under the lock.
 */
int
slot_of(Oid database)
{
	for (int i = 0; i < MAX_DATABASES; i++)
	{
		if (shared_state->databases[i].database == database)
			return i;
	}
	return -1;
}

/*
 * The slot of a database; -1 if it has none.  Takes the lock.
 */
int
find_database_slot(Oid database)
{
	int			slot;

	LWLockAcquire(database_slots_lock, LW_SHARED);
	slot = slot_of(database);
	LWLockRelease(database_slots_lock);
	return slot;
}

/*
 * The database slot of a database, taken for it if it has none.
 *
 * Returns -1 if all slots are taken, and says so in the log, once until
 * forget_refused_database_slots().
 */
int
find_or_make_database_slot(Oid database)
{
	int			slot = take_database_slot(database);

	/*
	 * Without the lock, which take_database_slot() has released: a message
	 * must not be written while it is held.
	 */
	if (slot < 0 && pg_atomic_exchange_u32(&shared_state->refused, 1) == 0)
		log_lack_of_database_slots();
	return slot;
}

/*
 * Have a database take a slot if it has none, and return whether it has one
 * now.  Unlike find_or_make_database_slot(), log nothing if all are taken: the
 * launcher asks for databases that may not need one.
 */
bool
give_database_slot(Oid database)
{
	return take_database_slot(database) >= 0;
}

/*
 * The database slot of a database, taken for it if it has none; -1 if there is
 * none to take.
 */
static int
take_database_slot(Oid database)
{
	int			slot = -1;
	int			unused = -1;
	int			no_extension = -1;

	LWLockAcquire(database_slots_lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_DATABASES && slot < 0; i++)
	{
		if (shared_state->databases[i].database == database)
			slot = i;
		/*
		 * A slot that nobody ever had is preferred, so that what is known of
		 * databases without the extension is kept.
		 */
		else if (unused < 0 && !OidIsValid(shared_state->databases[i].database))
			unused = i;
		else if (no_extension < 0 && is_free(&shared_state->databases[i]))
			no_extension = i;
	}
	if (unused < 0)
		unused = no_extension;

	/*
	 * Under the same lock in which the database was found to have none, so
	 * that it cannot be given two.
	 */
	if (slot < 0 && unused >= 0)
	{
		slot = unused;
		shared_state->databases[slot].database = database;
		shared_state->databases[slot].worker_pid = 0;
		shared_state->databases[slot].has_extension = false;
		shared_state->databases[slot].no_extension = false;
		shared_state->databases[slot].preempted = false;

		/*
		 * The previous database's errors and counts must not show as this
		 * one's.
		 */
		memset(&shared_state->databases[slot].activity, 0, sizeof(Activity));
		pg_atomic_write_u32(&shared_state->databases[slot].held_requests, 0);
		pg_atomic_write_u32(&shared_state->databases[slot].wake, 0);
		pg_atomic_write_u64(&shared_state->databases[slot].channels, NO_CHANNELS);
		pg_atomic_write_u32(&shared_state->databases[slot].worker_proc, NOBODY);
	}
	LWLockRelease(database_slots_lock);
	return slot;
}

/*
 * May another database have a database slot?  Under the lock.
 */
static bool
is_free(DatabaseSlot *slot)
{
	/*
	 * A slot is kept while a commit has woken it, since the extension may have
	 * just been created, and while a command holds it, which will release it
	 * by its number.
	 */
	return !OidIsValid(slot->database) ||
		(slot->no_extension && slot->worker_pid == 0 &&
		 (pg_atomic_read_u32(&slot->wake) & WAKE_NEWS) == 0 &&
		 pg_atomic_read_u32(&slot->holds) == 0);
}

/*
 * How many slots there are for other databases, and how many are of databases of
 * which it is not known whether they have the extension.
 */
void
count_database_slots(int *n_free, int *n_unknown)
{
	*n_free = *n_unknown = 0;
	LWLockAcquire(database_slots_lock, LW_SHARED);
	for (int i = 0; i < MAX_DATABASES; i++)
	{
		if (is_free(&shared_state->databases[i]))
			(*n_free)++;
		else if (!shared_state->databases[i].has_extension)
			(*n_unknown)++;
	}
	LWLockRelease(database_slots_lock);
}

/*
 * Say in the log that a database is not served, since there is no slot for it.
 */
void
log_lack_of_database_slots(void)
{
	ereport(LOG,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("cannot serve more than %d databases of a cluster",
					MAX_DATABASES),
			 errdetail("Other databases are served once one of these, or its extension, is dropped.")));
}

/*
 * Was there no slot for the database of some session?
 */
bool
database_slot_was_refused(void)
{
	return pg_atomic_read_u32(&shared_state->refused) != 0;
}

/*
 * Note that the launcher is about to look for databases without a slot.
 */
void
forget_refused_database_slots(void)
{
	pg_atomic_write_u32(&shared_state->refused, 0);
}

/*
 * Read what the launcher wants to know of a database slot.
 */
void
read_database(int slot, DatabaseStatus *status)
{
	LWLockAcquire(database_slots_lock, LW_SHARED);
	read_database_slot(&shared_state->databases[slot], status);
	LWLockRelease(database_slots_lock);
}

/*
 * What is known of a database slot.  Under the lock.
 */
void
read_database_slot(DatabaseSlot *database, DatabaseStatus *status)
{
	status->database = database->database;
	status->worker_pid = database->worker_pid;
	status->has_extension = database->has_extension;
	status->no_extension = database->no_extension;
	status->held = pg_atomic_read_u32(&database->holds) != 0;
	status->woken = (pg_atomic_read_u32(&database->wake) & WAKE_NEWS) != 0;
	status->idle = pg_atomic_read_u32(&database->idle) != 0;
	status->preempt = pg_atomic_read_u32(&database->preempt) != 0;
	status->preempted = database->preempted;
	status->next_look = database->next_look;
	status->n_held = (int) pg_atomic_read_u32(&database->held_requests);
}


/*-------------------------------------------------------------------------
 *
 * shared_state.c
 *	  What the processes of a cluster share: which databases have a worker,
 *	  what it is doing, and who is to be woken
 *
 * A database takes a slot when the launcher starts, when the extension is
 * created in it, or with its first request.  A slot whose worker found no
 * extension is marked so, and another database may have it when there is none
 * left that nobody ever had.  (A background worker slot is something else: one
 * of max_worker_processes.)
 *
 * A process is woken through the latch of its
 * PGPROC, whose number is kept here.  PGPROCs live as long as the shared
 * memory does, so that setting such a latch is always allowed; if the process
 * has gone, some other one looks up once in vain.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"

#include "compat.h"
#include "shmem/shared_state.h"

#define NOBODY			PG_UINT32_MAX

/* DatabaseSlot.wake */
#define WAKE_NEWS		1		/* there is something new */
#define WAKE_LATER		2		/* the worker will look without being woken, or
								 * there is none, and none to be started */

/*
 * What is known of a database.  Fields are under the lock, unless they are
 * atomic: these are written by commits, which wait for nobody.
 */
typedef struct DatabaseSlot
{
	Oid			database;		/* InvalidOid: free */
	pid_t		worker_pid;		/* 0: none is running */
	bool		has_extension;	/* has a worker found the extension? */
	bool		no_extension;	/* has it found none? */
	bool		preempted;		/* has the last worker made room for another? */
	MonotonicUs next_look;		/* if so: when the next one is needed */
	pg_atomic_uint32 held_requests; /* that were made elsewhere */
	pg_atomic_uint32 idle;		/* has the worker nothing to do? */
	pg_atomic_uint32 preempt;	/* is the worker to make room for another? */
	pg_atomic_uint32 holds;		/* commands that keep workers out; raised
								 * under the lock */
	pg_atomic_uint32 wake;		/* WAKE_NEWS, WAKE_LATER */
	pg_atomic_uint64 channels;	/* not yet taken: see ALL_CHANNELS */
	pg_atomic_uint32 worker_proc;	/* PGPROC number, or NOBODY */
	pg_atomic_uint32 want_count;	/* is it to count its requests? */
	ConditionVariable news;		/* some requests have changed their status */
	Activity	activity;		/* of its worker, or the last one */
} DatabaseSlot;

struct SharedState
{
	pg_atomic_uint32 launcher_proc; /* PGPROC number, or NOBODY */
	ConditionVariable worker_left;	/* some worker has ended */
	pg_atomic_uint32 refused;	/* has a database been refused a slot? */
	DatabaseSlot databases[MAX_DATABASES];
};

static SharedState *state = NULL;
static LWLock *lock = NULL;		/* protects which slot is whose */
static RateTable *rate_table = NULL;	/* what shared_rate_table() returns */

static void withdraw_worker(int code, Datum slot);
static void withdraw_launcher(int code, Datum arg);
static int	take_database_slot(Oid database);
static bool is_free(DatabaseSlot *slot);
static void wake_worker_or_launcher(DatabaseSlot *database);
static void wake_process(pg_atomic_uint32 *proc);
static void read_status(DatabaseSlot *database, DatabaseStatus *status);

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
					RateTable *shared_rates)
{
	state = shared;
	lock = slots_lock;
	rate_table = shared_rates;
}

/*
 * Was the library preloaded, so that there is shared memory?
 */
bool
shared_state_available(void)
{
	return state != NULL;
}

/*
 * The rate limits of the cluster.  Only if shared_state_available().
 */
RateTable *
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
 * The database slot of a database; -1 if it has none.
 */
int
find_database_slot(Oid database)
{
	int			slot = -1;

	LWLockAcquire(lock, LW_SHARED);
	for (int i = 0; i < MAX_DATABASES && slot < 0; i++)
	{
		if (state->databases[i].database == database)
			slot = i;
	}
	LWLockRelease(lock);
	return slot;
}

/*
 * What is broadcast when requests of the database of a slot have changed their
 * status.
 */
ConditionVariable *
news_of(int slot)
{
	return &state->databases[slot].news;
}

/*
 * Broadcast it.
 *
 * May be called while a transaction commits: cannot fail.
 */
void
tell_news(int slot)
{
	ConditionVariableBroadcast(&state->databases[slot].news);
}

/*
 * Have the worker of a slot count its requests, if there is one.
 */
void
want_count(int slot)
{
	/*
	 * Many may look at the view at once; the first of them wakes the worker.
	 */
	if (pg_atomic_exchange_u32(&state->databases[slot].want_count, 1) == 0)
		wake_process(&state->databases[slot].worker_proc);
}

/*
 * Has anybody called want_count() for a slot since this was last asked?
 */
bool
take_wanted_count(int slot)
{
	/*
	 * The read comes first since this is asked in each turn of the loop, and
	 * an exchange takes the cache line from others.
	 */
	return pg_atomic_read_u32(&state->databases[slot].want_count) != 0 &&
		pg_atomic_exchange_u32(&state->databases[slot].want_count, 0) != 0;
}

/*
 * Tell others what the worker of a slot is doing.
 */
void
publish_activity(int slot, const Activity *activity)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	state->databases[slot].activity = *activity;
	LWLockRelease(lock);
}

/*
 * What the worker of a slot, or the last one, was doing, and what else is known
 * of the slot.
 */
void
read_activity(int slot, DatabaseStatus *status, Activity *activity)
{
	LWLockAcquire(lock, LW_SHARED);
	read_status(&state->databases[slot], status);
	*activity = state->databases[slot].activity;
	LWLockRelease(lock);
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
	if (slot < 0 && pg_atomic_exchange_u32(&state->refused, 1) == 0)
		log_lack_of_database_slots();
	return slot;
}

/*
 * The same, without a word.  For the launcher, which may be asking for one that
 * needs none: returns whether there is a database slot.
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

	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_DATABASES && slot < 0; i++)
	{
		if (state->databases[i].database == database)
			slot = i;
		/*
		 * A slot that nobody ever had is preferred, so that what is known of
		 * databases without the extension is kept.
		 */
		else if (unused < 0 && !OidIsValid(state->databases[i].database))
			unused = i;
		else if (no_extension < 0 && is_free(&state->databases[i]))
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
		state->databases[slot].database = database;
		state->databases[slot].worker_pid = 0;
		state->databases[slot].has_extension = false;
		state->databases[slot].no_extension = false;
		state->databases[slot].preempted = false;

		/*
		 * The previous database's errors and counts must not show as this
		 * one's.
		 */
		memset(&state->databases[slot].activity, 0, sizeof(Activity));
		pg_atomic_write_u32(&state->databases[slot].held_requests, 0);
		pg_atomic_write_u32(&state->databases[slot].wake, 0);
		pg_atomic_write_u64(&state->databases[slot].channels, NO_CHANNELS);
		pg_atomic_write_u32(&state->databases[slot].worker_proc, NOBODY);
	}
	LWLockRelease(lock);
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
	LWLockAcquire(lock, LW_SHARED);
	for (int i = 0; i < MAX_DATABASES; i++)
	{
		if (is_free(&state->databases[i]))
			(*n_free)++;
		else if (!state->databases[i].has_extension)
			(*n_unknown)++;
	}
	LWLockRelease(lock);
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
	return pg_atomic_read_u32(&state->refused) != 0;
}

/*
 * The launcher is going to look for databases that have none.
 */
void
forget_refused_database_slots(void)
{
	pg_atomic_write_u32(&state->refused, 0);
}

/*
 * The bit of a channel, the requests of a role for a server, in a set of them.
 * Others may have the same.
 */
uint64
channel_bit(const char *server, Oid role)
{
	return UINT64CONST(1) << (hash_bytes_extended((const unsigned char *) server,
												  (int) strlen(server), role) & 63);
}

/*
 * Tell the worker of a slot that there is something new, or the launcher if
 * there is no worker.  "channels" are those that it concerns.
 *
 * Nobody is woken for what the worker has been told of and not taken yet, or is
 * about to look for by itself: to wake a process costs more than to insert a
 * row.  So the first commit that wants a worker wakes the launcher, and none of
 * those that come before it has started one.
 *
 * May be called while a transaction commits: cannot fail, and waits for nothing.
 */
void
wake_database(int slot, uint64 channels)
{
	DatabaseSlot *database = &state->databases[slot];

	/*
	 * The channels first, then the flag: whoever takes the flag finds them, or
	 * more than it has told of.
	 */
	pg_atomic_fetch_or_u64(&database->channels, channels);

	/*
	 * Any bit that is set means that somebody will look anyway.  The atomic is
	 * also the barrier between the channels and the latch.
	 */
	if (pg_atomic_fetch_or_u32(&database->wake, WAKE_NEWS) == 0)
		wake_worker_or_launcher(database);
}

/*
 * The database of a slot was created, or altered so that it may be served now,
 * or not any more: wake whoever has to see to that, whatever was told before.
 *
 * May be called while a transaction commits, as above.
 */
void
wake_for_altered_database(int slot)
{
	wake_database(slot, ALL_CHANNELS);
	/* Once more, for WAKE_LATER may have kept it from being woken. */
	wake_worker_or_launcher(&state->databases[slot]);
}

/*
 * Wake whoever serves a database: its worker, or the launcher to start one.
 */
static void
wake_worker_or_launcher(DatabaseSlot *database)
{
	/*
	 * Without a lock, as commits call this.  A worker that is just leaving
	 * wakes the launcher, after it has withdrawn its number.
	 */
	if (pg_atomic_read_u32(&database->worker_proc) == NOBODY)
		wake_process(&state->launcher_proc);
	else
		wake_process(&database->worker_proc);
}

/*
 * Set the latch of the process whose PGPROC number is here, if any.  Cannot
 * fail.
 */
static void
wake_process(pg_atomic_uint32 *proc)
{
	uint32		number = pg_atomic_read_u32(proc);

	/*
	 * Read once: the process may withdraw in between, and its PGPROC may even
	 * be another's by now, which looks up once in vain.
	 */
	if (number != NOBODY)
		SetLatch(&ProcGlobal->allProcs[number].procLatch);
}

/*
 * Have the worker of a database leave, and none come, until
 * release_database().
 *
 * Returns the database's slot; -1, with nothing to release, if it has none.
 */
int
hold_database(Oid database)
{
	int			slot = -1;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_DATABASES && slot < 0; i++)
	{
		if (state->databases[i].database == database)
			slot = i;
	}

	/*
	 * Under the lock, which announce_worker() takes to look at it: no worker
	 * can come in between.
	 */
	if (slot >= 0)
		pg_atomic_fetch_add_u32(&state->databases[slot].holds, 1);
	LWLockRelease(lock);
	if (slot >= 0)
		wake_process(&state->databases[slot].worker_proc);
	return slot;
}

/*
 * Wait until the worker of a database that is held has left; one that takes
 * long to is terminated.  Interrupts are served.
 */
void
wait_for_worker_to_leave(int slot, uint32 wait_event_info)
{
	/*
	 * Before the first look, so that a worker that leaves after it is not
	 * missed.
	 */
	ConditionVariablePrepareToSleep(&state->worker_left);
	for (;;)
	{
		pid_t		pid;

		LWLockAcquire(lock, LW_SHARED);
		pid = state->databases[slot].worker_pid;
		LWLockRelease(lock);
		if (pid == 0)
			break;

		/*
		 * It may itself be waiting for a lock that the caller holds.  SIGTERM
		 * ends it anywhere; what it was sending is in doubt then, and looked
		 * up later.
		 */
		if (ConditionVariableTimedSleep(&state->worker_left, 100,
										wait_event_info))
			(void) kill(pid, SIGTERM);
	}
	ConditionVariableCancelSleep();
}

/*
 * Let a worker come again.
 *
 * May be called while a transaction commits: cannot fail, takes no lock.
 */
void
release_database(int slot)
{
	pg_atomic_fetch_sub_u32(&state->databases[slot].holds, 1);
	wake_process(&state->launcher_proc);
}

/*
 * Let sessions know this process as the launcher, until it exits.
 */
void
announce_launcher(void)
{
	pg_atomic_write_u32(&state->launcher_proc, GetNumberFromPGProc(MyProc));
	before_shmem_exit(withdraw_launcher, (Datum) 0);
}

/*
 * before_shmem_exit callback of the launcher.
 */
static void
withdraw_launcher(int code, Datum arg)
{
	(void) code;
	(void) arg;
	pg_atomic_write_u32(&state->launcher_proc, NOBODY);
}

/*
 * Read what the launcher wants to know of a database slot.
 */
void
read_database(int slot, DatabaseStatus *status)
{
	LWLockAcquire(lock, LW_SHARED);
	read_status(&state->databases[slot], status);
	LWLockRelease(lock);
}

/*
 * The same, with the lock held.
 */
static void
read_status(DatabaseSlot *database, DatabaseStatus *status)
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

/*
 * The database of a slot has no extension, or is itself gone: it needs no worker
 * until something wakes it.
 */
void
set_no_extension(int slot)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	state->databases[slot].has_extension = false;
	state->databases[slot].no_extension = true;
	LWLockRelease(lock);
}

/*
 * Ask the worker of a slot to leave, so that another database has a turn.
 */
void
request_preemption(int slot)
{
	pg_atomic_write_u32(&state->databases[slot].preempt, 1);
	/* The flag before the latch, as with every latch. */
	pg_memory_barrier();
	wake_process(&state->databases[slot].worker_proc);
}

/*
 * Let sessions know this process as the worker of a database, until it
 * exits.
 *
 * Returns the database's slot; -1 if it has a worker already, if workers are
 * kept out, or if there is no slot.
 */
int
announce_worker(Oid database)
{
	int			slot = find_or_make_database_slot(database);
	bool		taken = false;

	if (slot < 0)
		return -1;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (state->databases[slot].worker_pid == 0 &&
		pg_atomic_read_u32(&state->databases[slot].holds) == 0)
	{
		state->databases[slot].worker_pid = MyProcPid;
		state->databases[slot].preempted = false;
		pg_atomic_write_u32(&state->databases[slot].idle, 0);
		/* A request to give up the slot was for the worker before this one. */
		pg_atomic_write_u32(&state->databases[slot].preempt, 0);
		pg_atomic_write_u32(&state->databases[slot].worker_proc,
							GetNumberFromPGProc(MyProc));
		taken = true;
	}
	LWLockRelease(lock);

	if (!taken)
		return -1;

	/*
	 * before_shmem_exit is for cleanup that takes locks: the process still is
	 * a whole backend then.
	 */
	before_shmem_exit(withdraw_worker, Int32GetDatum(slot));
	return slot;
}

/*
 * before_shmem_exit callback of a worker.
 */
static void
withdraw_worker(int code, Datum slot)
{
	DatabaseSlot *database = &state->databases[DatumGetInt32(slot)];

	(void) code;
	/* Nobody will look by itself now. */
	pg_atomic_fetch_and_u32(&database->wake, ~WAKE_LATER);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	pg_atomic_write_u32(&database->worker_proc, NOBODY);

	/*
	 * Under the lock, together with the number: one without the other would
	 * show a worker that cannot be woken.
	 */
	database->worker_pid = 0;
	LWLockRelease(lock);

	/* After the lock is released, so that those who are woken can take it. */
	ConditionVariableBroadcast(&state->worker_left);

	/* What came while this worker was ending is for the next one. */
	wake_process(&state->launcher_proc);
}

/*
 * The worker of a slot has found the extension in its database.
 */
void
confirm_extension(int slot)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	state->databases[slot].has_extension = true;
	state->databases[slot].no_extension = false;
	LWLockRelease(lock);
	wake_process(&state->launcher_proc);
}

/*
 * Was there something new for the worker of a slot since this was last asked?
 * Adds to *channels those that it concerns.
 */
bool
take_wake(int slot, uint64 *channels)
{
	DatabaseSlot *database = &state->databases[slot];
	/*
	 * Flag first, then the channels: in the opposite order to wake_database(),
	 * so that none is lost.
	 */
	bool		is_new = (pg_atomic_exchange_u32(&database->wake, 0) &
						  WAKE_NEWS) != 0;

	*channels |= pg_atomic_exchange_u64(&database->channels, NO_CHANNELS);
	return is_new;
}

/*
 * Nobody needs to wake the worker of a slot before it next takes its wake-up;
 * or, if the launcher says so, before the database is altered.
 */
void
put_off_wake(int slot)
{
	pg_atomic_fetch_or_u32(&state->databases[slot].wake, WAKE_LATER);
}

/*
 * Is a wake-up pending?
 */
bool
has_wake(int slot)
{
	return pg_atomic_read_u32(&state->databases[slot].wake) != 0;
}

/*
 * Is the worker of a slot in the way of a command?
 */
bool
worker_must_leave(int slot)
{
	return pg_atomic_read_u32(&state->databases[slot].holds) != 0;
}

/*
 * Note how many requests of a database were made elsewhere, and return how
 * many there were before.
 */
int
note_held_requests(int slot, int n)
{
	return (int) pg_atomic_exchange_u32(&state->databases[slot].held_requests,
										(uint32) n);
}

/*
 * Note whether the worker of a slot has something to do.
 */
void
set_idle(int slot, bool idle)
{
	pg_atomic_write_u32(&state->databases[slot].idle, idle ? 1 : 0);
}

/*
 * Is the worker of a slot to leave, so that another database has a turn?
 */
bool
worker_preemption_requested(int slot)
{
	return pg_atomic_read_u32(&state->databases[slot].preempt) != 0;
}

/*
 * The worker of a slot is about to leave, so that another database has a turn.
 * Its own needs one again when something wakes it, or at the given time.
 */
void
give_up_slot(int slot, MonotonicUs next_look)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	state->databases[slot].preempted = true;
	state->databases[slot].next_look = next_look;
	LWLockRelease(lock);
}

/*-------------------------------------------------------------------------
 *
 * wakeup.c
 *	  Who is woken, and what for
 *
 * A process is woken through the latch of its PGPROC, whose number is kept in the
 * database slot.  PGPROCs live as long as the shared memory does, so that setting such
 * a latch is always allowed; if the process has gone, some other one looks up once in
 * vain.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/proc.h"

#include "compat.h"
#include "shmem/shared_state_private.h"

static void wake_worker_or_launcher(DatabaseSlot *database);

/*
 * The condition variable that is broadcast when requests of a slot's database
 * have changed their status.
 */
ConditionVariable *
news_of(int slot)
{
	return &shared_state->databases[slot].news;
}

/*
 * Broadcast the condition variable of news_of().
 *
 * May be called while a transaction commits: cannot fail.
 */
void
tell_news(int slot)
{
	ConditionVariableBroadcast(&shared_state->databases[slot].news);
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
	if (pg_atomic_exchange_u32(&shared_state->databases[slot].want_count, 1) == 0)
		wake_process(&shared_state->databases[slot].worker_proc);
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
	return pg_atomic_read_u32(&shared_state->databases[slot].want_count) != 0 &&
		pg_atomic_exchange_u32(&shared_state->databases[slot].want_count, 0) != 0;
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
 * there is no worker.  "channels" says for which channels.
 *
 * Nobody is woken for what the worker was told of before and has not taken
 * yet, or is about to look for by itself: to wake a process costs more than to
 * insert a row.  So the first commit that wants a worker wakes the launcher,
 * and later ones do not until it has started one.
 *
 * May be called while a transaction commits: cannot fail, and waits for nothing.
 */
void
wake_database(int slot, uint64 channels)
{
	DatabaseSlot *database = &shared_state->databases[slot];

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
 * The database of a slot was created, or altered so that it may be served now
 * or no longer: wake its worker or the launcher, whatever they were told
 * before.
 *
 * May be called while a transaction commits, as above.
 */
void
wake_for_altered_database(int slot)
{
	wake_database(slot, ALL_CHANNELS);
	/* Once more, for WAKE_LATER may have kept it from being woken. */
	wake_worker_or_launcher(&shared_state->databases[slot]);
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
		wake_process(&shared_state->launcher_proc);
	else
		wake_process(&database->worker_proc);
}

/*
 * Set the latch of the process whose PGPROC number is here, if any.  Cannot
 * fail.
 */
void
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
 * Take the wake-up of a slot's worker: was there something new since this was
 * last called?  Adds the channels that it concerns to *channels.
 */
bool
take_wake(int slot, uint64 *channels)
{
	DatabaseSlot *database = &shared_state->databases[slot];
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
 * Say that a slot's worker need not be woken before it next takes its wake-up;
 * or, if called by the launcher, not before the database is altered.
 */
void
put_off_wake(int slot)
{
	pg_atomic_fetch_or_u32(&shared_state->databases[slot].wake, WAKE_LATER);
}

/*
 * Is a wake-up pending?
 */
bool
has_wake(int slot)
{
	return pg_atomic_read_u32(&shared_state->databases[slot].wake) != 0;
}

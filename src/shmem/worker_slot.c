/*-------------------------------------------------------------------------
 *
 * worker_slot.c
 *	  The worker of a database slot, and the launcher
 *
 * Here a worker takes its database's slot until it exits, and is asked to leave.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/ipc.h"

#include "compat.h"
#include "shmem/shared_state_private.h"

static void withdraw_worker(int code, Datum slot);
static void withdraw_launcher(int code, Datum arg);

/*
 * Tell others what the worker of a slot is doing.
 */
void
publish_activity(int slot, const Activity *activity)
{
	LWLockAcquire(database_slots_lock, LW_EXCLUSIVE);
	shared_state->databases[slot].activity = *activity;
	LWLockRelease(database_slots_lock);
}

/*
 * What the worker of a slot, or the last one, was doing, and what else is known
 * of the slot.
 */
void
read_activity(int slot, DatabaseStatus *status, Activity *activity)
{
	LWLockAcquire(database_slots_lock, LW_SHARED);
	read_database_slot(&shared_state->databases[slot], status);
	*activity = shared_state->databases[slot].activity;
	LWLockRelease(database_slots_lock);
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
	int			slot;

	LWLockAcquire(database_slots_lock, LW_EXCLUSIVE);
	slot = slot_of(database);

	/*
	 * Under the lock, which announce_worker() takes to look at it: no worker
	 * can come in between.
	 */
	if (slot >= 0)
		pg_atomic_fetch_add_u32(&shared_state->databases[slot].holds, 1);
	LWLockRelease(database_slots_lock);
	if (slot >= 0)
		wake_process(&shared_state->databases[slot].worker_proc);
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
	ConditionVariablePrepareToSleep(&shared_state->worker_left);
	for (;;)
	{
		pid_t		pid;

		LWLockAcquire(database_slots_lock, LW_SHARED);
		pid = shared_state->databases[slot].worker_pid;
		LWLockRelease(database_slots_lock);
		if (pid == 0)
			break;

		/*
		 * It may itself be waiting for a lock that the caller holds.  SIGTERM
		 * ends it anywhere; what it was sending is in doubt then, and looked
		 * up later.
		 */
		if (ConditionVariableTimedSleep(&shared_state->worker_left, 100,
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
	pg_atomic_fetch_sub_u32(&shared_state->databases[slot].holds, 1);
	wake_process(&shared_state->launcher_proc);
}

/*
 * Let sessions know this process as the launcher, until it exits.
 */
void
announce_launcher(void)
{
	pg_atomic_write_u32(&shared_state->launcher_proc, GetNumberFromPGProc(MyProc));
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
	pg_atomic_write_u32(&shared_state->launcher_proc, NOBODY);
}

/*
 * The database of a slot has no extension, or is itself gone: it needs no worker
 * until something wakes it.
 */
void
set_no_extension(int slot)
{
	LWLockAcquire(database_slots_lock, LW_EXCLUSIVE);
	shared_state->databases[slot].has_extension = false;
	shared_state->databases[slot].no_extension = true;
	LWLockRelease(database_slots_lock);
}

/*
 * Ask the worker of a slot to leave, so that another database has a turn.
 */
void
request_preemption(int slot)
{
	pg_atomic_write_u32(&shared_state->databases[slot].preempt, 1);
	/* The flag before the latch, as with every latch. */
	pg_memory_barrier();
	wake_process(&shared_state->databases[slot].worker_proc);
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

	LWLockAcquire(database_slots_lock, LW_EXCLUSIVE);
	if (shared_state->databases[slot].worker_pid == 0 &&
		pg_atomic_read_u32(&shared_state->databases[slot].holds) == 0)
	{
		shared_state->databases[slot].worker_pid = MyProcPid;
		shared_state->databases[slot].preempted = false;
		pg_atomic_write_u32(&shared_state->databases[slot].idle, 0);
		/* A request to give up the slot was for the worker before this one. */
		pg_atomic_write_u32(&shared_state->databases[slot].preempt, 0);
		pg_atomic_write_u32(&shared_state->databases[slot].worker_proc,
							GetNumberFromPGProc(MyProc));
		taken = true;
	}
	LWLockRelease(database_slots_lock);

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
	DatabaseSlot *database = &shared_state->databases[DatumGetInt32(slot)];

	(void) code;
	/* Nobody will look by itself now. */
	pg_atomic_fetch_and_u32(&database->wake, ~WAKE_LATER);
	LWLockAcquire(database_slots_lock, LW_EXCLUSIVE);
	pg_atomic_write_u32(&database->worker_proc, NOBODY);

	/*
	 * Under the lock, together with the number: one without the other would
	 * show a worker that cannot be woken.
	 */
	database->worker_pid = 0;
	LWLockRelease(database_slots_lock);

	/* After the lock is released, so that those who are woken can take it. */
	ConditionVariableBroadcast(&shared_state->worker_left);

	/* What came while this worker was ending is for the next one. */
	wake_process(&shared_state->launcher_proc);
}

/*
 * The worker of a slot has found the extension in its database.
 */
void
confirm_extension(int slot)
{
	LWLockAcquire(database_slots_lock, LW_EXCLUSIVE);
	shared_state->databases[slot].has_extension = true;
	shared_state->databases[slot].no_extension = false;
	LWLockRelease(database_slots_lock);
	wake_process(&shared_state->launcher_proc);
}

/*
 * Does a command need the worker of a slot to leave?
 */
bool
worker_must_leave(int slot)
{
	return pg_atomic_read_u32(&shared_state->databases[slot].holds) != 0;
}

/*
 * Note how many requests of a database are held since they were made
 * elsewhere, and return how many there were before.
 */
int
note_held_requests(int slot, int n)
{
	return (int) pg_atomic_exchange_u32(&shared_state->databases[slot].held_requests,
										(uint32) n);
}

/*
 * Note whether the worker of a slot has something to do.
 */
void
set_idle(int slot, bool idle)
{
	pg_atomic_write_u32(&shared_state->databases[slot].idle, idle ? 1 : 0);
}

/*
 * Was the worker of a slot asked to make room for another database's?
 */
bool
worker_preemption_requested(int slot)
{
	return pg_atomic_read_u32(&shared_state->databases[slot].preempt) != 0;
}

/*
 * Note that the worker of a slot is about to leave, to make room for another
 * database's.  Its own needs one again when something wakes it, or at the
 * given time.
 */
void
give_up_slot(int slot, MonotonicUs next_look)
{
	LWLockAcquire(database_slots_lock, LW_EXCLUSIVE);
	shared_state->databases[slot].preempted = true;
	shared_state->databases[slot].next_look = next_look;
	LWLockRelease(database_slots_lock);
}

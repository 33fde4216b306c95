/*-------------------------------------------------------------------------
 *
 * shared_state_private.h
 *	  What the files share that work on the database slots
 *
 * database_slot.c has whose each slot is, worker_slot.c what its worker is doing, and
 * wakeup.c who is woken.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_SHARED_STATE_PRIVATE_H
#define SCREENSHOT_TASK_SHARED_STATE_PRIVATE_H

#include "port/atomics.h"

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

extern SharedState *shared_state;	/* NULL: the library was not preloaded */
extern LWLock *database_slots_lock; /* protects which slot is whose */

/* database_slot.c */
extern int	slot_of(Oid database);
extern void read_database_slot(DatabaseSlot *database, DatabaseStatus *status);

/* wakeup.c */
extern void wake_process(pg_atomic_uint32 *proc);

#endif							/* SCREENSHOT_TASK_SHARED_STATE_PRIVATE_H */

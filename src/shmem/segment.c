/*-------------------------------------------------------------------------
 *
 * segment.c
 *	  The segment of shared memory, and who has which part of it
 *
 * There are no pointers in here, and no secrets; and nothing in here is needed
 * after a restart: the tables of the databases hold all that counts.
 *
 * The segment is made of parts, one behind the other, that know nothing of each
 * other: which databases have a worker, the rate limits, and the statistics.
 * Each is told where its part is as the process starts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "net/rate_limit.h"
#include "shmem/segment.h"
#include "shmem/shared_state.h"
#include "shmem/statistics.h"

#define TRANCHE			"screenshot_task"
#define RATE_WINDOWS	256
#define WORKER_WINDOWS	64		/* of these */

enum
{
	SLOTS_LOCK, STAT_LOCK, N_LOCKS
};

#define RATE_TABLE_OFFSET	MAXALIGN(shared_state_size())
#define STAT_TABLE_OFFSET \
	(RATE_TABLE_OFFSET + MAXALIGN(rate_table_size(RATE_WINDOWS)))

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

static void request_memory(void);
static void start_up(void);
static Size segment_size(void);

/*
 * Install the hooks that get the shared memory.  Must be called while the
 * library is preloaded.
 */
void
segment_init(void)
{
	/*
	 * PostgreSQL 15 raises an error for memory that is requested outside of
	 * this hook.  Each hook is followed by the one that was there before:
	 * other modules have their own.
	 */
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_up;
}

/*
 * Bytes of all parts together.
 */
static Size
segment_size(void)
{
	return add_size(STAT_TABLE_OFFSET, stat_table_size());
}

/*
 * shmem_request_hook: ask for memory and locks.
 */
static void
request_memory(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(segment_size());
	RequestNamedLWLockTranche(TRANCHE, N_LOCKS);
}

/*
 * shmem_startup_hook: set up the segment if this is the first process, and tell
 * each part where it is.
 */
static void
start_up(void)
{
	bool		found;
	char	   *segment;
	SharedState *state;
	RateTable  *rates;
	StatTable  *stats;
	LWLockPadded *locks;

	if (previous_startup_hook)
		previous_startup_hook();

	/*
	 * Under EXEC_BACKEND every process comes through here, several at a time.
	 * Elsewhere it is the postmaster alone.
	 */
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	segment = ShmemInitStruct("screenshot_task", segment_size(), &found);
	state = (SharedState *) segment;
	rates = (RateTable *) (segment + RATE_TABLE_OFFSET);
	stats = (StatTable *) (segment + STAT_TABLE_OFFSET);
	if (!found)
	{
		shared_state_setup(state);
		rate_table_init(rates, RATE_WINDOWS, WORKER_WINDOWS);
		stat_table_init(stats);
	}
	locks = GetNamedLWLockTranche(TRANCHE);
	shared_state_attach(state, &locks[SLOTS_LOCK].lock, rates);
	stat_table_attach(stats, &locks[STAT_LOCK].lock);
	LWLockRelease(AddinShmemInitLock);
}

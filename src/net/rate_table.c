/*-------------------------------------------------------------------------
 *
 * rate_table.c
 *	  At most so many requests in any second, over all processes
 *
 * The API allows N requests in any second, for each account and action, and
 * counts them as they arrive.  A window keeps one such limit, with N permits:
 *
 * - A request takes a permit before it is sent.
 * - The permit comes back a second after the request has arrived.
 * - A process that finds none waits in a queue, first come, first served.
 *
 * Permits have no identity.  A window counts those in use, and has a calendar
 * of how that number changes in each of the next milliseconds.  A permit that
 * is taken ahead of time is in use from its start on.  It has no return until
 * its request has left; if the process has died by then, the permit comes back
 * after its deadline, by itself.
 *
 * Arrival.  A request arrives between its departure and its answer.  Compared
 * with the shortest round trip so far, an answer tells how late the request can
 * have been; the permit comes back that much later.  But answers are late for
 * other reasons, too, and so the window trusts them up to its margin alone.
 * With requests delayed by up to J this takes the average of J from the limit,
 * and none is refused.
 *
 * Refusals.  A request that is refused has cost a permit, no more.  If one of
 * the last second was later than the margin, the network is to blame, and the
 * margin grows; it shrinks again over minutes.  If none was, somebody else uses
 * the account: the window then uses a smaller share of the limit, and regains
 * it faster and faster while nothing is refused.
 *
 * Pace.  While processes wait, or others use the account, permits are given
 * out evenly over the second, so that a hiccup of the network meets one
 * request and not N of them.  At other times a free permit is given at once,
 * even the whole limit after a rest.
 *
 * The calendar, the queue and what is learned are in rate_window.c; here are the
 * table of windows, and waiting.
 *
 * A table lives in shared memory, or in a process alone where there is none.
 * At the start of the server, and at the end of recovery, limits count as used
 * up: what was sent just before a crash, or by the former primary, still counts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "common/hashfn.h"
#include "miscadmin.h"

#include "compat.h"
#include "net/rate_window.h"

/* Who waits comes back after so long at the latest, or loses its turn. */
#define WAITER_RETRY		(900 * US_PER_MS)
#define WAITER_GRACE		(500 * US_PER_MS)

/* When to look again if it is not known when a permit comes back */
#define UNKNOWN_RETRY		(50 * US_PER_MS)

/* How long a process does not log again that there are too many accounts */
#define LOG_REST			(60 * US_PER_SECOND)

struct RateTable
{
	slock_t		mutex;			/* protects which window has which key */
	bool		recovery_ended;
	MonotonicUs open_at;		/* no permits before that */
	int			n_windows;
	int			n_for_workers;	/* the first ones, which only they make use of */
	RateWindow	windows[FLEXIBLE_ARRAY_MEMBER];
};

static RateWindow *find_window(RateTable *table, RateKey key);
static RateWindow *find_or_make_window(RateTable *table, RateKey key,
									   bool is_worker);
static int	take_permits(const RateTable *table, RateWindow *window,
						 int per_second, int wanted, MonotonicUs horizon,
						 RatePermit *permits, MonotonicUs *retry_at);
static void log_lack_of_windows(const RateTable *table, MonotonicUs now);
static int64 due(const RateTable *table, const RateWindow *window,
				 int capacity, int place);

/*
 * Bytes that a table of so many windows takes.
 */
Size
rate_table_size(int n_windows)
{
	return add_size(offsetof(RateTable, windows),
					mul_size(n_windows, sizeof(RateWindow)));
}

/*
 * Make a table in memory of rate_table_size(), with so many windows of its that
 * are kept for workers.
 */
void
rate_table_init(RateTable *table, int n_windows, int n_for_workers)
{
	SpinLockInit(&table->mutex);
	table->recovery_ended = false;
	/* Requests that left just before a crash may arrive just now. */
	table->open_at = monotonic_now() + US_PER_SECOND + FIRST_MARGIN;
	table->n_windows = n_windows;
	table->n_for_workers = n_for_workers;
	for (int i = 0; i < n_windows; i++)
	{
		SpinLockInit(&table->windows[i].mutex);
		ConditionVariableInit(&table->windows[i].released);
		rate_window_reset(&table->windows[i], 0);
	}
}

/*
 * Note that recovery has ended: if that was not known yet, the limits count as
 * used up.  Called by the launcher, which starts at that moment, or by a
 * process that asks for a permit before it does.
 */
void
rate_recovery_ended(RateTable *table)
{
	SpinLockAcquire(&table->mutex);
	if (!table->recovery_ended)
	{
		table->recovery_ended = true;
		table->open_at = monotonic_now() + US_PER_SECOND + FIRST_MARGIN;
	}
	SpinLockRelease(&table->mutex);
}

/*
 * The key of an account's limit for an action.
 */
RateKey
rate_key(uint64 account, const char *action)
{
	RateKey		key = hash_combine64(account,
									 hash_bytes_extended((const unsigned char *) action,
														 (int) strlen(action), 0));

	return key != 0 ? key : 1;	/* 0 is a window without a key */
}

/* ----------------------------------------------------------------- permits
 */

/*
 * Take up to "wanted" permits that may leave within "horizon" microseconds.
 *
 * Returns how many there were.  If there were fewer, this process is in the
 * queue from then on, and keeps its place if it asks again at *retry_at.  That
 * is no sooner than after half of the horizon, so that there are several to
 * take.  While others wait behind it, it gets one permit at its turn.
 *
 * Each permit is ended by rate_answered() or rate_release(), or by itself.
 */
int
rate_acquire(RateTable *table, RateKey key, int per_second, int wanted,
			 MonotonicUs horizon, RatePermit *permits, MonotonicUs *retry_at)
{
	RateWindow *window;
	int			n_taken = 0;

	Assert(horizon <= MAX_HORIZON_MS * US_PER_MS);

	/*
	 * Read without the mutex: a stale "false" costs one more call, in which it
	 * is read again under the mutex.
	 */
	if (!table->recovery_ended && !RecoveryInProgress())
		rate_recovery_ended(table);
	/* For the paths below that learn nothing better. */
	*retry_at = monotonic_now() + UNKNOWN_RETRY;
	/* Only workers take permits ahead, so that a horizon tells who asks. */
	window = find_or_make_window(table, key, horizon > 0);
	if (window == NULL)
	{
		log_lack_of_windows(table, monotonic_now());
		return 0;
	}

	SpinLockAcquire(&window->mutex);

	/*
	 * Between the two mutexes the window may have become another key's.  No
	 * permit is given then, and the caller asks again.
	 */
	if (window->key == key)
		n_taken = take_permits(table, window, per_second, wanted, horizon,
							   permits, retry_at);
	SpinLockRelease(&window->mutex);

	/*
	 * After the spinlock: the less is done under it the better, and these
	 * fields are the caller's alone.
	 */
	for (int i = 0; i < n_taken; i++)
	{
		permits[i].window = window;
		permits[i].key = key;
	}
	return n_taken;
}

/*
 * Take permits from a window whose mutex is held, and which has the key.  Sets
 * *retry_at if there were fewer than wanted.
 */
static int
take_permits(const RateTable *table, RateWindow *window, int per_second,
			 int wanted, MonotonicUs horizon, RatePermit *permits,
			 MonotonicUs *retry_at)
{
	MonotonicUs now = rate_window_advance(window);
	int64		by = (now + horizon) / US_PER_MS;
	int			capacity = rate_window_set_limit(window, per_second);
	int			place = rate_window_place(window, now);
	int			most = wanted;
	int			n_taken = 0;
	int64		next;

	/*
	 * With others behind, one permit a turn: a worker with a long queue must
	 * not starve a session that needs one.
	 */
	if (place + 1 < window->n_waiters)
		most = 1;
	window->last_used = now;
	while (n_taken < most &&
		   (next = due(table, window, capacity, place)) <= by)
		rate_window_take(window, next, &permits[n_taken++]);

	/* One who was served and wants more goes to the end of the queue. */
	if (n_taken > 0)
		rate_window_leave(window);
	if (n_taken == wanted)
		return n_taken;
	place = rate_window_join(window, now);
	next = due(table, window, capacity, place);

	/*
	 * Half a horizon at least, so that a worker wakes up for several permits
	 * and claims them in one transaction.
	 */
	if (next != NO_TIME)
		*retry_at = Max(next * US_PER_MS - horizon,
						now + Max(horizon / 2, US_PER_MS));

	/*
	 * To come back is also a sign of life: who has not by back_by is taken for
	 * dead, and loses its place.
	 */
	*retry_at = Min(*retry_at, now + WAITER_RETRY);
	if (place < MAX_WAITERS)
		window->waiters[place].back_by = *retry_at + WAITER_GRACE;
	return n_taken;
}

/*
 * When the one at a place of a window's queue may take a permit, in milliseconds;
 * NO_TIME if that is not known.
 */
static int64
due(const RateTable *table, const RateWindow *window, int capacity, int place)
{
	/*
	 * Applied here rather than to each window, for windows come and go while
	 * the table is not open yet.
	 */
	return Max(rate_window_due(window, capacity, place),
			   table->open_at / US_PER_MS + 1);
}

/*
 * Note that the request of a permit has left, now at the latest.
 */
void
rate_left(RatePermit *permit)
{
	RateWindow *window = permit->window;

	if (window == NULL || permit->left_at != 0)
		return;
	permit->left_at = monotonic_now();

	SpinLockAcquire(&window->mutex);
	if (window->key == permit->key)
		rate_window_left(window, permit);
	SpinLockRelease(&window->mutex);
}

/*
 * Note that the request of a permit was answered, at the given time: the
 * permit is spent, and comes back as soon as is known by now.
 */
void
rate_answered(RatePermit *permit, MonotonicUs answered_at)
{
	RateWindow *window = permit->window;

	/*
	 * Without a departure there is no round trip to learn from; rate_release()
	 * returns such a permit.
	 */
	if (window == NULL || permit->left_at == 0)
		return;

	/*
	 * Spent, whatever happens below: a second call must not return it twice.
	 */
	permit->window = NULL;

	SpinLockAcquire(&window->mutex);
	if (window->key == permit->key)
		rate_window_answered(window, permit, answered_at);
	SpinLockRelease(&window->mutex);
}

/*
 * Give back a permit whose request was not sent: another process may have it
 * at once.  Who gives one back does not wait for more.
 */
void
rate_release(RatePermit *permit)
{
	RateWindow *window = permit->window;

	if (window == NULL)
		return;
	permit->window = NULL;

	/*
	 * The request was sent, so that it counts at the API; its permit returns
	 * by the calendar.
	 */
	if (permit->left_at != 0)
		return;

	SpinLockAcquire(&window->mutex);
	if (window->key == permit->key)
		rate_window_release(window, permit);
	SpinLockRelease(&window->mutex);

	/*
	 * After the spinlock, since it takes others.  To all: who is first in the
	 * queue is not known to the condition variable.
	 */
	ConditionVariableBroadcast(&window->released);
}

/*
 * Note that the API has refused a request by its rate limit.  Must be called
 * after rate_answered().
 */
void
rate_refused(RateTable *table, RateKey key)
{
	RateWindow *window = find_window(table, key);

	if (window == NULL)
		return;
	SpinLockAcquire(&window->mutex);
	if (window->key == key)
		rate_window_refused(window);
	SpinLockRelease(&window->mutex);
}

/* ----------------------------------------------------------------- waiting
 */

/*
 * When this process, which waits for a permit, is expected to have one; now, if
 * that is not known.
 */
MonotonicUs
rate_expected_at(RateTable *table, RateKey key, int per_second)
{
	RateWindow *window = find_window(table, key);
	MonotonicUs now = monotonic_now();
	int64		at = NO_TIME;

	if (window == NULL)
		return now;
	SpinLockAcquire(&window->mutex);
	if (window->key == key)
	{
		now = rate_window_advance(window);
		at = due(table, window, rate_window_set_limit(window, per_second),
				 rate_window_place(window, now));
	}
	SpinLockRelease(&window->mutex);
	return at == NO_TIME ? now : Max(now, at * US_PER_MS);
}

/*
 * Sleep until the given time, or until a permit comes back before it.
 *
 * For use between two attempts to take one.  Returns at once the first time,
 * since a permit may have come back before this process could be told.
 * rate_wait_end() must follow, also if this raises an error or ends the process:
 * interrupts are served, and those behind would wait until back_by.
 */
void
rate_wait(RateTable *table, RateKey key, MonotonicUs until,
		  uint32 wait_event_info)
{
	RateWindow *window = find_window(table, key);
	long		timeout = monotonic_wait_ms(monotonic_now(), until);

	/*
	 * No window, as the table is full.  Nothing will signal, but the wait is the
	 * same for the caller.
	 */
	if (window == NULL && timeout > 0)
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 timeout, wait_event_info);
		ResetLatch(MyLatch);
	}
	else if (timeout > 0)
		ConditionVariableTimedSleep(&window->released, timeout,
									wait_event_info);
	CHECK_FOR_INTERRUPTS();
}

/*
 * End the waiting of rate_wait(), and leave the queue.
 */
void
rate_wait_end(RateTable *table, RateKey key)
{
	RateWindow *window = find_window(table, key);

	/*
	 * Before the window is looked for: the sleep may be on one that is another
	 * key's by now.
	 */
	ConditionVariableCancelSleep();
	if (window == NULL)
		return;
	SpinLockAcquire(&window->mutex);
	if (window->key == key)
		rate_window_leave(window);
	SpinLockRelease(&window->mutex);
}

/* ------------------------------------------------------------------- table
 *
 * Once the table's mutex is released a window may become another key's, as soon
 * as it is unused: look at its key under its own mutex.
 */

/*
 * The window of a key, or NULL.
 */
static RateWindow *
find_window(RateTable *table, RateKey key)
{
	RateWindow *found = NULL;

	SpinLockAcquire(&table->mutex);
	for (int i = 0; i < table->n_windows && found == NULL; i++)
	{
		if (table->windows[i].key == key)
			found = &table->windows[i];
	}
	SpinLockRelease(&table->mutex);
	return found;
}

/*
 * The window of a key, made if there is none; NULL if there is no room.
 *
 * A part of the table is left to workers, which take it first: any role that
 * may call can have as many accounts as it likes.  Of the windows that are
 * unused, the one that has been so for longest goes: the others remember what
 * they have learned.
 */
static RateWindow *
find_or_make_window(RateTable *table, RateKey key, bool is_worker)
{
	RateWindow *found = NULL;
	RateWindow *unused = NULL;
	bool		unused_is_reserved = false;
	MonotonicUs now = monotonic_now();

	SpinLockAcquire(&table->mutex);
	for (int i = 0; i < table->n_windows && found == NULL; i++)
	{
		RateWindow *window = &table->windows[i];
		bool		is_reserved = i < table->n_for_workers;

		if (window->key == key)
			found = window;

		/*
		 * Looked at without the window's mutex.  That is a hint only, and
		 * checked again under it below.
		 */
		else if ((is_worker ? is_reserved || !unused_is_reserved : !is_reserved) &&
				 rate_window_is_unused(window, now) &&
				 (unused == NULL || window->last_used < unused->last_used))
		{
			unused = window;
			unused_is_reserved = is_reserved;
		}
	}
	if (found == NULL && unused != NULL)
	{
		SpinLockAcquire(&unused->mutex);
		if (rate_window_is_unused(unused, now))
		{
			/*
			 * Under both mutexes, always taken in this order: nobody can find
			 * the window by its old key while it changes.
			 */
			rate_window_reset(unused, key);
			found = unused;
		}
		SpinLockRelease(&unused->mutex);
	}
	SpinLockRelease(&table->mutex);
	return found;
}

/*
 * Log that a request waits since there are too many accounts, but not for each
 * request.
 */
static void
log_lack_of_windows(const RateTable *table, MonotonicUs now)
{
	static MonotonicUs not_before = 0;

	if (now < not_before)
		return;
	not_before = now + LOG_REST;
	ereport(LOG,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("cannot keep the rate limits of more than %d accounts at a time",
					table->n_windows),
			 errdetail("Requests of other accounts wait until one of these has sent nothing for two seconds.")));
}

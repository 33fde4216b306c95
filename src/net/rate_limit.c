/*-------------------------------------------------------------------------
 *
 * rate_limit.c
 *	  At most so many requests in any second, over all processes
 *
 * The API allows N requests in any second, for each account and action.  Keys
 * of the same account are not known to be that, and have a limit each.  A
 * window has N slots.  A request takes a slot before it is sent; the slot is
 * free again a little over a second after the request has left.  Since uses of
 * one slot are a second apart, any second holds at most N requests, bursts
 * included, and a slot that is taken up again at once loses nothing.
 *
 * When a request leaves is not known as its slot is taken: a connection may
 * have to be made first.  Until it has left, its ticket holds the slot.  A
 * ticket that has not left within HOLD_TIME is worthless, so that a process
 * that died with one blocks its slot for no longer than that.
 *
 * Limits beyond MAX_SLOTS are kept with several requests a slot: a slot that
 * is full is free one second after the last of them has left.  No slot holds
 * fewer for a higher limit.  So one that is changed, or differs between servers
 * of one account, is kept as the highest that it was within the second.
 *
 * A table lives in shared memory, or in a process alone where there is none.
 * It starts out as if the limit had been used up that very moment, since what
 * was sent just before a crash of the server still counts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/spin.h"

#include "compat.h"
#include "net/rate_limit.h"

#define MAX_SLOTS		256

/*
 * A little more than the second, for the unequal time that two requests are
 * under way.  The least costs 0.3 % of the limit.  Where the API refuses
 * requests all the same, more is needed: it grows with each refusal, and
 * shrinks again by half after a while.
 */
#define MIN_MARGIN		(3 * US_PER_MS)
#define MAX_MARGIN		(50 * US_PER_MS)
#define MARGIN_HALF_LIFE	(600 * US_PER_SECOND)

/* longer than a connection takes by default, at the most */
#define HOLD_TIME		(6 * US_PER_SECOND)

/* How long a process does not say again that there are too many accounts */
#define LOG_REST		(60 * US_PER_SECOND)

/* How much later than it meant to somebody who waits may come */
#define WAITER_GRACE	(20 * US_PER_MS)

/* When to see what of the tickets that were left to them is still there */
#define LEFT_GRACE		(5 * US_PER_MS)

/* When to see whether a ticket has left that was expected to have */
#define OVERDUE_RETRY	(50 * US_PER_MS)

/*
 * A window that was not used for so long has nothing to remember: and much
 * sooner, if none of its tickets is held.
 */
#define FORGET_AFTER	(US_PER_SECOND + MAX_MARGIN)
#define FORGET_HELD_AFTER	(HOLD_TIME + 2 * FORGET_AFTER)

typedef struct RateSlot
{
	MonotonicUs open_at;		/* when its requests may leave */
	MonotonicUs hold_until;		/* when the last of its tickets is worthless */
	MonotonicUs left_at;		/* when the last of its requests left */
	uint32		serial;			/* tells this opening from earlier ones */
	int			used;			/* tickets given out in this opening */
	int			held;			/* those of them that have not left */
} RateSlot;

struct RateWindow
{
	slock_t		mutex;			/* protects all below but "released" */
	RateKey		key;
	MonotonicUs last_used;
	MonotonicUs paused_until;	/* by the API's word */
	MonotonicUs margin;
	MonotonicUs margin_since;	/* when it last was what it is */
	int			n_held;			/* tickets, of all slots */
	int			cursor;			/* where to look first */
	MonotonicUs wanted_until;	/* somebody waits for a ticket until then */
	bool		was_ahead;		/* did one who takes them ahead take the last? */
	int			last_ahead;		/* process that last did so */
	int			short_of;		/* and one that had fewer than it wanted, */
	MonotonicUs short_until;	/* which will come again before then */
	ConditionVariable released; /* a slot came free before its time */
	RateSlot	slots[MAX_SLOTS];
};

struct RateTable
{
	slock_t		mutex;			/* protects which window has which key */
	MonotonicUs started;
	int			n_windows;
	int			n_for_workers;	/* the last ones, which only they make use of */
	RateWindow	windows[FLEXIBLE_ARRAY_MEMBER];
};

static RateWindow *find_window(RateTable *table, RateKey key, bool is_worker);
static void log_lack_of_windows(const RateTable *table, MonotonicUs now);
static void forget_all(RateTable *table, RateWindow *window, RateKey key);
static bool is_unused(const RateWindow *window, MonotonicUs now);
static int	take_slots(RateWindow *window, int per_second, int wanted,
					   MonotonicUs now, MonotonicUs horizon,
					   RateTicket *tickets);
static int	count_free(const RateWindow *window, int per_second,
					   MonotonicUs by, MonotonicUs *first_at);
static int	slot_capacity(int per_second, int slot);
static MonotonicUs slot_free_at(const RateWindow *window, int slot,
								int per_second);
static MonotonicUs over_at(const RateWindow *window, const RateSlot *slot);
static void shrink_margin(RateWindow *window, MonotonicUs now);

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
	table->started = monotonic_now();
	table->n_windows = n_windows;
	table->n_for_workers = n_for_workers;
	for (int i = 0; i < n_windows; i++)
	{
		SpinLockInit(&table->windows[i].mutex);
		ConditionVariableInit(&table->windows[i].released);
		forget_all(table, &table->windows[i], 0);
	}
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

/*
 * Take up to "wanted" tickets that may leave within "horizon" microseconds.
 *
 * Returns how many there were, and in *retry_at when asking again is worth
 * it if there were fewer.  Every ticket must be ended by rate_left() or
 * rate_release(); one whose process dies ends by itself.
 *
 * Who takes tickets ahead would leave none to those who wait for the moment, or
 * who take some ahead as well, but come later.  So it gets half of them while
 * anybody does; of a single one each gets every other.
 */
int
rate_acquire(RateTable *table, RateKey key, int per_second, int wanted,
			 MonotonicUs horizon, RateTicket *tickets, MonotonicUs *retry_at)
{
	int			n_slots = Min(per_second, MAX_SLOTS);
	MonotonicUs now = monotonic_now();
	RateWindow *window;
	int			n_taken = 0;

	*retry_at = now + US_PER_SECOND;
	window = find_window(table, key, horizon > 0);
	if (window == NULL)
	{
		log_lack_of_windows(table, now);
		*retry_at = now + OVERDUE_RETRY;
		return 0;
	}

	SpinLockAcquire(&window->mutex);
	if (window->key != key)
		*retry_at = now;
	else if (window->paused_until > now + horizon)
		*retry_at = window->paused_until;
	else
	{
		MonotonicUs first_at = MONOTONIC_NEVER;
		int			most = wanted;

		shrink_margin(window, now);
		if (horizon > 0 &&
			(window->wanted_until > now ||
			 (window->short_until > now && window->short_of != MyProcPid)))
		{
			int			n_free = count_free(window, per_second, now + horizon,
											&first_at);
			bool		had_last = window->wanted_until > now ?
				window->was_ahead : window->last_ahead == MyProcPid;

			most = Min(wanted, (had_last ? n_free : n_free + 1) / 2);
		}
		window->last_used = now;
		n_taken = take_slots(window, per_second, most,
							 Max(now, window->paused_until), horizon, tickets);
		if (n_taken > 0)
		{
			window->was_ahead = horizon > 0;
			if (horizon > 0)
				window->last_ahead = MyProcPid;
		}
		if (most < wanted && first_at != MONOTONIC_NEVER)
			*retry_at = Max(now, first_at) + LEFT_GRACE;
		else if (n_taken < wanted)
		{
			/* A ticket that is held is expected to leave at once. */
			for (int i = 0; i < n_slots; i++)
			{
				RateSlot   *slot = &window->slots[i];
				MonotonicUs free_at =
					slot->used < slot_capacity(per_second, i) ? slot->open_at :
					(slot->held > 0 ? slot->open_at : slot->left_at) +
					US_PER_SECOND + window->margin;

				if (slot->held > 0 && free_at <= now + horizon)
					free_at = now + horizon + OVERDUE_RETRY;
				*retry_at = Min(*retry_at, free_at - horizon);
			}
			if (horizon == 0)
				window->wanted_until = Max(now, *retry_at) + WAITER_GRACE;
		}
		if (horizon > 0 && n_taken < wanted)
		{
			window->short_of = MyProcPid;
			window->short_until = Max(now, *retry_at) + WAITER_GRACE;
		}
	}
	SpinLockRelease(&window->mutex);

	for (int i = 0; i < n_taken; i++)
	{
		tickets[i].window = window;
		tickets[i].key = key;
	}
	*retry_at = Max(*retry_at, now + US_PER_MS);
	return n_taken;
}

/*
 * Take slots of a window whose mutex is held.
 */
static int
take_slots(RateWindow *window, int per_second, int wanted, MonotonicUs now,
		   MonotonicUs horizon, RateTicket *tickets)
{
	int			n_slots = Min(per_second, MAX_SLOTS);
	int			n_taken = 0;
	int			n_seen = 0;
	int			i = window->cursor < n_slots ? window->cursor : 0;

	while (n_taken < wanted && n_seen < n_slots)
	{
		RateSlot   *slot = &window->slots[i];
		MonotonicUs free_at = slot_free_at(window, i, per_second);

		if (free_at > now + horizon)
		{
			i = (i + 1) % n_slots;
			n_seen++;
			continue;
		}
		if (slot->used >= slot_capacity(per_second, i))
		{
			window->n_held -= slot->held;
			slot->serial++;
			slot->used = 0;
			slot->held = 0;
			slot->open_at = free_at;
			slot->hold_until = 0;
		}
		tickets[n_taken].slot = i;
		tickets[n_taken].serial = slot->serial;
		tickets[n_taken].go_at = Max(now, free_at);
		tickets[n_taken].leave_by = tickets[n_taken].go_at + HOLD_TIME;
		slot->used++;
		slot->held++;
		window->n_held++;
		slot->hold_until = Max(slot->hold_until, tickets[n_taken].leave_by);
		n_taken++;
	}
	window->cursor = i;
	return n_taken;
}

/*
 * How many tickets of a window whose mutex is held are free by a certain time,
 * and in *first_at since when; never, if there are none.
 */
static int
count_free(const RateWindow *window, int per_second, MonotonicUs by,
		   MonotonicUs *first_at)
{
	int			n_slots = Min(per_second, MAX_SLOTS);
	int			n = 0;

	for (int i = 0; i < n_slots; i++)
	{
		int			used = window->slots[i].used;
		int			capacity = slot_capacity(per_second, i);
		MonotonicUs free_at = slot_free_at(window, i, per_second);

		if (free_at > by)
			continue;
		n += used < capacity ? capacity - used : capacity;
		*first_at = Min(*first_at, free_at);
	}
	return n;
}

/*
 * How many requests a slot holds.  Together the slots hold the limit.
 */
static int
slot_capacity(int per_second, int slot)
{
	return per_second / MAX_SLOTS + (slot < per_second % MAX_SLOTS ? 1 : 0);
}

/*
 * When a slot's next request may leave.
 */
static MonotonicUs
slot_free_at(const RateWindow *window, int slot, int per_second)
{
	return window->slots[slot].used < slot_capacity(per_second, slot) ?
		window->slots[slot].open_at : over_at(window, &window->slots[slot]);
}

/*
 * When the requests that have a slot no longer count.
 */
static MonotonicUs
over_at(const RateWindow *window, const RateSlot *slot)
{
	return (slot->held > 0 ? slot->hold_until : slot->left_at) +
		US_PER_SECOND + window->margin;
}

/*
 * Try again with half of what was added to the margin, after a while.
 */
static void
shrink_margin(RateWindow *window, MonotonicUs now)
{
	if (window->margin == MIN_MARGIN ||
		window->margin_since + MARGIN_HALF_LIFE > now)
		return;
	window->margin = Max(window->margin / 2, MIN_MARGIN);
	window->margin_since = now;
}

/*
 * The request of a ticket has left, now at the latest.  The ticket is spent.
 */
void
rate_left(RateTicket *ticket)
{
	RateWindow *window = ticket->window;
	MonotonicUs now = monotonic_now();
	RateSlot   *slot;

	if (window == NULL)
		return;
	ticket->window = NULL;
	slot = &window->slots[ticket->slot];

	SpinLockAcquire(&window->mutex);
	if (window->key == ticket->key && slot->serial == ticket->serial)
	{
		slot->held--;
		window->n_held--;
		slot->left_at = Max(slot->left_at, now);
		window->last_used = now;
	}
	SpinLockRelease(&window->mutex);
}

/*
 * The request of a ticket was not sent.  The ticket is spent, and the slot
 * another's at once.
 */
void
rate_release(RateTicket *ticket)
{
	RateWindow *window = ticket->window;
	RateSlot   *slot;

	if (window == NULL)
		return;
	ticket->window = NULL;
	slot = &window->slots[ticket->slot];

	SpinLockAcquire(&window->mutex);
	if (window->key == ticket->key && slot->serial == ticket->serial)
	{
		slot->held--;
		slot->used--;
		window->n_held--;
	}
	SpinLockRelease(&window->mutex);
	ConditionVariableBroadcast(&window->released);
}

/*
 * The API has refused a request of this account: give out no ticket until
 * the given time, and fewer from then on.  Refusals that come together count
 * as one.
 */
void
rate_pause(RateTable *table, RateKey key, MonotonicUs until, bool is_worker)
{
	RateWindow *window = find_window(table, key, is_worker);

	if (window == NULL)
		return;
	SpinLockAcquire(&window->mutex);
	if (window->key == key)
	{
		MonotonicUs now = monotonic_now();

		if (window->paused_until <= now)
		{
			window->margin = Min(2 * window->margin + 2 * US_PER_MS,
								 MAX_MARGIN);
			window->margin_since = now;
		}
		window->paused_until = Max(window->paused_until, until);
		window->last_used = Max(window->last_used, until);
	}
	SpinLockRelease(&window->mutex);
}

/*
 * How long to pause after the API has refused a request by its limit: 1 to
 * 2 s, at random, so that those who share an account do not come back as one.
 */
MonotonicUs
rate_throttle_pause(void)
{
	return US_PER_SECOND +
		(MonotonicUs) (pg_prng_double(&pg_global_prng_state) * US_PER_SECOND);
}

/*
 * Sleep until the given time, or until a slot comes free before it.
 *
 * Between two attempts to acquire one; the first time, when nothing that
 * comes free could be heard of before, returns at once.  rate_wait_end() must
 * follow.  Interrupts are served, and so may raise an error.
 */
void
rate_wait(RateTable *table, RateKey key, MonotonicUs until,
		  uint32 wait_event_info)
{
	RateWindow *window = find_window(table, key, false);
	long		timeout = monotonic_wait_ms(monotonic_now(), until);

	if (window == NULL && timeout > 0)
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 timeout, wait_event_info);
		ResetLatch(MyLatch);
	}
	if (window == NULL || timeout == 0)
	{
		CHECK_FOR_INTERRUPTS();
		return;
	}
	ConditionVariableTimedSleep(&window->released, timeout, wait_event_info);
}

/*
 * Wait no longer.
 */
void
rate_wait_end(void)
{
	ConditionVariableCancelSleep();
}

/*
 * The window of a key, or NULL if there is none and no room for one.  A part of
 * the table is left to workers: any role that may call can have as many accounts
 * as it likes.
 *
 * Once the table's mutex is released the window may become another key's, as
 * soon as it is long unused: look at its key under its own mutex.
 */
static RateWindow *
find_window(RateTable *table, RateKey key, bool is_worker)
{
	RateWindow *found = NULL;
	RateWindow *unused = NULL;
	MonotonicUs now = monotonic_now();
	int			n_usable = table->n_windows -
		(is_worker ? 0 : table->n_for_workers);

	SpinLockAcquire(&table->mutex);
	for (int i = 0; i < table->n_windows && found == NULL; i++)
	{
		RateWindow *window = &table->windows[i];

		if (window->key == key)
			found = window;
		else if (unused == NULL && i < n_usable && is_unused(window, now))
			unused = window;
	}
	if (found == NULL && unused != NULL)
	{
		SpinLockAcquire(&unused->mutex);
		if (is_unused(unused, now))
		{
			forget_all(table, unused, key);
			unused->last_used = now;
			found = unused;
		}
		SpinLockRelease(&unused->mutex);
	}
	SpinLockRelease(&table->mutex);
	return found;
}

/*
 * Say that a request waits since there are too many accounts, but not for each.
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
			 errmsg("screenshot_task keeps the rate limits of no more than %d accounts at a time",
					table->n_windows),
			 errdetail("Requests of others wait until one of these has sent nothing for a second.")));
}

/*
 * May a window become another key's?
 */
static bool
is_unused(const RateWindow *window, MonotonicUs now)
{
	return window->key == 0 ||
		window->last_used + (window->n_held > 0 ? FORGET_HELD_AFTER :
							 FORGET_AFTER) < now;
}

/*
 * Give a window to a key, with all slots free.
 */
static void
forget_all(RateTable *table, RateWindow *window, RateKey key)
{
	window->key = key;
	window->last_used = 0;
	window->paused_until = 0;
	window->margin = MIN_MARGIN;
	window->n_held = 0;
	window->cursor = 0;
	window->wanted_until = 0;
	window->was_ahead = false;
	window->short_until = 0;
	for (int i = 0; i < MAX_SLOTS; i++)
	{
		RateSlot   *slot = &window->slots[i];

		slot->serial++;
		slot->used = 0;
		slot->held = 0;
		slot->open_at = table->started + US_PER_SECOND + MIN_MARGIN;
		slot->hold_until = 0;
		slot->left_at = 0;
	}
}

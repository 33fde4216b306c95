/*-------------------------------------------------------------------------
 *
 * rate_limit.c
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
 * Pace.  While processes wait, or others use the account, permits are given out
 * evenly over the second, so that a hiccup of the network meets one request and
 * not N of them.  At other times a permit that is there is given at once, be it
 * the whole limit after a rest.
 *
 * A table lives in shared memory, or in a process alone where there is none.
 * At the start of the server, and at the end of recovery, limits count as used
 * up: what was sent just before a crash, or by the former primary, still counts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/xlog.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/spin.h"

#include "compat.h"
#include "net/rate_limit.h"

/* Milliseconds of a calendar: more than a second and MAX_MARGIN */
#define CALENDAR_SIZE		2048

/* How much later than a second after its departure a permit may come back */
#define FIRST_MARGIN		(50 * US_PER_MS)
#define MIN_MARGIN			(10 * US_PER_MS)
#define MAX_MARGIN			(900 * US_PER_MS)

/* Margins shrink by one part in so many each second. */
#define MARGIN_LIFE			400.0

/* Shares grow by so much each second, and faster each second without a refusal. */
#define SHARE_REGAINED		0.012
#define SHARE_REGAINED_MORE	0.003

/* A refusal takes half a permit of the share, but no more than this part. */
#define MAX_SHARE_LOST		0.05
/* So many in a row halve it, once a second. */
#define MANY_REFUSALS		20
/* That much is left: one request a second, or less if the limit is low. */
#define MIN_SHARE(per_second)	Min(0.25, 1.0 / (per_second))

/* The shortest round trip follows longer ones by one part in so many. */
#define ROUND_TRIP_DRIFT	4096

/* How much earlier than that a request may have arrived */
#define ROUND_TRIP_SLACK	US_PER_MS

/* How long what was late may be why others are refused */
#define LATE_MATTERS		(1500 * US_PER_MS)

/* Permits may be early by so much, to make up for others that were late. */
#define PACE_TOLERANCE		(10 * US_PER_MS)

/* How far ahead a permit may be taken */
#define MAX_HORIZON_MS		25

/* Deadline of a permit: longer than a connection takes by default */
#define HOLD_TIME			(6 * US_PER_SECOND)

/* Seconds in which unsent permits may come back */
#define UNSENT_SECONDS		16

/* Those who wait beyond that are in no order. */
#define MAX_WAITERS			128

/* Who waits comes back after so long at the latest, or loses its turn. */
#define WAITER_RETRY		(900 * US_PER_MS)
#define WAITER_GRACE		(500 * US_PER_MS)

/* When to look again if it is not known when a permit comes back */
#define UNKNOWN_RETRY		(50 * US_PER_MS)

/* A window that was not used for so long has no permits in use, and nobody who
 * waits: sooner, if all permits that were taken have left. */
#define FORGET_AFTER		(2 * US_PER_SECOND)
#define FORGET_UNSENT_AFTER	(HOLD_TIME + 4 * US_PER_SECOND)

/* How long a process does not say again that there are too many accounts */
#define LOG_REST			(60 * US_PER_SECOND)

#define NO_TIME				PG_INT64_MAX
#define MS_PER_SECOND		1000

typedef struct RateWaiter
{
	int			pid;
	MonotonicUs back_by;		/* else it is gone */
} RateWaiter;

struct RateWindow
{
	slock_t		mutex;			/* protects all below but "released" */
	RateKey		key;
	MonotonicUs last_used;
	int			per_second;		/* the limit, as it was last told */

	int			in_use;			/* permits, at the time up_to */
	int64		up_to;			/* in milliseconds */
	int16		changes[CALENDAR_SIZE]; /* of in_use, by millisecond */
	int			unsent[UNSENT_SECONDS]; /* permits in use that have not left,
										 * by the second they would return */

	MonotonicUs interval;		/* between permits, while processes wait */
	MonotonicUs pace_at;		/* when the next one is due by that */

	/* what answers have taught */
	MonotonicUs learned_at;
	MonotonicUs margin;
	double		share;			/* of the limit, above 0, up to 1 */
	MonotonicUs round_trip;		/* the shortest; 0: not known */
	MonotonicUs lateness;		/* the greatest of late */
	MonotonicUs late_at;		/* when that was */
	MonotonicUs raised_at;		/* when the margin was last raised, */
	MonotonicUs refused_at;		/* a request last refused, */
	MonotonicUs halved_at;		/* and the share last halved */
	int			n_refused;		/* in a row */
	int			n_answered;		/* since the last refusal */

	int			n_waiters;
	RateWaiter	waiters[MAX_WAITERS];	/* in order */
	ConditionVariable released; /* a permit came back before its time */
};

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
static void log_lack_of_windows(const RateTable *table, MonotonicUs now);
static void reset_window(RateWindow *window, RateKey key);
static bool is_unused(const RateWindow *window, MonotonicUs now);
static int64 ms_from(MonotonicUs time);
static MonotonicUs advance(RateWindow *window);
static void lose_share(RateWindow *window, MonotonicUs now);
static MonotonicUs note_round_trip(RateWindow *window, MonotonicUs now,
								   MonotonicUs round_trip);
static void relearn(RateWindow *window, MonotonicUs now);
static int	set_limit(RateWindow *window, int per_second);
static int64 due_in_calendar(const RateWindow *window, int capacity, int nth);
static int64 due(const RateTable *table, const RateWindow *window,
				 int capacity, int place);
static void take_permit(RateWindow *window, int64 starts, RatePermit *permit);
static bool is_unsent(const RateWindow *window, const RatePermit *permit);
static int	find_waiter(RateWindow *window, MonotonicUs now);
static int	join_queue(RateWindow *window, MonotonicUs now);
static void remove_waiter(RateWindow *window, int place);
static void leave_queue(RateWindow *window);

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
	table->open_at = monotonic_now() + US_PER_SECOND + FIRST_MARGIN;
	table->n_windows = n_windows;
	table->n_for_workers = n_for_workers;
	for (int i = 0; i < n_windows; i++)
	{
		SpinLockInit(&table->windows[i].mutex);
		ConditionVariableInit(&table->windows[i].released);
		reset_window(&table->windows[i], 0);
	}
}

/*
 * Recovery is over: if this was not known yet, the limits count as used up.  The
 * launcher, which starts at that moment, says so; or whoever asks for a permit
 * before it.
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
 * queue from then on, and keeps its place if it asks again at *retry_at.  While
 * others wait behind it, it gets one permit at its turn.
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
	if (!table->recovery_ended && !RecoveryInProgress())
		rate_recovery_ended(table);
	*retry_at = monotonic_now() + UNKNOWN_RETRY;
	window = find_or_make_window(table, key, horizon > 0);
	if (window == NULL)
	{
		log_lack_of_windows(table, monotonic_now());
		return 0;
	}

	SpinLockAcquire(&window->mutex);
	if (window->key == key)
	{
		MonotonicUs now = advance(window);
		int64		by = (now + horizon) / US_PER_MS;
		int			capacity = set_limit(window, per_second);
		int			place = find_waiter(window, now);
		int			most = place + 1 < window->n_waiters ? 1 : wanted;
		int64		next;

		window->last_used = now;
		while (n_taken < most &&
			   (next = due(table, window, capacity, place)) <= by)
			take_permit(window, next, &permits[n_taken++]);

		/* One who was served and wants more goes to the end of the queue. */
		if (n_taken > 0)
			leave_queue(window);
		if (n_taken < wanted)
		{
			place = join_queue(window, now);
			next = due(table, window, capacity, place);
			if (next != NO_TIME)
				*retry_at = Max(next * US_PER_MS - horizon, now + US_PER_MS);
			*retry_at = Min(*retry_at, now + WAITER_RETRY);
			if (place < MAX_WAITERS)
				window->waiters[place].back_by = *retry_at + WAITER_GRACE;
		}
	}
	SpinLockRelease(&window->mutex);

	for (int i = 0; i < n_taken; i++)
	{
		permits[i].window = window;
		permits[i].key = key;
	}
	return n_taken;
}

/*
 * Put a permit of a window whose mutex is held in use.
 */
static void
take_permit(RateWindow *window, int64 starts, RatePermit *permit)
{
	permit->starts = Max(starts, window->up_to);
	permit->go_at = permit->starts * US_PER_MS;
	permit->leave_by = permit->go_at + HOLD_TIME;
	permit->left_at = 0;
	/* until it has left: the second after which it is back by itself */
	permit->returns = (permit->leave_by + 2 * US_PER_SECOND) / US_PER_SECOND;

	if (permit->starts > window->up_to)
		window->changes[permit->starts % CALENDAR_SIZE]++;
	else
		window->in_use++;
	window->unsent[permit->returns % UNSENT_SECONDS]++;
	window->pace_at = Max(window->pace_at, permit->go_at - PACE_TOLERANCE) +
		window->interval;
}

/*
 * The request of a permit has left, now at the latest.
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
	{
		MonotonicUs now = advance(window);

		if (is_unsent(window, permit))
			window->unsent[permit->returns % UNSENT_SECONDS]--;
		else
			window->in_use++;
		permit->returns = ms_from(now + US_PER_SECOND + window->margin);
		window->changes[permit->returns % CALENDAR_SIZE]--;
		window->last_used = now;
	}
	SpinLockRelease(&window->mutex);
}

/*
 * Is a permit that has not left still in use, in a window that is up to date?
 */
static bool
is_unsent(const RateWindow *window, const RatePermit *permit)
{
	return permit->returns * MS_PER_SECOND > window->up_to;
}

/*
 * The answer to a request that has left is here: its permit is spent, and comes
 * back as soon as is known by now.
 */
void
rate_answered(RatePermit *permit)
{
	RateWindow *window = permit->window;

	if (window == NULL || permit->left_at == 0)
		return;
	permit->window = NULL;

	SpinLockAcquire(&window->mutex);
	if (window->key == permit->key)
	{
		MonotonicUs now = advance(window);
		MonotonicUs lateness = note_round_trip(window, now,
											   now - permit->left_at);
		int64		returns = ms_from(permit->left_at + US_PER_SECOND +
									  Min(lateness, window->margin));

		if (returns < permit->returns && permit->returns > window->up_to)
		{
			window->changes[permit->returns % CALENDAR_SIZE]++;
			if (returns > window->up_to)
				window->changes[returns % CALENDAR_SIZE]--;
			else
				window->in_use--;
		}
	}
	SpinLockRelease(&window->mutex);
}

/*
 * Learn from the time between the departure and the answer of a request.
 * Returns how late the request may have arrived.
 */
static MonotonicUs
note_round_trip(RateWindow *window, MonotonicUs now, MonotonicUs round_trip)
{
	MonotonicUs lateness;

	window->n_answered++;
	if (window->round_trip == 0 || round_trip < window->round_trip)
		window->round_trip = Max(round_trip, 1);
	else
		window->round_trip += (round_trip - window->round_trip) /
			ROUND_TRIP_DRIFT;
	lateness = round_trip - window->round_trip + ROUND_TRIP_SLACK;
	if (lateness >= window->lateness || window->late_at + LATE_MATTERS < now)
	{
		window->lateness = lateness;
		window->late_at = now;
	}
	return lateness;
}

/*
 * The request of a permit was not sent: the permit is another's at once.  Who
 * gives one back does not wait for more.
 */
void
rate_release(RatePermit *permit)
{
	RateWindow *window = permit->window;

	if (window == NULL)
		return;
	permit->window = NULL;
	if (permit->left_at != 0)
		return;

	SpinLockAcquire(&window->mutex);
	if (window->key == permit->key)
	{
		(void) advance(window);
		if (is_unsent(window, permit))
		{
			window->unsent[permit->returns % UNSENT_SECONDS]--;
			if (permit->starts > window->up_to)
				window->changes[permit->starts % CALENDAR_SIZE]--;
			else
				window->in_use--;
			window->pace_at -= window->interval;
		}
		leave_queue(window);
	}
	SpinLockRelease(&window->mutex);
	ConditionVariableBroadcast(&window->released);
}

/*
 * The API has refused a request of this account by its limit.  To be told after
 * rate_answered().
 */
void
rate_refused(RateTable *table, RateKey key)
{
	RateWindow *window = find_window(table, key);

	if (window == NULL)
		return;
	SpinLockAcquire(&window->mutex);
	if (window->key == key)
	{
		MonotonicUs now = advance(window);

		if (window->margin < MAX_MARGIN &&
			window->lateness > window->margin &&
			window->late_at + LATE_MATTERS > now)
		{
			window->margin = Min(window->lateness + window->lateness / 10,
								 MAX_MARGIN);
			window->raised_at = now;
		}
		/* Others may have met the same hiccup, before that was known. */
		else if (window->raised_at + LATE_MATTERS < now)
			lose_share(window, now);
		window->refused_at = now;
	}
	SpinLockRelease(&window->mutex);
}

/*
 * Use less of the limit: others use it, too.
 */
static void
lose_share(RateWindow *window, MonotonicUs now)
{
	window->n_refused = window->n_answered <= 1 ? window->n_refused + 1 : 1;
	window->n_answered = 0;
	if (window->n_refused < MANY_REFUSALS)
		window->share -= Min(0.5 / window->per_second, MAX_SHARE_LOST);
	else if (window->halved_at + US_PER_SECOND < now)
	{
		window->share /= 2;
		window->halved_at = now;
	}
	window->share = Max(window->share, MIN_SHARE(window->per_second));
}

/* ---------------------------------------------------- a window: its mutex is held
 */

/* The first millisecond that does not begin before a time */
static int64
ms_from(MonotonicUs time)
{
	return (time + US_PER_MS - 1) / US_PER_MS;
}

/*
 * Bring a window up to the present, which is returned.
 */
static MonotonicUs
advance(RateWindow *window)
{
	MonotonicUs now = monotonic_now();
	int64		to = now / US_PER_MS;
	int64		second = window->up_to / MS_PER_SECOND;

	for (int64 ms = Max(window->up_to, to - CALENDAR_SIZE) + 1; ms <= to; ms++)
	{
		window->in_use += window->changes[ms % CALENDAR_SIZE];
		window->changes[ms % CALENDAR_SIZE] = 0;
	}
	for (second = Max(second, to / MS_PER_SECOND - UNSENT_SECONDS) + 1;
		 second <= to / MS_PER_SECOND; second++)
	{
		window->in_use -= window->unsent[second % UNSENT_SECONDS];
		window->unsent[second % UNSENT_SECONDS] = 0;
	}
	window->up_to = to;
	relearn(window, now);
	return now;
}

/*
 * Have what was learned wear off.
 */
static void
relearn(RateWindow *window, MonotonicUs now)
{
	double		seconds = (double) (now - window->learned_at) / US_PER_SECOND;
	double		regained;

	if (seconds < 0.1)
		return;
	window->learned_at = now;
	regained = SHARE_REGAINED + SHARE_REGAINED_MORE *
		((double) (now - window->refused_at) / US_PER_SECOND);
	window->share = Min(window->share + regained * seconds, 1.0);
	window->margin = Max((MonotonicUs) ((double) window->margin *
										exp(-seconds / MARGIN_LIFE)),
						 MIN_MARGIN);
}

/*
 * Tell a window its limit.  Returns how many permits it has.
 */
static int
set_limit(RateWindow *window, int per_second)
{
	double		rate = per_second * window->share;

	window->per_second = per_second;
	window->interval = (MonotonicUs) (US_PER_SECOND / rate);
	return (int) ceil(rate - 1e-9);
}

/*
 * The millisecond from which on a number of permits is free, whatever is taken
 * ahead already; NO_TIME if that is not known.
 */
static int64
due_in_calendar(const RateWindow *window, int capacity, int nth)
{
	int			n_free = capacity - window->in_use;
	int64		since = n_free >= nth ? window->up_to : NO_TIME;

	for (int i = 1; i < CALENDAR_SIZE; i++)
	{
		if (i > MAX_HORIZON_MS && since != NO_TIME)
			break;
		n_free -= window->changes[(window->up_to + i) % CALENDAR_SIZE];
		if (n_free < nth)
			since = NO_TIME;
		else if (since == NO_TIME)
			since = window->up_to + i;
	}
	return since;
}

/*
 * The millisecond in which the one who waits at a place, from 0 on, may take a
 * permit; NO_TIME if that is not known.
 */
static int64
due(const RateTable *table, const RateWindow *window, int capacity, int place)
{
	int64		at = due_in_calendar(window, capacity, place % capacity + 1);

	if (at == NO_TIME)
		return NO_TIME;
	/* All permits are used once more by those before. */
	at += place / capacity * MS_PER_SECOND;
	if (window->n_waiters > 0 || window->share < 1.0)
		at = Max(at, ms_from(window->pace_at + place * window->interval));
	return Max(at, ms_from(table->open_at));
}

/* ------------------------------------------------------------------- queue
 */

/*
 * The place of this process in the queue of a window whose mutex is held, or
 * the place behind all.  Those who should have come back are not there any more.
 */
static int
find_waiter(RateWindow *window, MonotonicUs now)
{
	int			place = 0;

	while (place < window->n_waiters)
	{
		if (window->waiters[place].pid == MyProcPid)
			break;
		if (window->waiters[place].back_by < now)
			remove_waiter(window, place);
		else
			place++;
	}
	return place;
}

/*
 * The place of this process in the queue, to which it is added if need be.  All
 * who find it full have the place behind it.
 */
static int
join_queue(RateWindow *window, MonotonicUs now)
{
	int			place = find_waiter(window, now);

	if (place == window->n_waiters && place < MAX_WAITERS)
	{
		window->waiters[place].pid = MyProcPid;
		window->n_waiters++;
	}
	return place;
}

static void
remove_waiter(RateWindow *window, int place)
{
	window->n_waiters--;
	memmove(&window->waiters[place], &window->waiters[place + 1],
			(window->n_waiters - place) * sizeof(RateWaiter));
}

static void
leave_queue(RateWindow *window)
{
	int			place = find_waiter(window, 0);

	if (place < window->n_waiters)
		remove_waiter(window, place);
}

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
		now = advance(window);
		at = due(table, window, set_limit(window, per_second),
				 find_waiter(window, now));
	}
	SpinLockRelease(&window->mutex);
	return at == NO_TIME ? now : Max(now, at * US_PER_MS);
}

/*
 * Sleep until the given time, or until a permit comes back before it.
 *
 * Between two attempts to acquire one; the first time, when nothing that
 * comes back could be heard of before, returns at once.  rate_wait_end() must
 * follow, unless this raises an error: interrupts are served.
 */
void
rate_wait(RateTable *table, RateKey key, MonotonicUs until,
		  uint32 wait_event_info)
{
	RateWindow *window = find_window(table, key);
	long		timeout = monotonic_wait_ms(monotonic_now(), until);

	PG_TRY();
	{
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
	PG_CATCH();
	{
		rate_wait_end(table, key);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/*
 * Wait no longer.
 */
void
rate_wait_end(RateTable *table, RateKey key)
{
	RateWindow *window = find_window(table, key);

	ConditionVariableCancelSleep();
	if (window == NULL)
		return;
	SpinLockAcquire(&window->mutex);
	if (window->key == key)
		leave_queue(window);
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
		else if ((is_worker ? is_reserved || !unused_is_reserved : !is_reserved) &&
				 is_unused(window, now) &&
				 (unused == NULL || window->last_used < unused->last_used))
		{
			unused = window;
			unused_is_reserved = is_reserved;
		}
	}
	if (found == NULL && unused != NULL)
	{
		SpinLockAcquire(&unused->mutex);
		if (is_unused(unused, now))
		{
			reset_window(unused, key);
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
			 errdetail("Requests of others wait until one of these has sent nothing for two seconds.")));
}

/*
 * May a window become another key's?  Not while it has permits in use.
 */
static bool
is_unused(const RateWindow *window, MonotonicUs now)
{
	MonotonicUs rest = FORGET_AFTER;

	for (int i = 0; i < UNSENT_SECONDS; i++)
	{
		if (window->unsent[i] > 0)
			rest = FORGET_UNSENT_AFTER;
	}
	return window->key == 0 || window->last_used + rest < now;
}

/*
 * Give a window to a key, with all permits free.
 */
static void
reset_window(RateWindow *window, RateKey key)
{
	MonotonicUs now = monotonic_now();

	window->key = key;
	window->last_used = key != 0 ? now : 0;
	window->per_second = 1;
	window->in_use = 0;
	window->up_to = now / US_PER_MS;
	memset(window->changes, 0, sizeof(window->changes));
	memset(window->unsent, 0, sizeof(window->unsent));
	window->interval = 0;
	window->pace_at = 0;
	window->learned_at = now;
	window->margin = FIRST_MARGIN;
	window->share = 1.0;
	window->round_trip = 0;
	window->lateness = 0;
	window->late_at = 0;
	window->raised_at = 0;
	window->refused_at = 0;
	window->halved_at = 0;
	window->n_refused = 0;
	window->n_answered = 0;
	window->n_waiters = 0;
}

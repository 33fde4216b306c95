/*-------------------------------------------------------------------------
 *
 * rate_window.c
 *	  One rate limit: a calendar of its permits, a queue, and what was learned
 *
 * See rate_table.c.  Whoever calls these holds the window's mutex; nothing in
 * here can fail.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"

#include "net/rate_window.h"

/* How much later than a second after its departure a permit may come back; see
 * also FIRST_MARGIN */
#define MIN_MARGIN			(10 * US_PER_MS)
#define MAX_MARGIN			(900 * US_PER_MS)

/* Margins shrink by one part in so many each second. */
#define MARGIN_LIFE			400.0

/* Shares grow by so much each second, and faster each second without a refusal. */
#define SHARE_REGAINED		0.004
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
#define PACE_TOLERANCE		(50 * US_PER_MS)

/* Deadline of a permit: longer than a connection takes by default */
#define HOLD_TIME			(6 * US_PER_SECOND)

/* A window that was not used for so long has no permits in use, and nobody who
 * waits: sooner, if all permits that were taken have left. */
#define FORGET_AFTER		(2 * US_PER_SECOND)
#define FORGET_UNSENT_AFTER	(HOLD_TIME + 4 * US_PER_SECOND)

static int64 ms_from(MonotonicUs time);
static bool is_unsent(const RateWindow *window, const RatePermit *permit);
static int64 due_in_calendar(const RateWindow *window, int capacity, int nth);
static MonotonicUs note_round_trip(RateWindow *window, MonotonicUs now,
								   MonotonicUs round_trip);
static void lose_share(RateWindow *window, MonotonicUs now);
static void relearn(RateWindow *window, MonotonicUs now);
static void remove_waiter(RateWindow *window, int place);

/*
 * Give a window to a key, with all permits free.
 */
void
rate_window_reset(RateWindow *window, RateKey key)
{
	MonotonicUs now = monotonic_now();

	window->key = key;
	/* A window that never had a key is the first to be taken. */
	window->last_used = key != 0 ? now : 0;

	/*
	 * Not 0, by which others divide, until rate_window_set_limit() says what
	 * it is.
	 */
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

/*
 * May a window become another key's?  Not while it has permits in use.
 */
bool
rate_window_is_unused(const RateWindow *window, MonotonicUs now)
{
	MonotonicUs rest = FORGET_AFTER;

	for (int i = 0; i < UNSENT_SECONDS; i++)
	{
		/*
		 * A permit that has not left may still be used until its deadline, by
		 * a process that this window no longer hears of.
		 */
		if (window->unsent[i] > 0)
			rest = FORGET_UNSENT_AFTER;
	}
	return window->key == 0 || window->last_used + rest < now;
}

/*
 * Bring a window up to the present, which is returned.
 */
MonotonicUs
rate_window_advance(RateWindow *window)
{
	MonotonicUs now = monotonic_now();
	int64		to = now / US_PER_MS;
	/*
	 * Of two rings, one of milliseconds for permits whose return is known, and
	 * one of seconds for those that have not left.  Both are run through at
	 * most once, however long nobody looked.
	 */
	int64		second = window->up_to / MS_PER_SECOND;

	for (int64 ms = Max(window->up_to, to - CALENDAR_SIZE) + 1; ms <= to; ms++)
	{
		window->in_use += window->changes[ms % CALENDAR_SIZE];

		/*
		 * The entry stands for the millisecond CALENDAR_SIZE later from now
		 * on.
		 */
		window->changes[ms % CALENDAR_SIZE] = 0;
	}
	for (second = Max(second, to / MS_PER_SECOND - UNSENT_SECONDS) + 1;
		 second <= to / MS_PER_SECOND; second++)
	{
		/*
		 * Permits whose process died, or never said that it gave up: they come
		 * back by themselves.
		 */
		window->in_use -= window->unsent[second % UNSENT_SECONDS];
		window->unsent[second % UNSENT_SECONDS] = 0;
	}
	window->up_to = to;

	/*
	 * After in_use is up to date, since what was learned says how many permits
	 * may be.
	 */
	relearn(window, now);
	return now;
}

/*
 * Tell a window its limit.  Returns how many permits it has.
 */
int
rate_window_set_limit(RateWindow *window, int per_second)
{
	double		rate = per_second * window->share;

	window->per_second = per_second;
	window->interval = (MonotonicUs) (US_PER_SECOND / rate);

	/*
	 * Rounded up, so that a small share of a low limit still allows a request;
	 * the interval keeps the average right.  The epsilon keeps 20 * 1.0 from
	 * becoming 21.
	 */
	return (int) ceil(rate - 1e-9);
}

/* ---------------------------------------------------------------- calendar
 */

/* The first millisecond that does not begin before a time */
static int64
ms_from(MonotonicUs time)
{
	return (time + US_PER_MS - 1) / US_PER_MS;
}

/*
 * The millisecond from which on a number of permits is free, whatever is taken
 * ahead already; NO_TIME if that is not known.
 */
static int64
due_in_calendar(const RateWindow *window, int capacity, int nth)
{
	int			n_free = capacity - window->in_use;
	/*
	 * Permits taken ahead lower the number again at a later millisecond: it is
	 * not enough that a permit is free, it has to stay free until they start.
	 */
	int64		since = n_free >= nth ? window->up_to : NO_TIME;

	for (int i = 1; i < CALENDAR_SIZE; i++)
	{
		/*
		 * Nothing starts later than the horizon, so that from there on the
		 * number of free permits only grows.
		 */
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
int64
rate_window_due(const RateWindow *window, int capacity, int place)
{
	int64		at = due_in_calendar(window, capacity, place % capacity + 1);

	if (at == NO_TIME)
		return NO_TIME;
	/* All permits are used once more by those before. */
	at += place / capacity * MS_PER_SECOND;

	/*
	 * Evenly over the second only under these conditions; see "Pace" in
	 * rate_table.c.
	 */
	if (window->n_waiters > 0 || window->share < 1.0)
		at = Max(at, ms_from(window->pace_at + place * window->interval));
	return at;
}

/*
 * Put a permit in use, from a millisecond on.
 */
void
rate_window_take(RateWindow *window, int64 starts, RatePermit *permit)
{
	/* The calendar has no past: what was due earlier starts now. */
	permit->starts = Max(starts, window->up_to);
	permit->go_at = permit->starts * US_PER_MS;
	permit->deadline = permit->go_at + HOLD_TIME;
	permit->left_at = 0;
	/* until it has left: the second after which it is back by itself */
	permit->returns = (permit->deadline + 2 * US_PER_SECOND) / US_PER_SECOND;

	if (permit->starts > window->up_to)
		window->changes[permit->starts % CALENDAR_SIZE]++;
	else
		window->in_use++;
	window->unsent[permit->returns % UNSENT_SECONDS]++;

	/*
	 * Counted from when it was due, within a tolerance: a late permit does not
	 * delay all that follow, and a long rest does not save up permits.
	 */
	window->pace_at = Max(window->pace_at, permit->go_at - PACE_TOLERANCE) +
		window->interval;
}

/*
 * Note that the request of a permit has left.
 */
void
rate_window_left(RateWindow *window, RatePermit *permit)
{
	MonotonicUs now = rate_window_advance(window);

	/*
	 * If not, the permit came back by itself before its request left, as when
	 * the process was stopped.  It is in use once more then: the API counts
	 * the request.
	 */
	if (is_unsent(window, permit))
		window->unsent[permit->returns % UNSENT_SECONDS]--;
	else
		window->in_use++;
	permit->returns = ms_from(now + US_PER_SECOND + window->margin);
	window->changes[permit->returns % CALENDAR_SIZE]--;
	window->last_used = now;
}

/*
 * Is a permit that has not left still in use, in a window that is up to date?
 */
static bool
is_unsent(const RateWindow *window, const RatePermit *permit)
{
	/* Before it has left, "returns" is a second and not a millisecond. */
	return permit->returns * MS_PER_SECOND > window->up_to;
}

/*
 * Note that the request of a permit was answered, at the given time.
 */
void
rate_window_answered(RateWindow *window, const RatePermit *permit,
					 MonotonicUs answered_at)
{
	MonotonicUs now = rate_window_advance(window);
	MonotonicUs lateness = note_round_trip(window, now,
										   Max(answered_at - permit->left_at, 1));

	/*
	 * The API's second begins when the request arrives, which is as late as
	 * the answer allows, but no later than the margin: beyond that an answer
	 * is taken for late by itself.
	 */
	int64		returns = ms_from(permit->left_at + US_PER_SECOND +
								  Min(lateness, window->margin));

	/*
	 * Only ever earlier.  What has come back already may have been given out
	 * again.
	 */
	if (returns < permit->returns && permit->returns > window->up_to)
	{
		window->changes[permit->returns % CALENDAR_SIZE]++;
		if (returns > window->up_to)
			window->changes[returns % CALENDAR_SIZE]--;
		else
			window->in_use--;
	}
}

/*
 * Give back a permit whose request was not sent.  Who gives one back does not
 * wait for more.
 */
void
rate_window_release(RateWindow *window, const RatePermit *permit)
{
	(void) rate_window_advance(window);

	/*
	 * If not, it has come back by itself, and to return it again would make
	 * one too many.
	 */
	if (is_unsent(window, permit))
	{
		window->unsent[permit->returns % UNSENT_SECONDS]--;
		if (permit->starts > window->up_to)
			window->changes[permit->starts % CALENDAR_SIZE]--;
		else
			window->in_use--;
		/* As if it had not been taken. */
		window->pace_at -= window->interval;
	}
	rate_window_leave(window);
}

/* ---------------------------------------------------------------- learning
 */

/*
 * Learn from the time between the departure and the answer of a request.
 * Returns how late the request may have arrived.
 */
static MonotonicUs
note_round_trip(RateWindow *window, MonotonicUs now, MonotonicUs round_trip)
{
	MonotonicUs lateness;

	window->n_answered++;

	/*
	 * Slowly upwards, so that a longer route is learned in minutes, and a jam
	 * of seconds is not taken for one.
	 */
	if (window->round_trip == 0 || round_trip < window->round_trip)
		window->round_trip = round_trip;
	else
		window->round_trip += (round_trip - window->round_trip) /
			ROUND_TRIP_DRIFT;
	lateness = round_trip - window->round_trip + ROUND_TRIP_SLACK;

	/*
	 * The greatest of about the last second: it may explain a refusal that
	 * comes now, whichever request it was of.
	 */
	if (lateness >= window->lateness || window->late_at + LATE_MATTERS < now)
	{
		window->lateness = lateness;
		window->late_at = now;
	}
	return lateness;
}

/*
 * Note that the API has refused a request, and learn from it.
 */
void
rate_window_refused(RateWindow *window)
{
	MonotonicUs now = rate_window_advance(window);

	/*
	 * The margin was too small if a request was later than it.  Raising it
	 * costs a little of the limit; blaming others would cost more.
	 */
	if (window->margin < MAX_MARGIN &&
		window->lateness > window->margin &&
		window->late_at + LATE_MATTERS > now)
	{
		/* A tenth more than was seen, so that one step is usually enough. */
		window->margin = Min(window->lateness + window->lateness / 10,
							 MAX_MARGIN);
		window->raised_at = now;
	}
	else
		lose_share(window, now);
	window->refused_at = now;
}

/*
 * Use less of the limit: others use it, too.
 */
static void
lose_share(RateWindow *window, MonotonicUs now)
{
	/*
	 * The refusal itself was counted as an answer, by rate_answered(): one
	 * answer between two refusals means that they follow each other.
	 */
	window->n_refused = window->n_answered <= 1 ? window->n_refused + 1 : 1;
	window->n_answered = 0;

	/*
	 * Half a permit for each refusal: the window settles where as much is
	 * refused as it regains, a few in a thousand.
	 */
	if (window->n_refused < MANY_REFUSALS)
		window->share -= Min(0.5 / window->per_second, MAX_SHARE_LOST);
	/* Many may have met a hiccup together, before that was known. */
	else if (window->halved_at + US_PER_SECOND < now &&
			 window->raised_at + LATE_MATTERS < now)
	{
		window->share /= 2;
		window->halved_at = now;
	}
	/* Never 0: the only way to learn that others have stopped is to send. */
	window->share = Max(window->share, MIN_SHARE(window->per_second));
}

/*
 * Forget some of what was learned, as time passes.
 */
static void
relearn(RateWindow *window, MonotonicUs now)
{
	double		seconds = (double) (now - window->learned_at) / US_PER_SECOND;
	double		regained;

	/*
	 * Too little would be lost in rounding, and this is called for each
	 * permit.
	 */
	if (seconds < 0.1)
		return;
	window->learned_at = now;

	/*
	 * Faster the longer nothing was refused: whoever used the account seems to
	 * be gone.
	 */
	regained = SHARE_REGAINED + SHARE_REGAINED_MORE *
		((double) (now - window->refused_at) / US_PER_SECOND);
	window->share = Min(window->share + regained * seconds, 1.0);
	window->margin = Max((MonotonicUs) ((double) window->margin *
										exp(-seconds / MARGIN_LIFE)),
						 MIN_MARGIN);
}

/* ------------------------------------------------------------------- queue
 */

/*
 * The place of this process in the queue, or the place behind all.  Those who
 * should have come back are not there any more.
 */
int
rate_window_place(RateWindow *window, MonotonicUs now)
{
	int			place = 0;

	while (place < window->n_waiters)
	{
		/*
		 * Its own entry is found even if it is late: it is alive, and those
		 * behind it have not passed it.
		 */
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
 * The place of this process in the queue, to which it is added if it is not
 * there.  If the queue is full it is not added, and its place is behind all
 * others.
 */
int
rate_window_join(RateWindow *window, MonotonicUs now)
{
	int			place = rate_window_place(window, now);

	/*
	 * rate_window_place() gives n_waiters for a process that is not in the
	 * queue.
	 */
	if (place == window->n_waiters && place < MAX_WAITERS)
	{
		window->waiters[place].pid = MyProcPid;
		window->n_waiters++;
	}
	return place;
}

/*
 * Remove the waiter at a place of the queue.
 */
static void
remove_waiter(RateWindow *window, int place)
{
	window->n_waiters--;
	memmove(&window->waiters[place], &window->waiters[place + 1],
			(window->n_waiters - place) * sizeof(RateWaiter));
}

/*
 * Remove this process from the queue.
 */
void
rate_window_leave(RateWindow *window)
{
	/*
	 * With 0 for the time nobody is removed for being late: this only looks.
	 */
	int			place = rate_window_place(window, 0);

	if (place < window->n_waiters)
		remove_waiter(window, place);
}

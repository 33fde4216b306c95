/*-------------------------------------------------------------------------
 *
 * activity.c
 *	  What a worker is doing, for others to see
 *
 * A worker keeps an account of what it does, and publishes it in shared memory
 * when that has changed, before it waits.  The view screenshot_task_worker
 * shows it.
 *
 * Pending requests are counted when the worker looks at its table, if that
 * takes no time, and after somebody has seen a count that there was news since;
 * but so seldom that the worker spends no more than a fraction of its time on
 * it.  Meanwhile what it claims is taken off.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "settings.h"
#include "shmem/activity.h"
#include "shmem/shared_state.h"
#include "util/text.h"

/* A count is followed by so many times its duration without one */
#define COUNT_REST			500

/* One that took so long is not made while requests wait to be sent */
#define CHEAP_COUNT			(5 * US_PER_MS)

/* The rate is that of about so long, in seconds; after less than so long it
 * is not known, as the first answers may come together or one by one */
#define RATE_SPAN			10.0
#define MIN_RATE_SPAN		1.0

/* What this worker keeps of itself */
static struct
{
	Activity	activity;
	Activity	published;		/* as it last was */
	MonotonicUs next_count_at;	/* not to count before */
	MonotonicUs last_count_took;	/* us */

	double		answers;		/* of late, the later the more they count */
	double		weight;			/* of the time in which they came */
	MonotonicUs answers_at;		/* when these two were last brought up; 0: never */
}			my;

static void age_answers(MonotonicUs now);
static bool is_blocked(const DatabaseStatus *status,
					   const Activity *activity);
static const char *state_of(const DatabaseStatus *status,
							const Activity *activity);
static Datum make_span(double seconds);

PG_FUNCTION_INFO_V1(screenshot_task_worker);

/*
 * Note an error, for the view's column last_error.
 */
void
activity_note_error(const char *text)
{
	clip_text(my.activity.last_error, text, ACTIVITY_TEXT);
	/* Wall-clock time, for people; it is never computed with. */
	my.activity.last_error_at = GetCurrentTimestamp();
}

/*
 * Begin to publish what this worker does, at a database slot.  The last error
 * of the worker before it is kept.
 */
void
activity_start(int slot)
{
	DatabaseStatus status;

	read_activity(slot, &status, &my.published);

	/*
	 * A worker that dies of an error leaves the reason to its successor, which
	 * a restart would hide otherwise.
	 */
	memcpy(my.activity.last_error, my.published.last_error,
		   sizeof(my.activity.last_error));
	my.activity.last_error_at = my.published.last_error_at;
}

/*
 * Does each transaction on the table fail?  Then nothing is known of what is in
 * it.
 */
void
activity_set_blocked(bool blocked)
{
	my.activity.blocked = blocked;
}

/*
 * What activity_set_blocked() was last told.
 */
bool
activity_is_blocked(void)
{
	return my.activity.blocked;
}

/*
 * Note that so many requests have been claimed.
 */
void
activity_note_claimed(int n)
{
	/*
	 * The count may be older than some of the requests, so that more can be
	 * claimed than were counted.
	 */
	my.activity.ready = Max(my.activity.ready - n, 0);
}

/*
 * Note that a claimed request was put back.
 */
void
activity_note_put_back(bool waits)
{
	if (waits)
		my.activity.waiting++;
	else
		my.activity.ready++;
}

/*
 * Note that a claimed request was answered.
 */
void
activity_note_answered(void)
{
	bool		is_first = my.answers_at == 0;

	age_answers(monotonic_now());
	/* The time in which they come begins with the first. */
	if (!is_first)
		my.answers++;
}

/*
 * Let past answers count for less, as time passes.
 */
static void
age_answers(MonotonicUs now)
{
	if (my.answers_at != 0)
	{
		double		seconds = (double) (now - my.answers_at) / US_PER_SECOND;
		/*
		 * An exponential average: no list of times to keep, and old answers
		 * count less and less.
		 */
		double		fade = exp(-seconds / RATE_SPAN);

		my.answers *= fade;
		my.weight = my.weight * fade + RATE_SPAN * (1 - fade);
	}
	my.answers_at = now;
}

/*
 * There may be requests that have not been counted.
 */
void
activity_note_news(void)
{
	my.activity.uncounted = true;
}

/*
 * Is there news since the requests were last counted?
 */
bool
activity_is_uncounted(void)
{
	return my.activity.uncounted;
}

/*
 * May the pending requests be counted in passing?
 */
bool
activity_count_is_cheap(void)
{
	/*
	 * The last duration is the best guess at the next: queues grow and shrink
	 * slowly compared with this.
	 */
	return my.last_count_took <= CHEAP_COUNT &&
		my.next_count_at <= monotonic_now();
}

/*
 * When the pending requests may be counted again.
 */
MonotonicUs
activity_count_at(void)
{
	return my.next_count_at;
}

/*
 * Requests have been counted, which took so many microseconds.
 */
void
activity_set_counts(int64 ready, int64 waiting, int64 in_doubt,
					int64 withdrawing, TimestampTz oldest, int64 took)
{
	my.activity.uncounted = false;
	my.activity.ready = ready;
	my.activity.waiting = waiting;
	my.activity.in_doubt = in_doubt;
	my.activity.withdrawing = withdrawing;
	my.activity.oldest = oldest;
	my.last_count_took = took;

	/*
	 * Bounds the share of time that counting takes to 1 in COUNT_REST, however
	 * large the table is.
	 */
	my.next_count_at = monotonic_now() + took * COUNT_REST;
}

/*
 * Are there requests that may be sent?
 */
void
activity_set_work(bool has_work)
{
	my.activity.has_work = has_work;
	if (has_work)
		return;

	/*
	 * Nothing is ready, by a scan and not by a count: what the count has left
	 * over is wrong.
	 */
	my.activity.ready = 0;
	my.activity.oldest = 0;
}

/*
 * Note how many servers, and roles on servers, are paused; "lines" says which
 * and why, a line each.
 */
void
activity_set_pauses(int n, const char *lines)
{
	my.activity.n_paused = n;
	clip_text(my.activity.paused, lines, ACTIVITY_TEXT);
}

/*
 * Publish what has changed since the last time.
 */
void
activity_publish(int slot, bool busy, int in_flight)
{
	my.activity.busy = busy;
	my.activity.disabled = !screenshot_task_enabled;
	my.activity.in_flight = in_flight;

	/*
	 * The rate is for drain_time alone.  While nothing is ready an idle time
	 * would be taken for a slow one.
	 */
	if (my.activity.ready == 0)
	{
		my.answers = my.weight = 0;
		my.answers_at = 0;
	}
	else if (my.answers_at != 0 &&
			 monotonic_now() > my.answers_at + US_PER_SECOND)
		age_answers(monotonic_now());
	my.activity.per_second = my.weight >= MIN_RATE_SPAN ?
		my.answers / my.weight : 0;

	/*
	 * The struct comes from zeroed memory and clip_text() clears what it does
	 * not use, so that padding compares equal.
	 */
	if (memcmp(&my.activity, &my.published, sizeof(Activity)) == 0)
		return;
	publish_activity(slot, &my.activity);
	my.published = my.activity;
}

/*
 * screenshot_task_worker() returns a row for each database that has the
 * extension
 */
Datum
screenshot_task_worker(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz now = GetCurrentTimestamp();

	require_shared_state();
	InitMaterializedSRF(fcinfo, 0);
	for (int slot = 0; slot < MAX_DATABASES; slot++)
	{
		DatabaseStatus status;
		Activity	activity;
		Datum		values[15];
		bool		nulls[lengthof(values)] = {false};

		/*
		 * Each slot under the lock by itself, so that a reader of the view
		 * does not hold up the workers for long.
		 */
		read_activity(slot, &status, &activity);
		if (!OidIsValid(status.database) || !status.has_extension)
			continue;

		/*
		 * Whoever looks sees the old count, and the next one who looks a new
		 * one.
		 */
		if (activity.uncounted)
			want_count(slot);
		/* After the lock is released: it looks into the catalog. */
		make_readable(activity.paused, status.database);
		make_readable(activity.last_error, status.database);

		values[0] = ObjectIdGetDatum(status.database);
		values[1] = Int32GetDatum(status.worker_pid);
		nulls[1] = status.worker_pid == 0;
		values[2] = CStringGetTextDatum(state_of(&status, &activity));
		values[3] = Int32GetDatum(status.worker_pid == 0 ? 0 :
								  activity.in_flight);
		values[4] = Int64GetDatum(activity.ready + activity.waiting);
		values[5] = Int64GetDatum(activity.waiting);
		values[6] = Int64GetDatum(activity.in_doubt);
		values[7] = Int64GetDatum(activity.withdrawing);
		values[8] = Int64GetDatum(status.n_held);
		values[9] = make_span((double) (now - activity.oldest) / USECS_PER_SEC);
		nulls[9] = activity.oldest == 0;
		nulls[10] = activity.ready > 0 && activity.per_second <= 0;
		values[10] = nulls[10] ? (Datum) 0 :
			make_span(activity.ready == 0 ? 0 :
					  (double) activity.ready / activity.per_second);
		values[11] = Int32GetDatum(activity.n_paused);
		values[12] = CStringGetTextDatum(activity.paused);
		nulls[12] = activity.n_paused == 0;
		values[13] = CStringGetTextDatum(activity.last_error);
		values[14] = TimestampTzGetDatum(activity.last_error_at);
		nulls[13] = nulls[14] = activity.last_error_at == 0;
		/* Columns 4 to 10, from pending to drain_time. */
		if (is_blocked(&status, &activity))
			memset(&nulls[4], true, 7 * sizeof(bool));
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * Is a worker running that cannot read its table?  What it counted before says
 * nothing.
 */
static bool
is_blocked(const DatabaseStatus *status, const Activity *activity)
{
	return status->worker_pid != 0 && !status->held && activity->blocked;
}

/*
 * What the column "state" says of a database.
 */
static const char *
state_of(const DatabaseStatus *status, const Activity *activity)
{
	/*
	 * In order of precedence: a command that keeps workers out explains why
	 * none is running, and so on.
	 */
	if (status->held)
		return "kept out";
	if (status->worker_pid == 0)
		return status->preempted ? "waiting for its turn" : "not running";
	if (activity->blocked)
		return "blocked";
	if (activity->in_flight > 0)
		return "sending";
	if (activity->disabled)
		return "disabled";
	if (activity->n_paused > 0 && activity->has_work)
		return "paused";
	return activity->busy ? "busy" : "idle";
}

/*
 * A number of seconds as an interval.
 */
static Datum
make_span(double seconds)
{
	Interval   *interval = palloc0(sizeof(Interval));

	/* A century is as good as never. */
	interval->time = (TimeOffset) (Min(Max(seconds, 0), 3.0e9) * USECS_PER_SEC);
	return IntervalPGetDatum(interval);
}

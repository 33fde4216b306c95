/*-------------------------------------------------------------------------
 *
 * breaker.c
 *	  A circuit breaker: when nothing is sent, and how sending begins again
 *
 * Closed, it lets all requests through.  A failure that is not a request's own
 * opens it: nothing is sent for a while, which is twice as long each time in a
 * row.  Then it is half-open.  One request is sent, the probe.  Once it is
 * answered the breaker is closed; or others follow first, if it says so, as many
 * at a time as there were answers.  A failure that may have been bad luck makes
 * it half-open at once.
 *
 * Each failure begins a new generation of requests.  Those that were in flight
 * with the one that failed are likely to fail as well: that says nothing new.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "util/text.h"
#include "worker/breaker.h"

#define MIN_PAUSE			(5 * US_PER_SECOND)
#define MAX_PAUSE			(300 * US_PER_SECOND)

static uint32 last_generation = 0;	/* of all breakers: 0 is of none */

/*
 * Is a breaker closed, which lets all requests through?
 */
bool
breaker_is_closed(const Breaker *breaker)
{
	return breaker->to_answer == 0;
}

/*
 * Is a breaker open, which lets no request through?  If it is neither open nor
 * closed, it is half-open.
 */
bool
breaker_is_open(const Breaker *breaker, MonotonicUs now)
{
	return breaker->open_until > now;
}

/*
 * Is a breaker open or half-open, with no request answered since the last
 * failure?
 */
bool
breaker_has_no_answer(const Breaker *breaker)
{
	return breaker->to_answer == breaker->more_answers + 1;
}

/*
 * How many more requests may begin, if the breaker is not open.
 */
int
breaker_room(const Breaker *breaker)
{
	int			n_answered = breaker->more_answers + 1 - breaker->to_answer;

	if (breaker_is_closed(breaker))
		return INT_MAX;
	/* As many at a time as were answered so far, and the probe. */
	return Max(Max(n_answered, 1) - breaker->in_flight, 0);
}

/*
 * Count a request that begins.  Returns its generation; breaker_end() must
 * follow.
 */
uint32
breaker_begin(Breaker *breaker)
{
	/*
	 * Drawn at the first request, so that a breaker of zeros is ready for use.
	 */
	if (breaker->generation == 0)
		breaker->generation = ++last_generation;
	breaker->in_flight++;
	return breaker->generation;
}

/*
 * Count a request that has ended, whatever its answer.
 */
void
breaker_end(Breaker *breaker, uint32 generation)
{
	/*
	 * Those of an earlier generation are not counted any more, see
	 * breaker_half_open().
	 */
	if (generation == breaker->generation)
		breaker->in_flight--;
}

/*
 * Note that a request was answered without a fault.
 */
void
breaker_answered(Breaker *breaker, uint32 generation)
{
	if (generation != breaker->generation)
		return;
	breaker->n_opened = 0;
	if (breaker->to_answer > 0)
		breaker->to_answer--;
}

/*
 * Make a breaker half-open: one request goes first.
 */
void
breaker_half_open(Breaker *breaker)
{
	breaker->open_until = 0;
	breaker->to_answer = breaker->more_answers + 1;
	breaker->generation = ++last_generation;
	breaker->in_flight = 0;
}

/*
 * Open a breaker: no request goes for a while, and then one first.  Returns
 * how long that is, in microseconds.
 */
MonotonicUs
breaker_open(Breaker *breaker, const char *reason)
{
	MonotonicUs length = Min(MIN_PAUSE << Min(breaker->n_opened, 6),
							 MAX_PAUSE);

	breaker_half_open(breaker);
	breaker->n_opened++;
	breaker->open_until = monotonic_now() + length;
	breaker->ends_at = GetCurrentTimestamp() + length;
	clip_text(breaker->reason, reason, sizeof(breaker->reason));
	return length;
}

/*
 * Make an open breaker half-open at once, since what it was opened for may
 * have changed.  Does nothing if it is closed.  Returns whether it was open.
 */
bool
breaker_try_again(Breaker *breaker, MonotonicUs now)
{
	bool		was_open = breaker_is_open(breaker, now);

	breaker->n_opened = 0;
	if (!breaker_is_closed(breaker))
		breaker_half_open(breaker);
	return was_open;
}

/*
 * Append until when a breaker is open, and why.
 */
void
breaker_describe(const Breaker *breaker, StringInfo text)
{
	appendStringInfo(text, " until %s: %s", timestamptz_to_str(breaker->ends_at),
					 breaker->reason);
}

/*-------------------------------------------------------------------------
 *
 * rate_window.h
 *	  One rate limit: a calendar of its permits, a queue, and what was learned
 *
 * For rate_table.c alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_RATE_WINDOW_H
#define SCREENSHOT_TASK_RATE_WINDOW_H

#include "storage/condition_variable.h"
#include "storage/spin.h"

#include "net/rate_limit.h"

/* Milliseconds of a calendar: more than a second and MAX_MARGIN */
#define CALENDAR_SIZE		2048

/* How far ahead a permit may be taken */
#define MAX_HORIZON_MS		50

/* Seconds in which unsent permits may come back */
#define UNSENT_SECONDS		16

/* Those who wait beyond that are in no order. */
#define MAX_WAITERS			128

#define NO_TIME				PG_INT64_MAX
#define MS_PER_SECOND		1000

/* How much later than a second after its departure a permit may come back, at
 * first */
#define FIRST_MARGIN		(20 * US_PER_MS)

/* A process that waits for a permit */
typedef struct RateWaiter
{
	int			pid;
	MonotonicUs back_by;		/* one that has not asked again by then is
								 * taken for dead */
} RateWaiter;

/*
 * One limit.  Times are of the monotonic clock, in microseconds unless said
 * otherwise; nothing here is a pointer, since processes come and go.
 */

struct RateWindow
{
	slock_t		mutex;			/* protects all below but "released" */
	RateKey		key;
	MonotonicUs last_used;		/* a permit was asked for, or has left */
	int			per_second;		/* the limit of the server option, as the last
								 * to ask had it */

	int			in_use;			/* permits, at the time up_to */
	int64		up_to;			/* in milliseconds */
	int16		changes[CALENDAR_SIZE]; /* of in_use, by millisecond */
	int			unsent[UNSENT_SECONDS]; /* permits in use that have not left,
										 * by the second they would return */

	MonotonicUs interval;		/* between permits, while processes wait */
	MonotonicUs pace_at;		/* when the next one is due by that */

	/* what answers have taught */
	MonotonicUs learned_at;		/* when it last wore off, see relearn() */
	MonotonicUs margin;			/* of lateness, that answers are trusted up to */
	double		share;			/* of the limit that is used: above 0, up to 1 */
	MonotonicUs round_trip;		/* the shortest; 0: not known */
	MonotonicUs lateness;		/* the greatest of the last second or so */
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

extern void rate_window_reset(RateWindow *window, RateKey key);
extern bool rate_window_is_unused(const RateWindow *window, MonotonicUs now);
extern MonotonicUs rate_window_advance(RateWindow *window);
extern int	rate_window_set_limit(RateWindow *window, int per_second);

extern int64 rate_window_due(const RateWindow *window, int capacity, int place);
extern void rate_window_take(RateWindow *window, int64 starts,
							 RatePermit *permit);
extern void rate_window_left(RateWindow *window, RatePermit *permit);
extern void rate_window_answered(RateWindow *window, const RatePermit *permit,
								 MonotonicUs answered_at);
extern void rate_window_release(RateWindow *window, const RatePermit *permit);
extern void rate_window_refused(RateWindow *window);

extern int	rate_window_place(RateWindow *window, MonotonicUs now);
extern int	rate_window_join(RateWindow *window, MonotonicUs now);
extern void rate_window_leave(RateWindow *window);

#endif							/* SCREENSHOT_TASK_RATE_WINDOW_H */

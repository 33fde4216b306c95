/*-------------------------------------------------------------------------
 *
 * backoff.c
 *	  How long to wait before another try
 *
 * What failed together must not be tried again together, so each wait is drawn
 * at random.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"

#include "util/backoff.h"

#define MIN_BACKOFF			US_PER_SECOND
#define MAX_BACKOFF			(60 * US_PER_SECOND)

/*
 * How long to wait after the n-th failure in a row, in microseconds: at
 * random up to a time that doubles each time ("full jitter"), and no less
 * than a second.
 */
MonotonicUs
backoff_after(int n)
{
	MonotonicUs most = Min(MIN_BACKOFF << Min(n, 6), MAX_BACKOFF);

	return MIN_BACKOFF + (MonotonicUs) (pg_prng_double(&pg_global_prng_state) *
										(double) (most - MIN_BACKOFF));
}

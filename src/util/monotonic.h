/*-------------------------------------------------------------------------
 *
 * monotonic.h
 *	  A clock that never jumps, the same for all processes
 *
 * Time spans are measured with it: a step of the wall clock must neither let
 * requests through too early nor hold them back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_MONOTONIC_H
#define SCREENSHOT_TASK_MONOTONIC_H

#include <limits.h>

#include "portability/instr_time.h"

/* A point of the monotonic clock, or a span of it, in microseconds */
typedef int64 MonotonicUs;

#define MONOTONIC_NEVER		PG_INT64_MAX
#define US_PER_MS			INT64CONST(1000)
#define US_PER_SECOND		INT64CONST(1000000)

/*
 * Now.  instr_time is CLOCK_MONOTONIC where there is one, which counts from the
 * same moment in all processes of a machine.
 */
static inline MonotonicUs
monotonic_now(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (MonotonicUs) INSTR_TIME_GET_MICROSEC(now);
}

/*
 * How long to wait for a point in time: milliseconds for WaitEventSetWait(),
 * rounded up; -1, without end, for MONOTONIC_NEVER.
 */
static inline long
monotonic_wait_ms(MonotonicUs now, MonotonicUs until)
{
	if (until == MONOTONIC_NEVER)
		return -1;
	if (until <= now)
		return 0;

	/*
	 * Rounded up: a wait that ends a fraction of a millisecond early would be
	 * followed by one of 0 ms, again and again.
	 */
	return (long) Min((until - now + US_PER_MS - 1) / US_PER_MS, INT_MAX);
}

/*
 * The sooner of two times.  Unlike Min(), it asks for each of them once.
 */
static inline MonotonicUs
sooner(MonotonicUs one, MonotonicUs other)
{
	return Min(one, other);
}

#endif							/* SCREENSHOT_TASK_MONOTONIC_H */

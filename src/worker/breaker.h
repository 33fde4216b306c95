/*-------------------------------------------------------------------------
 *
 * breaker.h
 *	  A circuit breaker: when nothing is sent, and how sending begins again
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_BREAKER_H
#define SCREENSHOT_TASK_BREAKER_H

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"

#include "util/monotonic.h"

/* All zero: closed, and closed again by the first answer */
typedef struct Breaker
{
	int			more_answers;	/* that it takes to be closed again */
	MonotonicUs open_until;		/* 0, or past: it is not open */
	TimestampTz ends_at;		/* the same, for people */
	int			n_opened;		/* in a row, without an answer between */
	int			to_answer;		/* requests, until it is closed; 0: it is */
	uint32		generation;		/* of requests: those of an earlier one say
								 * nothing any more */
	int			in_flight;		/* requests of this generation */
	char		reason[256];	/* why it was last opened, clipped */
} Breaker;

extern bool breaker_is_closed(const Breaker *breaker);
extern bool breaker_is_open(const Breaker *breaker, MonotonicUs now);
extern bool breaker_has_no_answer(const Breaker *breaker);
extern int	breaker_room(const Breaker *breaker);
extern uint32 breaker_begin(Breaker *breaker);
extern void breaker_end(Breaker *breaker, uint32 generation);
extern void breaker_answered(Breaker *breaker, uint32 generation);
extern void breaker_half_open(Breaker *breaker);
extern MonotonicUs breaker_open(Breaker *breaker, const char *reason);
extern bool breaker_try_again(Breaker *breaker, MonotonicUs now);
extern void breaker_describe(const Breaker *breaker, StringInfo text);

#endif							/* SCREENSHOT_TASK_BREAKER_H */

/*-------------------------------------------------------------------------
 *
 * rate_limit.h
 *	  At most so many requests in any second, over all processes
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_RATE_LIMIT_H
#define SCREENSHOT_TASK_RATE_LIMIT_H

#include "util/monotonic.h"

/* The most requests a second that a limit may allow */
#define RATE_MAX			100000

/*
 * What a limit is kept for: an account (a digest of the endpoint and of what is
 * signed with, see credentials.c) and an action
 */
typedef uint64 RateKey;

typedef struct RateTable RateTable;
typedef struct RateWindow RateWindow;

/* Leave to send one request */
typedef struct RatePermit
{
	RateWindow *window;			/* NULL: no permit, or spent */
	RateKey		key;			/* that the window had: it may be another's by
								 * now */
	MonotonicUs go_at;			/* the request must not leave before */
	MonotonicUs deadline;		/* nor after: the permit is void then */
	MonotonicUs left_at;		/* when it left; 0: it has not */
	int64		starts;			/* in use from this millisecond on */
	int64		returns;		/* back in this millisecond, once it has left;
								 * before that, in this second */
} RatePermit;

extern Size rate_table_size(int n_windows);
extern void rate_table_init(RateTable *table, int n_windows,
							int n_for_workers);
extern void rate_recovery_ended(RateTable *table);

extern RateKey rate_key(uint64 account, const char *action);
extern int	rate_acquire(RateTable *table, RateKey key, int per_second,
						 int wanted, MonotonicUs horizon,
						 RatePermit *permits, MonotonicUs *retry_at);
extern void rate_left(RatePermit *permit);
extern void rate_answered(RatePermit *permit, MonotonicUs answered_at);
extern void rate_release(RatePermit *permit);
extern void rate_refused(RateTable *table, RateKey key);

extern MonotonicUs rate_expected_at(RateTable *table, RateKey key,
									int per_second);
extern void rate_wait(RateTable *table, RateKey key, MonotonicUs until,
					  uint32 wait_event_info);
extern void rate_wait_end(RateTable *table, RateKey key);

#endif							/* SCREENSHOT_TASK_RATE_LIMIT_H */

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
typedef struct RateTicket
{
	RateWindow *window;			/* NULL: no ticket, or spent */
	RateKey		key;
	int			slot;
	uint32		serial;
	MonotonicUs go_at;			/* not to leave before */
	MonotonicUs leave_by;		/* worthless after */
} RateTicket;

extern Size rate_table_size(int n_windows);
extern void rate_table_init(RateTable *table, int n_windows,
							int n_for_workers);

extern RateKey rate_key(uint64 account, const char *action);
extern int	rate_acquire(RateTable *table, RateKey key, int per_second,
						 int wanted, MonotonicUs horizon,
						 RateTicket *tickets, MonotonicUs *retry_at);
extern void rate_left(RateTicket *ticket);
extern void rate_release(RateTicket *ticket);
extern void rate_pause(RateTable *table, RateKey key, MonotonicUs until,
						 bool is_worker);
extern MonotonicUs rate_throttle_pause(void);
extern void rate_wait(RateTable *table, RateKey key, MonotonicUs until,
					  uint32 wait_event_info);
extern void rate_wait_end(void);

#endif							/* SCREENSHOT_TASK_RATE_LIMIT_H */

/*-------------------------------------------------------------------------
 *
 * statistics.h
 *	  What has become of the requests to each server, counted
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_STATISTICS_H
#define SCREENSHOT_TASK_STATISTICS_H

#include "datatype/timestamp.h"
#include "storage/lwlock.h"

#include "util/monotonic.h"

/* What is counted of a server, as the view screenshot_task_stat has it */
typedef enum ServerCounter
{
	COUNT_CREATED,
	COUNT_FAILED,
	COUNT_EXPIRED,
	COUNT_IN_DOUBT,
	COUNT_FOUND,				/* in doubt, and found to be created */
	COUNT_RESENT,				/* in doubt, and sent again */
	COUNT_POSTPONED,			/* put back, to be sent later */
	COUNT_THROTTLED,			/* answers: too many requests a second */
	COUNT_CALLS,				/* by functions that call the API at once */
	COUNT_FAILED_CALLS,
	COUNT_CONNECTIONS,			/* made */
	N_SERVER_COUNTERS
} ServerCounter;

typedef struct StatTable StatTable;

extern Size stat_table_size(void);
extern void stat_table_init(StatTable *table);
extern void stat_table_attach(StatTable *table, LWLock *lock);

extern void stat_know_servers(void);
extern void stat_count(const char *server, ServerCounter counter, uint64 n);
extern void stat_latency(const char *server, MonotonicUs latency);

#endif							/* SCREENSHOT_TASK_STATISTICS_H */

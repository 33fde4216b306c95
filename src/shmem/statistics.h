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

#include "shmem/counter.h"
#include "util/monotonic.h"

typedef struct StatTable StatTable;

extern Size stat_table_size(void);
extern void stat_table_init(StatTable *table);
extern void stat_table_attach(StatTable *table, LWLock *lock);

extern void stat_know_servers(void);
extern void stat_count(const char *server, ServerCounter counter, uint64 n);
extern void stat_latency(const char *server, MonotonicUs latency);

#endif							/* SCREENSHOT_TASK_STATISTICS_H */

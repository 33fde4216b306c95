/*-------------------------------------------------------------------------
 *
 * wake.h
 *	  Waking the worker when a transaction commits
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_WAKE_H
#define SCREENSHOT_TASK_WAKE_H

#include "shmem/shared_state.h"

extern void wake_init(void);
extern void wake_at_commit(uint64 channels);
extern void tell_news_at_commit(void);

#endif							/* SCREENSHOT_TASK_WAKE_H */

/*-------------------------------------------------------------------------
 *
 * wake.h
 *	  Waking the worker when a transaction commits
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_WAKE_H
#define SCREENSHOT_TASK_WAKE_H

#include "table/news.h"

extern void wake_init(void);
extern void wake_at_commit(ChannelKey channel, TimestampTz from, TimestampTz to);
extern void tell_news_at_commit(void);

#endif							/* SCREENSHOT_TASK_WAKE_H */

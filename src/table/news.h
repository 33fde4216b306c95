/*-------------------------------------------------------------------------
 *
 * news.h
 *	  Where among the ready requests there may be new ones
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_NEWS_H
#define SCREENSHOT_TASK_NEWS_H

#include "datatype/timestamp.h"

/* Digest of a server's name and a role: that of no channel stands for all */
typedef uint64 ChannelKey;

#define ALL_CHANNELS		UINT64CONST(0)

#define MAX_NEWS		16

/* For wake_at_commit() and news_add() */
#define NEWS_ANYWHERE	ALL_CHANNELS, DT_NOBEGIN, DT_NOEND
#define NEWS_NOWHERE	ALL_CHANNELS, DT_NOEND, DT_NOBEGIN

/* Requests that start from one time to another may be new, those included */
typedef struct NewsItem
{
	ChannelKey	channel;
	TimestampTz from;
	TimestampTz to;
} NewsItem;

typedef struct News
{
	int			n;
	NewsItem	items[MAX_NEWS];
} News;

extern ChannelKey channel_key(const char *server, Oid role);
extern void news_add(News *news, ChannelKey channel, TimestampTz from,
					 TimestampTz to);
extern void news_add_all(News *news, const News *more);
extern bool news_may_be_anywhere(const News *news);

#endif							/* SCREENSHOT_TASK_NEWS_H */

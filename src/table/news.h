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

/* Digest of a server's name and a role: that of no lane stands for all */
typedef uint64 LaneKey;

#define ALL_LANES		UINT64CONST(0)

#define MAX_NEWS		16

/* For wake_at_commit() and news_add() */
#define NEWS_ANYWHERE	ALL_LANES, DT_NOBEGIN, DT_NOEND
#define NEWS_NOWHERE	ALL_LANES, DT_NOEND, DT_NOBEGIN

/* Requests that start from one time to another may be new, those included */
typedef struct NewsItem
{
	LaneKey		lane;
	TimestampTz from;
	TimestampTz to;
} NewsItem;

typedef struct News
{
	int			n;
	NewsItem	items[MAX_NEWS];
} News;

extern LaneKey lane_key(const char *server, Oid role);
extern void news_add(News *news, LaneKey lane, TimestampTz from,
					 TimestampTz to);
extern void news_add_all(News *news, const News *more);
extern bool news_may_be_anywhere(const News *news);

#endif							/* SCREENSHOT_TASK_NEWS_H */

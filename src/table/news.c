/*-------------------------------------------------------------------------
 *
 * news.c
 *	  Where among the ready requests there may be new ones
 *
 * A commit tells the worker of which channels it has made requests ready, and
 * within which times.  So the worker need not walk over what is dead elsewhere
 * in their index.  What is told may be more than there is, and never less.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "table/news.h"

/*
 * The key of a channel.
 */
ChannelKey
channel_key(const char *server, Oid role)
{
	ChannelKey	key = hash_bytes_extended((const unsigned char *) server,
										  (int) strlen(server), role);

	return key != ALL_CHANNELS ? key : 1;
}

/*
 * Add times of a channel, or of all channels; none, if they end before they begin.
 * Raises nothing.
 *
 * If there are too many channels, the times are told of all.
 */
void
news_add(News *news, ChannelKey channel, TimestampTz from, TimestampTz to)
{
	NewsItem   *item = NULL;

	if (from > to)
		return;
	for (int i = 0; i < news->n && item == NULL; i++)
	{
		if (news->items[i].channel == channel || news->items[i].channel == ALL_CHANNELS)
			item = &news->items[i];
	}
	if (item == NULL && channel != ALL_CHANNELS && news->n < MAX_NEWS)
	{
		item = &news->items[news->n++];
		item->channel = channel;
		item->from = from;
		item->to = to;
		return;
	}
	if (item == NULL)
	{
		item = &news->items[0];
		if (news->n == 0)
		{
			item->from = from;
			item->to = to;
		}
		for (int i = 1; i < news->n; i++)
		{
			item->from = Min(item->from, news->items[i].from);
			item->to = Max(item->to, news->items[i].to);
		}
		item->channel = ALL_CHANNELS;
		news->n = 1;
	}
	item->from = Min(item->from, from);
	item->to = Max(item->to, to);
}

/*
 * Add all that others are.
 */
void
news_add_all(News *news, const News *more)
{
	for (int i = 0; i < more->n; i++)
		news_add(news, more->items[i].channel, more->items[i].from,
				 more->items[i].to);
}

/*
 * Is it not known where?
 */
bool
news_may_be_anywhere(const News *news)
{
	return news->n > 0 && news->items[0].channel == ALL_CHANNELS &&
		news->items[0].from == DT_NOBEGIN;
}

/*-------------------------------------------------------------------------
 *
 * channel.h
 *	  Who sends to where: the worker's channels and servers, and their pauses
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_CHANNEL_H
#define SCREENSHOT_TASK_CHANNEL_H

#include "lib/ilist.h"
#include "lib/stringinfo.h"

#include "api/actions.h"
#include "config/credentials.h"
#include "net/rate_limit.h"
#include "table/request_queue.h"

/* A time in which nothing is sent */
typedef struct Pause
{
	MonotonicUs until;			/* 0: there is none */
	TimestampTz ends_at;		/* the same, for people */
	int			n;				/* in a row, with this one */
	char		reason[256];	/* clipped */
} Pause;

/* A foreign server, as the worker has come to know it */
typedef struct Server
{
	dlist_node	node;
	NameData	name;
	int			in_flight;		/* requests claimed and not ended */
	int			n_left;			/* of these, those that have left */
	int 		n_unsaved;		/* ended, with outcomes that wait to be written */
	int			max_in_flight;
	MonotonicUs known_until;	/* when it must be got to know again */
	bool		suspect;		/* was a request not answered by the API? */
	MonotonicUs suspect_since;
	Pause		pause;
	int 		n_sharing;		/* for the length of one claim: channels that may
								 * still ask for a part of its room */
} Server;

/* A role that makes requests, for whichever servers */
typedef struct Requester
{
	dlist_node	node;
	Oid			role;
	int			in_flight;		/* requests claimed and not ended, and lookups */
	int			n_busy;			/* channels of the role that have any of them */
	int			n_lookups;		/* about its requests, that have not ended */
	MonotonicUs looked_up_at;	/* when the last of them began */
} Requester;

/* The requests of one role for one server, which share their credentials */
typedef struct Channel
{
	dlist_node	node;
	ChannelName name;
	NameData	role_name;		/* when it was last resolved, for the log */
	Server	   *server;
	Requester  *requester;
	int			in_flight;		/* requests claimed and not ended, and lookups */
	uint64		account;		/* when it was last resolved; 0: it never was */
	bool		has_work;		/* may there be requests to claim? */
	bool		was_seen;		/* were there, with none claimed since? */
	uint64		bit;			/* in what commits tell of channels */
	TimestampTz cursor_start;	/* No request is known before this place, in */
	int64		cursor_id;		/* the order of their start and id. */
	MonotonicUs permit_at;		/* when the account's limit lets more through */
	MonotonicUs rest_until;		/* a search behind the last one took long */
	bool		woken;			/* but there may be one more */
	bool		woken_in_vain;	/* and there was none */
	MonotonicUs behind_until;	/* others of its account go first */
	int			n_behind;		/* times in a row that it was put behind them */
	int			n_passed_over;	/* requests that triggers have not let be claimed,
								 * with none claimed since */
	Pause		pause;

	/* credentials of the machine's role, and tokens that were refused */
	bool		wants_set;		/* is a set to be fetched? */
	RoleWish	wish;			/* which, if so */
	MonotonicUs waits_until;	/* for it, at the most; 0: it does not */
	MonotonicUs newer_than;		/* when the last that was refused was signed */
	MonotonicUs refused_at;		/* when the first was, in a row; 0: none */

	/* for the length of one transaction, if it was resolved */
	MemoryContext context;
	LiveServer *options;		/* NULL: not resolved */
	Credentials *credentials;
	RateKey		key;			/* of CreateScreenshotTask */
	int			demand;			/* requests asked for */
	int			claimed;		/* requests given */
} Channel;

extern dlist_head channels;		/* of Channel.node; see channels_sort() */

extern Channel *channel_find(const ChannelName *name);
extern bool channel_resolve(Channel *channel);
extern uint64 channel_account(Channel *channel);
extern const char *channel_sign(Channel *channel, LiveActionId action, const char *body,
							 const char *trace_id, HttpRequest *http);
extern void channel_note_answer(Channel *channel, RateKey key, MonotonicUs signed_at,
							 MonotonicUs started_at, const HttpReply *reply,
							 const LiveAnswer *answer);
extern void channels_sort(void);
extern void channels_forget_options(void);

extern bool channels_have_work(void);
extern void channel_wake(Channel *channel);
extern void channel_has_head(Channel *channel, TimestampTz start, int64 id);
extern void channel_has_work_from(Channel *channel, TimestampTz start, int64 id);
extern bool channel_rests(const Channel *channel, MonotonicUs now);
extern void channel_claimed(Channel *channel, TimestampTz start, int64 id);
extern bool channel_may_claim(const Channel *channel, MonotonicUs now, int n_free);
extern int	channel_room(const Channel *channel, MonotonicUs now, int n_free);
extern void channel_count(Channel *channel, int n);
extern void channel_put_behind(Channel *channel);
extern MonotonicUs channel_paused_until(const Channel *channel);
extern void channel_pause(Channel *channel, const char *reason, const char *hint);

extern void server_reached(Server *server);

extern bool channels_end_pauses(void);
extern int	channels_describe_pauses(MonotonicUs now, StringInfo lines);
extern MonotonicUs channels_next_chance(MonotonicUs now, int n_free);

#endif							/* SCREENSHOT_TASK_CHANNEL_H */

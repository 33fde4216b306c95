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
#include "config/template_list.h"
#include "table/request_queue.h"
#include "worker/breaker.h"
#include "worker/dispatch.h"

/* The most outcomes that cannot be written before nothing more is sent */
#define MAX_UNSAVED			1000

/* A foreign server, as the worker has come to know it */
typedef struct Server
{
	dlist_node	node;
	NameData	name;
	int			in_flight;		/* requests claimed and not ended */
	int			n_left;			/* of these, those that have left */
	int			max_in_flight;	/* as last read */
	bool		disabled;		/* by its option, as last read */
	bool		told_disabled;	/* does the log say so? */
	MonotonicUs known_until;	/* until then several may connect at once */
	Breaker		breaker;		/* for faults of the network and the endpoint */

	/* its other endpoint; see channel_fallback.c */
	bool		has_fallback;	/* by its option, as last read */
	bool		on_fallback;	/* do requests go there? */
	int			n_fallbacks;	/* in a row, with no answer of the first between */
	MonotonicUs fallback_until; /* when to try the first again, if so */

	/* answers that leave it open whether a task was made; see in_outage() */
	int			n_ambiguous;	/* in a row */
	uint32		last_answers;	/* a bit each, the last one's lowest: set if it
								 * was ambiguous */
	int			n_last_answers; /* how many bits of it count */
	bool		create_next;	/* if not closed: is it no lookup's turn? */

	/* for the length of one claim */
	int			n_sharing;		/* channels that may still ask for a part of its
								 * room */
	MonotonicUs tries_first;	/* when the first of these last failed */
} Server;

/* A role that makes requests, for whichever servers */
typedef struct Requester
{
	dlist_node	node;
	Oid			role;
	int			in_flight;		/* requests claimed and not ended, and lookups */
	int			n_busy;			/* channels of the role that have any of them */
	int			n_lookups;		/* about its requests, that have not ended */
	int			n_unsaved;		/* outcomes that could not be written yet */
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
	int			n_unsaved;		/* outcomes that could not be written yet */
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
	Breaker		breaker;		/* for faults of the credentials and the account */
	MonotonicUs failed_at;		/* when it last opened the server's breaker */

	/* domains that the API refuses to the role; see channel_domain.c */
	dlist_head	domains;		/* of RefusedDomain.node */
	int			n_refused;		/* different ones, since a request was done */
	MonotonicUs domain_due_at;	/* when to look for requests of one, or never */

	/* credentials of a role, and tokens that were refused */
	bool		wants_set;		/* is a set to be fetched? */
	RoleWish	wish;			/* which, if so */
	MonotonicUs waits_until;	/* for it, at the most; 0: it does not */
	MonotonicUs newer_than;		/* when the last that was refused was signed */
	MonotonicUs refused_at;		/* when the first was, in a row; 0: none */

	/* the list of the account's templates; see template_check.c */
	bool		wants_list;		/* must it be asked for, for a request? */
	MonotonicUs list_until;		/* how long it waits for it; 0: it does not */
	MonotonicUs list_look_at;	/* when to see how that stands; 0: at once */

	/* for the length of one transaction, if it was resolved */
	MemoryContext context;
	LiveServer *options;		/* NULL: not resolved */
	Credentials *credentials;
	RateKey		key;			/* of CreateScreenshotTask */
	int			demand;			/* requests asked for */
	int			claimed;		/* requests given */
} Channel;

/*
 * What a request counts for until it has ended, and what its answer says
 * something of.  The part above the line is filled in by whoever sends it.
 */
typedef struct Attempt
{
	RateKey		key;
	bool		is_lookup;		/* or is it to make a task? */
	const char *domain;			/* NULL: a lookup's */

	/* ---------------- */
	MonotonicUs signed_at;
	uint32		server_generation;	/* see breaker.h */
	uint32		channel_generation;
	uint32		domain_generation;	/* 0: its domain is not refused */
} Attempt;

typedef struct ChannelJob ChannelJob;

/*
 * A job of a channel.  The struct that has one as its first member fills in all
 * but of the job the permit and the HTTP request alone.
 */
struct ChannelJob
{
	Job			job;
	Channel    *channel;
	Attempt		attempt;
	void		(*ended) (ChannelJob *job, const HttpReply *reply);
};

extern dlist_head channels;		/* of Channel.node; see channels_sort() */
extern dlist_head servers;		/* of Server.node */

extern Channel *channel_find(const ChannelName *name);
extern void channels_sort(void);

extern bool channels_have_work(void);
extern void channel_wake(Channel *channel);
extern void channel_has_head(Channel *channel, TimestampTz start, int64 id);
extern void channel_has_work_from(Channel *channel, TimestampTz start, int64 id);
extern bool channel_rests(const Channel *channel, MonotonicUs now);
extern void channel_claimed(Channel *channel, TimestampTz start, int64 id);
extern bool channel_may_claim(const Channel *channel, MonotonicUs now, int n_free);
extern int	channel_room(const Channel *channel, MonotonicUs now, int n_free);
extern int	channel_lookup_room(const Channel *channel, MonotonicUs now, int n_free);
extern void channel_plan(Channel *channel, int n);
extern void channel_put_behind(Channel *channel);
extern void channel_count_unsaved(Channel *channel, int n);
extern int	channels_unsaved(void);
extern MonotonicUs channel_paused_until(const Channel *channel);
extern MonotonicUs channels_next_chance(MonotonicUs now, int n_free);

/* channel_options.c */
extern bool channel_resolve(Channel *channel);
extern uint64 channel_account(Channel *channel);
extern const char *channel_sign(Channel *channel, LiveActionId action, const char *body,
							 const char *trace_id, HttpRequest *http);
extern void channels_forget_options(void);

/* channel_job.c */
extern void channel_count(Channel *channel, int n);
extern void channel_job_add(ChannelJob *job);

/* channel_fault.c */
extern void channel_note_answer(Channel *channel, const Attempt *attempt,
								const HttpReply *reply, const LiveAnswer *answer);
extern void channel_pause(Channel *channel, const char *reason, const char *hint);
extern bool channels_end_pauses(void);
extern bool servers_read_anew(void);
extern int	channels_describe_pauses(MonotonicUs now, StringInfo lines);

/* channel_fallback.c */
extern bool server_turn_to_fallback(Server *server, const char *reason);
extern void server_choose_endpoint(Server *server, LiveServer *options);
extern void server_noted_answer(Server *server);
extern bool server_end_fallback(Server *server);

/* channel_domain.c */
extern void channel_begin_domain(Channel *channel, Attempt *attempt);
extern void channel_end_domain(Channel *channel, const Attempt *attempt);
extern void channel_note_refused_domain(Channel *channel, const Attempt *attempt,
										const char *reason);
extern void channel_note_allowed_domain(Channel *channel, const char *name);
extern bool channel_takes_domain(const Channel *channel, const char *name);
extern List *channel_refused_domains(const Channel *channel, MonotonicUs now);
extern void channel_look_for_domains(Channel *channel, MonotonicUs now);
extern bool channel_end_domain_pauses(Channel *channel, MonotonicUs now);
extern int	channel_describe_domain_pauses(const Channel *channel, MonotonicUs now,
										   StringInfo lines);

/* template_check.c */
extern void template_check_prepare(Channel *channel, MonotonicUs now);
extern TemplateState template_check(Channel *channel,
									const ClaimedRequest *claimed);

#endif							/* SCREENSHOT_TASK_CHANNEL_H */

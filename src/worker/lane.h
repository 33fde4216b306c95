/*-------------------------------------------------------------------------
 *
 * lane.h
 *	  Who sends to where: the worker's lanes and servers, and their pauses
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_LANE_H
#define SCREENSHOT_TASK_LANE_H

#include "lib/ilist.h"
#include "lib/stringinfo.h"

#include "api/actions.h"
#include "config/credentials.h"
#include "net/rate_limit.h"
#include "table/news.h"
#include "table/request_queue.h"
#include "worker/breaker.h"

/* A foreign server, as the worker has come to know it */
typedef struct Server
{
	dlist_node	node;
	NameData	name;
	int			in_flight;		/* requests claimed and not ended */
	int			n_left;			/* of these, those that have left */
	int			n_stuck;		/* ended, with outcomes that wait to be written */
	int			max_in_flight;
	MonotonicUs known_until;	/* when it must be got to know again */
	Breaker		breaker;		/* for faults of the network and the endpoint */

	/* answers that leave it open whether a task was made; see in_outage() */
	int			ambiguous;		/* in a row */
	uint32		last_answers;	/* a bit each, the last one's lowest: set if it
								 * was ambiguous */
	int			n_last_answers;
	bool		create_next;	/* has a lookup been answered meanwhile? */

	/* for the length of one claim */
	int			planned;		/* requests asked for */
	int			sharers;		/* lanes that may still ask for some */
} Server;

/* How many more transfers there may be */
typedef struct TransferRoom
{
	int			free;			/* for all roles together */
	int			reserved;		/* of these, for roles that have few */
} TransferRoom;

/* A role that makes requests, for whichever servers */
typedef struct Requester
{
	dlist_node	node;
	Oid			role;
	int			in_flight;		/* jobs that have not ended */
	int			planned;		/* requests asked for, in one claim */
	int			n_lookups;		/* about its requests, that have not ended */
	MonotonicUs looked_up_at;	/* when the last of them began */
} Requester;

/* The requests of one role for one server, which share their credentials */
typedef struct Lane
{
	dlist_node	node;
	LaneName	name;
	NameData	role_name;		/* when it was last resolved, for the log */
	Server	   *server;
	Requester  *requester;
	uint64		account;		/* when it was last resolved; 0: it never was */
	bool		has_work;		/* may there be requests to claim? */
	bool		was_seen;		/* were there, with none claimed since? */
	TimestampTz head_start;		/* No request is known before this one, in the */
	int64		head_id;		/* order of their start and id. */
	LaneKey		news_key;		/* what commits call it by */
	TimestampTz floor_start;	/* None is ready up to this one, in the order of */
	int64		floor_id;		/* their start and id, and none that starts */
	TimestampTz ceiling;		/* later than that; see lane_set_bounds(). */
	TimestampTz after_start;	/* Requests up to this one, in the order of */
	int64		after_id;		/* their start and id, were claimed, */
	MonotonicUs start_over_at;	/* but look again for others then. */
	MonotonicUs permit_at;		/* when the account's limit lets more through */
	MonotonicUs rest_until;		/* locked requests were walked over for long */
	int			n_passed_over;	/* requests that triggers have not let be claimed,
								 * with none claimed since */
	Breaker		breaker;		/* for faults of the credentials and the account */

	/* domains that the API refuses to the role */
	dlist_head	domains;		/* of RefusedDomain.node; see lane_fault.c */
	int			n_refused;		/* different ones, since a request was done */
	MonotonicUs domain_due_at;	/* when the next pause of one ends, or never */

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
} Lane;

/*
 * What a request counts for until it has ended, and what its answer says
 * something of.  The part above the line is filled in by whoever sends it.
 */
typedef struct Attempt
{
	RateKey		key;
	const char *domain;			/* of a request that makes a task; else NULL */

	/* ---------------- */
	MonotonicUs signed_at;
	uint32		server_generation;	/* see breaker.h */
	uint32		lane_generation;
	uint32		domain_generation;	/* 0: its domain is not refused */
} Attempt;

extern dlist_head lanes;		/* of Lane.node; see lanes_sort() */
extern dlist_head servers;		/* of Server.node */

extern Lane *lane_find(const LaneName *name);
extern bool lane_resolve(Lane *lane);
extern uint64 lane_account(Lane *lane);
extern const char *lane_sign(Lane *lane, LiveActionId action, const char *body,
							 const char *trace_id, HttpRequest *http);
extern void lanes_sort(void);
extern void lanes_forget_options(void);

extern bool lanes_have_work(void);
extern void lane_has_new_work(Lane *lane);
extern void lane_has_work_from(Lane *lane, TimestampTz start, int64 id);
extern void lane_set_bounds(Lane *lane, TimestampTz start, int64 id,
							TimestampTz ceiling);
extern void lane_extend_bounds(Lane *lane, TimestampTz start, int64 id,
							   TimestampTz ceiling);
extern bool lane_starts_over(const Lane *lane);
extern void lane_start_over(Lane *lane);
extern void lane_claimed(Lane *lane, TimestampTz start, int64 id);

extern bool lane_may_claim(const Lane *lane, MonotonicUs now,
						   TransferRoom transfers);
extern int	lane_room(const Lane *lane, MonotonicUs now,
					  TransferRoom transfers);
extern int	lane_lookup_room(const Lane *lane, MonotonicUs now);
extern MonotonicUs lane_paused_until(const Lane *lane);
extern MonotonicUs lanes_next_chance(MonotonicUs now,
									 TransferRoom transfers);
extern void server_reached(Server *server);

/* lane_fault.c */
extern void lane_begin(Lane *lane, Attempt *attempt);
extern void lane_end(Lane *lane, const Attempt *attempt);
extern void lane_note_answer(Lane *lane, const Attempt *attempt,
							 const HttpReply *reply, const LiveAnswer *answer);
extern void lane_pause(Lane *lane, const char *reason, const char *hint);
extern bool lane_takes_domain(const Lane *lane, const char *domain);
extern List *lane_refused_domains(const Lane *lane, MonotonicUs now);
extern void lane_try_domains(Lane *lane, MonotonicUs now);
extern bool lanes_end_pauses(void);
extern int	lanes_describe_pauses(MonotonicUs now, StringInfo lines);

#endif							/* SCREENSHOT_TASK_LANE_H */

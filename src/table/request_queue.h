/*-------------------------------------------------------------------------
 *
 * request_queue.h
 *	  What the worker does to screenshot_task_request
 *
 * Within queue_run(), in transaction.c, it claims requests (claim.c), saves
 * their outcomes (result.c), looks after those in doubt (in_doubt.c) and those
 * of the worker before it (orphans.c), and does the rest in upkeep.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_REQUEST_QUEUE_H
#define SCREENSHOT_TASK_REQUEST_QUEUE_H

#include "access/transam.h"
#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

#include "table/status.h"
#include "util/monotonic.h"

/* The requests of one role for one server, which share their credentials */
typedef struct ChannelName
{
	NameData	server;			/* its name, which may belong to none any more */
	Oid			role;			/* that made the requests; may be dropped */
} ChannelName;

/* A channel to claim requests of */
typedef struct ChannelDemand
{
	ChannelName name;
	int 		most;			/* requests, of this channel */
	TimestampTz from_start;		/* from this place on, in the order of */
	int64		from_id;		/* their start and id */
	bool		goes_last;		/* after those of others, whenever they start? */
	List	   *refused_domains;	/* of char *: none of these */
} ChannelDemand;

/* A place among the ready requests, channel by channel */
typedef struct ReadyPosition
{
	ChannelName channel;
	TimestampTz start;			/* of the request, or when it was made */
	int64		id;
	bool		has_ended;		/* nothing to send: its end has passed */
} ReadyPosition;

/* Nothing is sent later than this before its end, in microseconds */
#define QUEUE_END_MARGIN	USECS_PER_SEC

/* When to look again at a row that somebody has locked */
#define QUEUE_LOCKED_RETRY	US_PER_SECOND

#define QUEUE_EXPIRED_MESSAGE \
	"end_time passed before the request could be sent"

#define QUEUE_ORPHAN_MESSAGE \
	"worker exited while the request was in flight; outcome unknown"

/* A request whose status has changed, to be told of after the commit */
typedef struct ChangedRequest
{
	int64		id;
	NameData	server;
} ChangedRequest;

/* A place among the finished requests, from the oldest on */
typedef struct OldRequest
{
	TimestampTz over_at;		/* when its task ended, or it was finished without
								 * one */
	int64		id;
} OldRequest;

/* Counts of the requests that are not finished */
typedef struct QueueCounts
{
	int64		ready;
	int64		waiting;
	int64		in_doubt;
	int64		withdrawing;
	TimestampTz oldest;			/* of the ready ones; 0: there is none */
} QueueCounts;

/*
 * A request that was claimed, or that was found to have expired.  In the
 * caller's context, with all it points to.
 */
typedef struct ClaimedRequest
{
	int64		id;
	int32		attempt;		/* number of this attempt, from 1 on */
	TimestampTz requested_at;	/* tells it from another row of the same id */
	bool		expired;		/* nothing to send: its end has passed */
	ChannelName channel;
	TimestampTz start;			/* its place among the ready ones, with id */
	TimestampTz end_time;
	char	   *trace_id;		/* of this attempt */
	char	   *domain_name;	/* NULL: see problem */
	int64		template_id;
	char	   *body;			/* of CreateScreenshotTask; NULL: see problem */
	const char *problem;		/* why there is no body */
} ClaimedRequest;

/* What queue_claim() has found */
typedef struct Claim
{
	List	   *requests;		/* of ClaimedRequest */
	int			n_chosen;		/* with those that could not be changed */
	List	   *passed_over;	/* of ChannelName, of each of these */
	MonotonicUs search_time;	/* how long it took to choose them */
} Claim;

/* What a request that was being sent becomes.  The strings are the caller's. */
typedef struct FinishedRequest
{
	int64		id;
	int32		attempt;		/* as claimed */
	TimestampTz requested_at;	/* as claimed */
	RequestStatus status;		/* its next one */
	bool		free_of_charge; /* the attempt does not count */
	TimestampTz sent_at;		/* 0: it was not sent */
	TimestampTz next_attempt_at;	/* 0: none */
	const char *task_id;		/* this and the following: NULL if none */
	const char *request_id;
	const char *error_code;
	const char *error_message;

	/* set by queue_finish() */
	bool		written;		/* once the transaction has committed */
	RequestStatus became;		/* if written; see UNLESS_WITHDRAWN */
	bool		kept;			/* to be written later */
} FinishedRequest;

/*
 * A request in doubt, or one equal to such a one.  Times of the task in Unix
 * seconds, as the API has them.
 */
typedef struct DoubtfulRequest
{
	int64		id;
	int32		attempt;		/* which of its attempts is in doubt */
	TimestampTz requested_at;	/* tells it from another row of the same id */
	ChannelName channel;
	const char *stream_name;
	const char *domain_name;
	const char *app_name;
	int64		template_id;
	bool		has_start;		/* else start_time is when it was made */
	int64		start_time;		/* Unix seconds, as the API rounds them */
	int64		end_time;		/* likewise */
	TimestampTz sent_at;		/* when it last left, at the latest */
	bool		is_sending;		/* not in doubt, but in flight */
	bool		is_due;			/* has its next_attempt_at come? */
	int			misses;			/* how often it was not found */
	bool		is_withdrawn;

	/* the caller's, to put requests in order */
	int			turn;			/* lookups of its role that go before it */
	MonotonicUs last_turn_at;	/* when the role had its last turn */
} DoubtfulRequest;

/* A task that may be that of a request in doubt */
typedef struct FoundTask
{
	const char *task_id;
	int64		start_time;		/* Unix seconds */
} FoundTask;

/* A task that a row has already */
typedef struct TaskClaim
{
	const char *task_id;
	ChannelName channel;			/* the row's */
} TaskClaim;

/* A request whose task is to be stopped and deleted now */
typedef struct DueWithdrawal
{
	int64		id;
	ChannelName channel;
} DueWithdrawal;

/* The same, claimed for an attempt */
typedef struct WithdrawingRequest
{
	int64		id;
	TimestampTz requested_at;
	ChannelName channel;
	const char *task_id;
	const char *trace_id;		/* of this attempt */
	bool		has_start;
	TimestampTz start_time;		/* if has_start */
	TimestampTz end_time;
	int			n_failed;		/* attempts */
	bool		has_ended;		/* nothing to do: it is created for good */
	const char *message;		/* of one that has: why it was not withdrawn */
} WithdrawingRequest;

/* What has become of an attempt */
typedef struct WithdrawalResult
{
	int64		id;
	TimestampTz requested_at;
	bool		is_withdrawn;	/* or to be tried again */
	TimestampTz next_attempt_at;	/* in that case */
	const char *request_id;		/* this and the following: NULL if none */
	const char *error_code;
	const char *error_message;
} WithdrawalResult;

/* What became of writing one down */
typedef enum WithdrawalWritten
{
	WITHDRAWAL_WRITTEN,
	WITHDRAWAL_LOCKED,			/* it is to be tried again */
	WITHDRAWAL_MISSING			/* the row is gone, or withdraws no more */
} WithdrawalWritten;

/* The origin of rows that came from a dump */
#define ORIGIN_RESTORED		INT64CONST(0)

extern int64 request_origin(void);
extern int64 request_stamp(FullTransactionId transaction);

/* What became of a transaction */
typedef enum QueueState
{
	QUEUE_OPEN,					/* it is committed; or is open on the table */
	QUEUE_BUSY,					/* not begun: the table is locked by somebody */
	QUEUE_GONE,					/* not begun: there is no such table here */
	QUEUE_FAILED				/* it raised an error, and was aborted */
} QueueState;

extern bool queue_exists(void);
extern QueueState queue_run(const char *activity, bool one_by_one,
							void (*steps) (void *arg), void *arg,
							const char **error);
extern void queue_forget_error(void);
extern void queue_probe(void);

extern int	queue_orphans_to_doubt(TimestampTz ask_at, List **doubtful);
extern void queue_left_orphans_to_doubt(TimestampTz ask_at, List **doubtful);
extern bool queue_has_orphans(void);
extern int	queue_wake_waiting(int most, List **ready);
extern TimestampTz queue_next_due(void);
extern int	queue_expire(ReadyPosition *after, int most, List **expired);
extern int	queue_choose_old(int64 age, OldRequest *after, int most,
							 int64 *ids);
extern int	queue_remove(const int64 *ids, int n);
extern void queue_count(QueueCounts *counts);
extern int	queue_count_held(void);
extern List *queue_find_channels(void);
extern Claim queue_claim(const ChannelDemand *demands, int n_demands, int most);
extern List *queue_finish(FinishedRequest **finished, int n_finished);

extern List *queue_find_withdrawing(List *paused, const int64 *without,
									int n_without, int most);
extern TimestampTz queue_next_withdrawing_due(List *paused);
extern List *queue_claim_withdrawing(const int64 *ids, int n);
extern int	queue_find_ended_withdrawing(int most, int64 *ids);
extern WithdrawalWritten queue_finish_withdrawing(const WithdrawalResult *result);

extern bool requests_are_equal(const DoubtfulRequest *a,
							   const DoubtfulRequest *b);
extern List *queue_find_doubtful(List *paused, int most);
extern TimestampTz queue_next_doubtful_due(List *paused);
extern List *queue_find_alike(const DoubtfulRequest *request);
extern List *queue_find_claims(const DoubtfulRequest *request, List *tasks);
extern RequestStatus queue_adopt_task(const DoubtfulRequest *request,
									  const char *task_id);
extern RequestStatus queue_send_again(const DoubtfulRequest *request,
									  const char *message);
extern void queue_ask_later(const DoubtfulRequest *request, TimestampTz at,
							const char *message);
extern void queue_count_miss(const DoubtfulRequest *request, TimestampTz at);
extern bool queue_leave_to_person(const DoubtfulRequest *request,
								  const char *message);

#endif							/* SCREENSHOT_TASK_REQUEST_QUEUE_H */

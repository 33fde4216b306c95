/*-------------------------------------------------------------------------
 *
 * shared_state.h
 *	  What the processes of a cluster share: which databases have a worker,
 *	  what it is doing, and whom to wake
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_SHARED_STATE_H
#define SCREENSHOT_TASK_SHARED_STATE_H

#include "datatype/timestamp.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

#include "util/monotonic.h"

/* The most databases of a cluster that can have requests; a build for a test
 * has fewer */
#ifndef MAX_DATABASES
#define MAX_DATABASES		512
#endif

/* Bytes of a text, its end included; longer ones are clipped */
#define ACTIVITY_TEXT		1024

/* What a worker last published, even if it has exited.  Under the lock. */
typedef struct Activity
{
	bool		busy;			/* has it something to do? */
	bool		blocked;		/* does each of its transactions fail? */
	bool		disabled;		/* by the setting screenshot_task.enabled */
	bool		has_work;		/* are there requests that may be sent? */
	int			in_flight;		/* requests claimed and not written down */
	bool		uncounted;		/* is there news since they were counted: */
	int64		ready;			/* pending requests that may be sent */
	int64		waiting;		/* pending requests that may not, yet */
	int64		in_doubt;
	int64		withdrawing;
	TimestampTz oldest;			/* when the oldest ready one was made; 0: there
								 * is none */
	double		per_second;		/* answers a second, lately; 0: not known */
	int			n_paused;		/* servers, and roles on servers */
	char		paused[ACTIVITY_TEXT];	/* which, until when, and why */
	TimestampTz last_error_at;	/* 0: there was none */
	char		last_error[ACTIVITY_TEXT];
} Activity;

/*
 * The channels of which a commit may have made requests ready: a set of
 * channel_bit().  A hint, to find these sooner than a scan of the whole index.
 */
#define ALL_CHANNELS	PG_UINT64_MAX
#define NO_CHANNELS		UINT64CONST(0)

typedef struct SharedState SharedState;
struct RateTable;

/* What the launcher, and the view, read of a database slot in shared memory */
typedef struct DatabaseStatus
{
	Oid			database;		/* InvalidOid: a free slot */
	pid_t		worker_pid;		/* 0: none is running */
	bool		has_extension;	/* has its worker found the extension? */
	bool		no_extension;	/* has its worker found no extension? */
	bool		woken;			/* is there something new? */
	bool		held;			/* is a command keeping workers out? */
	bool		idle;			/* has its worker nothing to do? */
	bool		preempt;		/* is its worker to make room for another? */
	bool		preempted;		/* has its last worker done so? */
	MonotonicUs next_look;		/* if preempted: when another is needed */
	int			n_held;			/* requests that were made elsewhere */
} DatabaseStatus;

extern Size shared_state_size(void);
extern void shared_state_setup(SharedState *shared);
extern void shared_state_attach(SharedState *shared, LWLock *slots_lock,
								struct RateTable *shared_rates);
extern bool shared_state_available(void);
extern struct RateTable *shared_rate_table(void);
extern void require_shared_state(void);

/* by sessions */
extern int	find_or_make_database_slot(Oid database);
extern uint64 channel_bit(const char *server, Oid role);
extern void wake_database(int slot, uint64 channels);
extern void wake_for_altered_database(int slot);

extern int	hold_database(Oid database);
extern void wait_for_worker_to_leave(int slot, uint32 wait_event_info);
extern void release_database(int slot);

extern int	find_database_slot(Oid database);
extern ConditionVariable *news_of(int slot);
extern void read_activity(int slot, DatabaseStatus *status,
						  Activity *activity);
extern void want_count(int slot);

/* by the launcher */
extern void announce_launcher(void);
extern void count_database_slots(int *n_free, int *n_unknown);
extern bool give_database_slot(Oid database);
extern void log_lack_of_database_slots(void);
extern bool database_slot_was_refused(void);
extern void forget_refused_database_slots(void);
extern void read_database(int slot, DatabaseStatus *status);
extern void set_no_extension(int slot);
extern void request_preemption(int slot);

/* by a worker */
extern int	announce_worker(Oid database);
extern void confirm_extension(int slot);
extern bool take_wake(int slot, uint64 *channels);
extern void put_off_wake(int slot);
extern bool has_wake(int slot);
extern bool worker_must_leave(int slot);
extern int	note_held_requests(int slot, int n);
extern void set_idle(int slot, bool idle);
extern bool worker_preemption_requested(int slot);
extern void give_up_slot(int slot, MonotonicUs next_look);
extern bool take_wanted_count(int slot);
extern void publish_activity(int slot, const Activity *activity);
extern void tell_news(int slot);

#endif							/* SCREENSHOT_TASK_SHARED_STATE_H */

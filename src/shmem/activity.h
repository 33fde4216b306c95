/*-------------------------------------------------------------------------
 *
 * activity.h
 *	  What a worker is doing, for others to see
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_ACTIVITY_H
#define SCREENSHOT_TASK_ACTIVITY_H

#include "datatype/timestamp.h"

#include "util/monotonic.h"

/* Bytes of a text, its end included; longer ones are clipped */
#define ACTIVITY_TEXT		1024

/* As a worker last said, or one that is gone.  Under a lock of shared_state. */
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
	TimestampTz oldest;			/* of the ready ones, when it was made; 0: none */
	double		per_second;		/* requests ended, lately; 0: none */
	int			n_paused;		/* servers, and roles on servers */
	char		paused[ACTIVITY_TEXT];	/* which, until when, and why */
	TimestampTz last_error_at;	/* 0: there was none */
	char		last_error[ACTIVITY_TEXT];
} Activity;

extern void activity_note_error(const char *text);
extern void activity_start(int place);
extern void activity_set_blocked(bool blocked);
extern bool activity_is_blocked(void);
extern void activity_note_claimed(int n);
extern void activity_note_put_back(bool waits);
extern void activity_note_answered(void);
extern void activity_note_news(void);
extern bool activity_is_uncounted(void);
extern bool activity_count_is_cheap(void);
extern MonotonicUs activity_count_at(void);
extern void activity_set_counts(int64 ready, int64 waiting, int64 in_doubt,
								TimestampTz oldest, int64 took);
extern void activity_set_work(bool has_work);
extern void activity_set_pauses(int n, const char *lines);
extern void activity_publish(int place, bool busy, int in_flight);

#endif							/* SCREENSHOT_TASK_ACTIVITY_H */

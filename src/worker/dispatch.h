/*-------------------------------------------------------------------------
 *
 * dispatch.h
 *	  The worker's requests to the API, from their permit to their answer
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_DISPATCH_H
#define SCREENSHOT_TASK_DISPATCH_H

#include "datatype/timestamp.h"
#include "lib/ilist.h"

#include "net/http.h"
#include "net/rate_limit.h"

typedef struct Job Job;

/*
 * A request to the API.  The struct that has one as its first member fills
 * in all above the line, and keeps it until "ended" is called.
 */
struct Job
{
	RatePermit	permit;			/* all zero, with a deadline: no limit */
	HttpRequest http;
	bool		is_counted;		/* in dispatch_jobs() */

	/*
	 * Each called once, outside of transactions and of libcurl: when the job has
	 * left, which may be NULL; and when it has ended and holds nothing any more.
	 * The reply is gone afterwards.
	 */
	void		(*left) (Job *job);
	void		(*ended) (Job *job, const HttpReply *reply);

	/* ---------------- */
	MonotonicUs started_at;
	TimestampTz left_at;		/* when it left, or 0 */
	dlist_node	node;
	HttpTransfer *transfer;
};

extern void dispatch_init(int max_jobs);
extern int	dispatch_room(void);
extern int	dispatch_jobs(void);
extern void dispatch_add(Job *job);
extern void dispatch_start(void);
extern void dispatch_wait(MonotonicUs until, uint32 wait_event_info);

#endif							/* SCREENSHOT_TASK_DISPATCH_H */

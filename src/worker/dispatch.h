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

#include "worker/channel.h"

typedef struct Job Job;

/*
 * A request to the API.  The struct that has one as its first member fills
 * in all above the line, and keeps it until "ended" is called.
 */
struct Job
{
	Channel    *channel;			/* NULL: none, and no limit either */
	Attempt		attempt;
	RatePermit	permit;
	HttpRequest http;

	/*
	 * Called once, when the job has ended and holds nothing any more, outside
	 * of transactions and of libcurl.  The reply is gone afterwards.
	 */
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

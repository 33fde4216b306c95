/*-------------------------------------------------------------------------
 *
 * submission.h
 *	  Requests of the table, from their claim to their outcome
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_SUBMISSION_H
#define SCREENSHOT_TASK_SUBMISSION_H

#include "table/request_queue.h"
#include "worker/channel.h"

/* A request from its claim until its outcome is written down */
typedef struct Request
{
	ChannelJob	job;			/* while it is under way */
	dlist_node	node;			/* afterwards, among the outcomes */
	bool		is_unsaved;		/* its outcome could not be written */
	MemoryContext context;		/* has the request and all it points to */
	TimestampTz start;			/* its place among the ready ones, with its id */
	TimestampTz end_time;
	int			request_timeout;	/* ms */
	const char *warning;		/* of a task that is made all the same; or NULL */
	FinishedRequest outcome;	/* what says which it is, is set from the start */
} Request;

extern dlist_head outcomes;		/* of Request.node: to be written down */

extern bool submission_may_claim(MonotonicUs now);
extern List *submission_claim(MonotonicUs *scan_again_at);
extern void submission_claimed(List *claimed);
extern MonotonicUs submission_scan_by(void);
extern void submission_scanned(void);
extern void submission_end_claim(void);
extern void submission_written(const Request *request);

/* submission_claim.c, for submission.c */
extern void claim_committed(void);
extern bool claim_take_permit(ChannelJob *job);

#endif							/* SCREENSHOT_TASK_SUBMISSION_H */

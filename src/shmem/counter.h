/*-------------------------------------------------------------------------
 *
 * counter.h
 *	  What is counted of a server
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_COUNTER_H
#define SCREENSHOT_TASK_COUNTER_H

/* What is counted of a server, as the view screenshot_task_stat has it */
typedef enum ServerCounter
{
	COUNT_CREATED,
	COUNT_FAILED,
	COUNT_EXPIRED,
	COUNT_WITHDRAWN,			/* whose task was stopped and deleted */
	COUNT_IN_DOUBT,
	COUNT_FOUND,				/* in doubt, and found to be created */
	COUNT_RESENT,				/* in doubt, and sent again */
	COUNT_POSTPONED,			/* put back, to be sent later */
	COUNT_THROTTLED,			/* answers: too many requests a second */
	COUNT_CALLS,				/* by functions that call the API at once */
	COUNT_FAILED_CALLS,
	COUNT_CONNECTIONS,			/* made */
	N_SERVER_COUNTERS
} ServerCounter;

#endif							/* SCREENSHOT_TASK_COUNTER_H */

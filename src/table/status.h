/*-------------------------------------------------------------------------
 *
 * status.h
 *	  The statuses of a request, and how one follows another
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_STATUS_H
#define SCREENSHOT_TASK_STATUS_H

#include "shmem/counter.h"

/* As the type screenshot_task_status has them */
typedef enum RequestStatus
{
	STATUS_PENDING,
	STATUS_SENDING,
	STATUS_CREATED,
	STATUS_FAILED,
	STATUS_IN_DOUBT,
	STATUS_EXPIRED,
	STATUS_CANCELLED,
	STATUS_WITHDRAWING,
	STATUS_WITHDRAWN,
	N_STATUSES					/* also: one that the type's owner has added */
} RequestStatus;

/* Their names in statements */
#define SQL_PENDING			"'pending'"
#define SQL_SENDING			"'sending'"
#define SQL_CREATED			"'created'"
#define SQL_FAILED			"'failed'"
#define SQL_IN_DOUBT		"'in_doubt'"
#define SQL_EXPIRED			"'expired'"
#define SQL_CANCELLED		"'cancelled'"
#define SQL_WITHDRAWING		"'withdrawing'"
#define SQL_WITHDRAWN		"'withdrawn'"
#define SQL_FINISHED \
	SQL_CREATED ", " SQL_FAILED ", " SQL_EXPIRED ", " SQL_CANCELLED ", " SQL_WITHDRAWN
#define SQL_UNFINISHED \
	SQL_PENDING ", " SQL_SENDING ", " SQL_IN_DOUBT ", " SQL_WITHDRAWING

/* What changes a status: the worker, or a function that somebody calls */
typedef enum StatusChange
{
	BY_WORKER,
	BY_CANCEL,
	BY_RETRY,
	BY_RESOLVE,
	BY_ADOPT,
	BY_WITHDRAW,
	BY_UNDO						/* of that, in the same transaction */
} StatusChange;

typedef struct Transition
{
	RequestStatus from;
	RequestStatus to;
	StatusChange by;
	bool		only_held;		/* only of requests that were made elsewhere */
	ServerCounter counted;		/* N_SERVER_COUNTERS: not at all */
	const char *logged;			/* what the log says of one request, */
	const char *logged_more;	/* and of several; NULL: nothing */
} Transition;

extern const char *status_name(RequestStatus status);
extern RequestStatus status_of_name(const char *name);
extern bool status_is_finished(RequestStatus status);
extern bool status_is_unfinished(RequestStatus status);
extern const Transition *find_transition(RequestStatus from, RequestStatus to,
										 StatusChange by);

#endif							/* SCREENSHOT_TASK_STATUS_H */

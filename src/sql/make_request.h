/*-------------------------------------------------------------------------
 *
 * make_request.h
 *	  Inserting a request, unless there is one of its reference
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_MAKE_REQUEST_H
#define SCREENSHOT_TASK_MAKE_REQUEST_H

#include "sql/request_parameters.h"

typedef struct MadeRequest
{
	int64		id;
	bool		existed;		/* with the reference */
	bool		has_expired;	/* as it was made */
	char	   *differing;		/* parameters that are others in one that existed;
								 * NULL: none */
} MadeRequest;

extern void make_request(const RequestValues *values, MadeRequest *made);

#endif							/* SCREENSHOT_TASK_MAKE_REQUEST_H */

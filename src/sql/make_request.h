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

/* What becomes of a request that has the reference and other parameters */
typedef enum OtherRequest
{
	OTHER_STAYS,				/* there is no new one */
	OTHER_IS_REPLACED,
	OTHER_ROW_IS_REPLACED		/* it was another row's, or still is */
} OtherRequest;

typedef struct MadeRequest
{
	int64		id;
	bool		existed;		/* with the reference */
	int64		replaces;		/* 0: none */
	bool		has_expired;	/* as it was made */
	char	   *differing;		/* parameters that are others in one that existed, or
								 * was replaced; NULL: none */
} MadeRequest;

extern void make_request(const RequestValues *values, OtherRequest other,
						 int64 replaces, MadeRequest *made);

#endif							/* SCREENSHOT_TASK_MAKE_REQUEST_H */

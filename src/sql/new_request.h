/*-------------------------------------------------------------------------
 *
 * new_request.h
 *	  What a row of screenshot_task_request is made as a new request
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_NEW_REQUEST_H
#define SCREENSHOT_TASK_NEW_REQUEST_H

#include "access/htup.h"
#include "executor/spi.h"
#include "utils/relcache.h"

#include "table/status.h"

/* The columns of a row, by Anum_request_... */
typedef struct RequestRow
{
	Datum	   *values;
	bool	   *nulls;
} RequestRow;

/* The request that the one which is being inserted takes the place of; 0: none */
extern int64 new_request_replaces;

extern HeapTuple new_request_row(Relation relation, HeapTuple tuple);
extern void wake_for_row(const RequestRow *row);
extern Datum request_status_value(TupleDesc desc, RequestStatus status);

/* row_triggers.c */
extern void insert_request(SPIPlanPtr plan, Datum *args, const char *nulls,
						   int64 replaces);

#endif							/* SCREENSHOT_TASK_NEW_REQUEST_H */

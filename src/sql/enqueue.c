/*-------------------------------------------------------------------------
 *
 * enqueue.c
 *	  enqueue_screenshot_task(): a request into the table, once for each reference
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "compat.h"
#include "sql/make_request.h"

/* The argument after the parameters */
#define ARG_REPLACE		N_PARAMETERS

PG_FUNCTION_INFO_V1(enqueue_screenshot_task);

/*
 * enqueue_screenshot_task(...) returns the id of the request
 */
Datum
enqueue_screenshot_task(PG_FUNCTION_ARGS)
{
	RequestValues values;
	MadeRequest made;

	for (int i = 0; i < N_PARAMETERS; i++)
	{
		values.given[i] = true;
		values.nulls[i] = PG_ARGISNULL(i);
		values.values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
	}
	if (PG_ARGISNULL(ARG_REPLACE))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("replace must not be null")));
	make_request(&values, PG_GETARG_BOOL(ARG_REPLACE) ? OTHER_IS_REPLACED :
				 OTHER_STAYS, 0, &made);
	if (made.has_expired)
		ereport(NOTICE,
				(errmsg("screenshot task request %lld has expired: its end_time has passed",
						(long long) made.id),
				 errdetail("The request is kept but not sent.")));
	if (made.differing != NULL && made.existed)
		ereport(NOTICE,
				(errmsg("screenshot task request %lld has reference \"%s\" and other parameters",
						(long long) made.id,
						TextDatumGetCString(values.values[PARAMETER_REFERENCE])),
				 errdetail("Its id is returned. These differ: %s.",
						   made.differing),
				 errhint("With \"replace\" it is withdrawn, and another takes its place.")));
	PG_RETURN_INT64(made.id);
}

/*-------------------------------------------------------------------------
 *
 * arguments.c
 *	  Reading the arguments of SQL functions that call the API
 *
 * The functions are not strict: a null argument raises an error with the name
 * of the parameter, where the API needs a value.  Texts are palloc'd.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "sql/arguments.h"

static void check_not_null(FunctionCallInfo fcinfo, int arg, const char *name);

char *
require_text(FunctionCallInfo fcinfo, int arg, const char *name)
{
	check_not_null(fcinfo, arg, name);
	return text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/*
 * A text argument, palloc'd; NULL if it is null.
 */
char *
optional_text(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

int32
require_int32(FunctionCallInfo fcinfo, int arg, const char *name)
{
	check_not_null(fcinfo, arg, name);
	return PG_GETARG_INT32(arg);
}

int64
require_int64(FunctionCallInfo fcinfo, int arg, const char *name)
{
	check_not_null(fcinfo, arg, name);
	return PG_GETARG_INT64(arg);
}

/*
 * A time argument.  Raises an error if it is null, or out of the range for
 * which the API has numbers.
 */
TimestampTz
require_time(FunctionCallInfo fcinfo, int arg, const char *name)
{
	/* in UTC */
	const TimestampTz end_of_9999 = time_t_to_timestamptz(INT64CONST(253402300800));
	TimestampTz time;

	check_not_null(fcinfo, arg, name);
	time = PG_GETARG_TIMESTAMPTZ(arg);
	if (TIMESTAMP_NOT_FINITE(time))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be finite", name)));
	if (time < time_t_to_timestamptz(0) || time >= end_of_9999)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be in the years 1970 to 9999", name),
				 errdetail("It is %s.", timestamptz_to_str(time))));
	return time;
}

char *
read_server_name(FunctionCallInfo fcinfo, int arg)
{
	check_not_null(fcinfo, arg, "server");
	return pstrdup(NameStr(*PG_GETARG_NAME(arg)));
}

static void
check_not_null(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
}

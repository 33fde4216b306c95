/*-------------------------------------------------------------------------
 *
 * request_parameters.c
 *	  The parameters of a request: their names, and comparing their values
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "api/task.h"
#include "sql/request_parameters.h"

const ParameterType request_parameters[N_PARAMETERS] = {
	[PARAMETER_STREAM_NAME] = {"stream_name", true, TEXTOID},
	[PARAMETER_DOMAIN_NAME] = {"domain_name", true, TEXTOID},
	[PARAMETER_APP_NAME] = {"app_name", true, TEXTOID},
	[PARAMETER_END_TIME] = {"end_time", true, TIMESTAMPTZOID},
	[PARAMETER_TEMPLATE_ID] = {"template_id", true, INT8OID},
	[PARAMETER_START_TIME] = {"start_time", false, TIMESTAMPTZOID},
	[PARAMETER_STREAM_TYPE] = {"stream_type", false, INT4OID},
	[PARAMETER_EXTENSION] = {"extension", false, TEXTOID},
	[PARAMETER_SERVER] = {"server", false, NAMEOID},
	[PARAMETER_REFERENCE] = {"reference", false, TEXTOID},
};

static bool values_are_equal(int parameter, Datum a, Datum b);

/*
 * The parameter of a name of so many bytes; N_PARAMETERS if there is none.
 */
int
find_parameter(const char *name, int length)
{
	int			parameter = 0;

	while (parameter < N_PARAMETERS &&
		   ((int) strlen(request_parameters[parameter].name) != length ||
			strncmp(request_parameters[parameter].name, name, length) != 0))
		parameter++;
	return parameter;
}

/*
 * The names of all parameters, for people; palloc'd.
 */
char *
list_parameters(void)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < N_PARAMETERS; i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "",
						 request_parameters[i].name);
	return names.data;
}

/*
 * The names of the parameters in which two requests would differ as tasks, of
 * those that both are given: palloc'd, or NULL if there is none.
 */
char *
differing_parameters(const RequestValues *a, const RequestValues *b)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < N_PARAMETERS; i++)
	{
		if (!a->given[i] || !b->given[i] || (a->nulls[i] && b->nulls[i]))
			continue;
		if (a->nulls[i] != b->nulls[i] ||
			!values_are_equal(i, a->values[i], b->values[i]))
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
							 request_parameters[i].name);
	}
	return names.len > 0 ? names.data : NULL;
}

/*
 * Is one value of a parameter the same as another to the API, which takes whole
 * seconds, a start rounded down and an end up?
 */
static bool
values_are_equal(int parameter, Datum a, Datum b)
{
	int16		length;
	bool		by_value;

	switch (parameter)
	{
		case PARAMETER_START_TIME:
			return live_seconds(DatumGetTimestampTz(a)) ==
				live_seconds(DatumGetTimestampTz(b));
		case PARAMETER_END_TIME:
			return -live_seconds(-DatumGetTimestampTz(a)) ==
				-live_seconds(-DatumGetTimestampTz(b));
		default:
			get_typlenbyval(request_parameters[parameter].type, &length,
							&by_value);
			return datum_image_eq(a, b, by_value, length);
	}
}

/*-------------------------------------------------------------------------
 *
 * request_parameters.h
 *	  The parameters of a request, as enqueue_screenshot_task() takes them
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_REQUEST_PARAMETERS_H
#define SCREENSHOT_TASK_REQUEST_PARAMETERS_H

/* In the order of enqueue_screenshot_task()'s arguments */
typedef enum RequestParameter
{
	PARAMETER_STREAM_NAME,
	PARAMETER_DOMAIN_NAME,
	PARAMETER_APP_NAME,
	PARAMETER_END_TIME,
	PARAMETER_TEMPLATE_ID,
	PARAMETER_START_TIME,
	PARAMETER_STREAM_TYPE,
	PARAMETER_EXTENSION,
	PARAMETER_SERVER,
	PARAMETER_REFERENCE,
	N_PARAMETERS
} RequestParameter;

typedef struct ParameterType
{
	const char *name;			/* of the column of screenshot_task_request */
	bool		required;
	Oid			type;
} ParameterType;

/* Values of the parameters, each of the type that its column has */
typedef struct RequestValues
{
	bool		given[N_PARAMETERS];	/* the others have the columns' defaults */
	bool		nulls[N_PARAMETERS];
	Datum		values[N_PARAMETERS];
} RequestValues;

extern const ParameterType request_parameters[N_PARAMETERS];

extern int	find_parameter(const char *name, int length);
extern char *list_parameters(void);
extern char *differing_parameters(const RequestValues *a,
								  const RequestValues *b);

#endif							/* SCREENSHOT_TASK_REQUEST_PARAMETERS_H */

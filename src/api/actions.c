/*-------------------------------------------------------------------------
 *
 * actions.c
 *	  The actions of Tencent Cloud Live, version 2018-08-01, that are used
 *
 * An action is an entry of LIVE_ACTIONS; who sends one looks up there what it is
 * called, how its body is made, and how its answer is read.  Nothing here sends
 * anything, or decides what follows from an outcome.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/actions.h"
#include "api/body.h"

static char *create_body(const void *parameters);
static char *task_id_body(const void *parameters);
static char *describe_body(const void *parameters);
static char *template_body(const void *parameters);
static char *template_id_body(const void *parameters);
static char *empty_body(const void *parameters);

#define ACTION_ENTRY(id, name, hint, body, read) \
	[id] = {name, hint, body, read},

const LiveAction live_actions[N_LIVE_ACTIONS] = {
	LIVE_ACTIONS(ACTION_ENTRY)
};

/* Parameters: a ScreenshotTask */
static char *
create_body(const void *parameters)
{
	return live_create_body(parameters);
}

/* Parameters: the TaskId */
static char *
task_id_body(const void *parameters)
{
	return live_task_id_body(parameters);
}

/* Parameters: a TaskQuery */
static char *
describe_body(const void *parameters)
{
	return live_describe_body(parameters);
}

/* Parameters: a ScreenshotTemplate */
static char *
template_body(const void *parameters)
{
	return live_template_body(parameters);
}

/* Parameters: the TemplateId, an int64 */
static char *
template_id_body(const void *parameters)
{
	return live_template_id_body(*(const int64 *) parameters);
}

/* Parameters: NULL */
static char *
empty_body(const void *parameters)
{
	(void) parameters;
	return pstrdup("{}");
}

/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The settings
 *
 * They are read everywhere and depend on nothing, so that they stand below
 * all else.  All reload without a restart.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "settings.h"

bool		screenshot_task_enabled = true;
int			screenshot_task_sweep_interval = 60;
int			screenshot_task_reconcile_grace = 10 * 1000;
int			screenshot_task_reconcile_spacing = 30 * 1000;
int			screenshot_task_retention = 90 * 24 * 60;
char	   *screenshot_task_notify_channel = NULL;

static bool check_notify_channel(char **value, void **extra, GucSource source);

/*
 * Define the settings, as the library is loaded.
 */
void
settings_init(void)
{
	DefineCustomBoolVariable("screenshot_task.enabled",
							 "Lets the workers send requests.",
							 "What is under way is finished; what is pending stays so.",
							 &screenshot_task_enabled,
							 true,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);

	DefineCustomIntVariable("screenshot_task.sweep_interval",
							"Sets how often a worker looks at its table without being woken.",
							"It finds what ordinary wake-ups do not tell of, such as requests that expired while their server was paused.",
							&screenshot_task_sweep_interval,
							60,
							1, INT_MAX / 1000,
							PGC_SIGHUP,
							GUC_UNIT_S,
							NULL, NULL, NULL);

	DefineCustomIntVariable("screenshot_task.reconcile_grace",
							"Sets how long after its time-out a request in doubt is asked about.",
							"The API may need as long to list a task that it has made.",
							&screenshot_task_reconcile_grace,
							10 * 1000,
							0, 3600 * 1000,
							PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomIntVariable("screenshot_task.reconcile_spacing",
							"Sets how far apart a request in doubt is asked about.",
							"A request that is not found twice is sent again.",
							&screenshot_task_reconcile_spacing,
							30 * 1000,
							0, 3600 * 1000,
							PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomIntVariable("screenshot_task.retention",
							"Sets how long finished requests are kept.",
							"A request whose task has not ended yet is kept longer, one in doubt for ever, as are all with -1.",
							&screenshot_task_retention,
							90 * 24 * 60,
							-1, INT_MAX,
							PGC_SIGHUP,
							GUC_UNIT_MIN,
							NULL, NULL, NULL);

	DefineCustomStringVariable("screenshot_task.notify_channel",
							   "Sets the channel that is notified of each request that is finished.",
							   "The payload is JSON: id, reference, status and task_id. Empty: nobody is notified.",
							   &screenshot_task_notify_channel,
							   "",
							   PGC_SIGHUP,
							   0,
							   check_notify_channel, NULL, NULL);

	MarkGUCPrefixReserved("screenshot_task");
}

/*
 * Check a value of screenshot_task.notify_channel: the name of a channel, or
 * empty.
 */
static bool
check_notify_channel(char **value, void **extra, GucSource source)
{
	(void) extra;
	(void) source;
	if (strlen(*value) < NAMEDATALEN)
		return true;
	GUC_check_errdetail("The name of a channel has at most %d bytes.",
						NAMEDATALEN - 1);
	return false;
}

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
							 "Enables workers to send requests.",
							 "If off, requests in flight are completed, and pending requests stay pending.",
							 &screenshot_task_enabled,
							 true,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);

	DefineCustomIntVariable("screenshot_task.sweep_interval",
							"Sets the time between sweeps of the request table.",
							"A sweep finds what no wake-up announces, such as requests that expired while their server was paused.",
							&screenshot_task_sweep_interval,
							60,
							1, INT_MAX / 1000,
							PGC_SIGHUP,
							GUC_UNIT_S,
							NULL, NULL, NULL);

	DefineCustomIntVariable("screenshot_task.reconcile_grace",
							"Sets the delay from the timeout of a request to its first lookup.",
							"The API may take this long to list a task that it has created.",
							&screenshot_task_reconcile_grace,
							10 * 1000,
							0, 3600 * 1000,
							PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomIntVariable("screenshot_task.reconcile_spacing",
							"Sets the time between two lookups of a request in doubt.",
							"A request is sent again if two lookups find no task.",
							&screenshot_task_reconcile_spacing,
							30 * 1000,
							0, 3600 * 1000,
							PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomIntVariable("screenshot_task.retention",
							"Sets how long finished requests are kept.",
							"Requests whose tasks have not ended are kept longer; requests in doubt are always kept. -1 keeps all requests.",
							&screenshot_task_retention,
							90 * 24 * 60,
							-1, INT_MAX,
							PGC_SIGHUP,
							GUC_UNIT_MIN,
							NULL, NULL, NULL);

	DefineCustomStringVariable("screenshot_task.notify_channel",
							   "Sets the channel to notify of each finished request.",
							   "The payload is JSON: id, reference, status and task_id. An empty value disables notifications.",
							   &screenshot_task_notify_channel,
							   "",
							   PGC_SIGHUP,
							   0,
							   check_notify_channel, NULL, NULL);

	/*
	 * Last: it removes placeholders of this prefix that no setting above has
	 * taken over, with a warning.
	 */
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

	/*
	 * Async_Notify() would raise an error for a longer name, at each commit of
	 * results.
	 */
	if (strlen(*value) < NAMEDATALEN)
		return true;
	GUC_check_errdetail("A channel name must have at most %d bytes.",
						NAMEDATALEN - 1);
	return false;
}

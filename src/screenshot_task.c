/*-------------------------------------------------------------------------
 *
 * screenshot_task.c
 *	  Loading of the module: its settings, and what it sets up
 *
 * Preloaded, the module takes shared memory and starts the launcher.  Loaded
 * by a session alone, it has the functions that need neither.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "compat.h"
#include "worker/launcher.h"
#include "table/notice.h"
#include "screenshot_task.h"
#include "config/seal.h"
#include "shmem/shared_state.h"
#include "sql/step_aside.h"
#include "sql/wake.h"

PG_MODULE_MAGIC;

bool		screenshot_task_enabled = true;
int			screenshot_task_sweep_interval = 60;
int			screenshot_task_reconcile_grace = 10 * 1000;
int			screenshot_task_reconcile_spacing = 30 * 1000;
int			screenshot_task_retention = 90 * 24 * 60;
char	   *screenshot_task_notify_channel = NULL;

void		_PG_init(void);

void
_PG_init(void)
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

	if (!process_shared_preload_libraries_in_progress)
		return;

	/* All processes inherit the key. */
	if (!seal_make_key())
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not make a key: OpenSSL offers no randomness")));
	shared_state_init();
	wake_init();
	step_aside_init();
	launcher_register();
}

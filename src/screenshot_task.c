/*-------------------------------------------------------------------------
 *
 * screenshot_task.c
 *	  Loading of the module
 *
 * Preloaded, the module takes shared memory and starts the launcher.  Loaded
 * by a session alone, it has the functions that need neither.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "compat.h"
#include "settings.h"
#include "shmem/segment.h"
#include "sql/database_commands.h"
#include "sql/schedule_trigger.h"
#include "sql/wake.h"
#include "table/request_table.h"
#include "worker/launcher.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

/*
 * Called when the library is loaded: by the postmaster, or by a session that
 * calls the first of its functions.
 */
void
_PG_init(void)
{
	settings_init();
	request_table_init();
	trigger_init();

	/*
	 * Shared memory, background workers and the hooks that use them can only be
	 * had while the postmaster starts.  Without them direct calls still work.
	 */
	if (!process_shared_preload_libraries_in_progress)
		return;

	segment_init();
	wake_init();
	database_commands_init();
	launcher_register();
}

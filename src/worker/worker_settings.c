/*-------------------------------------------------------------------------
 *
 * worker_settings.c
 *	  The settings that the worker needs
 *
 * Whatever the configuration, the database or the role says.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/guc.h"

#include "compat.h"
#include "util/crash_point.h"
#include "worker/worker_private.h"

/*
 * Make the settings that matter to the worker what it needs, whatever the
 * configuration, the database or the role says.
 */
void
fix_settings(void)
{
	static const struct
	{
		const char *name;
		const char *value;
	}			settings[] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"session_replication_role", "origin"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"transaction_timeout", "0"},
		/* for triggers of the owner; see run_firing_triggers() */
		{"lock_timeout", "500ms"},
		{"idle_in_transaction_session_timeout", "0"},
		/* for triggers of the owner, on tables of others */
		{"row_security", "on"},
		/* an error is one of a statement, not the end of the worker */
		{"exit_on_error", "off"},
		/* an empty table's statistics would have it scanned when it is full */
		{"plan_cache_mode", "force_generic_plan"},
		{"enable_seqscan", "off"},
		{"enable_bitmapscan", "off"},
		{"enable_hashjoin", "off"},
		{"enable_mergejoin", "off"},
		{"jit", "off"},
	};

	for (int i = 0; i < (int) lengthof(settings); i++)
	{
		/* Not every version has all of them: transaction_timeout is of 17. */
		if (GetConfigOption(settings[i].name, true, false) != NULL)
			SetConfigOption(settings[i].name, settings[i].value,
							PGC_SUSET, PGC_S_OVERRIDE);
	}
	require_durable_commits();
}

/*
 * Set synchronous_commit so that a claim is on disk, and on a synchronous
 * standby, once it has committed.
 */
void
require_durable_commits(void)
{
	/*
	 * More than "on" (remote_apply) is left as it is.  With less a crash could
	 * lose a claim whose request was sent, and it would be sent again.
	 */
	if (synchronous_commit < SYNCHRONOUS_COMMIT_ON &&
		!MUTANT("claim-unflushed"))
		SetConfigOption("synchronous_commit", "on", PGC_SUSET,
						PGC_S_OVERRIDE);
}

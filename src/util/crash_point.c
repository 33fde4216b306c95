/*-------------------------------------------------------------------------
 *
 * crash_point.c
 *	  Places at which a test build can be slowed down, killed, or made to err
 *
 * The file "screenshot_task_crash_points" in the data directory says what
 * happens where.  A line is the name of a place, an action and a number:
 * "kill" and a probability from 0 to 1, "sleep" and milliseconds, or "mutate",
 * whose number means nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "common/pg_prng.h"
#include "miscadmin.h"

#include "util/crash_point.h"

#define CONTROL_FILE	"screenshot_task_crash_points"

static bool find_action(const char *name, const char *action, double *amount);

/*
 * Sleep or die, as the file says for this place.
 */
void
crash_point(const char *name)
{
	double		amount;

	if (find_action(name, "sleep", &amount))
		pg_usleep((long) (amount * 1000));

	/*
	 * SIGKILL, which nothing can catch: no cleanup runs, as after a power
	 * failure or the OOM killer.
	 */
	if (find_action(name, "kill", &amount) &&
		pg_prng_double(&pg_global_prng_state) < amount)
		kill(MyProcPid, SIGKILL);
}

/*
 * Does the file ask for this mistake, for a test that must notice it?  May be
 * called under libcurl.
 */
bool
mutant(const char *name)
{
	double		ignored;

	return find_action(name, "mutate", &ignored);
}

/*
 * Look for an action at a place in the file.  Returns whether it is there, and
 * its number in *amount.
 */
static bool
find_action(const char *name, const char *action, double *amount)
{
	FILE	   *file = fopen(CONTROL_FILE, "r");
	char		line_name[64];
	char		line_action[16];
	bool		found = false;

	if (file == NULL)
		return false;

	/*
	 * The file is read anew each time, so that a test can change it while the
	 * server runs.  stdio, because libcurl may be on the stack.
	 */
	while (!found &&
		   fscanf(file, "%63s %15s %lf", line_name, line_action, amount) == 3)
		found = strcmp(line_name, name) == 0 &&
			strcmp(line_action, action) == 0;
	fclose(file);
	return found;
}

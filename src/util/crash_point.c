/*-------------------------------------------------------------------------
 *
 * crash_point.c
 *	  Places at which a test build can be slowed down, or killed
 *
 * What happens at which place says the file "screenshot_task_crash_points" in
 * the data directory, a line each: the name of the place, "kill" or "sleep",
 * and for the one a probability from 0 to 1, for the other milliseconds.
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

void
crash_point(const char *name)
{
	FILE	   *file = fopen(CONTROL_FILE, "r");
	char		line_name[64];
	char		action[16];
	double		amount;

	if (file == NULL)
		return;
	while (fscanf(file, "%63s %15s %lf", line_name, action, &amount) == 3)
	{
		if (strcmp(line_name, name) != 0)
			continue;
		if (strcmp(action, "sleep") == 0)
			pg_usleep((long) (amount * 1000));
		else if (pg_prng_double(&pg_global_prng_state) < amount)
			kill(MyProcPid, SIGKILL);
	}
	fclose(file);
}

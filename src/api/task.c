/*-------------------------------------------------------------------------
 *
 * task.c
 *	  A screenshot task: its parameters, and the API's rules for them
 *
 * All that can be checked without asking the API is checked here, so that a
 * caller is told which parameter is wrong before anything is sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "api/task.h"

static int	detail_of_times(const char *other_name, TimestampTz other,
							TimestampTz wrong);

/*
 * A point in time in whole Unix seconds, rounded down.
 */
int64
live_seconds(TimestampTz time)
{
	int64		seconds = time / USECS_PER_SEC;

	/*
	 * Division truncates towards zero, but a time before the epoch is rounded
	 * down, too.
	 */
	if (time % USECS_PER_SEC < 0)
		seconds--;
	return seconds +
		(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (int64) SECS_PER_DAY;
}

/*
 * Set the times of a task as the API takes them: whole seconds, a start
 * rounded down and an end up.
 *
 * "start" is when the task begins: its start_time if it has one, else when it
 * was asked for.  An end that is 24 hours later and no more does not become
 * more by being rounded.
 */
void
live_set_times(ScreenshotTask *task, TimestampTz start, TimestampTz end)
{
	task->start_time = live_seconds(start);
	task->end_time = live_seconds(end) + (end % USECS_PER_SEC != 0 ? 1 : 0);

	/*
	 * With fractions of a second both ways the rounding can make 24 hours a
	 * second longer, which the API would refuse.
	 */
	if (end - start <= LIVE_MAX_LENGTH * USECS_PER_SEC)
		task->end_time = Min(task->end_time,
							 task->start_time + LIVE_MAX_LENGTH);
}

/*
 * Check the parameters of a task to create now: all that can be checked
 * without asking the API.  start and end are the times that live_set_times()
 * was given.
 *
 * Raises an error that names the parameter.
 */
void
live_check_task(const ScreenshotTask *task, TimestampTz start,
				TimestampTz end, TimestampTz now)
{
	/*
	 * In this order: what is wrong with the request itself comes before what
	 * only its time is wrong for.
	 */
	live_check_parameters(task);

	/*
	 * By the time that was given, not by the rounded one: an end half a second
	 * ago is in the past.
	 */
	if (end <= now)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("end_time must be in the future"),
				 detail_of_times("now", now, end)));
	live_check_times(task->has_start, start, end);

	/*
	 * By the rounded times from here on, since these are what the API
	 * compares.
	 */
	if (task->start_time - live_seconds(now) > LIVE_MAX_START)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("start_time must be at most six days from now"),
				 detail_of_times("now", now, start),
				 errhint("Insert the request into screenshot_task_request instead; it will be sent as soon as the API accepts it.")));
	if (task->end_time - live_seconds(now) >= LIVE_MAX_END)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("end_time must be less than seven days from now"),
				 detail_of_times("now", now, end),
				 errhint("Insert the request into screenshot_task_request instead; it will be sent as soon as the API accepts it.")));
}

/*
 * Raise an error if the API would refuse a task for its texts or numbers,
 * whenever it is to be created.
 */
void
live_check_parameters(const ScreenshotTask *task)
{
	live_check_text("stream_name", task->stream_name, 1, LIVE_MAX_NAME);
	live_check_text("domain_name", task->domain_name, 1, LIVE_MAX_NAME);
	live_check_text("app_name", task->app_name, 1, LIVE_MAX_NAME);
	if (task->extension != NULL)
		live_check_text("extension", task->extension, 0, LIVE_MAX_EXTENSION);

	if (task->template_id < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("template_id must not be negative"),
				 errdetail("It is %lld.", (long long) task->template_id)));
	if (task->stream_type != 0 && task->stream_type != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stream_type must be 0 or 1"),
				 errdetail("It is %d.", task->stream_type),
				 errhint("Use 0 for a live stream or 1 for a mixed stream.")));
}

/*
 * Raise an error if the API would refuse a task for its times: when it begins,
 * which is its start or else now, and when it ends.
 */
void
live_check_times(bool has_start, TimestampTz start, TimestampTz end)
{
	if (has_start && end <= start)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("end_time must be later than start_time"),
				 detail_of_times("start_time", start, end)));
	if (end - start > LIVE_MAX_LENGTH * USECS_PER_SEC)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 has_start ?
				 errmsg("end_time must be at most 24 hours after start_time") :
				 errmsg("end_time must be at most 24 hours from now if start_time is not given"),
				 detail_of_times(has_start ? "start_time" : "now", start,
								 end),
				 errhint("Create a task for each part of a longer event.")));
}

/*
 * Check a TaskId that is sent, or taken for one.  Raises an error that says
 * what is allowed.
 */
void
live_check_task_id(const char *task_id)
{
	live_check_text("task_id", task_id, 1, LIVE_MAX_TASK_ID);
}

/*
 * Check a name whose tasks DescribeScreenshotTask should list; NULL: any name.
 * Raises an error that names the parameter.
 */
void
live_check_filter(const char *parameter, const char *value)
{
	if (value != NULL)
		live_check_text(parameter, value, 1, LIVE_MAX_NAME);
}

/*
 * Check the length of a text, in bytes.  Raises an error that names the
 * parameter.
 */
void
live_check_text(const char *parameter, const char *value, size_t least,
				size_t most)
{
	size_t		len = strlen(value);

	if (len < least)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be empty", parameter)));
	if (len > most)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be at most %zu bytes", parameter, most),
				 errdetail("It has %zu bytes.", len)));
}

/*
 * DETAIL of an error about a time: that time, and the one that it was compared
 * with.
 */
static int
detail_of_times(const char *other_name, TimestampTz other, TimestampTz wrong)
{
	/* timestamptz_to_str() returns the same static buffer each time. */
	char	   *other_text = pstrdup(timestamptz_to_str(other));

	return errdetail("It is %s, and %s is %s.", timestamptz_to_str(wrong),
					 other_name, other_text);
}

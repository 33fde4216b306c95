/*-------------------------------------------------------------------------
 *
 * task.h
 *	  A screenshot task: its parameters, and the API's rules for them
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_TASK_H
#define SCREENSHOT_TASK_TASK_H

#include "datatype/timestamp.h"

/* Rules of CreateScreenshotTask, in seconds */
#define LIVE_MAX_LENGTH		(24 * 3600) /* from start to end, at the most */
#define LIVE_MAX_START		(6 * 24 * 3600) /* a start, at the most */
#define LIVE_MAX_END		(7 * 24 * 3600) /* an end, less than */

/* Of texts, in bytes.  The API does not say; what is longer is no name. */
#define LIVE_MAX_NAME		1024
#define LIVE_MAX_EXTENSION	65536
#define LIVE_MAX_TASK_ID	255 /* the vendor's sample has 57 */

/* Parameters of CreateScreenshotTask; texts in the database's encoding */
typedef struct ScreenshotTask
{
	const char *stream_name;
	const char *domain_name;
	const char *app_name;
	bool		has_start;
	int64		start_time;		/* Unix seconds; not sent unless has_start */
	int64		end_time;		/* Unix seconds */
	int64		template_id;
	int32		stream_type;	/* 0: live, 1: mixed */
	const char *extension;		/* NULL: none */
} ScreenshotTask;

/* Rules of DescribeScreenshotTask, in seconds */
#define LIVE_MAX_WINDOW		(7 * 24 * 3600) /* from start to end, at the most */
#define LIVE_MAX_AGE		(90 * 24 * 3600)	/* of a start, at the most */

extern int64 live_seconds(TimestampTz time);
extern void live_set_times(ScreenshotTask *task, TimestampTz start,
						   TimestampTz end);
extern void live_check_text(const char *parameter, const char *value,
							size_t least, size_t most);
extern void live_check_parameters(const ScreenshotTask *task);
extern void live_check_times(bool has_start, TimestampTz start,
							 TimestampTz end);
extern void live_check_task(const ScreenshotTask *task, TimestampTz start,
							TimestampTz end, TimestampTz now);

extern void live_check_task_id(const char *task_id);
extern void live_check_filter(const char *parameter, const char *value);

#endif							/* SCREENSHOT_TASK_TASK_H */

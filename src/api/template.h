/*-------------------------------------------------------------------------
 *
 * template.h
 *	  A screenshot template: its parameters, and the API's rules for them
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_TEMPLATE_H
#define SCREENSHOT_TASK_TEMPLATE_H

/*
 * Parameters of CreateLiveSnapshotTemplate, or a template as the API lists it;
 * texts in the database's encoding.  A text that is NULL, or a number that is
 * -1, is not given.
 */
typedef struct ScreenshotTemplate
{
	int64		template_id;	/* of one that is listed */
	const char *name;
	int64		snapshot_interval;	/* seconds */
	int64		width;			/* pixels; 0: as the stream */
	int64		height;			/* likewise */
	int64		porn_flag;		/* 1: look for pornography */
	int64		cos_app_id;		/* of the bucket's owner */
	const char *cos_bucket;		/* without its "-APPID" */
	const char *cos_region;
	const char *cos_prefix;
	const char *cos_file_name;
	const char *description;
} ScreenshotTemplate;

extern void live_check_template(const ScreenshotTemplate *template);
extern void live_check_template_id(int64 template_id);

#endif							/* SCREENSHOT_TASK_TEMPLATE_H */

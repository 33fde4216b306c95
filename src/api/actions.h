/*-------------------------------------------------------------------------
 *
 * actions.h
 *	  The screenshot-task actions of Tencent Cloud Live, version 2018-08-01
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_ACTIONS_H
#define SCREENSHOT_TASK_ACTIONS_H

#define LIVE_CREATE			"CreateScreenshotTask"
#define LIVE_STOP			"StopScreenshotTask"
#define LIVE_DELETE			"DeleteScreenshotTask"
#define LIVE_DESCRIBE		"DescribeScreenshotTask"

#endif							/* SCREENSHOT_TASK_ACTIONS_H */

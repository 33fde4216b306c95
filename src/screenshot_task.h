/*-------------------------------------------------------------------------
 *
 * screenshot_task.h
 *	  The settings
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_H
#define SCREENSHOT_TASK_H

extern bool screenshot_task_enabled;
extern int	screenshot_task_sweep_interval; /* seconds */

#endif							/* SCREENSHOT_TASK_H */

/*-------------------------------------------------------------------------
 *
 * launcher.h
 *	  The process that keeps a worker for each database
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_LAUNCHER_H
#define SCREENSHOT_TASK_LAUNCHER_H

extern void launcher_register(void);

#endif							/* SCREENSHOT_TASK_LAUNCHER_H */

/*-------------------------------------------------------------------------
 *
 * worker_settings.h
 *	  The settings that the worker needs
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_WORKER_SETTINGS_H
#define SCREENSHOT_TASK_WORKER_SETTINGS_H

extern void fix_settings(void);
extern void require_durable_commits(void);

#endif							/* SCREENSHOT_TASK_WORKER_SETTINGS_H */

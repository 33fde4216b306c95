/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  The settings
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_SETTINGS_H
#define SCREENSHOT_TASK_SETTINGS_H

extern bool screenshot_task_enabled;
extern int	screenshot_task_sweep_interval; /* seconds */
extern int	screenshot_task_reconcile_grace;	/* ms */
extern int	screenshot_task_reconcile_spacing;	/* ms */
extern int	screenshot_task_retention;	/* minutes; -1: for ever */
extern char *screenshot_task_notify_channel;	/* empty: none */

extern void settings_init(void);

#endif							/* SCREENSHOT_TASK_SETTINGS_H */

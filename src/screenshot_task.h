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
extern int	screenshot_task_reconcile_grace;	/* ms */
extern int	screenshot_task_reconcile_spacing;	/* ms */

#endif							/* SCREENSHOT_TASK_H */

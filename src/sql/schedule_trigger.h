/*-------------------------------------------------------------------------
 *
 * schedule_trigger.h
 *	  screenshot_task_trigger(): the requests of a table follow its rows
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_SCHEDULE_TRIGGER_H
#define SCREENSHOT_TASK_SCHEDULE_TRIGGER_H

extern void trigger_init(void);

#endif							/* SCREENSHOT_TASK_SCHEDULE_TRIGGER_H */

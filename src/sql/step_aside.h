/*-------------------------------------------------------------------------
 *
 * step_aside.h
 *	  Keeping the worker out of the way of commands on its database
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_STEP_ASIDE_H
#define SCREENSHOT_TASK_STEP_ASIDE_H

extern void step_aside_init(void);

#endif							/* SCREENSHOT_TASK_STEP_ASIDE_H */

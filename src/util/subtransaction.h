/*-------------------------------------------------------------------------
 *
 * subtransaction.h
 *	  Doing something in a subtransaction, and surviving its error
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_SUBTRANSACTION_H
#define SCREENSHOT_TASK_SUBTRANSACTION_H

extern ErrorData *run_in_subtransaction(void (*run) (void *arg), void *arg);

#endif							/* SCREENSHOT_TASK_SUBTRANSACTION_H */

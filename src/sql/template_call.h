/*-------------------------------------------------------------------------
 *
 * template_call.h
 *	  Checking that templates exist, for calls
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_TEMPLATE_CALL_H
#define SCREENSHOT_TASK_TEMPLATE_CALL_H

extern void check_template(const char *server_name, int64 template_id);

#endif							/* SCREENSHOT_TASK_TEMPLATE_CALL_H */

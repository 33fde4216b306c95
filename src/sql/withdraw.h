/*-------------------------------------------------------------------------
 *
 * withdraw.h
 *	  Withdrawing a request, and undoing that in the same transaction
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_WITHDRAW_H
#define SCREENSHOT_TASK_WITHDRAW_H

#include "sql/request_parameters.h"

extern int64 withdraw_reference(Oid role, const char *reference,
								bool remove_new);
extern bool restore_reference(Oid role, const char *reference,
							  const RequestValues *values, int64 *id);
extern int64 leave_reference(const RequestValues *values);

#endif							/* SCREENSHOT_TASK_WITHDRAW_H */

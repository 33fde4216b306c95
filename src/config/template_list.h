/*-------------------------------------------------------------------------
 *
 * template_list.h
 *	  Which templates an account has, as far as this process has asked
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_TEMPLATE_LIST_H
#define SCREENSHOT_TASK_TEMPLATE_LIST_H

#include "api/answer.h"
#include "config/options.h"

/* What is known of a template */
typedef enum TemplateState
{
	TEMPLATE_EXISTS,			/* or is not checked at all */
	TEMPLATE_MISSING,			/* it does not */
	TEMPLATE_UNLISTED,			/* the list must be asked for first */
	TEMPLATE_UNCHECKED			/* the list cannot be had */
} TemplateState;

extern TemplateState template_look(uint64 account, int64 template_id);
extern bool template_list_is_had(uint64 account);
extern bool template_list_is_due(uint64 account);
extern void template_list_begin(uint64 account);
extern bool template_list_end(uint64 account, const LiveAnswer *answer);
extern bool template_tell_missing(uint64 account, int64 template_id);

#endif							/* SCREENSHOT_TASK_TEMPLATE_LIST_H */

/*-------------------------------------------------------------------------
 *
 * template_check.h
 *	  Whether the templates of requests exist
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_TEMPLATE_CHECK_H
#define SCREENSHOT_TASK_TEMPLATE_CHECK_H

#include "config/template_list.h"
#include "worker/channel.h"

extern void template_check_prepare(Channel *channel, MonotonicUs now);
extern TemplateState template_check(Channel *channel,
									const ClaimedRequest *claimed);

#endif							/* SCREENSHOT_TASK_TEMPLATE_CHECK_H */

/*-------------------------------------------------------------------------
 *
 * trust.h
 *	  Which options a server may have while no superuser owns it
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_TRUST_H
#define SCREENSHOT_TASK_TRUST_H

#include "config/options.h"

extern void check_trust_in_setter(const LiveServer *server);
extern void check_trust_in_owner(const LiveServer *server);

#endif							/* SCREENSHOT_TASK_TRUST_H */

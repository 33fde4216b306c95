/*-------------------------------------------------------------------------
 *
 * credentials.h
 *	  With which credentials a role sends to a server
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_CREDENTIALS_H
#define SCREENSHOT_TASK_CREDENTIALS_H

#include "config/role_credentials.h"
#include "config/options.h"

extern Credentials *credentials_get(const LiveServer *server, Oid role,
									MonotonicUs newer_than);
extern Credentials *credentials_find(const LiveServer *server, Oid role,
									 RoleWish *wish, RoleState *state);
extern void wipe_credentials(Credentials *credentials);

#endif							/* SCREENSHOT_TASK_CREDENTIALS_H */

/*-------------------------------------------------------------------------
 *
 * role_source.h
 *	  Where the credentials of roles are fetched from: their requests, and what
 *	  their replies say
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_ROLE_SOURCE_H
#define SCREENSHOT_TASK_ROLE_SOURCE_H

#include "config/role_credentials.h"

/* instance_role.c */
extern void instance_role_wish(RoleWish *wish, const LiveServer *server);
extern RoleRequest *instance_role_request(const LiveServer *server);
extern bool instance_role_read(RoleFetch *fetch, const HttpReply *reply,
							   RoleAnswer *answer, RoleFailure *failure);

/* sts.c */
extern void pod_role_wish(RoleWish *wish, const LiveServer *server);
extern RoleRequest *pod_role_request(const LiveServer *server);
extern void assumed_role_wish(RoleWish *wish, const LiveServer *server,
							  const char *signed_by);
extern RoleRequest *assumed_role_request(const LiveServer *server,
										 const Credentials *credentials);
extern void sts_read(const RoleFetch *fetch, const HttpReply *reply,
					 RoleAnswer *answer, RoleFailure *failure);

extern void role_key(RoleWish *wish, const char *text);

#endif							/* SCREENSHOT_TASK_ROLE_SOURCE_H */

/*-------------------------------------------------------------------------
 *
 * machine_role.h
 *	  Credentials of this machine's role, from the vendor's metadata service
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_MACHINE_ROLE_H
#define SCREENSHOT_TASK_MACHINE_ROLE_H

#include "api/role_answer.h"
#include "config/options.h"
#include "net/http.h"

/* How long a fetch may take, in milliseconds */
#define ROLE_FETCH_TIMEOUT	2000

/* Which credentials are wanted */
typedef struct RoleWish
{
	Oid			server;			/* that they are to be used with */
	char		url[296];		/* of the metadata service, as in HttpEndpoint */
	char		host[264];		/* the same for messages */
	char		ca_file[MAXPGPATH]; /* empty: none */
	MonotonicUs newer_than;		/* none that were fetched before; 0: any */
	MonotonicUs since;			/* a failure before is no answer */
} RoleWish;

/* What is known of a role's credentials */
typedef enum RoleState
{
	ROLE_KNOWN,					/* a set, to be used */
	ROLE_DUE,					/* likewise; it is time to fetch the next one */
	ROLE_UNKNOWN,				/* none: one must be fetched */
	ROLE_AWAITED,				/* none: one is being fetched */
	ROLE_FAILED					/* none: it could not be fetched */
} RoleState;

/* A set under way from the metadata service: two requests, one by one */
typedef struct RoleFetch
{
	RoleWish	wish;			/* a copy */
	MonotonicUs give_up_at;		/* for both requests together */
	char		name[ROLE_MAX_NAME + 1];	/* of the role; empty: not known */
	char		url[512];		/* of the request */
} RoleFetch;

extern void role_wish(RoleWish *wish, const LiveServer *server);
extern RoleState role_look(const RoleWish *wish, Credentials *credentials,
						   char **problem);
extern bool role_fetch_begin(const RoleWish *wish, RoleFetch *fetch,
							 HttpRequest *request);
extern bool role_fetch_go_on(RoleFetch *fetch, const HttpReply *reply,
							 HttpRequest *request);
extern void role_fetch_abandon(const RoleFetch *fetch);

#endif							/* SCREENSHOT_TASK_MACHINE_ROLE_H */

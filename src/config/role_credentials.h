/*-------------------------------------------------------------------------
 *
 * role_credentials.h
 *	  Temporary credentials of roles, as far as this process has fetched them
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_ROLE_CREDENTIALS_H
#define SCREENSHOT_TASK_ROLE_CREDENTIALS_H

#include "api/role_answer.h"
#include "config/options.h"
#include "net/http.h"

/* How long a fetch may take at the most, in milliseconds */
#define ROLE_FETCH_TIMEOUT	5000

#define ROLE_KEY_LEN		32	/* bytes; SHA-256 */

/* Where the credentials of a role come from */
typedef enum RoleKind
{
	ROLE_OF_INSTANCE,			/* of this machine, by its metadata service */
	ROLE_OF_POD,				/* by a token of its Kubernetes cluster and STS */
	ROLE_ASSUMED				/* by other credentials and STS */
} RoleKind;

/* Which credentials are wanted */
typedef struct RoleWish
{
	RoleKind	kind;
	uint8		key[ROLE_KEY_LEN];	/* digest of what they depend on */
	char		name[MAX_ROLE_ARN + 1]; /* of the role; empty: not known */
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

/* Why a set could not be fetched */
typedef struct RoleFailure
{
	const char *problem;		/* words to follow a colon; palloc'd */
	const char *hint;			/* a sentence; or NULL */
} RoleFailure;

/* A request by which a set is fetched, or the first of two */
typedef struct RoleRequest
{
	MemoryContext context;		/* has all of it */
	HttpRequest http;			/* with a timeout for the whole fetch */
	MonotonicUs made_at;
	const char *hint;			/* what to do if it fails; static */
	uint8		signed_by[ROLE_KEY_LEN];	/* key of the set that it was signed
											 * with */
	bool		has_signed_by;	/* was it one that was fetched? */
} RoleRequest;

/* A set under way */
typedef struct RoleFetch
{
	RoleWish	wish;			/* a copy */
	RoleRequest *request;
	MonotonicUs give_up_at;		/* for all of its requests together */
	char		instance_role[ROLE_MAX_NAME + 1];	/* the name that the metadata
													 * service gave; empty: none
													 * yet */
} RoleFetch;

extern RoleState role_look(const RoleWish *wish, Credentials *credentials,
						   RoleFailure *failure);
extern void role_set_request(const RoleWish *wish, RoleRequest *request);
extern void role_note_failure(const RoleWish *wish, const RoleFailure *failure);
extern bool role_fetch_begin(const RoleWish *wish, RoleFetch *fetch,
							 HttpRequest *http);
extern bool role_fetch_go_on(RoleFetch *fetch, const HttpReply *reply,
							 HttpRequest *http);
extern void role_fetch_abandon(RoleFetch *fetch);
extern void role_forget(const uint8 *key);
extern RoleRequest *role_request_new(void);

/*
 * What role_credentials.c needs of each source of them.
 */

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

#endif							/* SCREENSHOT_TASK_ROLE_CREDENTIALS_H */

/*-------------------------------------------------------------------------
 *
 * admin_functions.h
 *	  Who may steer which requests
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_ADMIN_FUNCTIONS_H
#define SCREENSHOT_TASK_ADMIN_FUNCTIONS_H

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "utils/relcache.h"

#include "table/status.h"

/* The role of a request, if it exists.  In one that came in a dump its OID may
 * be that of another cluster's role. */
#define REQUEST_ROLE	ROLE_OF("")
#define ROLE_OF(row) \
	"(SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE" \
	" CASE WHEN " row "origin OPERATOR(pg_catalog.=) 0::pg_catalog.int8" \
	"  THEN r.rolname OPERATOR(pg_catalog.=) " row "requested_by" \
	"  ELSE r.oid OPERATOR(pg_catalog.=) " row "role END)"

/* A request that is locked, in a context that SPI_finish() ends */
typedef struct LockedRequest
{
	int64		id;
	char	   *table;			/* qualified */
	RequestStatus status;
	char	   *status_name;	/* of one that is not known here, too */
	char	   *task_id;		/* NULL: none */
	char	   *reference;		/* NULL: none */
	char	   *server;			/* NULL: none */
	bool		has_ended;		/* has its end_time passed? */
	bool		is_held;		/* was it made elsewhere, and not adopted? */
	bool		was_in_doubt;	/* when it was cancelled? */
	bool		is_withdrawn;
	Oid			role;
	TimestampTz finished_at;	/* 0: none */
	TimestampTz next_attempt_at;	/* 0: none */
} LockedRequest;

/* Who called, while the statements run as the table's owner */
typedef struct Caller
{
	Oid			user;
	int			security_context;
	int			guc_level;		/* of settings that end with admin_finish() */
} Caller;

/* error_message of a request that was in doubt when it was cancelled: it still
 * is, if it is retried */
#define CANCELLED_IN_DOUBT \
	"was in doubt when it was cancelled: its task may exist"

extern Oid	admin_begin(char **table, Caller *caller);
extern void admin_finish(const Caller *caller);
extern void admin_lock_request(FunctionCallInfo fcinfo,
							   LockedRequest *request, Caller *caller);
extern void check_may_insert(Relation relation);
extern bool may_administer(Oid caller, Oid owner, Oid role);
pg_noreturn extern void no_such_request(int64 id);

#endif							/* SCREENSHOT_TASK_ADMIN_FUNCTIONS_H */

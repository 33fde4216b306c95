/*-------------------------------------------------------------------------
 *
 * admin_functions.h
 *	  Who may steer which requests
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_ADMIN_FUNCTIONS_H
#define SCREENSHOT_TASK_ADMIN_FUNCTIONS_H

#include "utils/relcache.h"

/* The role of a request, if it exists.  In one that came in a dump its OID may
 * be that of another cluster's role. */
#define REQUEST_ROLE	ROLE_OF("")
#define ROLE_OF(row) \
	"(SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE" \
	" CASE WHEN " row "origin OPERATOR(pg_catalog.=) 0::pg_catalog.int8" \
	"  THEN r.rolname OPERATOR(pg_catalog.=) " row "requested_by" \
	"  ELSE r.oid OPERATOR(pg_catalog.=) " row "role END)"

extern void check_may_insert(Relation relation);
extern bool may_administer(Oid caller, Oid owner, Oid role);
pg_noreturn extern void no_such_request(int64 id);

#endif							/* SCREENSHOT_TASK_ADMIN_FUNCTIONS_H */

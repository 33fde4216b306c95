/*-------------------------------------------------------------------------
 *
 * status_change.c
 *	  What is counted and logged when a status has changed
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "shmem/statistics.h"
#include "worker/log_throttling.h"
#include "worker/status_change.h"

/*
 * Count a change of status that was committed, and log it if a person may want
 * to know.  Texts may be NULL, except for the server.
 */
void
status_changed(const Transition *transition, const char *server, int64 id,
			   const char *error_code, const char *message,
			   const char *request_id)
{
	if (transition->counted != N_SERVER_COUNTERS)
		stat_count(server, transition->counted, 1);
	if (transition->logged != NULL)
		log_fault(transition, server, id, error_code, message, request_id);
}

/*
 * Count a request that has expired, after the commit, and log it if a person
 * may want to know.
 */
void
request_expired(const ChangedRequest *request)
{
	status_changed(find_transition(STATUS_PENDING, STATUS_EXPIRED,
								   BY_WORKER),
				   NameStr(request->server), request->id, NULL,
				   QUEUE_EXPIRED_MESSAGE, NULL);
}

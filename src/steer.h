/*-------------------------------------------------------------------------
 *
 * steer.h
 *	  Who may steer which requests
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_STEER_H
#define SCREENSHOT_TASK_STEER_H

extern Oid	find_request_table(Oid schema, Oid *owner);
extern bool may_steer(Oid caller, Oid owner, const char *requested_by);
pg_noreturn extern void no_such_request(int64 id);

#endif							/* SCREENSHOT_TASK_STEER_H */

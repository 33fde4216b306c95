/*-------------------------------------------------------------------------
 *
 * request_table.h
 *	  Finding screenshot_task_request, and checking that it has its shape
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_REQUEST_TABLE_H
#define SCREENSHOT_TASK_REQUEST_TABLE_H

#include "storage/lockdefs.h"
#include "utils/relcache.h"

/* Columns of screenshot_task_request, as the install script has them */
enum
{
	Anum_request_id = 1,
	Anum_request_stream_name,
	Anum_request_domain_name,
	Anum_request_app_name,
	Anum_request_end_time,
	Anum_request_template_id,
	Anum_request_start_time,
	Anum_request_stream_type,
	Anum_request_extension,
	Anum_request_server,
	Anum_request_reference,
	Anum_request_replaces,
	Anum_request_requested_by,
	Anum_request_requested_at,
	Anum_request_status,
	Anum_request_next_attempt_at,
	Anum_request_attempts,
	Anum_request_sent_at,
	Anum_request_finished_at,
	Anum_request_withdrawn_at,
	Anum_request_task_id,
	Anum_request_request_id,
	Anum_request_trace_id,
	Anum_request_error_code,
	Anum_request_error_message,
	Anum_request_misses,
	Anum_request_role,
	Anum_request_stamp,
	Anum_request_origin,
	Natts_request = Anum_request_origin
};

/*
 * What a statement begins with that names the table, or the type of a status,
 * and is executed as the table's owner: it is checked to mean those that were
 * checked last, and raises an error otherwise.
 */
#define REQUEST_STATEMENT	"/* screenshot_task */ "

extern void request_table_init(void);
extern Oid	request_table_find(void);
extern Relation request_table_open(LOCKMODE mode);
extern void request_table_check(Relation relation);
extern char *request_table_name(Relation relation);
extern char *request_table_status_type(Relation relation);

#endif							/* SCREENSHOT_TASK_REQUEST_TABLE_H */

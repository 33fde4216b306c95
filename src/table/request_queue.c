/*-------------------------------------------------------------------------
 *
 * request_queue.c
 *	  The SQL on screenshot_task_request
 *
 * What the worker does to the table.  The functions run between queue_begin()
 * and queue_commit(); the network is never waited for in between.
 *
 * A request that may be sent has no next_attempt_at, and stands in the index
 * screenshot_task_request_ready in the order in which requests are sent.  One
 * that must wait has one, and stands in screenshot_task_request_waiting; when
 * its time comes it loses it.  So neither a million requests for next week
 * nor a hundred thousand that back off are ever walked over to find the next
 * one to send.
 *
 * Every change of a request's status names the status that it leaves.
 *
 * The statements run as the owner of the table, in a security-restricted
 * operation, since the owner may have put triggers on it.  What these set is
 * undone after each one, and policies that the owner forces on itself are
 * not for the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "api/body.h"
#include "api/task.h"
#include "table/notice.h"
#include "table/refusal.h"
#include "table/request_queue.h"
#include "table/request_table.h"
#include "util/spi_row.h"

/*
 * How long rows are changed one by one in a transaction, while answers wait;
 * and for how long a lock is waited for only so long, once one was in vain
 */
#define MAX_CHANGE_TIME		(2 * US_PER_SECOND)
#define IMPATIENT_FOR		(5 * US_PER_SECOND)
#define IMPATIENT_TIMEOUT	"20ms"

/* The most rows in a row that cannot be changed, in one transaction */
#define MOST_REFUSED		100

/*
 * Most changes take two statements: one chooses rows and locks them, the other
 * changes them.  So it is known which row was to be changed if a trigger of
 * the owner raises an error, or leaves the row out; see change().  Choices
 * pass over the rows that are known for that.
 */

/*
 * Statements, in which %1$s is the table, %2$s the type of a status, and %3$s
 * the origin of what was made here
 */
typedef struct Statement
{
	const char *text;
	int			nargs;
	Oid			argtypes[12];
	bool		sends;			/* chooses rows to send, see choose() */
} Statement;

/*
 * Rows of ids, made here: one that has come in a dump since may have the id of
 * one that is gone.  A call of enum_eq(), unlike the operator, makes no partial
 * index of use: that of the rows being sent may look small, and be full of dead
 * ones.
 */
#define BY_ID(status) \
	" WHERE id = ANY ($1) AND origin = %3$s" \
	" AND pg_catalog.enum_eq(status, '" status "'::%2$s)"

/*
 * The arrays are in the order of the ids, so that width_bucket() finds the
 * place of an id.  A join with them would be gone through once for each row:
 * of a table that is thought to be empty, all is read first.
 */
#define OF_ROW(array) "(" array ")[pg_catalog.width_bucket(id, $1)]"

/*
 * Rows of ids that are being sent, each in its attempt.  A sequence may begin
 * anew, with the extension or by TRUNCATE: when a row was made tells it from
 * one that had its id.
 */
#define BY_ATTEMPT(attempts, requested_at) \
	BY_ID("sending") " AND attempts = " OF_ROW(attempts) \
	" AND requested_at = " OF_ROW(requested_at)

/*
 * Whether a row has what a statement has set, or a trigger has set something
 * else; the second column of what a change returns
 */
#define KEPT(condition)	"origin = %3$s AND " condition

/*
 * Saves the trigger screenshot_task_request_update from changing what a
 * statement has made of a row.
 */
#define STAMP(param)	" stamp = " param ","

/*
 * What bounds a run of an index.  With clock_timestamp(), which is volatile, an
 * index would be gone through to its end, and each of its rows looked at.
 */
#define NOW		"pg_catalog.statement_timestamp()"

static const Statement choose_orphans = {
	"SELECT id FROM %1$s"
	" WHERE origin = $1 AND status = 'sending' AND id <> ALL ($2)",
	2, {INT8OID, INT8ARRAYOID}, false
};

/* Never waits: a role could make the others wait with it. */
static const Statement lock_sending = {
	"SELECT id FROM %1$s"
	BY_ID("sending") " FOR NO KEY UPDATE SKIP LOCKED",
	1, {INT8ARRAYOID}, false
};

static const Statement find_sending = {
	"SELECT id FROM %1$s" BY_ID("sending"),
	1, {INT8ARRAYOID}, false
};

/* The same of requests that this worker has sent */
static const Statement lock_sent = {
	"SELECT id FROM %1$s"
	BY_ATTEMPT("$2", "$3") " FOR NO KEY UPDATE SKIP LOCKED",
	3, {INT8ARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID}, false
};

static const Statement find_sent = {
	"SELECT id FROM %1$s" BY_ATTEMPT("$2", "$3"),
	3, {INT8ARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID}, false
};

/*
 * sent_at is when the request was claimed.  It left within seven seconds of
 * that (see HOLD_TIME), or not at all.
 */
static const Statement orphans_statement = {
	"UPDATE %1$s SET status = 'in_doubt', next_attempt_at = $3,"
	" sent_at = LEAST(sent_at + interval '7 s', pg_catalog.clock_timestamp()),"
	" error_code = NULL, error_message = $2"
	BY_ID("sending")
	" RETURNING id, " KEPT("status = 'in_doubt'") ", server",
	3, {INT8ARRAYOID, TEXTOID, TIMESTAMPTZOID}, false
};

static const Statement choose_waiting = {
	"SELECT id FROM %1$s"
	" WHERE origin = $1 AND status = 'pending' AND id <> ALL ($2)"
	" AND next_attempt_at <= " NOW
	" ORDER BY next_attempt_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED",
	3, {INT8OID, INT8ARRAYOID, INT4OID}, false
};

static const Statement wake_statement = {
	"UPDATE %1$s SET next_attempt_at = NULL"
	BY_ID("pending")
	" RETURNING id, " KEPT("next_attempt_at IS NULL") ","
	" server, role, COALESCE(start_time, requested_at)",
	1, {INT8ARRAYOID}, false
};

static const Statement next_due_statement = {
	"SELECT next_attempt_at FROM %1$s"
	" WHERE origin = $1 AND status = 'pending' AND id <> ALL ($2)"
	" AND next_attempt_at IS NOT NULL"
	" ORDER BY next_attempt_at LIMIT 1",
	2, {INT8OID, INT8ARRAYOID}, false
};

/* From a place on, in the order of the index screenshot_task_request_ready */
#define READY_ORDER "server, role, COALESCE(start_time, requested_at), id"

static const Statement walk_statement = {
	"SELECT id, server, role, COALESCE(start_time, requested_at),"
	" end_time <= $6"
	" FROM %1$s"
	" WHERE origin = $1 AND status = 'pending' AND next_attempt_at IS NULL"
	" AND server IS NOT NULL"
	" AND (" READY_ORDER ") > ($2, $3, $4, $5)"
	" ORDER BY " READY_ORDER " LIMIT $7",
	7, {INT8OID, NAMEOID, OIDOID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID,
	INT4OID}, false
};

static const Statement choose_expired = {
	"SELECT id FROM %1$s"
	" WHERE origin = $1 AND id <> ALL ($2) AND id = ANY ($3)"
	" AND pg_catalog.enum_eq(status, 'pending'::%2$s)"
	" AND next_attempt_at IS NULL AND end_time <= $4"
	" FOR NO KEY UPDATE SKIP LOCKED",
	4, {INT8OID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID}, false
};

static const Statement expire_statement = {
	"UPDATE %1$s SET status = 'expired',"
	" finished_at = pg_catalog.clock_timestamp(), error_message = $2"
	BY_ID("pending")
	" RETURNING id, " KEPT("status = 'expired'") ", server,"
	" reference, status, task_id",
	2, {INT8ARRAYOID, TEXTOID}, false
};

/*
 * The soonest request of each lane.  One step of an index for each, however
 * many requests a lane has.
 */
static const Statement lanes_statement = {
	"WITH RECURSIVE lane AS ("
	" (SELECT " READY_ORDER ", end_time <= $3, false FROM %1$s"
	"  WHERE origin = $1 AND status = 'pending' AND next_attempt_at IS NULL"
	"  AND server IS NOT NULL AND id <> ALL ($2)"
	"  ORDER BY " READY_ORDER " LIMIT 1)"
	" UNION ALL"
	" SELECT next.* FROM lane, LATERAL"
	" (SELECT " READY_ORDER ", end_time <= $3, false FROM %1$s AS t"
	"  WHERE origin = $1 AND status = 'pending' AND next_attempt_at IS NULL"
	"  AND server IS NOT NULL AND id <> ALL ($2)"
	"  AND (t.server, t.role) > (lane.server, lane.role)"
	"  ORDER BY " READY_ORDER " LIMIT 1) AS next)"
	" SELECT * FROM lane",
	3, {INT8OID, INT8ARRAYOID, TIMESTAMPTZOID}, false
};

/*
 * The same of lanes that are known, $3 and $4, each from a place on; and the
 * first request of other lanes: of roles between others of a server, $7 to $9,
 * and of servers between others, $10.  A comparison of rows would do for both,
 * but an index is not left at the end of one.
 */
#define HEAD_AMONG(condition) \
	"LATERAL (SELECT " READY_ORDER ", end_time <= $11 FROM %1$s AS t" \
	" WHERE t.origin = $1 AND t.status = 'pending' AND t.id <> ALL ($2)" \
	" AND t.next_attempt_at IS NULL AND " condition \
	" ORDER BY " READY_ORDER " LIMIT 1) AS head"

static const Statement heads_statement = {
	"SELECT head.*, false"
	" FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4),"
	"  pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($12))"
	"  AS lane(server, role, after_start, after_id, ceiling), "
	HEAD_AMONG("t.server = lane.server AND t.role = lane.role"
			   " AND (COALESCE(t.start_time, t.requested_at), t.id)"
			   "  > (lane.after_start, lane.after_id)"
			   " AND COALESCE(t.start_time, t.requested_at) <= lane.ceiling")
	" UNION ALL "
	"SELECT head.*, true"
	" FROM ROWS FROM (pg_catalog.unnest($7), pg_catalog.unnest($8),"
	"  pg_catalog.unnest($9)) AS gap(server, after_role, to_role), "
	HEAD_AMONG("t.server = gap.server AND t.role > gap.after_role"
			   " AND t.role < gap.to_role")
	" UNION ALL "
	"SELECT head.*, true"
	" FROM ROWS FROM (pg_catalog.unnest($10), pg_catalog.unnest($10[2:]))"
	"  AS gap(after_server, to_server), "
	HEAD_AMONG("t.server > gap.after_server AND t.server < gap.to_server"),
	12, {INT8OID, INT8ARRAYOID, NAMEARRAYOID, OIDARRAYOID, TIMESTAMPTZARRAYOID,
		INT8ARRAYOID, NAMEARRAYOID, OIDARRAYOID, OIDARRAYOID, NAMEARRAYOID,
	TIMESTAMPTZOID, TIMESTAMPTZARRAYOID}, false
};

/*
 * The soonest requests of all the lanes, and no more of any than it takes.
 * Each lane's are a run of its index, from where it is told to begin: what
 * was claimed before may still be there, dead, as long as anybody might see it.
 *
 * Those whose end has passed are left to queue_expire().  Slots were taken for
 * what is claimed.
 */
static const Statement choose_ready = {
	"SELECT ready.id, lane.server, lane.role"
	" FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4),"
	"  pg_catalog.unnest($5), pg_catalog.unnest($7), pg_catalog.unnest($8),"
	"  pg_catalog.unnest($10))"
	"  AS lane(server, role, most, after_start, after_id, ceiling),"
	" LATERAL (SELECT t.id, COALESCE(t.start_time, t.requested_at) AS starts"
	"  FROM %1$s AS t"
	"  WHERE t.origin = $1 AND t.status = 'pending' AND t.id <> ALL ($2)"
	"  AND t.next_attempt_at IS NULL"
	"  AND t.server = lane.server AND t.role = lane.role"
	"  AND (COALESCE(t.start_time, t.requested_at), t.id)"
	"   > (lane.after_start, lane.after_id)"
	"  AND COALESCE(t.start_time, t.requested_at) <= lane.ceiling"
	"  AND t.end_time > $9"
	"  ORDER BY COALESCE(t.start_time, t.requested_at), t.id"
	"  LIMIT lane.most FOR NO KEY UPDATE SKIP LOCKED) AS ready"
	" ORDER BY ready.starts, ready.id LIMIT $6",
	10, {INT8OID, INT8ARRAYOID, NAMEARRAYOID, OIDARRAYOID, INT4ARRAYOID,
		INT4OID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID,
	TIMESTAMPTZARRAYOID}, true
};

/* $3 is the time, and $4 what it must be before an end for a request to be sent */
static const Statement claim_statement = {
	"UPDATE %1$s SET" STAMP("$5")
	" status = CASE WHEN end_time <= $4"
	"  THEN 'expired'::%2$s ELSE 'sending'::%2$s END,"
	" finished_at = CASE WHEN end_time <= $4 THEN $3 END,"
	" error_message = CASE WHEN end_time <= $4 THEN $2 ELSE error_message END,"
	" attempts = attempts + CASE WHEN end_time <= $4 THEN 0 ELSE 1 END,"
	" sent_at = CASE WHEN end_time <= $4 THEN sent_at ELSE $3 END,"
	" trace_id = CASE WHEN end_time <= $4 THEN trace_id"
	"  ELSE pg_catalog.gen_random_uuid() END,"
	" misses = 0"
	BY_ID("pending")
	" RETURNING id, " KEPT("status IN ('sending', 'expired')") ","
	" attempts, status = 'expired', server, role,"
	" stream_name, domain_name, app_name, end_time, template_id, start_time,"
	" stream_type, extension, trace_id::pg_catalog.text, requested_at,"
	" reference, status, task_id",
	5, {INT8ARRAYOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID}, false
};

/* What it returns */
typedef enum ClaimedColumn
{
	CLAIMED_ID, CLAIMED_KEPT, CLAIMED_ATTEMPTS, CLAIMED_EXPIRED,
	CLAIMED_SERVER, CLAIMED_ROLE, CLAIMED_STREAM_NAME, CLAIMED_DOMAIN_NAME,
	CLAIMED_APP_NAME, CLAIMED_END_TIME, CLAIMED_TEMPLATE_ID,
	CLAIMED_START_TIME, CLAIMED_STREAM_TYPE, CLAIMED_EXTENSION,
	CLAIMED_TRACE_ID, CLAIMED_REQUESTED_AT, CLAIMED_REFERENCE, CLAIMED_STATUS, CLAIMED_TASK_ID,
	N_CLAIMED_COLUMNS
} ClaimedColumn;

/* Their types; InvalidOid: read as text */
static const Oid claimed_types[N_CLAIMED_COLUMNS] = {
	INT8OID, BOOLOID, INT4OID, BOOLOID, NAMEOID, OIDOID, TEXTOID, TEXTOID,
	TEXTOID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT4OID, TEXTOID,
	TEXTOID, TIMESTAMPTZOID, InvalidOid, InvalidOid, InvalidOid
};

/* Made elsewhere, and not finished; a few steps of indexes */
#define HELD(condition) \
	"(SELECT FROM %1$s WHERE " condition " AND origin < $1 LIMIT 1000)" \
	" UNION ALL " \
	"(SELECT FROM %1$s WHERE " condition " AND origin > $1 LIMIT 1000)"

static const Statement held_statement = {
	"SELECT pg_catalog.count(*) FROM ("
	HELD("status = 'pending' AND next_attempt_at IS NULL") " UNION ALL "
	HELD("status = 'pending' AND next_attempt_at IS NOT NULL") " UNION ALL "
	HELD("status = 'sending'") " UNION ALL "
	HELD("status = 'in_doubt'") ") AS held",
	1, {INT8OID}, false
};

static const Statement count_statement = {
	"SELECT pg_catalog.count(*), pg_catalog.min(requested_at),"
	" (SELECT pg_catalog.count(*) FROM %1$s"
	"  WHERE origin = $1 AND status = 'pending'"
	"  AND next_attempt_at IS NOT NULL),"
	" (SELECT pg_catalog.count(*) FROM %1$s"
	"  WHERE origin = $1 AND status = 'in_doubt')"
	" FROM %1$s"
	" WHERE origin = $1 AND status = 'pending' AND next_attempt_at IS NULL",
	1, {INT8OID}, false
};

/* As the index screenshot_task_request_finished has it */
#define OVER_AT \
	"CASE WHEN status = 'created' THEN end_time ELSE finished_at END"
#define FINISHED "status IN ('created', 'failed', 'expired', 'cancelled')"

/*
 * A run of that index, from behind what was removed before.  A task may have
 * been found long after its end.
 */
#define LONG_AGO	NOW " - interval '1 s' * $3"

static const Statement choose_old = {
	"SELECT id, " OVER_AT " FROM %1$s"
	" WHERE finished_at < " LONG_AGO " AND " FINISHED
	" AND (" OVER_AT ", id) > ($1, $2)"
	" AND " OVER_AT " < " LONG_AGO
	" ORDER BY " OVER_AT ", id LIMIT $4 FOR UPDATE SKIP LOCKED",
	4, {TIMESTAMPTZOID, INT8OID, FLOAT8OID, INT4OID}, false
};

static const Statement remove_statement = {
	"DELETE FROM %1$s WHERE id = ANY ($1) AND " FINISHED,
	1, {INT8ARRAYOID}, false
};

static const Statement finish_statement = {
	"UPDATE %1$s SET" STAMP("$12")
	" status = " OF_ROW("$4") "::%2$s,"
	" attempts = attempts - " OF_ROW("$3") ","
	" sent_at = " OF_ROW("$5") ", next_attempt_at = " OF_ROW("$6") ","
	" finished_at = CASE WHEN " OF_ROW("$4") " IN ('created', 'failed')"
	"  THEN pg_catalog.clock_timestamp() END,"
	" task_id = " OF_ROW("$7") ", request_id = " OF_ROW("$8") ","
	" error_code = " OF_ROW("$9") ", error_message = " OF_ROW("$10")
	BY_ATTEMPT("$2", "$11")
	" RETURNING id, "
	KEPT("status <> 'sending' AND task_id IS NOT DISTINCT FROM " OF_ROW("$7"))
	", reference, status, task_id",
	12, {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID,
		TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT8OID}, false
};

#define DOUBTFUL_COLUMNS \
	"id, attempts, server, role, stream_name, domain_name, app_name," \
	" template_id, start_time, end_time, sent_at, status = 'sending'," \
	" next_attempt_at <= pg_catalog.clock_timestamp(), requested_at, misses"

/*
 * The lanes that have requests in doubt, but for some, $3 and $4: one step of
 * an index for each
 */
#define DOUBTFUL_LANES \
	"WITH RECURSIVE lane AS (" \
	" (SELECT server, role FROM %1$s" \
	"  WHERE origin = $1 AND status = 'in_doubt'" \
	"  ORDER BY server, role LIMIT 1)" \
	" UNION ALL" \
	" SELECT next.* FROM lane, LATERAL" \
	" (SELECT server, role FROM %1$s AS t" \
	"  WHERE origin = $1 AND status = 'in_doubt'" \
	"  AND (t.server, t.role) > (lane.server, lane.role)" \
	"  ORDER BY server, role LIMIT 1) AS next)," \
	" lane_to_ask AS (SELECT server, role FROM lane WHERE NOT EXISTS" \
	"  (SELECT FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4))" \
	"   AS paused(server, role)" \
	"   WHERE paused.server = lane.server AND paused.role = lane.role))"

static const Statement doubtful_statement = {
	DOUBTFUL_LANES
	" SELECT due.* FROM lane_to_ask AS lane, LATERAL"
	" (SELECT " DOUBTFUL_COLUMNS " FROM %1$s AS t"
	"  WHERE origin = $1 AND status = 'in_doubt' AND id <> ALL ($2)"
	"  AND t.server = lane.server AND t.role = lane.role"
	"  AND next_attempt_at <= " NOW
	"  ORDER BY next_attempt_at LIMIT $5"
	"  FOR NO KEY UPDATE SKIP LOCKED) AS due",
	5, {INT8OID, INT8ARRAYOID, NAMEARRAYOID, OIDARRAYOID, INT4OID}, false
};

static const Statement next_doubtful_statement = {
	DOUBTFUL_LANES
	" SELECT next.next_attempt_at FROM lane_to_ask AS lane, LATERAL"
	" (SELECT next_attempt_at FROM %1$s AS t"
	"  WHERE origin = $1 AND status = 'in_doubt' AND id <> ALL ($2)"
	"  AND t.server = lane.server AND t.role = lane.role"
	"  AND next_attempt_at IS NOT NULL"
	"  ORDER BY next_attempt_at LIMIT 1) AS next"
	" ORDER BY next_attempt_at LIMIT 1",
	4, {INT8OID, INT8ARRAYOID, NAMEARRAYOID, OIDARRAYOID}, false
};

static const Statement alike_statement = {
	"SELECT " DOUBTFUL_COLUMNS " FROM %1$s"
	" WHERE origin = $1 AND status = 'sending' AND stream_name = $2"
	" UNION ALL"
	" SELECT " DOUBTFUL_COLUMNS " FROM %1$s"
	" WHERE origin = $1 AND status = 'in_doubt' AND stream_name = $2",
	2, {INT8OID, TEXTOID}, false
};

static const Statement claimed_statement = {
	"SELECT task_id, server, role FROM %1$s"
	" WHERE finished_at IS NOT NULL AND status = 'created'"
	" AND " OVER_AT " > $2 - interval '1 second'"
	" AND " OVER_AT " < $2 + interval '1 second'"
	" AND task_id = ANY ($1)",
	2, {TEXTARRAYOID, TIMESTAMPTZOID}, false
};

static const Statement choose_in_doubt = {
	"SELECT id FROM %1$s"
	" WHERE origin = $1 AND id <> ALL ($2)"
	" AND id = $3 AND attempts = $4 AND requested_at = $5"
	" AND pg_catalog.enum_eq(status, 'in_doubt'::%2$s)"
	" FOR NO KEY UPDATE SKIP LOCKED",
	5, {INT8OID, INT8ARRAYOID, INT8OID, INT4OID, TIMESTAMPTZOID}, false
};

static const Statement leave_doubt_statement = {
	"UPDATE %1$s SET status = $2::%2$s, next_attempt_at = $3,"
	" finished_at = CASE WHEN $2 = 'created'"
	"  THEN pg_catalog.clock_timestamp() END,"
	" task_id = $4, error_message = COALESCE($5, error_message),"
	" error_code = CASE WHEN $2 = 'created' THEN NULL ELSE error_code END,"
	" misses = misses + $6"
	BY_ID("in_doubt")
	" RETURNING id, "
	KEPT("status = $2::%2$s AND task_id IS NOT DISTINCT FROM $4") ","
	" reference, status, task_id",
	6, {INT8ARRAYOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, INT4OID},
	false
};

/* Changes nothing, but fails if the table cannot be changed */
static const Statement probe_statement = {
	"UPDATE %1$s SET status = status WHERE id = ANY ('{}'::pg_catalog.int8[])",
	0, {InvalidOid}, false
};

/* What queue_begin() switched, for queue_commit() to switch back */
static Oid	saved_user;
static int	saved_context;

/* Plans of statements, for what the table and the type of a status are called */
#define MAX_PLANS	32

static struct
{
	char	   *table;			/* NULL: nothing is prepared */
	char	   *status_type;
	int			n;
	struct
	{
		const Statement *statement;
		SPIPlanPtr	plan;
	}			plans[MAX_PLANS];
}			prepared;

static char last_error[1024] = "";	/* that was logged; empty: since forgotten */
static MemoryContext caller_context;	/* for what outlives the transaction */
static bool row_by_row;
static MonotonicUs change_by;	/* rows of this transaction */
static MonotonicUs impatient_until = 0;

/* Requests that a worker before this one was sending, and that are refused */
static int64 *orphans_left = NULL;
static int	n_orphans_left = 0;
static int	n_orphans_after;	/* the first so many, if this one commits */

/* Takes so many rows that a change returned */
typedef void (*RowsTaker) (int n, void *arg);

static bool note_lock_timeout(int sqlerrcode);
static void be_impatient(void);
static QueueState find_table(Oid *owner);
static void use_names(const char *table, const char *status_type);
static void forget_statements(void);
static SPIPlanPtr prepare(const Statement *statement);
static int	run(const Statement *statement, const Datum *args,
				const char *nulls);
static int	run_with_triggers(const Statement *statement, const Datum *args,
							  const char *nulls);
static int64 *choose(const Statement *statement, Datum *args, int *n);
static void change(const Statement *statement, const int64 *ids, int n,
				   Datum *args, const char *nulls, RowsTaker take, void *arg);
static int	change_at_once(const Statement *statement, const int64 *ids, int n,
						   Datum *args, const char *nulls);
static int	change_alone(const Statement *statement, int64 id, Datum *args,
						 const char *nulls);
static void check_kept(int n);
static Datum current_stamp(void);
static Datum make_id_array(const int64 *ids, int n);
static Datum make_array(Oid element, Datum *datums, int n);
static bool was_returned(int64 id, int n_rows);
static int	lock_finished(FinishedRequest **finished, int n_finished);
static void write_finished(FinishedRequest **finished, int n_finished);
static int	compare_ids(const void *a, const void *b);
static LaneName *read_lanes(int n);
static void take_claimed(int n, void *arg);
static void take_expired(int n, void *arg);
static void take_changed(int n, void *arg);
static void take_woken(int n, void *arg);
static void take_out_of_doubt(int n, void *arg);
static void notify_of(int n, int column);
static void notify_of_row(int row, int column);
static ClaimedRequest *read_claimed(const Datum *values, const bool *nulls);
static void read_body(ClaimedRequest *request, const Datum *values,
					  const bool *nulls);
static Datum text_or_null(const char *value, bool *isnull);
static TimestampTz ended_by(void);
static TimestampTz first_time(const Statement *statement, const Datum *args);
static List *read_heads(int n);
static int	compare_lanes(const void *a, const void *b);
static void make_lane_arrays(List *names, Datum *servers, Datum *roles);
static bool are_alike(const DoubtfulRequest *a, const DoubtfulRequest *b);
static char *value_or_empty(int row, int column);
static List *read_doubtful(int n);
static bool leave_doubt(const DoubtfulRequest *request, const char *status,
						TimestampTz next_attempt_at, const char *task_id,
						const char *message, int misses);

/*
 * Digest of this cluster and this database, by which a request is known to
 * have been made here.
 */
int64
request_origin(void)
{
	static int64 origin = 0;	/* a process has one database */
	uint64		cluster = GetSystemIdentifier();

	if (origin == 0)
		origin = (int64) hash_combine64(hash_bytes_extended((unsigned char *) &cluster,
															sizeof(cluster), 0),
										hash_bytes_uint32_extended(MyDatabaseId, 0));
	return origin;
}

/*
 * Mark of a row that was written by a transaction, of this cluster and
 * database.
 */
int64
request_stamp(FullTransactionId transaction)
{
	uint64		number = U64FromFullTransactionId(transaction);

	return (int64) hash_combine64((uint64) request_origin(),
								  hash_bytes_extended((unsigned char *) &number,
													  sizeof(number), 0));
}

/*
 * Is the extension in this database?  In a transaction of its own.
 */
bool
queue_exists(void)
{
	MemoryContext context = CurrentMemoryContext;
	bool		exists;

	StartTransactionCommand();
	exists = OidIsValid(get_extension_oid("screenshot_task", true));
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return exists;
}

/*
 * Begin a transaction on the table, as its owner.  "activity" is what
 * pg_stat_activity shows.
 *
 * one_by_one: change each row in a subtransaction of its own, so that those
 * which a trigger refuses to have changed do not stop the others.  Without it,
 * one such row raises its error.
 *
 * Does not wait for the table: answers may be coming in meanwhile.  What the
 * functions below return is allocated in the context that is current here.
 */
QueueState
queue_begin(const char *activity, bool one_by_one)
{
	ConstraintsSetStmt all_immediate = {.type = T_ConstraintsSetStmt};
	QueueState	state;
	Oid			owner;

	caller_context = CurrentMemoryContext;
	row_by_row = one_by_one;
	change_by = monotonic_now() + MAX_CHANGE_TIME;
	n_orphans_after = n_orphans_left;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pgstat_report_activity(STATE_RUNNING, activity);
	GetUserIdAndSecContext(&saved_user, &saved_context);
	PushActiveSnapshot(GetTransactionSnapshot());

	state = find_table(&owner);
	if (state != QUEUE_OPEN)
	{
		PopActiveSnapshot();
		CommitTransactionCommand();
		pgstat_report_activity(STATE_IDLE, NULL);
		MemoryContextSwitchTo(caller_context);
		return state;
	}

	SetUserIdAndSecContext(owner, saved_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION |
						   SECURITY_NOFORCE_RLS);
	/* No trigger may be deferred in a security-restricted operation. */
	AfterTriggerSetState(&all_immediate);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (monotonic_now() < impatient_until)
		be_impatient();
	return QUEUE_OPEN;
}

/*
 * Commit it.  Whatever is done here after the commit raises no error, which
 * would be taken for one of the transaction: pgstat_report_stat() might.
 */
void
queue_commit(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	SetUserIdAndSecContext(saved_user, saved_context);
	MemoryContextSwitchTo(caller_context);
	n_orphans_left = n_orphans_after;
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * Log the error that was caught, unless it is the one that was logged before,
 * and abort the transaction.  Statements are prepared anew the next time: what
 * they were prepared for may be gone.
 *
 * Returns the error's message and DETAIL, in the context in which the
 * transaction was begun.  To be called in PG_CATCH().
 */
const char *
queue_abort(void)
{
	ErrorData  *error;
	char	   *text;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(caller_context);
	error = CopyErrorData();
	text = error->detail == NULL ? error->message :
		psprintf("%s\nDETAIL:  %s", error->message, error->detail);
	if (strncmp(last_error, text, sizeof(last_error) - 1) != 0)
		EmitErrorReport();
	strlcpy(last_error, text, sizeof(last_error));
	note_lock_timeout(error->sqlerrcode);
	AbortCurrentTransaction();
	MemoryContextSwitchTo(caller_context);
	FlushErrorState();
	forget_statements();
	pgstat_report_activity(STATE_IDLE, NULL);
	RESUME_INTERRUPTS();
	return text;
}

/*
 * Have the next error be logged, even if it is the same as the last.
 */
void
queue_forget_error(void)
{
	last_error[0] = '\0';
}

/*
 * Raise an error if no row of the table can be changed, whichever it is: its
 * owner has published it without a replica identity, say, or a trigger of each
 * statement raises it.
 */
void
queue_probe(void)
{
	(void) run_with_triggers(&probe_statement, NULL, NULL);
}

/*
 * If it was a lock that was waited for in vain, wait less for a while: there
 * may be hundreds of rows for which a trigger waits for that one.  Returns
 * whether it was.
 */
static bool
note_lock_timeout(int sqlerrcode)
{
	MonotonicUs now = monotonic_now();

	if (sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		return false;
	if (impatient_until < now)
		impatient_until = now + IMPATIENT_FOR;
	return true;
}

/*
 * Wait for locks no longer, in this transaction, than while impatient.
 */
static void
be_impatient(void)
{
	(void) set_config_option("lock_timeout", IMPATIENT_TIMEOUT, PGC_SUSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

/*
 * Find the table, lock it, check that it is what the statements expect, and have
 * these prepared for what it is called.  Its schema may be renamed all the same:
 * what a statement returns is read by its types.
 */
static QueueState
find_table(Oid *owner)
{
	Oid			table = request_table_find();
	Relation	relation;

	if (!OidIsValid(table))
		return QUEUE_GONE;
	if (!ConditionalLockRelationOid(table, RowExclusiveLock))
		return QUEUE_BUSY;
	relation = try_table_open(table, NoLock);
	if (relation == NULL)
		return QUEUE_GONE;
	request_table_check(relation);
	*owner = relation->rd_rel->relowner;
	use_names(request_table_name(relation),
			  request_table_status_type(relation));
	table_close(relation, NoLock);
	return QUEUE_OPEN;
}

/*
 * Have statements prepared from now on for what the table and the type of a
 * status are called, and forget those that are prepared for other names.
 */
static void
use_names(const char *table, const char *status_type)
{
	if (prepared.table != NULL &&
		strcmp(prepared.table, table) == 0 &&
		strcmp(prepared.status_type, status_type) == 0)
		return;
	forget_statements();
	prepared.status_type = MemoryContextStrdup(TopMemoryContext, status_type);
	prepared.table = MemoryContextStrdup(TopMemoryContext, table);
}

/*
 * Forget what was prepared, and for what names.
 */
static void
forget_statements(void)
{
	while (prepared.n > 0)
		SPI_freeplan(prepared.plans[--prepared.n].plan);
	if (prepared.table != NULL)
		pfree(prepared.table);
	if (prepared.status_type != NULL)
		pfree(prepared.status_type);
	prepared.table = prepared.status_type = NULL;
}

/*
 * The plan of a statement, which is prepared when it is needed first.
 */
static SPIPlanPtr
prepare(const Statement *statement)
{
	char	   *origin;
	char	   *text;
	SPIPlanPtr	plan;

	for (int i = 0; i < prepared.n; i++)
	{
		if (prepared.plans[i].statement == statement)
			return prepared.plans[i].plan;
	}
	if (prepared.n == MAX_PLANS)
		elog(ERROR, "too many statements");
	origin = psprintf("'" INT64_FORMAT "'::pg_catalog.int8", request_origin());
	text = psprintf(statement->text, prepared.table, prepared.status_type,
					origin);
	plan = SPI_prepare(text, statement->nargs,
					   (Oid *) statement->argtypes);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", text,
			 SPI_result_code_string(SPI_result));
	prepared.plans[prepared.n].statement = statement;
	prepared.plans[prepared.n++].plan = plan;
	return plan;
}

/*
 * Run a statement, and return how many rows it gave or changed.  What a
 * trigger sets is undone at once: the next statement may have to be prepared.
 */
static int
run(const Statement *statement, const Datum *args, const char *nulls)
{
	int			level = NewGUCNestLevel();
	int			result;

	result = SPI_execute_plan(prepare(statement), unconstify(Datum *, args),
							  nulls, false, 0);
	if (result < 0)
		elog(ERROR, "could not execute \"%s\": %s", statement->text,
			 SPI_result_code_string(result));
	AtEOXact_GUC(false, level);
	return (int) SPI_processed;
}

/*
 * The same, for a statement that fires triggers of the owner's.  These may wait
 * for locks, but not for longer than lock_timeout, of which SIGINT tells.
 * Otherwise it is ignored.
 */
static int
run_with_triggers(const Statement *statement, const Datum *args, const char *nulls)
{
	volatile int n = 0;

	pqsignal(SIGINT, StatementCancelHandler);
	PG_TRY();
	{
		n = run(statement, args, nulls);
	}
	PG_FINALLY();
	{
		pqsignal(SIGINT, SIG_IGN);
		QueryCancelPending = false;
	}
	PG_END_TRY();
	return n;
}

/*
 * Run a statement that chooses rows, and return their ids.  The first two of
 * its arguments are set here.
 */
static int64 *
choose(const Statement *statement, Datum *args, int *n)
{
	int64	   *ids;

	*n = 0;
	if (refusals_are_too_many() ||
		(refusals_are_many() && !statement->sends))
		return NULL;
	args[0] = Int64GetDatum(request_origin());
	args[1] = refusals_array();
	*n = run(statement, args, NULL);
	ids = palloc((*n + 1) * sizeof(int64));
	for (int i = 0; i < *n; i++)
		ids[i] = spi_int8(i, 1);
	return ids;
}

/*
 * Run a statement that changes rows that were chosen, and returns them with
 * their ids in the first column, and in the second whether they are as it has
 * set them.  The first of its arguments is set here.  What it returns is given
 * to "take".
 *
 * Notes the rows that could not be changed.  Where one after the other takes its
 * time, or too many cannot be, the last are left as they are, for another
 * transaction.  Raises an error if it is not the rows' fault.
 */
static void
change(const Statement *statement, const int64 *ids, int n, Datum *args,
	   const char *nulls, RowsTaker take, void *arg)
{
	int			refused = 0;

	if (n == 0)
		return;
	if (!row_by_row && !refusals_exist())
	{
		take(change_at_once(statement, ids, n, args, nulls), arg);
		return;
	}
	for (int i = 0; i < n && refused < MOST_REFUSED &&
		 (i == 0 || monotonic_now() < change_by); i++)
	{
		int			changed = change_alone(statement, ids[i], args, nulls);

		take(changed, arg);
		if (changed == 0 && refused == 0)
			queue_probe();
		refused = changed > 0 ? 0 : refused + 1;
	}
}

/*
 * Returns how many there are.  Raises an error if a trigger has changed one.
 */
static int
change_at_once(const Statement *statement, const int64 *ids, int n, Datum *args,
			   const char *nulls)
{
	int			changed;

	args[0] = make_id_array(ids, n);
	changed = run_with_triggers(statement, args, nulls);
	check_kept(changed);
	for (int i = 0; changed < n && i < n; i++)
	{
		if (!was_returned(ids[i], changed))
			refusal_note(ids[i], "A trigger left it out of an UPDATE.");
	}
	return changed;
}

/*
 * Raise an error if one of the rows, so many, that a change returned is not as
 * it was set: it would be changed again and again, or be forgotten.
 */
static void
check_kept(int n)
{
	for (int i = 0; i < n; i++)
	{
		if (!spi_bool(i, 2))
			ereport(ERROR,
					(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
					 errmsg("a trigger changed what was set in screenshot task request %lld",
							(long long) spi_int8(i, 1)),
					 errhint("Look at the triggers on screenshot_task_request.")));
	}
}

/*
 * The mark of what this transaction writes.
 */
static Datum
current_stamp(void)
{
	return Int64GetDatum(request_stamp(GetTopFullTransactionId()));
}

/*
 * A bigint[], palloc'd.
 */
static Datum
make_id_array(const int64 *ids, int n)
{
	Datum	   *datums = palloc((n + 1) * sizeof(Datum));

	for (int i = 0; i < n; i++)
		datums[i] = Int64GetDatum(ids[i]);
	return make_array(INT8OID, datums, n);
}

/*
 * An array of another type, palloc'd.
 */
static Datum
make_array(Oid element, Datum *datums, int n)
{
	int16		length;
	bool		by_value;
	char		align;

	get_typlenbyvalalign(element, &length, &by_value, &align);
	return PointerGetDatum(construct_array(datums, n, element, length,
										   by_value, align));
}

/*
 * Is an id one of those in the rows, so many, that a statement gave?
 */
static bool
was_returned(int64 id, int n_rows)
{
	for (int row = 0; row < n_rows; row++)
	{
		if (spi_int8(row, 1) == id)
			return true;
	}
	return false;
}

/*
 * Change one row, in a subtransaction.
 *
 * Returns how many rows were changed.  An error that is the row's fault is noted
 * with it; another is raised again.
 */
static int
change_alone(const Statement *statement, int64 id, Datum *args, const char *nulls)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile int changed = 0;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		int			n = change_at_once(statement, &id, 1, args, nulls);

		ReleaseCurrentSubTransaction();
		changed = n;
	}
	PG_CATCH();
	{
		ErrorData  *error;
		int			category;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		category = ERRCODE_TO_CATEGORY(error->sqlerrcode);
		if (note_lock_timeout(error->sqlerrcode))
			be_impatient();
		if (category == ERRCODE_INSUFFICIENT_RESOURCES ||
			category == ERRCODE_OPERATOR_INTERVENTION ||
			category == ERRCODE_SYSTEM_ERROR)
			ReThrowError(error);
		refusal_note(id, error->message);
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return changed;
}

/*
 * The requests that a worker before this one was sending when it ended: they
 * may have become tasks, or not, which is to be asked at the given time.
 * To be called before this worker sends any.  Adds those that are in doubt now
 * to *doubtful, a list of ChangedRequest, and returns how many there are.
 */
int
queue_orphans_to_doubt(TimestampTz ask_at, List **doubtful)
{
	Datum		args[2];
	int			n;
	int64	   *ids = choose(&choose_orphans, args, &n);

	n_orphans_left = n_orphans_after = 0;	/* of a try that failed */
	if (n > 0)
	{
		orphans_left = MemoryContextAlloc(TopMemoryContext,
										  n * sizeof(int64));
		memcpy(orphans_left, ids, n * sizeof(int64));
		n_orphans_left = n_orphans_after = n;
		queue_left_orphans_to_doubt(ask_at, doubtful);
	}
	return n;
}

/*
 * Those of them that were refused to be changed, and are no longer.
 */
void
queue_left_orphans_to_doubt(TimestampTz ask_at, List **doubtful)
{
	int64	   *ids = palloc((n_orphans_left + 1) * sizeof(int64));
	int			n = 0;
	int			n_locked = 0;
	int			n_left = 0;
	int			n_found;
	Datum		lock_args[1];
	Datum		args[3] = {
		(Datum) 0,
		CStringGetTextDatum(QUEUE_ORPHAN_MESSAGE),
		TimestampTzGetDatum(ask_at)
	};

	for (int i = 0; i < n_orphans_left; i++)
	{
		if (!refusal_holds(orphans_left[i]))
			ids[n++] = orphans_left[i];
	}
	if (n == 0)
		return;
	lock_args[0] = make_id_array(ids, n);
	n_found = run(&lock_sending, lock_args, NULL);
	for (int i = 0; i < n; i++)
	{
		if (was_returned(ids[i], n_found))
			ids[n_locked++] = ids[i];
		else
			refusal_note_lock(ids[i], QUEUE_LOCKED_RETRY);
	}
	change(&orphans_statement, ids, n_locked, args, NULL, take_changed,
		   doubtful);

	/* Those that are still being sent, as it seems, stay to be looked at. */
	lock_args[0] = make_id_array(orphans_left, n_orphans_left);
	n_found = run(&find_sending, lock_args, NULL);
	for (int i = 0; i < n_orphans_left; i++)
	{
		int64		id = orphans_left[i];

		if (!was_returned(id, n_found))
			continue;
		orphans_left[i] = orphans_left[n_left];
		orphans_left[n_left++] = id;
	}
	n_orphans_after = n_left;
}

/*
 * Are there any of them that only time was lacking for?
 */
bool
queue_has_orphans(void)
{
	for (int i = 0; i < n_orphans_after && !refusals_are_too_many(); i++)
	{
		if (!refusal_holds(orphans_left[i]))
			return true;
	}
	return false;
}

/*
 * Make ready at most so many requests whose time has come.  Returns how many
 * were found, and adds to *news where they are.
 */
int
queue_wake_waiting(int most, News *news)
{
	Datum		args[3];
	int			n;
	int64	   *ids;

	args[2] = Int32GetDatum(most);
	ids = choose(&choose_waiting, args, &n);
	change(&wake_statement, ids, n, args, NULL, take_woken, news);
	return n;
}

static void
take_woken(int n, void *arg)
{
	for (int i = 0; i < n; i++)
	{
		NameData	server = spi_name(i, 3);
		TimestampTz start = spi_timestamptz(i, 5);

		news_add(arg, lane_key(NameStr(server), spi_oid(i, 4)), start, start);
	}
}

/*
 * When the next of the waiting requests is due; DT_NOEND if none waits.
 */
TimestampTz
queue_next_due(void)
{
	Datum		args[2] = {
		Int64GetDatum(request_origin()),
		refusals_array()
	};

	return first_time(&next_due_statement, args);
}

/*
 * A request whose end is no later than this is not sent any more.
 */
static TimestampTz
ended_by(void)
{
	return GetCurrentTimestamp() + QUEUE_END_MARGIN;
}

/*
 * The time that a statement gives; DT_NOEND if it gives none.
 */
static TimestampTz
first_time(const Statement *statement, const Datum *args)
{
	if (run(statement, args, NULL) == 0)
		return DT_NOEND;
	return spi_timestamptz(0, 1);
}

/*
 * Look at most at so many ready requests that come after a place, which becomes
 * that of the last of them, and expire those whose end has passed.  Adds these
 * to *expired, a list of ChangedRequest.  Returns how many were looked at.
 *
 * Of a lane whose next request is yet to start, the others are left out.
 */
int
queue_expire(ReadyPlace *after, int most, List **expired)
{
	TimestampTz by = ended_by();
	Datum		args[7] = {
		Int64GetDatum(request_origin()),
		NameGetDatum(&after->lane.server),
		ObjectIdGetDatum(after->lane.role),
		TimestampTzGetDatum(after->start),
		Int64GetDatum(after->id),
		TimestampTzGetDatum(by),
		Int32GetDatum(most)
	};
	int			n_rows = run(&walk_statement, args, NULL);
	int64	   *ids = palloc((n_rows + 1) * sizeof(int64));
	int			n = 0;

	for (int i = 0; i < n_rows; i++)
	{
		if (spi_bool(i, 5))
			ids[n++] = spi_int8(i, 1);
	}
	if (n_rows > 0)
	{
		after->id = spi_int8(n_rows - 1, 1);
		after->lane.server = spi_name(n_rows - 1, 2);
		after->lane.role = spi_oid(n_rows - 1, 3);
		after->start = spi_timestamptz(n_rows - 1, 4);
		if (after->start > by)
			after->start = DT_NOEND;
	}
	if (n == 0)
		return n_rows;

	args[2] = make_id_array(ids, n);
	args[3] = TimestampTzGetDatum(by);
	ids = choose(&choose_expired, args, &n);
	args[1] = CStringGetTextDatum(QUEUE_EXPIRED_MESSAGE);
	change(&expire_statement, ids, n, args, NULL, take_expired, expired);
	return n_rows;
}

/*
 * Add the rows that were expired to the List that "arg" points to.
 */
static void
take_expired(int n, void *arg)
{
	notify_of(n, 4);
	take_changed(n, arg);
}

/*
 * Add rows that a change returned with id and server to the List of
 * ChangedRequest that "arg" points to.
 */
static void
take_changed(int n, void *arg)
{
	List	  **changed = arg;
	MemoryContext old = MemoryContextSwitchTo(caller_context);

	for (int i = 0; i < n; i++)
	{
		ChangedRequest *request = palloc(sizeof(ChangedRequest));

		request->id = spi_int8(i, 1);
		request->server = spi_name(i, 3);
		*changed = lappend(*changed, request);
	}
	MemoryContextSwitchTo(old);
}

/*
 * Notify those who listen of the rows that a change returned with the id, and
 * from a certain column on reference, status and task_id, as far as they are
 * finished.
 */
static void
notify_of(int n, int column)
{
	for (int row = 0; row < n; row++)
		notify_of_row(row, column);
}

static void
notify_of_row(int row, int column)
{
	if (notices_are_wanted())
		notify_result(spi_int8(row, 1), spi_text(row, column),
					  spi_text(row, column + 1), spi_text(row, column + 2));
}

/*
 * Choose and lock at most so many requests that were finished over so many
 * seconds ago, and whose task, if there is one, has ended: the oldest that come
 * after *after, which becomes the last of them.  Returns how many there are.
 */
int
queue_choose_old(int64 age, OldRequest *after, int most, int64 *ids)
{
	Datum		args[4] = {
		TimestampTzGetDatum(after->over_at),
		Int64GetDatum(after->id),
		Float8GetDatum((double) age),
		Int32GetDatum(most)
	};
	int			n = run(&choose_old, args, NULL);

	for (int i = 0; i < n; i++)
	{
		ids[i] = after->id = spi_int8(i, 1);
		after->over_at = spi_timestamptz(i, 2);
	}
	return n;
}

/*
 * Remove requests that have been chosen for it.  Returns how many are removed:
 * a trigger may leave some out.
 */
int
queue_remove(const int64 *ids, int n)
{
	Datum		args[1] = {make_id_array(ids, n)};

	return run_with_triggers(&remove_statement, args, NULL);
}

/*
 * Count the requests of this origin that are not finished.
 */
void
queue_count(QueueCounts *counts)
{
	Datum		args[1] = {Int64GetDatum(request_origin())};

	(void) run(&count_statement, args, NULL);
	counts->ready = spi_int8(0, 1);
	counts->oldest = spi_timestamptz(0, 2);
	counts->waiting = spi_int8(0, 3);
	counts->in_doubt = spi_int8(0, 4);
}

/*
 * How many requests that are not finished came in a dump or a copy.  Thousands are
 * not counted further.
 */
int
queue_count_held(void)
{
	Datum		args[1] = {Int64GetDatum(request_origin())};

	(void) run(&held_statement, args, NULL);
	return (int) spi_int8(0, 1);
}

/*
 * The soonest request of each lane that has any that may be sent: a list of
 * ReadyPlace.
 */
List *
queue_find_lanes(void)
{
	Datum		args[3] = {
		Int64GetDatum(request_origin()),
		refusals_array(),
		TimestampTzGetDatum(ended_by())
	};

	return read_heads(run(&lanes_statement, args, NULL));
}

/*
 * The same, of each lane only behind a place and up to its ceiling, for so many
 * of them; they are put into their order.  Of other lanes that there are, some
 * are found, and marked: at least one, if there are any.
 *
 * Requests that have been claimed stay in the index as long as some transaction
 * might see them, and are not walked over here.
 */
List *
queue_find_heads(ReadyPlace *after, int n)
{
	Datum	   *servers = palloc(n * sizeof(Datum));
	Datum	   *roles = palloc(n * sizeof(Datum));
	Datum	   *starts = palloc(n * sizeof(Datum));
	int64	   *ids = palloc(n * sizeof(int64));
	Datum	   *ceilings = palloc(n * sizeof(Datum));
	Datum	   *gap_servers = palloc(2 * n * sizeof(Datum));
	Datum	   *after_roles = palloc(2 * n * sizeof(Datum));
	Datum	   *to_roles = palloc(2 * n * sizeof(Datum));
	Datum	   *bounds = palloc((n + 2) * sizeof(Datum));
	NameData	first_server = {{0}};
	NameData	last_server = {{0}};
	int			n_gaps = 0;
	int			n_bounds = 0;
	Datum		args[12];

	memset(NameStr(last_server), 0xff, NAMEDATALEN - 1);
	qsort(after, n, sizeof(ReadyPlace), compare_lanes);
	bounds[n_bounds++] = NameGetDatum(&first_server);
	for (int i = 0; i < n; i++)
	{
		LaneName   *lane = &after[i].lane;
		bool		is_first = i == 0 ||
			namestrcmp(&lane->server, NameStr(after[i - 1].lane.server)) != 0;
		bool		is_last = i == n - 1 ||
			namestrcmp(&lane->server, NameStr(after[i + 1].lane.server)) != 0;

		servers[i] = NameGetDatum(&lane->server);
		roles[i] = ObjectIdGetDatum(lane->role);
		starts[i] = TimestampTzGetDatum(after[i].start);
		ids[i] = after[i].id;
		ceilings[i] = TimestampTzGetDatum(after[i].ceiling);
		if (is_first)
		{
			bounds[n_bounds++] = servers[i];
			gap_servers[n_gaps] = servers[i];
			after_roles[n_gaps] = ObjectIdGetDatum(InvalidOid);
			to_roles[n_gaps++] = roles[i];
		}
		gap_servers[n_gaps] = servers[i];
		after_roles[n_gaps] = roles[i];
		to_roles[n_gaps++] = is_last ? ObjectIdGetDatum(OID_MAX) :
			ObjectIdGetDatum(after[i + 1].lane.role);
	}
	bounds[n_bounds++] = NameGetDatum(&last_server);

	args[0] = Int64GetDatum(request_origin());
	args[1] = refusals_array();
	args[2] = make_array(NAMEOID, servers, n);
	args[3] = make_array(OIDOID, roles, n);
	args[4] = make_array(TIMESTAMPTZOID, starts, n);
	args[5] = make_id_array(ids, n);
	args[6] = make_array(NAMEOID, gap_servers, n_gaps);
	args[7] = make_array(OIDOID, after_roles, n_gaps);
	args[8] = make_array(OIDOID, to_roles, n_gaps);
	args[9] = make_array(NAMEOID, bounds, n_bounds);
	args[10] = TimestampTzGetDatum(ended_by());
	args[11] = make_array(TIMESTAMPTZOID, ceilings, n);
	return read_heads(run(&heads_statement, args, NULL));
}

static int
compare_lanes(const void *a, const void *b)
{
	const LaneName *lane_a = &((const ReadyPlace *) a)->lane;
	const LaneName *lane_b = &((const ReadyPlace *) b)->lane;
	int			order = strncmp(NameStr(lane_a->server),
								NameStr(lane_b->server), NAMEDATALEN);

	if (order != 0)
		return order;
	return (lane_a->role > lane_b->role) - (lane_a->role < lane_b->role);
}

/*
 * What these statements gave: a list of ReadyPlace.
 */
static List *
read_heads(int n)
{
	MemoryContext old = MemoryContextSwitchTo(caller_context);
	List	   *heads = NIL;

	for (int i = 0; i < n; i++)
	{
		ReadyPlace *head = palloc(sizeof(ReadyPlace));

		head->lane.server = spi_name(i, 1);
		head->lane.role = spi_oid(i, 2);
		head->start = spi_timestamptz(i, 3);
		head->id = spi_int8(i, 4);
		head->has_ended = spi_bool(i, 5);
		head->is_of_new_lane = spi_bool(i, 6);
		heads = lappend(heads, head);
	}
	MemoryContextSwitchTo(old);
	return heads;
}

/*
 * Claim requests: those that start soonest among the lanes, at most "most" of
 * them, and of each lane at most what it demands, from where it says.
 *
 * Returns a list of ClaimedRequest.  They are this worker's to send as soon
 * as the transaction has committed, and not before.  *n_chosen is how many
 * there were, those included that could not be changed; *passed_over is a
 * list of LaneName, of each of these.
 */
List *
queue_claim(const LaneDemand *demands, int n_demands, int most, int *n_chosen,
			List **passed_over)
{
	Datum	   *servers = palloc(n_demands * sizeof(Datum));
	Datum	   *roles = palloc(n_demands * sizeof(Datum));
	Datum	   *mosts = palloc(n_demands * sizeof(Datum));
	Datum	   *starts = palloc(n_demands * sizeof(Datum));
	int64	   *after_ids = palloc(n_demands * sizeof(int64));
	Datum	   *ceilings = palloc(n_demands * sizeof(Datum));
	Datum		args[10];
	List	   *claimed = NIL;
	TimestampTz now;
	int64	   *ids;
	LaneName   *lanes;
	int			n;

	for (int i = 0; i < n_demands; i++)
	{
		servers[i] = NameGetDatum(&demands[i].name.server);
		roles[i] = ObjectIdGetDatum(demands[i].name.role);
		mosts[i] = Int32GetDatum(Min(demands[i].most, most));
		starts[i] = TimestampTzGetDatum(demands[i].after_start);
		after_ids[i] = demands[i].after_id;
		ceilings[i] = TimestampTzGetDatum(demands[i].ceiling);
	}
	args[2] = make_array(NAMEOID, servers, n_demands);
	args[3] = make_array(OIDOID, roles, n_demands);
	args[4] = make_array(INT4OID, mosts, n_demands);
	args[5] = Int32GetDatum(most);
	args[6] = make_array(TIMESTAMPTZOID, starts, n_demands);
	args[7] = make_id_array(after_ids, n_demands);
	args[8] = TimestampTzGetDatum(ended_by());
	args[9] = make_array(TIMESTAMPTZOID, ceilings, n_demands);
	ids = choose(&choose_ready, args, &n);
	lanes = read_lanes(n);

	now = GetCurrentTimestamp();
	args[1] = CStringGetTextDatum(QUEUE_EXPIRED_MESSAGE);
	args[2] = TimestampTzGetDatum(now);
	args[3] = TimestampTzGetDatum(ended_by());
	args[4] = current_stamp();
	change(&claim_statement, ids, n, args, NULL, take_claimed, &claimed);
	*n_chosen = n;
	*passed_over = NIL;
	for (int i = 0; i < n && list_length(claimed) < n; i++)
	{
		MemoryContext old;

		if (!refusal_holds(ids[i]))
			continue;
		old = MemoryContextSwitchTo(caller_context);
		*passed_over = lappend(*passed_over,
							   memcpy(palloc(sizeof(LaneName)), &lanes[i],
									  sizeof(LaneName)));
		MemoryContextSwitchTo(old);
	}
	return claimed;
}

/*
 * The server and the role in the second and third column of the rows, so many,
 * that a statement gave: palloc'd.
 */
static LaneName *
read_lanes(int n)
{
	LaneName   *lanes = palloc((n + 1) * sizeof(LaneName));

	for (int i = 0; i < n; i++)
	{
		lanes[i].server = spi_name(i, 2);
		lanes[i].role = spi_oid(i, 3);
	}
	return lanes;
}

/*
 * Add the rows that a claim returned to the List that "arg" points to.
 */
static void
take_claimed(int n, void *arg)
{
	List	  **claimed = arg;
	MemoryContext old = MemoryContextSwitchTo(caller_context);

	for (int i = 0; i < n; i++)
	{
		Datum		values[N_CLAIMED_COLUMNS];
		bool		nulls[N_CLAIMED_COLUMNS];

		for (int column = 0; column < N_CLAIMED_COLUMNS; column++)
			values[column] = OidIsValid(claimed_types[column]) ?
				spi_value(i, column + 1, claimed_types[column],
						  &nulls[column]) : (Datum) 0;
		*claimed = lappend(*claimed, read_claimed(values, nulls));
		if (DatumGetBool(values[CLAIMED_EXPIRED]))
			notify_of_row(i, CLAIMED_REFERENCE + 1);
	}
	MemoryContextSwitchTo(old);
}

static ClaimedRequest *
read_claimed(const Datum *values, const bool *nulls)
{
	ClaimedRequest *request = palloc0(sizeof(ClaimedRequest));

	request->id = DatumGetInt64(values[CLAIMED_ID]);
	request->attempt = DatumGetInt32(values[CLAIMED_ATTEMPTS]);
	request->requested_at = DatumGetTimestampTz(values[CLAIMED_REQUESTED_AT]);
	request->expired = DatumGetBool(values[CLAIMED_EXPIRED]);
	if (!nulls[CLAIMED_SERVER])
		request->lane.server = *DatumGetName(values[CLAIMED_SERVER]);
	request->lane.role = DatumGetObjectId(values[CLAIMED_ROLE]);
	request->end_time = DatumGetTimestampTz(values[CLAIMED_END_TIME]);
	request->start = DatumGetTimestampTz(values[nulls[CLAIMED_START_TIME] ?
												CLAIMED_REQUESTED_AT :
												CLAIMED_START_TIME]);
	if (!nulls[CLAIMED_TRACE_ID])
		request->trace_id = TextDatumGetCString(values[CLAIMED_TRACE_ID]);
	if (!request->expired)
		read_body(request, values, nulls);
	return request;
}

/*
 * Make the body of a request.
 *
 * A text that does not exist in UTF-8, or is too long, is that request's fault
 * alone, and the conversion leaves nothing behind but its error.
 */
static void
read_body(ClaimedRequest *request, const Datum *values, const bool *nulls)
{
	static const ClaimedColumn required[] = {
		CLAIMED_STREAM_NAME, CLAIMED_DOMAIN_NAME, CLAIMED_APP_NAME,
		CLAIMED_END_TIME, CLAIMED_TEMPLATE_ID, CLAIMED_STREAM_TYPE
	};
	MemoryContext context = CurrentMemoryContext;
	ScreenshotTask task = {0};

	for (int i = 0; i < (int) lengthof(required); i++)
	{
		if (nulls[required[i]])
		{
			request->problem = "a parameter that must not be null is";
			return;
		}
	}
	task.stream_name = TextDatumGetCString(values[CLAIMED_STREAM_NAME]);
	task.domain_name = TextDatumGetCString(values[CLAIMED_DOMAIN_NAME]);
	task.app_name = TextDatumGetCString(values[CLAIMED_APP_NAME]);
	task.template_id = DatumGetInt64(values[CLAIMED_TEMPLATE_ID]);
	task.has_start = !nulls[CLAIMED_START_TIME];
	live_set_times(&task, request->start, request->end_time);
	task.stream_type = DatumGetInt32(values[CLAIMED_STREAM_TYPE]);
	if (!nulls[CLAIMED_EXTENSION])
		task.extension = TextDatumGetCString(values[CLAIMED_EXTENSION]);

	PG_TRY();
	{
		request->body = live_create_body(&task);
	}
	PG_CATCH();
	{
		ErrorData  *error;
		int			code = geterrcode();

		if (code != ERRCODE_UNTRANSLATABLE_CHARACTER &&
			code != ERRCODE_CHARACTER_NOT_IN_REPERTOIRE &&
			code != ERRCODE_PROGRAM_LIMIT_EXCEEDED)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		request->body = NULL;
		request->problem = error->message;
	}
	PG_END_TRY();
}

/*
 * Write down what has become of requests that were being sent.
 *
 * Those whose rows somebody has locked, or a trigger leaves out, are marked so,
 * and not written.
 * Returns a list of those, out of "finished", that were no longer there to be
 * written to, or no longer being sent.
 */
List *
queue_finish(FinishedRequest **finished, int n_finished)
{
	int			n = lock_finished(finished, n_finished);
	List	   *missing = NIL;

	if (n > 0)
		write_finished(finished, n);
	for (int i = 0; i < n_finished; i++)
	{
		MemoryContext old;

		if (finished[i]->written || finished[i]->locked ||
			finished[i]->refused)
			continue;
		old = MemoryContextSwitchTo(caller_context);
		missing = lappend(missing, finished[i]);
		MemoryContextSwitchTo(old);
	}
	return missing;
}

/*
 * Lock the rows of requests, and move those that could be to the front.
 * Returns how many that are.  Marks those that could not.
 */
static int
lock_finished(FinishedRequest **finished, int n_finished)
{
	int64	   *ids = palloc(n_finished * sizeof(int64));
	Datum	   *attempts = palloc(n_finished * sizeof(Datum));
	Datum	   *requested_at = palloc(n_finished * sizeof(Datum));
	Datum		args[3];
	int			n_ids = 0;
	int			n_rows;
	int			n = 0;

	qsort(finished, n_finished, sizeof(FinishedRequest *), compare_ids);
	for (int i = 0; i < n_finished; i++)
	{
		FinishedRequest *request = finished[i];

		/* One of two that have one id must wait: they are told apart by it. */
		request->written = request->refused = false;
		request->locked = i > 0 && request->id == finished[i - 1]->id;
		if (request->locked)
			continue;
		ids[n_ids] = request->id;
		attempts[n_ids] = Int32GetDatum(request->attempt);
		requested_at[n_ids] = TimestampTzGetDatum(request->requested_at);
		n_ids++;
	}
	args[0] = make_id_array(ids, n_ids);
	args[1] = make_array(INT4OID, attempts, n_ids);
	args[2] = make_array(TIMESTAMPTZOID, requested_at, n_ids);
	n_rows = run(&lock_sent, args, NULL);
	for (int i = 0; i < n_finished; i++)
	{
		FinishedRequest *request = finished[i];

		if (request->locked ||
			(n_rows < n_ids && !was_returned(request->id, n_rows)))
			continue;
		finished[i] = finished[n];
		finished[n++] = request;
	}
	if (n == n_finished)
		return n;

	n_rows = run(&find_sent, args, NULL);
	for (int i = n; i < n_finished; i++)
		finished[i]->locked |= was_returned(finished[i]->id, n_rows);
	return n;
}

/*
 * Write down what has become of requests whose rows are locked, and mark those
 * that this was done for.
 */
static void
write_finished(FinishedRequest **finished, int n_finished)
{
	enum
	{
		ID, ATTEMPT, REFUND, STATUS, SENT_AT, NEXT_ATTEMPT_AT, TASK_ID,
		REQUEST_ID, ERROR_CODE, ERROR_MESSAGE, REQUESTED_AT, N_COLUMNS
	};
	Datum	   *values[N_COLUMNS];
	bool	   *nulls[N_COLUMNS];
	Datum		args[N_COLUMNS + 1];
	int			dims[1] = {n_finished};
	int			lower_bounds[1] = {1};
	int			n;

	qsort(finished, n_finished, sizeof(FinishedRequest *), compare_ids);
	for (int column = 0; column < N_COLUMNS; column++)
	{
		values[column] = palloc(n_finished * sizeof(Datum));
		nulls[column] = palloc0(n_finished * sizeof(bool));
	}
	for (int i = 0; i < n_finished; i++)
	{
		FinishedRequest *request = finished[i];

		values[ID][i] = Int64GetDatum(request->id);
		values[ATTEMPT][i] = Int32GetDatum(request->attempt);
		values[REFUND][i] = Int32GetDatum(request->free_of_charge ? 1 : 0);
		values[STATUS][i] = CStringGetTextDatum(request->status);
		values[SENT_AT][i] = TimestampTzGetDatum(request->sent_at);
		nulls[SENT_AT][i] = request->sent_at == 0;
		values[NEXT_ATTEMPT_AT][i] =
			TimestampTzGetDatum(request->next_attempt_at);
		nulls[NEXT_ATTEMPT_AT][i] = request->next_attempt_at == 0;
		values[TASK_ID][i] = text_or_null(request->task_id,
										  &nulls[TASK_ID][i]);
		values[REQUEST_ID][i] = text_or_null(request->request_id,
											 &nulls[REQUEST_ID][i]);
		values[ERROR_CODE][i] = text_or_null(request->error_code,
											 &nulls[ERROR_CODE][i]);
		values[ERROR_MESSAGE][i] = text_or_null(request->error_message,
												&nulls[ERROR_MESSAGE][i]);
		values[REQUESTED_AT][i] = TimestampTzGetDatum(request->requested_at);
	}
	for (int column = 0; column < N_COLUMNS; column++)
	{
		Oid			element = get_element_type(finish_statement.argtypes[column]);
		int16		length;
		bool		by_value;
		char		align;

		get_typlenbyvalalign(element, &length, &by_value, &align);
		args[column] = PointerGetDatum(construct_md_array(values[column],
														  nulls[column], 1,
														  dims, lower_bounds,
														  element, length,
														  by_value, align));
	}

	args[N_COLUMNS] = current_stamp();

	n = run_with_triggers(&finish_statement, args, NULL);
	check_kept(n);
	notify_of(n, 3);
	for (int i = 0; i < n_finished; i++)
	{
		FinishedRequest *request = finished[i];

		request->written = n == n_finished || was_returned(request->id, n);
		request->refused = !request->written;
		if (request->refused)
			ereport(LOG,
					(errmsg("what has become of screenshot task request %lld could not be written",
							(long long) request->id),
					 errdetail("A trigger left it out of an UPDATE. It is tried again each minute."),
					 errhint("Look at the triggers on screenshot_task_request.")));
	}
}

static int
compare_ids(const void *a, const void *b)
{
	const FinishedRequest *one = *(FinishedRequest *const *) a;
	const FinishedRequest *other = *(FinishedRequest *const *) b;

	if (one->id != other->id)
		return one->id < other->id ? -1 : 1;
	return (one->requested_at > other->requested_at) -
		(one->requested_at < other->requested_at);
}

/*
 * Requests in doubt that are due to be asked about, at most so many of each
 * lane, but for those lanes that are given, a list of LaneName; and without
 * those requests that are locked: what is found out about these could not be
 * written.
 */
List *
queue_find_doubtful(List *paused, int most)
{
	Datum		args[5];

	args[0] = Int64GetDatum(request_origin());
	args[1] = refusals_array();
	make_lane_arrays(paused, &args[2], &args[3]);
	args[4] = Int32GetDatum(most);
	return read_doubtful(run(&doubtful_statement, args, NULL));
}

/*
 * When the next request in doubt is due, but for those lanes; DT_NOEND if none
 * is waiting.
 */
TimestampTz
queue_next_doubtful_due(List *paused)
{
	Datum		args[4];

	args[0] = Int64GetDatum(request_origin());
	args[1] = refusals_array();
	make_lane_arrays(paused, &args[2], &args[3]);
	return first_time(&next_doubtful_statement, args);
}

static void
make_lane_arrays(List *names, Datum *servers, Datum *roles)
{
	int			n = list_length(names);
	Datum	   *server_datums = palloc((n + 1) * sizeof(Datum));
	Datum	   *role_datums = palloc((n + 1) * sizeof(Datum));

	for (int i = 0; i < n; i++)
	{
		LaneName   *name = list_nth(names, i);

		server_datums[i] = NameGetDatum(&name->server);
		role_datums[i] = ObjectIdGetDatum(name->role);
	}
	*servers = make_array(NAMEOID, server_datums, n);
	*roles = make_array(OIDOID, role_datums, n);
}

/*
 * The requests whose tasks would differ from that of the one given by their
 * start at most: that one itself, others in doubt, and others under way.
 */
List *
queue_find_alike(const DoubtfulRequest *request)
{
	Datum		args[2] = {
		Int64GetDatum(request_origin()),
		CStringGetTextDatum(request->stream_name)
	};
	List	   *alike = NIL;
	ListCell   *cell;

	foreach(cell, read_doubtful(run(&alike_statement, args, NULL)))
	{
		if (are_alike(request, lfirst(cell)))
			alike = lappend(alike, lfirst(cell));
	}
	return alike;
}

/*
 * Would two requests become tasks that a list does not tell apart?
 */
bool
requests_are_equal(const DoubtfulRequest *a, const DoubtfulRequest *b)
{
	return are_alike(a, b) &&
		a->has_start == b->has_start &&
		(!a->has_start || a->start_time == b->start_time);
}

/*
 * The same, but for the start?
 */
static bool
are_alike(const DoubtfulRequest *a, const DoubtfulRequest *b)
{
	return strcmp(a->stream_name, b->stream_name) == 0 &&
		strcmp(a->domain_name, b->domain_name) == 0 &&
		strcmp(a->app_name, b->app_name) == 0 &&
		a->template_id == b->template_id &&
		a->end_time == b->end_time;
}

/*
 * A text that is not null, unless the table's owner has dropped that: there is
 * no task whose name is empty.
 */
static char *
value_or_empty(int row, int column)
{
	char	   *value = spi_text(row, column);

	return value != NULL ? value : pstrdup("");
}

static List *
read_doubtful(int n)
{
	MemoryContext old = MemoryContextSwitchTo(caller_context);
	List	   *requests = NIL;

	for (int i = 0; i < n; i++)
	{
		DoubtfulRequest *request = palloc0(sizeof(DoubtfulRequest));
		ScreenshotTask times;
		bool		isnull;

		request->id = spi_int8(i, 1);
		request->attempt = spi_int4(i, 2);
		request->lane.server = spi_name(i, 3);
		request->lane.role = spi_oid(i, 4);
		request->stream_name = value_or_empty(i, 5);
		request->domain_name = value_or_empty(i, 6);
		request->app_name = value_or_empty(i, 7);
		request->template_id = spi_int8(i, 8);
		request->requested_at = spi_timestamptz(i, 14);
		(void) spi_value(i, 9, TIMESTAMPTZOID, &isnull);
		request->has_start = !isnull;
		live_set_times(&times,
					   request->has_start ? spi_timestamptz(i, 9) :
					   request->requested_at,
					   spi_timestamptz(i, 10));
		request->start_time = times.start_time;
		request->end_time = times.end_time;
		request->sent_at = spi_timestamptz(i, 11);
		request->is_sending = spi_bool(i, 12);
		request->is_due = spi_bool(i, 13);
		request->misses = spi_int4(i, 15);
		requests = lappend(requests, request);
	}
	MemoryContextSwitchTo(old);
	return requests;
}

/*
 * Of tasks found for a request, a list of FoundTask, those that rows have
 * already, of whatever role and server: a list of TaskClaim.
 */
List *
queue_find_claims(const DoubtfulRequest *request, List *tasks)
{
	int			n_ids = list_length(tasks);
	Datum	   *ids = palloc((n_ids + 1) * sizeof(Datum));
	Datum		args[2];
	List	   *claims = NIL;
	ListCell   *cell;
	int			n = 0;

	if (tasks == NIL)
		return NIL;
	foreach(cell, tasks)
		ids[n++] = CStringGetTextDatum(((FoundTask *) lfirst(cell))->task_id);
	args[0] = make_array(TEXTOID, ids, n_ids);
	args[1] = TimestampTzGetDatum(time_t_to_timestamptz((pg_time_t) request->end_time));

	n = run(&claimed_statement, args, NULL);
	for (int i = 0; i < n; i++)
	{
		TaskClaim  *claim = palloc(sizeof(TaskClaim));

		claim->task_id = spi_text(i, 1);
		claim->lane.server = spi_name(i, 2);
		claim->lane.role = spi_oid(i, 3);
		claims = lappend(claims, claim);
	}
	return claims;
}

/*
 * A request in doubt has a task.  Returns whether it was changed: it may have
 * been already, or be locked.
 */
bool
queue_adopt_task(const DoubtfulRequest *request, const char *task_id)
{
	return leave_doubt(request, "created", 0, task_id,
					   "was in doubt, and found by DescribeScreenshotTask", 0);
}

/*
 * A request in doubt has no task, and is pending again.  Returns whether it was
 * changed.
 */
bool
queue_send_again(const DoubtfulRequest *request, const char *message)
{
	return leave_doubt(request, "pending", 0, NULL, message, 0);
}

/*
 * A request stays in doubt, and is asked about at the given time.  A NULL
 * message leaves it the one it has.
 */
void
queue_ask_later(const DoubtfulRequest *request, TimestampTz at,
				const char *message)
{
	leave_doubt(request, "in_doubt", at, NULL, message, 0);
}

/*
 * A request was not found, stays in doubt, and is asked about once more at
 * the given time.
 */
void
queue_count_miss(const DoubtfulRequest *request, TimestampTz at)
{
	leave_doubt(request, "in_doubt", at, NULL,
				"in doubt: DescribeScreenshotTask does not list the task, and will be asked once more",
				1);
}

/*
 * A request stays in doubt until somebody says what became of it.  Returns
 * whether it was changed.
 */
bool
queue_leave_to_person(const DoubtfulRequest *request, const char *message)
{
	return leave_doubt(request, "in_doubt", 0, NULL, message, 0);
}

static bool
leave_doubt(const DoubtfulRequest *request, const char *status,
			TimestampTz next_attempt_at, const char *task_id,
			const char *message, int misses)
{
	Datum		args[6];
	char		nulls[7] = "      ";
	bool		isnull;
	int			n;
	int64	   *ids;
	int			n_changed = 0;

	args[2] = Int64GetDatum(request->id);
	args[3] = Int32GetDatum(request->attempt);
	args[4] = TimestampTzGetDatum(request->requested_at);
	ids = choose(&choose_in_doubt, args, &n);

	args[1] = CStringGetTextDatum(status);
	args[2] = TimestampTzGetDatum(next_attempt_at);
	if (next_attempt_at == 0)
		nulls[2] = 'n';
	args[3] = text_or_null(task_id, &isnull);
	if (isnull)
		nulls[3] = 'n';
	args[4] = text_or_null(message, &isnull);
	if (isnull)
		nulls[4] = 'n';
	args[5] = Int32GetDatum(misses);
	change(&leave_doubt_statement, ids, n, args, nulls, take_out_of_doubt,
		   &n_changed);
	return n_changed > 0;
}

static void
take_out_of_doubt(int n, void *arg)
{
	int		   *n_changed = arg;

	notify_of(n, 3);
	*n_changed += n;
}

static Datum
text_or_null(const char *value, bool *isnull)
{
	*isnull = value == NULL;
	return value == NULL ? (Datum) 0 : CStringGetTextDatum(value);
}

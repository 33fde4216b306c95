/*-------------------------------------------------------------------------
 *
 * request_queue_private.h
 *	  What the files share that work on screenshot_task_request
 *
 * request_queue.h is for those who have something done to the table.  This is
 * for claim.c, result.c, in_doubt.c, orphans.c and upkeep.c, which do it, and
 * for change.c, statement.c and transaction.c, which they stand on.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_REQUEST_QUEUE_PRIVATE_H
#define SCREENSHOT_TASK_REQUEST_QUEUE_PRIVATE_H

#include "table/request_queue.h"

/*
 * Statements, in which %1$s is the table, %2$s the type of a status, and %3$s
 * the origin of what was made here
 */
typedef struct Statement
{
	const char *text;			/* the format of the statement */
	int			nargs;
	Oid			argtypes[13];
	bool		sends;			/* chooses rows to send, see choose_rows() */
} Statement;

/*
 * Rows of ids, made here: one that has come in a dump since may have the id of
 * one that is gone.  A call of enum_eq(), unlike the operator, makes no partial
 * index of use: that of the rows being sent may look small, and be full of dead
 * ones.
 */
#define BY_ID(status) \
	" WHERE id = ANY ($1) AND origin = %3$s" \
	" AND pg_catalog.enum_eq(status, " status "::%2$s)"

/*
 * The arrays are in the order of the ids, so that width_bucket() finds the
 * place of an id.  A join with them would be gone through once for each row:
 * of a table that is thought to be empty, all is read first.
 */
#define OF_ROW(array) "(" array ")[pg_catalog.width_bucket(id, $1)]"

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

/* From a place on, in the order of the index screenshot_task_request_ready */
#define READY_ORDER "server, role, COALESCE(start_time, requested_at), id"

/* As the index screenshot_task_request_finished has it */
#define OVER_AT \
	"CASE WHEN status = " SQL_CREATED " OR status = " SQL_WITHDRAWN \
	" THEN end_time ELSE finished_at END"
#define FINISHED "status IN (" SQL_FINISHED ")"

/*
 * What a request becomes that would have this status, unless it is withdrawn: then
 * its task is, too, if there is one, and it is not sent again.
 */
#define UNLESS_WITHDRAWN(status) \
	"(CASE WHEN withdrawn_at IS NULL OR " status " = " SQL_IN_DOUBT \
	"  THEN " status \
	" WHEN " status " <> " SQL_CREATED " THEN " SQL_CANCELLED \
	" WHEN end_time <= " NOW " THEN " SQL_CREATED \
	" ELSE " SQL_WITHDRAWING " END)"

/*
 * The channels that have requests of a status, but for some, $3 and $4: one step of
 * an index for each
 */
#define CHANNELS_WITH(a_status) \
	"WITH RECURSIVE channel AS (" \
	" (SELECT server, role FROM %1$s" \
	"  WHERE origin = $1 AND status = " a_status \
	"  ORDER BY server, role LIMIT 1)" \
	" UNION ALL" \
	" SELECT next.* FROM channel, LATERAL" \
	" (SELECT server, role FROM %1$s AS t" \
	"  WHERE origin = $1 AND status = " a_status \
	"  AND (t.server, t.role) > (channel.server, channel.role)" \
	"  ORDER BY server, role LIMIT 1) AS next)," \
	" channel_to_ask AS (SELECT server, role FROM channel WHERE NOT EXISTS" \
	"  (SELECT FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4))" \
	"   AS paused(server, role)" \
	"   WHERE paused.server = channel.server AND paused.role = channel.role))"

/* The transaction of queue_run() */
typedef struct QueueTransaction
{
	Oid			user;			/* to switch back to, */
	int			security_context;	/* in this one */
	MemoryContext caller_context;	/* for what outlives the transaction */
	bool		row_by_row;		/* see queue_run() */
	MonotonicUs change_by;		/* rows, or leave them to another transaction */
	int			n_failed;		/* rows in succession that could not be changed */
} QueueTransaction;

extern QueueTransaction queue_transaction;

/* transaction.c */
extern bool note_lock_timeout(int sqlerrcode);
extern void be_impatient(void);

/* statement.c */
extern void use_names(const char *table, const char *status_type);
extern void forget_statements(void);
extern int	run_statement(const Statement *statement, const Datum *args,
						  const char *nulls);
extern int	run_firing_triggers(const Statement *statement, const Datum *args,
								const char *nulls);
extern TimestampTz select_time(const Statement *statement, const Datum *args);
extern bool was_returned(int64 id, int n_rows);
extern Datum make_id_array(const int64 *ids, int n);
extern Datum make_array(Oid element, Datum *datums, int n);
extern Datum text_or_null(const char *value, bool *isnull);

/* Why a row is refused that an UPDATE does not return */
#define LEFT_OUT	"A trigger suppressed the UPDATE."

/* Changes rows, and returns how many */
typedef int (*RowsChanger) (void *arg);

/* Takes so many rows that a change returned */
typedef void (*RowsTaker) (int n, void *arg);

/* change.c */
extern int64 *choose_rows(const Statement *statement, Datum *args, int *n);
extern void change_rows(const Statement *statement, const int64 *ids, int n,
						Datum *args, const char *nulls, RowsTaker take,
						void *arg);
extern bool change_goes_on(int n_tried);
extern int	change_alone(int64 id, RowsChanger change, void *arg);
extern void check_kept(int n);
extern Datum current_stamp(void);
extern void take_changed(int n, void *arg);
extern void notify_of_rows(int n, int column);
extern void notify_of_row(int row, int column);

/* claim.c */
extern TimestampTz ended_by(void);

/* in_doubt.c */
extern void make_channel_arrays(List *names, Datum *servers, Datum *roles);

/* orphans.c */
extern void orphans_begin(void);
extern void orphans_commit(void);

#endif							/* SCREENSHOT_TASK_REQUEST_QUEUE_PRIVATE_H */

/*-------------------------------------------------------------------------
 *
 * orphans.c
 *	  Requests that a worker before this one was sending
 *
 * A worker that ends loses what it has not written down.  The next one finds
 * its requests "sending", before it sends any itself, and calls them in doubt.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "table/skip_list.h"
#include "table/request_queue.h"
#include "table/request_queue_private.h"
#include "util/statement.h"

static const Statement choose_orphans = {
	"SELECT id FROM %1$s"
	" WHERE origin = $1 AND status = " SQL_SENDING " AND id <> ALL ($2)",
	2, {INT8OID, INT8ARRAYOID}, false
};

/* Never waits: a role could make the others wait with it. */
static const Statement lock_sending = {
	"SELECT id FROM %1$s"
	BY_ID(SQL_SENDING) " FOR NO KEY UPDATE SKIP LOCKED",
	1, {INT8ARRAYOID}, false
};

static const Statement find_sending = {
	"SELECT id FROM %1$s" BY_ID(SQL_SENDING),
	1, {INT8ARRAYOID}, false
};

/*
 * sent_at is when the request was claimed.  It left within seven seconds of
 * that (see HOLD_TIME), or not at all.
 */
static const Statement orphans_statement = {
	"UPDATE %1$s SET status = " SQL_IN_DOUBT ", next_attempt_at = $3,"
	" sent_at = LEAST(sent_at + interval '7 s', pg_catalog.clock_timestamp()),"
	" error_code = NULL, error_message = $2"
	BY_ID(SQL_SENDING)
	" RETURNING id, " KEPT("status = " SQL_IN_DOUBT) ", server",
	3, {INT8ARRAYOID, TEXTOID, TIMESTAMPTZOID}, false
};

/* Those that are refused to be changed */
static struct
{
	int64	   *ids;
	int			n;
	int			n_after;		/* the first so many, once this one commits */
}			left;

/*
 * Begin a transaction, whose abort undoes what is done to the list.
 */
void
orphans_begin(void)
{
	/*
	 * Two numbers, since rows that this transaction takes off the list are
	 * back on it if it is aborted.
	 */
	left.n_after = left.n;
}

/*
 * The transaction has committed: rows that it took off the list stay off.
 */
void
orphans_commit(void)
{
	left.n = left.n_after;
}

/*
 * Put in doubt the requests that the last worker was sending when it ended,
 * since they may or may not have become tasks; "ask_at" is when to ask.  Must
 * be called before this worker sends any.  Adds those that are in doubt now to
 * *doubtful, a list of ChangedRequest, and returns how many there are.
 */
int
queue_orphans_to_doubt(TimestampTz ask_at, List **doubtful)
{
	Datum		args[2];
	int			n;
	int64	   *ids = choose_rows(&choose_orphans, args, &n);

	left.n = left.n_after = 0;	/* of a try that failed */
	if (n > 0)
	{
		/*
		 * Kept beyond the transaction: what cannot be changed now is tried
		 * again later, and may not be forgotten.
		 */
		left.ids = MemoryContextAlloc(TopMemoryContext,
										  n * sizeof(int64));
		memcpy(left.ids, ids, n * sizeof(int64));
		left.n = left.n_after = n;
		queue_left_orphans_to_doubt(ask_at, doubtful);
	}
	return n;
}

/*
 * Try again to put in doubt those requests that could not be changed the last
 * time.  Adds those that are in doubt now to *doubtful.
 */
void
queue_left_orphans_to_doubt(TimestampTz ask_at, List **doubtful)
{
	int64	   *ids = palloc((left.n + 1) * sizeof(int64));
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

	for (int i = 0; i < left.n; i++)
	{
		if (!skip_list_has(left.ids[i]))
			ids[n++] = left.ids[i];
	}
	if (n == 0)
		return;
	lock_args[0] = make_id_array(ids, n);
	n_found = run_statement(&lock_sending, lock_args, NULL);
	/*
	 * The others are locked by somebody, or gone; the next statement tells
	 * which.
	 */
	for (int i = 0; i < n; i++)
	{
		if (was_returned(ids[i], n_found))
			ids[n_locked++] = ids[i];
		else
			skip_list_add_locked(ids[i], QUEUE_LOCKED_RETRY);
	}
	change_rows(&orphans_statement, ids, n_locked, args, NULL, take_changed,
				doubtful);

	/* Those that are still being sent, as it seems, stay to be looked at. */
	lock_args[0] = make_id_array(left.ids, left.n);
	n_found = run_statement(&find_sending, lock_args, NULL);
	for (int i = 0; i < left.n; i++)
	{
		int64		id = left.ids[i];

		if (!was_returned(id, n_found))
			continue;

		/*
		 * Exchanged rather than overwritten: the ids behind n_left are needed
		 * again if the transaction is aborted.
		 */
		left.ids[i] = left.ids[n_left];
		left.ids[n_left++] = id;
	}
	left.n_after = n_left;
}

/*
 * Are there requests left that could not be changed only for want of time?
 */
bool
queue_has_orphans(void)
{
	for (int i = 0; i < left.n_after && !skip_list_is_full(); i++)
	{
		if (!skip_list_has(left.ids[i]))
			return true;
	}
	return false;
}

/*-------------------------------------------------------------------------
 *
 * in_doubt.c
 *	  Requests in doubt: finding them, and what they become
 *
 * Whether a task was created is asked for by the API, see lookup.c; here is
 * what the table knows of such a request, of those like it, and of tasks that
 * rows have already.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "api/task.h"
#include "table/skip_list.h"
#include "table/request_queue.h"
#include "table/request_queue_private.h"
#include "util/statement.h"

#define DOUBTFUL_COLUMNS \
	"id, attempts, server, role, stream_name, domain_name, app_name," \
	" template_id, start_time, end_time, sent_at, status = " SQL_SENDING "," \
	" next_attempt_at <= pg_catalog.clock_timestamp(), requested_at, misses," \
	" withdrawn_at IS NOT NULL"

static const Statement doubtful_statement = {
	CHANNELS_WITH(SQL_IN_DOUBT)
	" SELECT due.* FROM channel_to_ask AS channel, LATERAL"
	" (SELECT " DOUBTFUL_COLUMNS " FROM %1$s AS t"
	"  WHERE origin = $1 AND status = " SQL_IN_DOUBT " AND id <> ALL ($2)"
	"  AND t.server = channel.server AND t.role = channel.role"
	"  AND next_attempt_at <= " NOW
	"  ORDER BY next_attempt_at LIMIT $5"
	"  FOR NO KEY UPDATE SKIP LOCKED) AS due",
	5, {INT8OID, INT8ARRAYOID, NAMEARRAYOID, OIDARRAYOID, INT4OID}, false
};

static const Statement next_doubtful_statement = {
	CHANNELS_WITH(SQL_IN_DOUBT)
	" SELECT next.next_attempt_at FROM channel_to_ask AS channel, LATERAL"
	" (SELECT next_attempt_at FROM %1$s AS t"
	"  WHERE origin = $1 AND status = " SQL_IN_DOUBT " AND id <> ALL ($2)"
	"  AND t.server = channel.server AND t.role = channel.role"
	"  AND next_attempt_at IS NOT NULL"
	"  ORDER BY next_attempt_at LIMIT 1) AS next"
	" ORDER BY next_attempt_at LIMIT 1",
	4, {INT8OID, INT8ARRAYOID, NAMEARRAYOID, OIDARRAYOID}, false
};

static const Statement alike_statement = {
	"SELECT " DOUBTFUL_COLUMNS " FROM %1$s"
	" WHERE origin = $1 AND status = " SQL_SENDING " AND stream_name = $2"
	" UNION ALL"
	" SELECT " DOUBTFUL_COLUMNS " FROM %1$s"
	" WHERE origin = $1 AND status = " SQL_IN_DOUBT " AND stream_name = $2",
	2, {INT8OID, TEXTOID}, false
};

/* Those that are withdrawing, made here or elsewhere, are a run of an index each. */
#define CLAIMED_WITHDRAWING(origins) \
	" UNION ALL SELECT task_id, server, role FROM %1$s" \
	" WHERE status = " SQL_WITHDRAWING " AND " origins \
	" AND stream_name = $3 AND task_id = ANY ($1)"

static const Statement claimed_statement = {
	"SELECT task_id, server, role FROM %1$s"
	" WHERE finished_at IS NOT NULL"
	" AND (status = " SQL_CREATED " OR status = " SQL_WITHDRAWN ")"
	" AND " OVER_AT " > $2 - interval '1 second'"
	" AND " OVER_AT " < $2 + interval '1 second'"
	" AND task_id = ANY ($1)"
	CLAIMED_WITHDRAWING("origin = $4")
	CLAIMED_WITHDRAWING("origin < $4")
	CLAIMED_WITHDRAWING("origin > $4"),
	4, {TEXTARRAYOID, TIMESTAMPTZOID, TEXTOID, INT8OID}, false
};

static const Statement choose_in_doubt = {
	"SELECT id FROM %1$s"
	" WHERE origin = $1 AND id <> ALL ($2)"
	" AND id = $3 AND attempts = $4 AND requested_at = $5"
	" AND pg_catalog.enum_eq(status, " SQL_IN_DOUBT "::%2$s)"
	" FOR NO KEY UPDATE SKIP LOCKED",
	5, {INT8OID, INT8ARRAYOID, INT8OID, INT4OID, TIMESTAMPTZOID}, false
};

static const Statement leave_doubt_statement = {
	"UPDATE %1$s SET status = " UNLESS_WITHDRAWN("$2") "::%2$s,"
	" next_attempt_at = CASE WHEN withdrawn_at IS NULL OR $2 = " SQL_IN_DOUBT
	"  THEN $3 END,"
	" finished_at = CASE WHEN " UNLESS_WITHDRAWN("$2") " IN (" SQL_FINISHED ")"
	"  THEN pg_catalog.clock_timestamp() END,"
	" task_id = $4, error_message = COALESCE($5, error_message),"
	" error_code = CASE WHEN $2 = " SQL_CREATED
	"  THEN NULL ELSE error_code END,"
	" misses = misses + $6"
	BY_ID(SQL_IN_DOUBT)
	" RETURNING id, "
	KEPT("status = " UNLESS_WITHDRAWN("$2") "::%2$s"
		 " AND task_id IS NOT DISTINCT FROM $4") ","
	" reference, status, task_id",
	6, {INT8ARRAYOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, INT4OID},
	false
};

static bool are_alike(const DoubtfulRequest *a, const DoubtfulRequest *b);
static char *value_or_empty(int row, int column);
static List *read_doubtful(int n);
static RequestStatus leave_doubt(const DoubtfulRequest *request, RequestStatus status,
						TimestampTz next_attempt_at, const char *task_id,
						const char *message, int misses);
static void take_out_of_doubt(int n, void *arg);

/*
 * Requests in doubt whose lookup is due, at most so many of each channel: a
 * list of DoubtfulRequest.  Leaves out the channels in a list of ChannelName,
 * and requests that are locked, since an outcome could not be saved.
 */
List *
queue_find_doubtful(List *paused, int most)
{
	Datum		args[5];

	args[0] = Int64GetDatum(request_origin());
	args[1] = skip_list_array();
	make_channel_arrays(paused, &args[2], &args[3]);
	args[4] = Int32GetDatum(most);
	return read_doubtful(run_statement(&doubtful_statement, args, NULL));
}

/*
 * When the lookup of the next request in doubt is due, leaving out those
 * channels; DT_NOEND if none is waiting.
 */
TimestampTz
queue_next_doubtful_due(List *paused)
{
	Datum		args[4];

	args[0] = Int64GetDatum(request_origin());
	args[1] = skip_list_array();
	make_channel_arrays(paused, &args[2], &args[3]);
	return select_time(&next_doubtful_statement, args);
}

/*
 * A list of ChannelName as two arrays, of servers and of roles.
 */
void
make_channel_arrays(List *names, Datum *servers, Datum *roles)
{
	int			n = list_length(names);
	Datum	   *server_datums = palloc((n + 1) * sizeof(Datum));
	Datum	   *role_datums = palloc((n + 1) * sizeof(Datum));

	for (int i = 0; i < n; i++)
	{
		ChannelName *name = list_nth(names, i);

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

	foreach(cell, read_doubtful(run_statement(&alike_statement, args, NULL)))
	{
		/*
		 * The index finds the stream; the rest is compared here, since few
		 * requests share one.
		 */
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
 * Would two requests become tasks that a list does not tell apart, but for
 * their starts?
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

/*
 * The rows, so many, that a statement with DOUBTFUL_COLUMNS gave: a list of
 * DoubtfulRequest, in the caller's context.
 */
static List *
read_doubtful(int n)
{
	MemoryContext old = MemoryContextSwitchTo(queue_transaction.caller_context);
	List	   *requests = NIL;

	for (int i = 0; i < n; i++)
	{
		DoubtfulRequest *request = palloc0(sizeof(DoubtfulRequest));
		ScreenshotTask times;
		bool		isnull;

		request->id = spi_int8(i, 1);
		request->attempt = spi_int4(i, 2);
		request->channel.server = spi_name(i, 3);
		request->channel.role = spi_oid(i, 4);
		request->stream_name = value_or_empty(i, 5);
		request->domain_name = value_or_empty(i, 6);
		request->app_name = value_or_empty(i, 7);
		request->template_id = spi_int8(i, 8);
		request->requested_at = spi_timestamptz(i, 14);
		(void) spi_value(i, 9, TIMESTAMPTZOID, &isnull);
		request->has_start = !isnull;
		/* Compared in the API's whole seconds, as the list has them. */
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
		request->is_withdrawn = spi_bool(i, 16);
		requests = lappend(requests, request);
	}
	MemoryContextSwitchTo(old);
	return requests;
}

/*
 * Find which of the tasks in a list of FoundTask some row has already, of
 * whatever role and server.  Returns a list of TaskClaim.
 */
List *
queue_find_claims(const DoubtfulRequest *request, List *tasks)
{
	int			n_ids = list_length(tasks);
	Datum	   *ids = palloc((n_ids + 1) * sizeof(Datum));
	Datum		args[4];
	List	   *claims = NIL;
	ListCell   *cell;
	int			n = 0;

	if (tasks == NIL)
		return NIL;
	foreach(cell, tasks)
		ids[n++] = CStringGetTextDatum(((FoundTask *) lfirst(cell))->task_id);
	args[0] = make_array(TEXTOID, ids, n_ids);

	/*
	 * The task found has this end, and so has any row with it.  With the end
	 * the index on finished rows can be used, which knows nothing of TaskIds.
	 */
	args[1] = TimestampTzGetDatum(time_t_to_timestamptz((pg_time_t) request->end_time));
	args[2] = CStringGetTextDatum(request->stream_name);
	args[3] = Int64GetDatum(request_origin());

	n = run_statement(&claimed_statement, args, NULL);
	for (int i = 0; i < n; i++)
	{
		TaskClaim  *claim = palloc(sizeof(TaskClaim));

		claim->task_id = spi_text(i, 1);
		claim->channel.server = spi_name(i, 2);
		claim->channel.role = spi_oid(i, 3);
		claims = lappend(claims, claim);
	}
	return claims;
}

/*
 * Set a request in doubt to created, with a task that was found.  Returns
 * what it becomes; N_STATUSES if it was not changed: it may have been already, or
 * be locked.
 */
RequestStatus
queue_adopt_task(const DoubtfulRequest *request, const char *task_id)
{
	return leave_doubt(request, STATUS_CREATED, 0, task_id,
					   "was in doubt; task found by DescribeScreenshotTask", 0);
}

/*
 * Set a request in doubt to pending again, since it has no task, unless it is
 * withdrawn.  Returns what it becomes; N_STATUSES if it was not changed.
 */
RequestStatus
queue_send_again(const DoubtfulRequest *request, const char *message)
{
	return leave_doubt(request, STATUS_PENDING, 0, NULL, message, 0);
}

/*
 * Put off the lookup of a request in doubt until the given time.  A NULL
 * message leaves the one that it has.
 */
void
queue_ask_later(const DoubtfulRequest *request, TimestampTz at,
				const char *message)
{
	leave_doubt(request, STATUS_IN_DOUBT, at, NULL, message, 0);
}

/*
 * Count that no task was found for a request in doubt, and have it looked up
 * once more at the given time.
 */
void
queue_count_miss(const DoubtfulRequest *request, TimestampTz at)
{
	leave_doubt(request, STATUS_IN_DOUBT, at, NULL,
				"in doubt; no task found in the first of two lookups",
				1);
}

/*
 * Leave a request in doubt until somebody resolves it.  Returns whether it was
 * changed.
 */
bool
queue_leave_to_person(const DoubtfulRequest *request, const char *message)
{
	return leave_doubt(request, STATUS_IN_DOUBT, 0, NULL, message,
					   0) != N_STATUSES;
}

/*
 * Give a request in doubt another status, or have it stay in doubt; one that is
 * withdrawn becomes something else, see UNLESS_WITHDRAWN.
 * next_attempt_at may be 0, for none; a NULL message leaves the one that it
 * has; "misses" is added to its count.
 *
 * Returns what the request becomes; N_STATUSES if the row was not changed.
 */
static RequestStatus
leave_doubt(const DoubtfulRequest *request, RequestStatus status,
			TimestampTz next_attempt_at, const char *task_id,
			const char *message, int misses)
{
	Datum		args[6];
	char		nulls[7] = "      ";
	bool		isnull;
	int			n;
	int64	   *ids;
	RequestStatus became = N_STATUSES;

	/*
	 * The table of transitions is the law; a caller that breaks it is a bug.
	 */
	if (find_transition(STATUS_IN_DOUBT, status, BY_WORKER) == NULL)
		elog(ERROR, "request " INT64_FORMAT " cannot be %s after it was in doubt",
			 request->id, status_name(status));
	/* choose_rows() sets the first two. */
	args[2] = Int64GetDatum(request->id);

	/*
	 * Attempt and requested_at, beside the status: the row may have been
	 * retried, or removed and its id used again, while the API was asked.
	 */
	args[3] = Int32GetDatum(request->attempt);
	args[4] = TimestampTzGetDatum(request->requested_at);
	ids = choose_rows(&choose_in_doubt, args, &n);

	args[1] = CStringGetTextDatum(status_name(status));
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
	change_rows(&leave_doubt_statement, ids, n, args, nulls, take_out_of_doubt,
				&became);
	return became;
}

/*
 * RowsTaker: notify of the row, and set the RequestStatus that "arg" points to.
 */
static void
take_out_of_doubt(int n, void *arg)
{
	RequestStatus *became = arg;

	notify_of_rows(n, 3);
	if (n > 0)
		*became = status_of_name(spi_text(0, 4));
}

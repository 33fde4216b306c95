/*-------------------------------------------------------------------------
 *
 * claim.c
 *	  The ready requests of each channel, and claiming them
 *
 * A request that may be sent has no next_attempt_at, and stands in the index
 * screenshot_task_request_ready in the order in which requests are sent.  One
 * that must wait has one, and stands in screenshot_task_request_waiting; when
 * its time comes it loses it, see upkeep.c.  So neither a million requests for
 * next week nor a hundred thousand that back off are ever walked over to find
 * the next one to send.
 *
 * A request that has been claimed is "sending" on disk before its first byte
 * leaves.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "api/body.h"
#include "api/task.h"
#include "table/skip_list.h"
#include "table/request_queue.h"
#include "table/request_queue_private.h"
#include "util/statement.h"

/*
 * The soonest request of each channel.  One step of an index for each, however
 * many requests a channel has.
 */
static const Statement channels_statement = {
	"WITH RECURSIVE channel AS ("
	" (SELECT " READY_ORDER ", end_time <= $3 FROM %1$s"
	"  WHERE origin = $1 AND status = " SQL_PENDING
	"  AND next_attempt_at IS NULL"
	"  AND server IS NOT NULL AND id <> ALL ($2)"
	"  ORDER BY " READY_ORDER " LIMIT 1)"
	" UNION ALL"
	" SELECT next.* FROM channel, LATERAL"
	" (SELECT " READY_ORDER ", end_time <= $3 FROM %1$s AS t"
	"  WHERE origin = $1 AND status = " SQL_PENDING
	"  AND next_attempt_at IS NULL"
	"  AND server IS NOT NULL AND id <> ALL ($2)"
	"  AND (t.server, t.role) > (channel.server, channel.role)"
	"  ORDER BY " READY_ORDER " LIMIT 1) AS next)"
	" SELECT * FROM channel",
	3, {INT8OID, INT8ARRAYOID, TIMESTAMPTZOID}, false
};

/*
 * The soonest requests of all the channels, and no more of any than it takes.
 * Each channel's are a run of its index, from where it is told to begin: what
 * was claimed before may still be there, dead, as long as anybody might see it.
 *
 * Those whose end has passed are left to queue_expire().  Slots were taken for
 * what is claimed.
 */
static const Statement choose_ready = {
	"SELECT ready.id, channel.server, channel.role"
	" FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4),"
	"  pg_catalog.unnest($5), pg_catalog.unnest($7), pg_catalog.unnest($8),"
	"  pg_catalog.unnest($10))"
	"  AS channel(server, role, most, from_start, from_id, goes_last),"
	" LATERAL (SELECT t.id, COALESCE(t.start_time, t.requested_at) AS starts"
	"  FROM %1$s AS t"
	"  WHERE t.origin = $1 AND t.status = " SQL_PENDING " AND t.id <> ALL ($2)"
	"  AND t.next_attempt_at IS NULL"
	"  AND t.server = channel.server AND t.role = channel.role"
	"  AND (COALESCE(t.start_time, t.requested_at), t.id)"
	"   >= (channel.from_start, channel.from_id)"
	"  AND t.end_time > $9"
	"  AND (t.server, t.role, COALESCE(t.domain_name, '')) NOT IN (SELECT *"
	"   FROM ROWS FROM (pg_catalog.unnest($11), pg_catalog.unnest($12),"
	"    pg_catalog.unnest($13)) AS refused(server, role, domain_name))"
	"  ORDER BY COALESCE(t.start_time, t.requested_at), t.id"
	"  LIMIT channel.most FOR NO KEY UPDATE SKIP LOCKED) AS ready"
	" ORDER BY channel.goes_last, ready.starts, ready.id LIMIT $6",
	13, {INT8OID, INT8ARRAYOID, NAMEARRAYOID, OIDARRAYOID, INT4ARRAYOID,
		INT4OID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID,
		BOOLARRAYOID, NAMEARRAYOID, OIDARRAYOID, TEXTARRAYOID}, true
};

/* $3 is the time, and $4 what it must be before an end for a request to be sent */
static const Statement claim_statement = {
	"UPDATE %1$s SET" STAMP("$5")
	" status = CASE WHEN end_time <= $4"
	"  THEN " SQL_EXPIRED "::%2$s ELSE " SQL_SENDING "::%2$s END,"
	" finished_at = CASE WHEN end_time <= $4 THEN $3 END,"
	" error_message = CASE WHEN end_time <= $4 THEN $2 ELSE error_message END,"
	" attempts = attempts + CASE WHEN end_time <= $4 THEN 0 ELSE 1 END,"
	" sent_at = CASE WHEN end_time <= $4 THEN sent_at ELSE $3 END,"
	" trace_id = CASE WHEN end_time <= $4 THEN trace_id"
	"  ELSE pg_catalog.gen_random_uuid() END,"
	" misses = 0"
	BY_ID(SQL_PENDING)
	" RETURNING id, " KEPT("status IN (" SQL_SENDING ", " SQL_EXPIRED ")") ","
	" attempts, status = " SQL_EXPIRED ", server, role,"
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

static void make_refused_arrays(const ChannelDemand *demands, int n_demands,
								Datum *arrays);
static ChannelName *read_channels(int n);
static void take_claimed(int n, void *arg);
static ClaimedRequest *read_claimed(const Datum *values, const bool *nulls);
static void read_body(ClaimedRequest *request, const Datum *values,
					  const bool *nulls);

/*
 * A request whose end is no later than this is not sent any more.
 */
TimestampTz
ended_by(void)
{
	return GetCurrentTimestamp() + QUEUE_END_MARGIN;
}

/*
 * The soonest request of each channel that has any that may be sent: a list of
 * ReadyPosition.
 */
List *
queue_find_channels(void)
{
	Datum		args[3] = {
		Int64GetDatum(request_origin()),
		skip_list_array(),
		TimestampTzGetDatum(ended_by())
	};
	MemoryContext old;
	List	   *heads = NIL;
	int			n = run_statement(&channels_statement, args, NULL);

	old = MemoryContextSwitchTo(queue_transaction.caller_context);
	for (int i = 0; i < n; i++)
	{
		ReadyPosition *head = palloc(sizeof(ReadyPosition));

		head->channel.server = spi_name(i, 1);
		head->channel.role = spi_oid(i, 2);
		head->start = spi_timestamptz(i, 3);
		head->id = spi_int8(i, 4);
		head->has_ended = spi_bool(i, 5);
		heads = lappend(heads, head);
	}
	MemoryContextSwitchTo(old);
	return heads;
}

/*
 * Claim requests: those that start soonest among the channels, those aside that go
 * last, at most "most" of them, and of each channel at most what it demands, from
 * where it says.
 *
 * They are this worker's to send as soon as the transaction has committed, and
 * not before.
 */
Claim
queue_claim(const ChannelDemand *demands, int n_demands, int most)
{
	Datum	   *servers = palloc(n_demands * sizeof(Datum));
	Datum	   *roles = palloc(n_demands * sizeof(Datum));
	Datum	   *mosts = palloc(n_demands * sizeof(Datum));
	Datum	   *starts = palloc(n_demands * sizeof(Datum));
	int64	   *from_ids = palloc(n_demands * sizeof(int64));
	Datum	   *last = palloc(n_demands * sizeof(Datum));
	MonotonicUs began = monotonic_now();
	Datum		args[13];
	Claim		claim = {0};
	TimestampTz now;
	int64	   *ids;
	ChannelName *channels;
	int			n;

	for (int i = 0; i < n_demands; i++)
	{
		servers[i] = NameGetDatum(&demands[i].name.server);
		roles[i] = ObjectIdGetDatum(demands[i].name.role);
		/* No channel is searched for more than can be claimed in all. */
		mosts[i] = Int32GetDatum(Min(demands[i].most, most));
		starts[i] = TimestampTzGetDatum(demands[i].from_start);
		from_ids[i] = demands[i].from_id;
		last[i] = BoolGetDatum(demands[i].goes_last);
	}
	args[2] = make_array(NAMEOID, servers, n_demands);
	args[3] = make_array(OIDOID, roles, n_demands);
	args[4] = make_array(INT4OID, mosts, n_demands);
	args[5] = Int32GetDatum(most);
	args[6] = make_array(TIMESTAMPTZOID, starts, n_demands);
	args[7] = make_id_array(from_ids, n_demands);
	args[8] = TimestampTzGetDatum(ended_by());
	args[9] = make_array(BOOLOID, last, n_demands);
	make_refused_arrays(demands, n_demands, &args[10]);

	/*
	 * Chosen and locked in the order of starts across channels, which one
	 * index scan of each gives.
	 */
	ids = choose_rows(&choose_ready, args, &n);
	channels = read_channels(n);
	claim.n_chosen = n;

	/*
	 * Dead rows that an old snapshot keeps make this long; the caller then
	 * searches less often.
	 */
	claim.search_time = monotonic_now() - began;

	/* Once for all: sent_at of a claim is the same for each request. */
	now = GetCurrentTimestamp();
	args[1] = CStringGetTextDatum(QUEUE_EXPIRED_MESSAGE);
	args[2] = TimestampTzGetDatum(now);
	args[3] = TimestampTzGetDatum(ended_by());
	args[4] = current_stamp();
	change_rows(&claim_statement, ids, n, args, NULL, take_claimed,
				&claim.requests);
	for (int i = 0; i < n && list_length(claim.requests) < n; i++)
	{
		MemoryContext old;

		if (!skip_list_has(ids[i]))
			continue;
		old = MemoryContextSwitchTo(queue_transaction.caller_context);
		claim.passed_over = lappend(claim.passed_over,
									memcpy(palloc(sizeof(ChannelName)),
										   &channels[i],
										   sizeof(ChannelName)));
		MemoryContextSwitchTo(old);
	}
	return claim;
}

/*
 * The domains that are not to be claimed for, as arrays of servers, roles and
 * names.
 */
static void
make_refused_arrays(const ChannelDemand *demands, int n_demands, Datum *arrays)
{
	Datum	   *servers;
	Datum	   *roles;
	Datum	   *names;
	int			n = 0;

	for (int i = 0; i < n_demands; i++)
		n += list_length(demands[i].refused_domains);
	servers = palloc((n + 1) * sizeof(Datum));
	roles = palloc((n + 1) * sizeof(Datum));
	names = palloc((n + 1) * sizeof(Datum));
	n = 0;
	for (int i = 0; i < n_demands; i++)
	{
		ListCell   *cell;

		foreach(cell, demands[i].refused_domains)
		{
			servers[n] = NameGetDatum(&demands[i].name.server);
			roles[n] = ObjectIdGetDatum(demands[i].name.role);
			names[n++] = CStringGetTextDatum(lfirst(cell));
		}
	}
	arrays[0] = make_array(NAMEOID, servers, n);
	arrays[1] = make_array(OIDOID, roles, n);
	arrays[2] = make_array(TEXTOID, names, n);
}

/*
 * The server and the role in the second and third column of the rows, so many,
 * that a statement gave: palloc'd.
 */
static ChannelName *
read_channels(int n)
{
	ChannelName *channels = palloc((n + 1) * sizeof(ChannelName));

	for (int i = 0; i < n; i++)
	{
		channels[i].server = spi_name(i, 2);
		channels[i].role = spi_oid(i, 3);
	}
	return channels;
}

/*
 * Add the rows that a claim returned to the List that "arg" points to.
 */
static void
take_claimed(int n, void *arg)
{
	List	  **claimed = arg;
	MemoryContext old = MemoryContextSwitchTo(queue_transaction.caller_context);

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

/*
 * A request of the columns that claim_statement returns, palloc'd.
 */
static ClaimedRequest *
read_claimed(const Datum *values, const bool *nulls)
{
	ClaimedRequest *request = palloc0(sizeof(ClaimedRequest));

	request->id = DatumGetInt64(values[CLAIMED_ID]);
	request->attempt = DatumGetInt32(values[CLAIMED_ATTEMPTS]);
	request->requested_at = DatumGetTimestampTz(values[CLAIMED_REQUESTED_AT]);
	request->expired = DatumGetBool(values[CLAIMED_EXPIRED]);
	if (!nulls[CLAIMED_SERVER])
		request->channel.server = *DatumGetName(values[CLAIMED_SERVER]);
	request->channel.role = DatumGetObjectId(values[CLAIMED_ROLE]);
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
 * A value that the API cannot be sent is that request's fault alone.  Rows were
 * checked as they were inserted, but the table's owner may have changed them,
 * without the constraints.  A check and a conversion leave nothing behind but
 * their error.
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
	request->domain_name = pstrdup(task.domain_name);
	task.template_id = DatumGetInt64(values[CLAIMED_TEMPLATE_ID]);
	request->template_id = task.template_id;
	task.has_start = !nulls[CLAIMED_START_TIME];
	live_set_times(&task, request->start, request->end_time);
	task.stream_type = DatumGetInt32(values[CLAIMED_STREAM_TYPE]);
	if (!nulls[CLAIMED_EXTENSION])
		task.extension = TextDatumGetCString(values[CLAIMED_EXTENSION]);

	PG_TRY();
	{
		/*
		 * In PG_TRY without a subtransaction: these functions touch no
		 * database state, only memory.
		 */
		live_check_parameters(&task);
		request->body = live_create_body(&task);
	}
	PG_CATCH();
	{
		ErrorData  *error;
		int			code = geterrcode();

		/*
		 * Anything else, out of memory above all, is no fault of the request.
		 */
		if (code != ERRCODE_UNTRANSLATABLE_CHARACTER &&
			code != ERRCODE_CHARACTER_NOT_IN_REPERTOIRE &&
			code != ERRCODE_INVALID_PARAMETER_VALUE &&
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

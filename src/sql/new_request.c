/*-------------------------------------------------------------------------
 *
 * new_request.c
 *	  What a row of screenshot_task_request is made as a new request
 *
 * Its parameters are checked, as those of a call are; the columns that are the
 * extension's are set, whatever the statement said: by whom and when, and
 * pending.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_enum.h"
#include "commands/sequence.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "api/task.h"
#include "config/server.h"
#include "sql/new_request.h"
#include "sql/wake.h"
#include "table/notify.h"
#include "table/request_queue.h"
#include "table/request_table.h"

/*
 * A start that lies this much after the API's window opens is accepted despite
 * a difference between its clock and ours.
 */
#define WINDOW_MARGIN		(2 * USECS_PER_SEC)

int64		new_request_replaces = 0;

static const Datum *get_column(const RequestRow *row, int column);
static void set_column(RequestRow *row, int column, Datum value);
static void set_drawn_id(Relation relation, RequestRow *row);
static bool is_last_drawn(Relation relation, Oid sequence, int64 id);
static int64 last_drawn(Relation relation, Oid sequence);
static void check_server_once(const char *server, Oid role);
static void check_row(const RequestRow *row);
static Datum require_column(const RequestRow *row, int column, const char *name);
static void require_finite(const char *name, TimestampTz time);
static void check_texts(const RequestRow *row);
static bool has_ended(const RequestRow *row);
static void expire(TupleDesc desc, RequestRow *row);
static bool first_attempt_at(const RequestRow *row, TimestampTz *at);

/*
 * Complete a tuple of the table as a new request.  Raises an error if it
 * cannot be one.
 */
HeapTuple
new_request_row(Relation relation, HeapTuple tuple)
{
	static const int empty[] = {
		Anum_request_next_attempt_at, Anum_request_sent_at,
		Anum_request_finished_at, Anum_request_withdrawn_at,
		Anum_request_replaces, Anum_request_task_id,
		Anum_request_request_id, Anum_request_trace_id,
		Anum_request_error_code,
		Anum_request_error_message
	};
	TupleDesc	desc = RelationGetDescr(relation);
	Oid			role = GetUserId();
	RequestRow	row;
	NameData	role_name;
	TimestampTz at;

	row.values = palloc(desc->natts * sizeof(Datum));
	row.nulls = palloc(desc->natts * sizeof(bool));
	heap_deform_tuple(tuple, desc, row.values, row.nulls);

	/*
	 * Before the server is looked up, so that what is wrong with the request
	 * itself is said first.
	 */
	check_row(&row);
	check_server_once(NameStr(*DatumGetName(*get_column(&row, Anum_request_server))),
					  role);

	/*
	 * Now, while somebody is there to read the error, and not when the worker
	 * makes the body.
	 */
	if (GetDatabaseEncoding() != PG_UTF8)
		check_texts(&row);

	/*
	 * OVERRIDING SYSTEM VALUE would let a role choose the id, and so take one
	 * that the sequence has yet to give to somebody else.
	 */
	if (!relation_ownercheck(RelationGetRelid(relation), role))
		set_drawn_id(relation, &row);

	/*
	 * The current user, not the session's: in a SECURITY DEFINER function the
	 * request is the owner's of that function.
	 */
	namestrcpy(&role_name, GetUserNameFromId(role, false));
	set_column(&row, Anum_request_requested_by, NameGetDatum(&role_name));
	set_column(&row, Anum_request_requested_at,
			   /*
			    * now(), so that all requests of a transaction are of one age.
			    */
			   TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	set_column(&row, Anum_request_status,
			   request_status_value(desc, STATUS_PENDING));
	set_column(&row, Anum_request_attempts, Int32GetDatum(0));
	set_column(&row, Anum_request_misses, Int32GetDatum(0));
	set_column(&row, Anum_request_role, ObjectIdGetDatum(role));
	/* Draws a transaction id, which an INSERT does in any case. */
	set_column(&row, Anum_request_stamp,
			   Int64GetDatum(request_stamp(GetTopFullTransactionId())));
	for (int i = 0; i < (int) lengthof(empty); i++)
		row.nulls[empty[i] - 1] = true;
	if (new_request_replaces != 0)
		set_column(&row, Anum_request_replaces,
				   Int64GetDatum(new_request_replaces));
	if (has_ended(&row))
		expire(desc, &row);
	else
	{
		if (first_attempt_at(&row, &at))
			set_column(&row, Anum_request_next_attempt_at,
					   TimestampTzGetDatum(at));
		wake_for_row(&row);
	}
	return heap_form_tuple(desc, row.values, row.nulls);
}

/*
 * Have the worker look for a pending row that is written.
 */
void
wake_for_row(const RequestRow *row)
{
	const Datum *server = get_column(row, Anum_request_server);
	const Datum *role = get_column(row, Anum_request_role);

	/*
	 * Such a row is not ready.  The worker looks, but need not search a
	 * channel for it.
	 */
	if (server == NULL || role == NULL ||
		get_column(row, Anum_request_next_attempt_at) != NULL)
		wake_at_commit(NO_CHANNELS);
	else
		wake_at_commit(channel_bit(NameStr(*DatumGetName(*server)),
								   DatumGetObjectId(*role)));
}

/*
 * The value of a column, or NULL if it has none.
 */
static const Datum *
get_column(const RequestRow *row, int column)
{
	return row->nulls[column - 1] ? NULL : &row->values[column - 1];
}

/*
 * Set the value of a column.
 */
static void
set_column(RequestRow *row, int column, Datum value)
{
	row->values[column - 1] = value;
	row->nulls[column - 1] = false;
}

/*
 * Give a row the next id, whatever the role may do with the sequence, unless
 * the default of the column has drawn the one that it has.
 */
static void
set_drawn_id(Relation relation, RequestRow *row)
{
	const Datum *id = get_column(row, Anum_request_id);
	Oid			sequence = get_identity_sequence(relation, Anum_request_id);

	if (!OidIsValid(sequence))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("column \"id\" of table \"%s\" has no sequence",
						RelationGetRelationName(relation))));

	/*
	 * To draw one here needs no privilege on the sequence, which roles that
	 * may insert need not have.
	 */
	if (id == NULL ||
		!is_last_drawn(relation, sequence, DatumGetInt64(*id)))
		set_column(row, Anum_request_id,
				   Int64GetDatum(nextval_internal(sequence, false)));
}

/*
 * Is an id the last that this session has drawn?  No other session gets it.
 *
 * currval() raises an error if none was drawn.  So the first in a command is
 * asked for in a subtransaction.
 */
static bool
is_last_drawn(Relation relation, Oid sequence, int64 id)
{
	static FullTransactionId last_transaction = {0};
	static CommandId last_command = 0;
	static Oid	last_sequence = InvalidOid;
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool is_last = false;

	/* For a statement of many rows one subtransaction is enough. */
	if (FullTransactionIdEquals(last_transaction, GetTopFullTransactionId()) &&
		last_command == GetCurrentCommandId(false) &&
		last_sequence == sequence)
		return last_drawn(relation, sequence) == id;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		is_last = last_drawn(relation, sequence) == id;
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		int			code = geterrcode();

		/*
		 * currval() has no value in this session, or the owner may not use its
		 * own sequence: then the id was not drawn by the default.
		 */
		if (code != ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE &&
			code != ERRCODE_INSUFFICIENT_PRIVILEGE)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		is_last = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (is_last)
	{
		last_transaction = GetTopFullTransactionId();
		last_command = GetCurrentCommandId(false);
		last_sequence = sequence;
	}
	return is_last;
}

/*
 * The last number that this session has drawn, asked for as the owner.
 */
static int64
last_drawn(Relation relation, Oid sequence)
{
	Oid			user;
	int			security_context;
	Datum		last;

	GetUserIdAndSecContext(&user, &security_context);
	SetUserIdAndSecContext(relation->rd_rel->relowner, security_context |
						   SECURITY_LOCAL_USERID_CHANGE);

	/*
	 * As the owner, for currval() checks privileges.  An error in it ends the
	 * (sub)transaction, which restores the user.
	 */
	last = DirectFunctionCall1(currval_oid, ObjectIdGetDatum(sequence));
	SetUserIdAndSecContext(user, security_context);
	return DatumGetInt64(last);
}

/*
 * Check the server, once a statement for rows that follow each other.
 */
static void
check_server_once(const char *server, Oid role)
{
	static NameData last_server;
	static Oid	last_role = InvalidOid;
	static FullTransactionId last_transaction = {0};
	static CommandId last_command = 0;
	FullTransactionId transaction = GetTopFullTransactionId();
	CommandId	command = GetCurrentCommandId(false);

	/*
	 * Per command: another session may drop the server, or take USAGE away,
	 * between two statements.
	 */
	if (FullTransactionIdEquals(last_transaction, transaction) &&
		last_command == command &&
		last_role == role && strcmp(NameStr(last_server), server) == 0)
		return;
	check_live_server(server, role);
	last_transaction = transaction;
	last_command = command;
	last_role = role;
	namestrcpy(&last_server, server);
}

/*
 * Check the parameters of a request, as a call does.  The constraints would
 * refuse the same, but say less.
 */
static void
check_row(const RequestRow *row)
{
	ScreenshotTask task = {0};
	const Datum *start = get_column(row, Anum_request_start_time);
	const Datum *extension = get_column(row, Anum_request_extension);
	const Datum *reference = get_column(row, Anum_request_reference);
	TimestampTz begins = GetCurrentTransactionStartTimestamp();
	TimestampTz ends;

	task.stream_name = TextDatumGetCString(require_column(row, Anum_request_stream_name, "stream_name"));
	task.domain_name = TextDatumGetCString(require_column(row, Anum_request_domain_name, "domain_name"));
	task.app_name = TextDatumGetCString(require_column(row, Anum_request_app_name, "app_name"));
	ends = DatumGetTimestampTz(require_column(row, Anum_request_end_time, "end_time"));
	if (start != NULL)
		begins = DatumGetTimestampTz(*start);
	task.template_id = DatumGetInt64(require_column(row, Anum_request_template_id, "template_id"));
	if (row->nulls[Anum_request_stream_type - 1])
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("stream_type must not be null"),
				 errhint("Use 0 for a live stream or 1 for a mixed stream.")));
	task.stream_type = DatumGetInt32(*get_column(row, Anum_request_stream_type));
	if (extension != NULL)
		task.extension = TextDatumGetCString(*extension);
	(void) require_column(row, Anum_request_server, "server");

	/*
	 * Before the differences of times below, in which infinity would overflow.
	 */
	require_finite("end_time", ends);
	require_finite("start_time", begins);
	live_check_parameters(&task);

	/*
	 * Not that end_time is in the future: a request that is too late is kept
	 * as expired, so that a trigger does not fail a user's transaction for it.
	 */
	live_check_times(start != NULL, begins, ends);
	if (reference != NULL)
		live_check_text("reference", TextDatumGetCString(*reference), 0,
						LIVE_MAX_NAME);
}

/*
 * The value of a column.  Raises an error if it has none.
 */
static Datum
require_column(const RequestRow *row, int column, const char *name)
{
	const Datum *value = get_column(row, column);

	if (value == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
	return *value;
}

/*
 * Raise an error if a time is infinite.
 */
static void
require_finite(const char *name, TimestampTz time)
{
	if (TIMESTAMP_NOT_FINITE(time))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be finite", name)));
}

/*
 * Check that the texts exist in UTF-8, which the API takes.
 */
static void
check_texts(const RequestRow *row)
{
	static const int columns[] = {
		Anum_request_stream_name, Anum_request_domain_name,
		Anum_request_app_name, Anum_request_extension
	};

	for (int i = 0; i < (int) lengthof(columns); i++)
	{
		const Datum *value = get_column(row, columns[i]);

		if (value != NULL)
		{
			char	   *chars = TextDatumGetCString(*value);

			/* The result is not needed, only the error. */
			(void) pg_server_to_any(chars, (int) strlen(chars), PG_UTF8);
		}
	}
}

/*
 * A value of the type of statuses.
 */
Datum
request_status_value(TupleDesc desc, RequestStatus status)
{
	Oid			type = TupleDescAttr(desc, Anum_request_status - 1)->atttypid;

	return ObjectIdGetDatum(GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid,
											ObjectIdGetDatum(type),
											CStringGetDatum(status_name(status))));
}

/*
 * Has the end of a request passed as it is made?
 */
static bool
has_ended(const RequestRow *row)
{
	return DatumGetTimestampTz(*get_column(row, Anum_request_end_time)) <=
		GetCurrentTimestamp();
}

/*
 * Make a new request expired from the start, since its end has passed.
 */
static void
expire(TupleDesc desc, RequestRow *row)
{
	const Datum *reference = get_column(row, Anum_request_reference);

	set_column(row, Anum_request_status, request_status_value(desc, STATUS_EXPIRED));
	set_column(row, Anum_request_finished_at,
			   TimestampTzGetDatum(GetCurrentTimestamp()));
	set_column(row, Anum_request_error_message,
			   CStringGetTextDatum("end_time had passed when the request was made"));
	if (notifications_are_wanted())
		notify_result(DatumGetInt64(*get_column(row, Anum_request_id)),
					  reference == NULL ? NULL :
					  TextDatumGetCString(*reference), STATUS_EXPIRED, NULL);
}

/*
 * When a request may first be sent, if that is not at once.
 *
 * The API takes a start up to six days away and an end less than seven days
 * away (CreateScreenshotTask, StartTime and EndTime).
 */
static bool
first_attempt_at(const RequestRow *row, TimestampTz *at)
{
	const Datum *start = get_column(row, Anum_request_start_time);
	const Datum *end = get_column(row, Anum_request_end_time);

	if (start == NULL || end == NULL ||
		TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(*start)) ||
		TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(*end)))
		return false;

	*at = Max(DatumGetTimestampTz(*start) - LIVE_MAX_START * USECS_PER_SEC,
			  DatumGetTimestampTz(*end) - LIVE_MAX_END * USECS_PER_SEC) +
		WINDOW_MARGIN;
	return *at > GetCurrentTimestamp();
}

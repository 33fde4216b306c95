/*-------------------------------------------------------------------------
 *
 * row_triggers.c
 *	  The extension's triggers on screenshot_task_request: what is set in a
 *	  row, and who is woken for it
 *
 * That on INSERT makes the row what a new request is, whatever the statement
 * said: by whom and when, and pending.
 *
 * A row that comes from a dump is kept as it is, except that it is nobody's to
 * send: what was pending when the dump was made may have been sent since.
 * That must hold with triggers disabled, too, and in the database that the
 * dump was made of.  So each row is stamped with the transaction that writes
 * it, and the column that says whether a request was made here is generated
 * from that: it does if the stamp is that of the transaction which is writing
 * the row.  A dump has the stamp, and no transaction has it again.  What a
 * transaction deletes and puts back itself nobody has seen before.
 *
 * An UPDATE writes the row anew, and computes the column anew, since there are
 * triggers before it.  So there is a trigger that stamps again what was made
 * here.  It wakes the worker, too, for what it finds to be made pending, or to be
 * moved among what is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_trigger.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "api/task.h"
#include "config/server.h"
#include "sql/row_triggers.h"
#include "sql/wake.h"
#include "table/notify.h"
#include "table/request_queue.h"
#include "table/request_table.h"
#include "util/statement.h"
#include "worker/background_worker.h"

/*
 * A start this much after the API's window opens is safe from the difference
 * between its clock and ours.
 */
#define WINDOW_MARGIN		(2 * USECS_PER_SEC)

/* The columns of a row, by Anum_request_... */
typedef struct Row
{
	Datum	   *values;
	bool	   *nulls;
} Row;

static HeapTuple restored_row(HeapTuple tuple, TupleDesc desc);
static HeapTuple new_row(Relation relation, HeapTuple tuple);
static bool has_same_stamp(TupleTableSlot *old, TupleTableSlot *new);
static bool has_moved(TupleTableSlot *old, TupleTableSlot *new);
static HeapTuple stamped_row(HeapTuple tuple, TupleTableSlot *slot);
static void wake_for_row(Relation relation, int16 event, const Row *row);
static bool has_other_trigger(Relation relation, int16 event);
static const Datum *get_column(const Row *row, int column);
static void set_column(Row *row, int column, Datum value);
static void set_drawn_id(Relation relation, Row *row);
static bool is_last_drawn(Relation relation, Oid sequence, int64 id);
static int64 last_drawn(Relation relation, Oid sequence);
static void check_server_once(const char *server, Oid role);
static void check_row(const Row *row);
static Datum require_column(const Row *row, int column, const char *name);
static void require_finite(const char *name, TimestampTz time);
static void check_texts(const Row *row);
static Datum status_value(TupleDesc desc, RequestStatus status);
static bool has_ended(const Row *row);
static void expire(TupleDesc desc, Row *row);
static bool first_attempt_at(const Row *row, TimestampTz *at);

/* Is a request being inserted here, by a function of the extension's? */
static bool inserting_request = false;

PG_FUNCTION_INFO_V1(screenshot_task_request_origin);
PG_FUNCTION_INFO_V1(screenshot_task_role);
PG_FUNCTION_INFO_V1(screenshot_task_request_insert);
PG_FUNCTION_INFO_V1(screenshot_task_request_update);

/*
 * screenshot_task_request_origin(stamp): where a row that is being written was
 * made
 */
Datum
screenshot_task_request_origin(PG_FUNCTION_ARGS)
{
	FullTransactionId transaction = GetTopFullTransactionIdIfAny();

	if (PG_ARGISNULL(0) || !FullTransactionIdIsValid(transaction) ||
		PG_GETARG_INT64(0) != request_stamp(transaction))
		PG_RETURN_INT64(ORIGIN_RESTORED);
	PG_RETURN_INT64(request_origin());
}

/*
 * screenshot_task_role() returns the current role
 */
Datum
screenshot_task_role(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	PG_RETURN_OID(GetUserId());
}

/*
 * BEFORE INSERT on screenshot_task_request
 */
Datum
screenshot_task_request_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	bool		isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("screenshot_task_request_insert must be fired BEFORE INSERT FOR EACH ROW")));

	desc = RelationGetDescr(trigger->tg_relation);
	request_table_check(trigger->tg_relation);
	/* A row of another database, by replication: that is where it is sent */
	if (SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA &&
		!inserting_request)
		return PointerGetDatum(trigger->tg_trigtuple);
	(void) heap_getattr(trigger->tg_trigtuple, Anum_request_stamp, desc,
						&isnull);
	if (!isnull)
	{
		if (!relation_ownercheck(RelationGetRelid(trigger->tg_relation),
								 GetUserId()))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("only the owner of table \"%s\" may restore requests",
							RelationGetRelationName(trigger->tg_relation)),
					 errdetail("A row that has a stamp is one of a dump: to make a request of it might send it a second time."),
					 errhint("Leave the column out, or have the owner load the dump.")));
		return PointerGetDatum(restored_row(trigger->tg_trigtuple, desc));
	}

	return PointerGetDatum(new_row(trigger->tg_relation,
								   trigger->tg_trigtuple));
}

/*
 * BEFORE UPDATE on screenshot_task_request
 */
Datum
screenshot_task_request_update(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Datum		origin;
	bool		isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("screenshot_task_request_update must be fired BEFORE UPDATE FOR EACH ROW")));

	request_table_check(trigger->tg_relation);
	/* What comes by replication of this table is what it is elsewhere. */
	if (SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA &&
		!has_same_stamp(trigger->tg_trigslot, trigger->tg_newslot))
		return PointerGetDatum(trigger->tg_newtuple);
	/* The worker knows what it makes ready. */
	if (!worker_is_me() &&
		has_moved(trigger->tg_trigslot, trigger->tg_newslot))
	{
		Row			row = {
			trigger->tg_newslot->tts_values, trigger->tg_newslot->tts_isnull
		};

		slot_getallattrs(trigger->tg_newslot);
		wake_for_row(trigger->tg_relation, TRIGGER_TYPE_UPDATE, &row);
	}
	origin = slot_getattr(trigger->tg_trigslot, Anum_request_origin, &isnull);
	if (isnull || DatumGetInt64(origin) != request_origin())
		return PointerGetDatum(trigger->tg_newtuple);
	return PointerGetDatum(stamped_row(trigger->tg_newtuple,
									   trigger->tg_newslot));
}

/*
 * Has an UPDATE left the stamp alone?  No other database's row has the stamp of
 * one here.
 */
static bool
has_same_stamp(TupleTableSlot *old, TupleTableSlot *new)
{
	bool		was_null;
	bool		isnull;
	Datum		was = slot_getattr(old, Anum_request_stamp, &was_null);
	Datum		is = slot_getattr(new, Anum_request_stamp, &isnull);

	return isnull == was_null &&
		(isnull || DatumGetInt64(is) == DatumGetInt64(was));
}

/*
 * Is a row a pending request that was not, or not at this place?
 */
static bool
has_moved(TupleTableSlot *old, TupleTableSlot *new)
{
	static const int columns[] = {
		Anum_request_status, Anum_request_next_attempt_at,
		Anum_request_start_time, Anum_request_requested_at,
		Anum_request_server, Anum_request_role
	};
	TupleDesc	desc = new->tts_tupleDescriptor;
	bool		isnull;

	if (slot_getattr(new, Anum_request_status, &isnull) !=
		status_value(desc, STATUS_PENDING))
		return false;
	for (int i = 0; i < (int) lengthof(columns); i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, columns[i] - 1);
		bool		was_null;
		Datum		was = slot_getattr(old, columns[i], &was_null);
		Datum		is = slot_getattr(new, columns[i], &isnull);

		if (isnull != was_null ||
			(!isnull && !datumIsEqual(was, is, attribute->attbyval,
									  attribute->attlen)))
			return true;
	}
	return false;
}

/*
 * A row, which is in the slot as well, with this transaction's stamp, and the
 * name of its role, which may have been renamed: itself, if it has them.
 */
static HeapTuple
stamped_row(HeapTuple tuple, TupleTableSlot *slot)
{
	int			columns[2];
	Datum		values[2];
	bool		nulls[2] = {false};
	int			n = 0;
	int64		stamp = request_stamp(GetTopFullTransactionId());
	Datum		old;
	Datum		role;
	NameData	role_name;
	char	   *name;
	bool		isnull;

	old = slot_getattr(slot, Anum_request_stamp, &isnull);
	if (isnull || DatumGetInt64(old) != stamp)
	{
		columns[n] = Anum_request_stamp;
		values[n++] = Int64GetDatum(stamp);
	}
	role = slot_getattr(slot, Anum_request_role, &isnull);
	name = isnull ? NULL : GetUserNameFromId(DatumGetObjectId(role), true);
	old = slot_getattr(slot, Anum_request_requested_by, &isnull);
	if (name != NULL &&
		(isnull || strcmp(NameStr(*DatumGetName(old)), name) != 0))
	{
		namestrcpy(&role_name, name);
		columns[n] = Anum_request_requested_by;
		values[n++] = NameGetDatum(&role_name);
	}
	return n == 0 ? tuple :
		heap_modify_tuple_by_cols(tuple, slot->tts_tupleDescriptor, n, columns,
								  values, nulls);
}

/*
 * What a dump says, but for the role, whose OID may be another one here.
 */
static HeapTuple
restored_row(HeapTuple tuple, TupleDesc desc)
{
	int			columns[] = {Anum_request_role};
	Datum		values[1];
	bool		nulls[1];
	Oid			role = InvalidOid;
	Datum		name = heap_getattr(tuple, Anum_request_requested_by, desc,
									&nulls[0]);

	if (!nulls[0])
		role = get_role_oid(NameStr(*DatumGetName(name)), true);
	values[0] = ObjectIdGetDatum(role);
	nulls[0] = !OidIsValid(role);
	return heap_modify_tuple_by_cols(tuple, desc, lengthof(columns), columns,
									 values, nulls);
}

static HeapTuple
new_row(Relation relation, HeapTuple tuple)
{
	static const int empty[] = {
		Anum_request_next_attempt_at, Anum_request_sent_at,
		Anum_request_finished_at, Anum_request_task_id,
		Anum_request_request_id, Anum_request_trace_id,
		Anum_request_error_code,
		Anum_request_error_message
	};
	TupleDesc	desc = RelationGetDescr(relation);
	Oid			role = GetUserId();
	Row			row;
	NameData	role_name;
	TimestampTz at;

	row.values = palloc(desc->natts * sizeof(Datum));
	row.nulls = palloc(desc->natts * sizeof(bool));
	heap_deform_tuple(tuple, desc, row.values, row.nulls);

	check_row(&row);
	check_server_once(NameStr(*DatumGetName(*get_column(&row, Anum_request_server))),
					  role);
	if (GetDatabaseEncoding() != PG_UTF8)
		check_texts(&row);

	/* Nobody but the owner may take an id that others are to get. */
	if (!relation_ownercheck(RelationGetRelid(relation), role))
		set_drawn_id(relation, &row);
	namestrcpy(&role_name, GetUserNameFromId(role, false));
	set_column(&row, Anum_request_requested_by, NameGetDatum(&role_name));
	set_column(&row, Anum_request_requested_at,
			   TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	set_column(&row, Anum_request_status,
			   status_value(desc, STATUS_PENDING));
	set_column(&row, Anum_request_attempts, Int32GetDatum(0));
	set_column(&row, Anum_request_misses, Int32GetDatum(0));
	set_column(&row, Anum_request_role, ObjectIdGetDatum(role));
	set_column(&row, Anum_request_stamp,
			   Int64GetDatum(request_stamp(GetTopFullTransactionId())));
	for (int i = 0; i < (int) lengthof(empty); i++)
		row.nulls[empty[i] - 1] = true;
	if (has_ended(&row))
		expire(desc, &row);
	else
	{
		if (first_attempt_at(&row, &at))
			set_column(&row, Anum_request_next_attempt_at,
					   TimestampTzGetDatum(at));
		wake_for_row(relation, TRIGGER_TYPE_INSERT, &row);
	}
	return heap_form_tuple(desc, row.values, row.nulls);
}

/*
 * Have the worker look for a pending row that is written.
 */
static void
wake_for_row(Relation relation, int16 event, const Row *row)
{
	const Datum *server = get_column(row, Anum_request_server);
	const Datum *role = get_column(row, Anum_request_role);
	const Datum *start = get_column(row, Anum_request_start_time);

	if (start == NULL)
		start = get_column(row, Anum_request_requested_at);
	if (get_column(row, Anum_request_next_attempt_at) != NULL)
		wake_at_commit(NEWS_NOWHERE);
	else if (server == NULL || role == NULL || start == NULL ||
			 has_other_trigger(relation, event))
		wake_at_commit(NEWS_ANYWHERE);
	else
		wake_at_commit(channel_key(NameStr(*DatumGetName(*server)),
								DatumGetObjectId(*role)),
					   DatumGetTimestampTz(*start),
					   DatumGetTimestampTz(*start));
}

/*
 * Has the owner put a trigger on the table that may change a row before it is
 * written?
 */
static bool
has_other_trigger(Relation relation, int16 event)
{
	TriggerDesc *triggers = relation->trigdesc;
	int			n = 0;

	for (int i = 0; i < triggers->numtriggers; i++)
	{
		if (TRIGGER_TYPE_MATCHES(triggers->triggers[i].tgtype,
								 TRIGGER_TYPE_ROW, TRIGGER_TYPE_BEFORE,
								 event))
			n++;
	}
	return n > 1;
}

/*
 * The value of a column, or NULL if it has none.
 */
static const Datum *
get_column(const Row *row, int column)
{
	return row->nulls[column - 1] ? NULL : &row->values[column - 1];
}

static void
set_column(Row *row, int column, Datum value)
{
	row->values[column - 1] = value;
	row->nulls[column - 1] = false;
}

/*
 * Give a row the next id, whatever the role may do with the sequence, unless
 * the default of the column has drawn the one that it has.
 */
static void
set_drawn_id(Relation relation, Row *row)
{
	const Datum *id = get_column(row, Anum_request_id);
	Oid			sequence = get_identity_sequence(relation, Anum_request_id);

	if (!OidIsValid(sequence))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("column \"id\" of table \"%s\" has no sequence",
						RelationGetRelationName(relation))));
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
check_row(const Row *row)
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
				 errhint("0 is a live stream, 1 a mixed one.")));
	task.stream_type = DatumGetInt32(*get_column(row, Anum_request_stream_type));
	if (extension != NULL)
		task.extension = TextDatumGetCString(*extension);
	(void) require_column(row, Anum_request_server, "server");

	require_finite("end_time", ends);
	require_finite("start_time", begins);
	live_check_parameters(&task);
	live_check_times(start != NULL, begins, ends);
	if (reference != NULL)
		live_check_text("reference", TextDatumGetCString(*reference), 0,
						LIVE_MAX_NAME);
}

static Datum
require_column(const Row *row, int column, const char *name)
{
	const Datum *value = get_column(row, column);

	if (value == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
	return *value;
}

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
check_texts(const Row *row)
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

			(void) pg_server_to_any(chars, (int) strlen(chars), PG_UTF8);
		}
	}
}

/*
 * A value of the type of statuses.
 */
static Datum
status_value(TupleDesc desc, RequestStatus status)
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
has_ended(const Row *row)
{
	return DatumGetTimestampTz(*get_column(row, Anum_request_end_time)) <=
		GetCurrentTimestamp();
}

/*
 * Such a one is finished as it is made: what it asks for is over.
 */
static void
expire(TupleDesc desc, Row *row)
{
	const Datum *reference = get_column(row, Anum_request_reference);

	set_column(row, Anum_request_status, status_value(desc, STATUS_EXPIRED));
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
first_attempt_at(const Row *row, TimestampTz *at)
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

/*
 * Execute a plan that inserts a request, made here even where the session is one
 * that applies changes of another database.
 */
void
insert_request(SPIPlanPtr plan, Datum *args, const char *nulls)
{
	bool		was_inserting = inserting_request;

	inserting_request = true;
	PG_TRY();
	{
		spi_execute(plan, args, nulls);
	}
	PG_FINALLY();
	{
		inserting_request = was_inserting;
	}
	PG_END_TRY();
}

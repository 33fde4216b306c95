/*-------------------------------------------------------------------------
 *
 * row_triggers.c
 *	  The extension's triggers on screenshot_task_request: what is set in a
 *	  row, and who is woken for it
 *
 * That on INSERT makes the row what a new request is, see new_request.c.
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
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/rel.h"

#include "compat.h"
#include "sql/new_request.h"
#include "table/request_queue.h"
#include "table/request_table.h"
#include "util/statement.h"
#include "worker/background_worker.h"

static HeapTuple restored_row(HeapTuple tuple, TupleDesc desc);
static bool has_same_stamp(TupleTableSlot *old, TupleTableSlot *new);
static bool has_moved(TupleTableSlot *old, TupleTableSlot *new);
static HeapTuple stamped_row(HeapTuple tuple, TupleTableSlot *slot);

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
					 errdetail("A row with a stamp comes from a dump; sending it as a new request might create a second task."),
					 errhint("Omit the column, or have the owner restore the dump.")));
		return PointerGetDatum(restored_row(trigger->tg_trigtuple, desc));
	}

	return PointerGetDatum(new_request_row(trigger->tg_relation,
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
		RequestRow	row = {
			trigger->tg_newslot->tts_values, trigger->tg_newslot->tts_isnull
		};

		slot_getallattrs(trigger->tg_newslot);
		wake_for_row(&row);
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
		request_status_value(desc, STATUS_PENDING))
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

/*
 * Execute a plan that inserts a request, made here even where the session is one
 * that applies changes of another database.  0: it replaces no other.
 */
void
insert_request(SPIPlanPtr plan, Datum *args, const char *nulls, int64 replaces)
{
	bool		was_inserting = inserting_request;
	int64		outer_replaces = new_request_replaces;

	inserting_request = true;
	new_request_replaces = replaces;
	PG_TRY();
	{
		spi_execute(plan, args, nulls);
	}
	PG_FINALLY();
	{
		inserting_request = was_inserting;
		new_request_replaces = outer_replaces;
	}
	PG_END_TRY();
}

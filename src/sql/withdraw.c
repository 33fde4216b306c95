/*-------------------------------------------------------------------------
 *
 * withdraw.c
 *	  Withdrawing a request, and undoing that in the same transaction
 *
 * A request that is withdrawn is to have no task: one that has not been sent is
 * cancelled; the task of one that is created is stopped and deleted by the
 * worker, once this transaction has committed; of one whose task is not known
 * yet, the worker sees to that when it is.  Nothing is sent here.
 *
 * Whatever becomes of it, its reference is free for another request.
 *
 * What is withdrawn and asked for again in one transaction stays as it was, see
 * withdrawal_notes.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "sql/admin_functions.h"
#include "sql/kept_statement.h"
#include "sql/wake.h"
#include "sql/withdraw.h"
#include "sql/withdrawal_notes.h"
#include "table/request_queue.h"
#include "table/request_table.h"
#include "util/statement.h"

/* Of all the parameters, in their order */
#define PARAMETER_COLUMNS \
	"stream_name, domain_name, app_name, end_time, template_id, start_time," \
	" stream_type, extension, server, reference"

/* What is read of a request: as the functions below number it */
#define REQUEST_COLUMNS \
	PARAMETER_COLUMNS ", id, status, finished_at, next_attempt_at," \
	" end_time OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()," \
	" status::pg_catalog.text OPERATOR(pg_catalog.=) " SQL_CANCELLED \
	"  AND error_message OPERATOR(pg_catalog.=) '" CANCELLED_IN_DOUBT "'," \
	" role, replaces, stamp OPERATOR(pg_catalog.=) $1" \
	"  AND requested_at OPERATOR(pg_catalog.=) pg_catalog.transaction_timestamp()," \
	" withdrawn_at IS NOT NULL"

enum
{
	COLUMN_ID = N_PARAMETERS + 1, COLUMN_STATUS, COLUMN_FINISHED_AT,
	COLUMN_NEXT_ATTEMPT_AT, COLUMN_HAS_ENDED, COLUMN_WAS_IN_DOUBT, COLUMN_ROLE,
	COLUMN_REPLACES, COLUMN_IS_NEW, COLUMN_IS_WITHDRAWN
};

/* A role sees of what came in a dump only what has its name. */
#define IS_OF_ROLE \
	" AND role OPERATOR(pg_catalog.=) $2" \
	" AND (origin OPERATOR(pg_catalog.<>) 0::pg_catalog.int8" \
	"  OR requested_by OPERATOR(pg_catalog.=) $4)"

/* The first argument of those that read a request is this transaction's stamp.
 * They run as the table's owner. */
typedef enum StatementId
{
	FIND_OF_ROLE, FIND_OF_ANYBODY, FIND_BY_ID, CHANGE, REMOVE, N_STATEMENTS
} StatementId;

static KeptStatement statements[N_STATEMENTS] = {
	[FIND_OF_ROLE] = {
		REQUEST_STATEMENT "SELECT " REQUEST_COLUMNS " FROM %1$s"
		" WHERE reference OPERATOR(pg_catalog.=) $3"
		" AND withdrawn_at IS NULL" IS_OF_ROLE
		" FOR NO KEY UPDATE",
		4, {INT8OID, OIDOID, TEXTOID, NAMEOID}, NULL, NULL
	},
	[FIND_OF_ANYBODY] = {
		REQUEST_STATEMENT "SELECT " REQUEST_COLUMNS " FROM %1$s"
		" WHERE reference OPERATOR(pg_catalog.=) $2"
		" AND withdrawn_at IS NULL"
		" AND origin OPERATOR(pg_catalog.<>) 0::pg_catalog.int8",
		2, {INT8OID, TEXTOID}, NULL, NULL
	},
	[FIND_BY_ID] = {
		REQUEST_STATEMENT "SELECT " REQUEST_COLUMNS " FROM %1$s"
		" WHERE id OPERATOR(pg_catalog.=) $2 FOR NO KEY UPDATE",
		2, {INT8OID, INT8OID}, NULL, NULL
	},
	[CHANGE] = {
		REQUEST_STATEMENT "UPDATE %1$s SET status = $2::%2$s, withdrawn_at = $3,"
		" finished_at = $4, next_attempt_at = $5, misses = 0"
		" WHERE id OPERATOR(pg_catalog.=) $1"
		" AND status::pg_catalog.text OPERATOR(pg_catalog.=) $6",
		6, {INT8OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		TEXTOID}, NULL, NULL
	},
	[REMOVE] = {
		REQUEST_STATEMENT "DELETE FROM %1$s WHERE id OPERATOR(pg_catalog.=) $1"
		" AND status::pg_catalog.text OPERATOR(pg_catalog.=) " SQL_PENDING,
		1, {INT8OID}, NULL, NULL
	}
};

/* A request as it is found, in a context that SPI_finish() ends */
typedef struct FoundRequest
{
	int64		id;
	RequestStatus status;
	TimestampTz finished_at;	/* 0: none */
	TimestampTz next_attempt_at;	/* 0: none */
	bool		has_ended;		/* has its end_time passed? */
	bool		was_in_doubt;	/* when it was cancelled? */
	Oid			role;
	int64		replaces;		/* 0: none */
	bool		is_new;			/* made by this transaction */
	bool		is_withdrawn;
	RequestValues values;
} FoundRequest;

static Oid	begin(Caller *caller);
static void read_found(int row, FoundRequest *found);
static bool find_by_id(int64 id, FoundRequest *found);
static bool find_of_role(Oid role, const char *reference, FoundRequest *found);
static int64 withdraw_found(FoundRequest *found, bool remove_new);
static RequestStatus withdrawn_status(const FoundRequest *found);
static void change(int64 id, RequestStatus from, RequestStatus to,
				   StatusChange by, TimestampTz withdrawn_at,
				   TimestampTz finished_at, TimestampTz next_attempt_at);
static bool restore(ReferenceKey key, const WithdrawalNote *note,
					const RequestValues *values);
static int64 withdraw_of_other(Oid caller, Oid owner,
							   const RequestValues *values);

PG_FUNCTION_INFO_V1(withdraw_screenshot_task_request);

/*
 * withdraw_screenshot_task_request(id) returns the status that it has then
 */
Datum
withdraw_screenshot_task_request(PG_FUNCTION_ARGS)
{
	LockedRequest locked;
	Caller		caller;
	FoundRequest found;
	Datum		status;
	bool		isnull;

	admin_lock_request(fcinfo, &locked, &caller);
	if (find_by_id(locked.id, &found) && !found.is_withdrawn)
		(void) withdraw_found(&found, false);
	if (!find_by_id(locked.id, &found))
		no_such_request(locked.id);
	status = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
						   COLUMN_STATUS, &isnull);
	admin_finish(&caller);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(status);
}

/*
 * Withdraw the request that a role has of a reference, if there is one.  One that
 * this transaction has made, and nobody else has seen, is removed instead if
 * that is wanted.
 *
 * Returns its id, or that of the one which it replaced if it is removed; 0 if
 * there is none.
 */
int64
withdraw_reference(Oid role, const char *reference, bool remove_new)
{
	Caller		caller;
	FoundRequest found;
	int64		id = 0;

	(void) begin(&caller);
	if (find_of_role(role, reference, &found))
		id = withdraw_found(&found, remove_new);
	admin_finish(&caller);
	return id;
}

/*
 * Undo the withdrawal of a request that a role had of a reference, and that had
 * these parameters, if this transaction has withdrawn one.  Returns whether it
 * has, and its id.
 */
bool
restore_reference(Oid role, const char *reference,
				  const RequestValues *values, int64 *id)
{
	ReferenceKey key = reference_key(role, reference);
	List	   *notes = notes_withdrawn_of(key);
	Caller		caller;
	ListCell   *cell;
	bool		is_restored = false;

	if (notes == NIL)
		return false;
	(void) begin(&caller);
	foreach(cell, notes)
	{
		const WithdrawalNote *note = lfirst(cell);

		is_restored = restore(key, note, values);
		if (is_restored)
		{
			*id = note->id;
			break;
		}
	}
	admin_finish(&caller);
	return is_restored;
}

/*
 * A row of somebody's table no longer has a request of these parameters, as it was
 * taken from the row: withdraw the one that the current role has of its
 * reference, unless another row has taken it over meanwhile.  Returns its id, as
 * withdraw_reference() does; 0 if there is none.
 *
 * Raises an error if it is another role's, which the current one may not
 * withdraw.
 */
int64
leave_reference(const RequestValues *values)
{
	Oid			role = GetUserId();
	char	   *reference = TextDatumGetCString(values->values[PARAMETER_REFERENCE]);
	ReferenceKey key = reference_key(role, reference);
	Caller		caller;
	FoundRequest found;
	Oid			owner;
	int64		id;

	if (notes_other_holders(key) > 0)
	{
		notes_change_holders(key, -1);
		return 0;
	}
	owner = begin(&caller);
	if (find_of_role(role, reference, &found))
		id = withdraw_found(&found, true);
	else
		id = withdraw_of_other(role, owner, values);
	admin_finish(&caller);
	return id;
}

/*
 * Go on as the owner of the table, which is returned, with statements for it;
 * admin_finish() goes back.
 */
static Oid
begin(Caller *caller)
{
	char	   *table;

	return admin_begin(&table, caller);
}

/*
 * Read a row of what a statement has given.
 */
static void
read_found(int row, FoundRequest *found)
{
	char	   *status = spi_text(row, COLUMN_STATUS);

	for (int i = 0; i < N_PARAMETERS; i++)
	{
		found->values.given[i] = true;
		found->values.values[i] = spi_value(row, i + 1,
											request_parameters[i].type,
											&found->values.nulls[i]);
	}
	found->id = spi_int8(row, COLUMN_ID);
	found->status = status_of_name(status);
	found->finished_at = spi_timestamptz(row, COLUMN_FINISHED_AT);
	found->next_attempt_at = spi_timestamptz(row, COLUMN_NEXT_ATTEMPT_AT);
	found->has_ended = spi_bool(row, COLUMN_HAS_ENDED);
	found->was_in_doubt = spi_bool(row, COLUMN_WAS_IN_DOUBT);
	found->role = spi_oid(row, COLUMN_ROLE);
	found->replaces = spi_int8(row, COLUMN_REPLACES);
	found->is_new = spi_bool(row, COLUMN_IS_NEW);
	found->is_withdrawn = spi_bool(row, COLUMN_IS_WITHDRAWN);
}

static bool
find_by_id(int64 id, FoundRequest *found)
{
	Datum		args[2] = {
		Int64GetDatum(request_stamp(GetTopFullTransactionId())),
		Int64GetDatum(id)
	};

	if (kept_statement_run(&statements[FIND_BY_ID], args, NULL) == 0)
		return false;
	read_found(0, found);
	return true;
}

static bool
find_of_role(Oid role, const char *reference, FoundRequest *found)
{
	NameData	name;
	Datum		args[4] = {
		Int64GetDatum(request_stamp(GetTopFullTransactionId())),
		ObjectIdGetDatum(role),
		CStringGetTextDatum(reference)
	};

	namestrcpy(&name, GetUserNameFromId(role, false));
	args[3] = NameGetDatum(&name);
	if (kept_statement_run(&statements[FIND_OF_ROLE], args, NULL) == 0)
		return false;
	read_found(0, found);
	return true;
}

/*
 * Withdraw a request that is locked, and is not withdrawn.
 */
static int64
withdraw_found(FoundRequest *found, bool remove_new)
{
	bool		has_reference = !found->values.nulls[PARAMETER_REFERENCE];
	char	   *reference = has_reference ?
		TextDatumGetCString(found->values.values[PARAMETER_REFERENCE]) : NULL;
	WithdrawalNote note = {
		.id = found->id,
		.from = found->status,
		.to = withdrawn_status(found),
		.finished_at = found->finished_at,
		.next_attempt_at = found->next_attempt_at
	};
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz finished_at = found->finished_at;
	TimestampTz next_attempt_at = found->next_attempt_at;

	if (remove_new && found->is_new && found->status == STATUS_PENDING)
	{
		Datum		args[1] = {Int64GetDatum(found->id)};

		if (kept_statement_run(&statements[REMOVE], args, NULL) > 0)
			return found->replaces;
	}
	if (note.to != note.from)
	{
		finished_at = status_is_finished(note.to) ? now : 0;
		next_attempt_at = note.to == STATUS_IN_DOUBT ? now : 0;
	}
	change(found->id, note.from, note.to, BY_WITHDRAW, now, finished_at,
		   next_attempt_at);
	notes_withdrawn(has_reference ? reference_key(found->role, reference) : 0,
					&note, reference);
	if (!status_is_finished(note.to))
		wake_at_commit(NO_CHANNELS);
	return found->id;
}

/*
 * What a request becomes that is withdrawn.
 */
static RequestStatus
withdrawn_status(const FoundRequest *found)
{
	switch (found->status)
	{
		case STATUS_PENDING:
			return STATUS_CANCELLED;
		case STATUS_CREATED:
			return found->has_ended ? STATUS_CREATED : STATUS_WITHDRAWING;
		case STATUS_CANCELLED:
			return found->was_in_doubt && !found->has_ended ?
				STATUS_IN_DOUBT : STATUS_CANCELLED;
		default:
			return found->status;
	}
}

/*
 * Change a request that is locked.  Times that are 0 become null.
 */
static void
change(int64 id, RequestStatus from, RequestStatus to, StatusChange by,
	   TimestampTz withdrawn_at, TimestampTz finished_at,
	   TimestampTz next_attempt_at)
{
	Datum		args[6];
	char		nulls[7] = "      ";

	if (find_transition(from, to, by) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("screenshot task request %lld cannot be withdrawn: its status is unknown",
						(long long) id)));
	args[0] = Int64GetDatum(id);
	args[1] = CStringGetTextDatum(status_name(to));
	args[2] = TimestampTzGetDatum(withdrawn_at);
	nulls[2] = withdrawn_at == 0 ? 'n' : ' ';
	args[3] = TimestampTzGetDatum(finished_at);
	nulls[3] = finished_at == 0 ? 'n' : ' ';
	args[4] = TimestampTzGetDatum(next_attempt_at);
	nulls[4] = next_attempt_at == 0 ? 'n' : ' ';
	args[5] = CStringGetTextDatum(status_name(from));
	if (kept_statement_run(&statements[CHANGE], args, nulls) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("screenshot task request %lld was not changed",
						(long long) id),
				 errhint("Look at the triggers on screenshot_task_request.")));
}

/*
 * Make a request what it was before this transaction withdrew it, if it has these
 * parameters, and if nothing else has become of it since.  Returns whether it did.
 */
static bool
restore(ReferenceKey key, const WithdrawalNote *note,
		const RequestValues *values)
{
	FoundRequest found;

	if (!find_by_id(note->id, &found) || !found.is_withdrawn ||
		found.status != note->to ||
		differing_parameters(values, &found.values) != NULL)
		return false;
	change(note->id, note->to, note->from, BY_UNDO, 0, note->finished_at,
		   note->next_attempt_at);
	notes_restored(key, note->id);
	if (!status_is_finished(note->from))
		wake_at_commit(ALL_CHANNELS);
	return true;
}

/*
 * Withdraw the request of another role that has these parameters, in which the
 * current role may do so.  To whoever may not, it is told alone if they know all
 * of it.
 */
static int64
withdraw_of_other(Oid caller, Oid owner, const RequestValues *values)
{
	Datum		args[2] = {
		Int64GetDatum(request_stamp(GetTopFullTransactionId())),
		values->values[PARAMETER_REFERENCE]
	};
	int			n = kept_statement_run(&statements[FIND_OF_ANYBODY], args, NULL);
	FoundRequest found;

	for (int i = 0; i < n; i++)
	{
		read_found(i, &found);
		if (found.status == STATUS_EXPIRED || found.status == STATUS_FAILED ||
			differing_parameters(values, &found.values) != NULL)
			continue;
		if (!may_administer(caller, owner, found.role))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("the request of reference \"%s\" was made by another role",
							TextDatumGetCString(values->values[PARAMETER_REFERENCE])),
					 errhint("If several roles change the table, give its trigger the argument 'as_owner:=true'.")));
		return find_of_role(found.role,
							TextDatumGetCString(values->values[PARAMETER_REFERENCE]),
							&found) ? withdraw_found(&found, true) : 0;
	}
	return 0;
}

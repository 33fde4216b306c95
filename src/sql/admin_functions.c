/*-------------------------------------------------------------------------
 *
 * admin_functions.c
 *	  What a person may do about a request: cancel, retry, resolve, adopt
 *
 * The functions are for the role that made the request, the roles that are
 * its members, and the owner of the table.  To everyone else a request that
 * is not theirs does not exist.  They lock the row, so that the worker's
 * transaction is before theirs or after it, and change only what they found.
 *
 * Their statements run as the owner, with a search_path that is not the
 * caller's: what the caller has put on its own is not the owner's to run.
 *
 * A request that was made elsewhere is held: no worker here looks at it, until
 * it is adopted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "api/task.h"
#include "sql/admin_functions.h"
#include "sql/kept_statement.h"
#include "sql/wake.h"
#include "table/notify.h"
#include "table/request_queue.h"
#include "table/request_table.h"
#include "util/statement.h"

/* When the API takes a request: six days before its start, and less than seven
 * before its end */
#define TAKEN_AT \
	"GREATEST(pg_catalog.clock_timestamp()," \
	" start_time OPERATOR(pg_catalog.-) '143:59:58'::pg_catalog.interval," \
	" end_time OPERATOR(pg_catalog.-) '167:59:58'::pg_catalog.interval)"

/* The status as a text, which a name is compared with */
#define STATUS		"status::pg_catalog.text OPERATOR(pg_catalog.=) "

/* Is a request held?  $1 is this database's origin */
#define IS_HELD \
	STATUS "ANY (ARRAY[" SQL_UNFINISHED "]::pg_catalog.text[])" \
	" AND origin OPERATOR(pg_catalog.<>) $1"

/* Those of the caller's roles, $2 */
#define HELD_OF_CALLER \
	IS_HELD \
	" AND " REQUEST_ROLE " OPERATOR(pg_catalog.=) ANY ($2)"

/* Has another request the reference of a held one, by its role or to be; or
 * are there two of them? */
#define REFERENCE_IS_TAKEN \
	"(reference IS NOT NULL AND (EXISTS (SELECT FROM %1$s AS other" \
	"  WHERE other.reference OPERATOR(pg_catalog.=) held.reference" \
	"  AND other.role OPERATOR(pg_catalog.=) " ROLE_OF("held.") \
	"  AND other.id OPERATOR(pg_catalog.<>) held.id)" \
	" OR ROW(requested_by, reference) OPERATOR(pg_catalog.=) ANY" \
	"  (SELECT requested_by, reference FROM %1$s" \
	"   WHERE origin OPERATOR(pg_catalog.=) 0::pg_catalog.int8 AND reference IS NOT NULL" \
	"   GROUP BY 1, 2 HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 1)))"

static bool find_request(LockedRequest *request, Oid caller, Oid owner,
						 const char *lock);
static void make_triggers_immediate(Relation relation);
static ArrayType *find_roles_with_held_requests(const char *table, Oid caller,
												Oid owner);
static void warn_of_taken_references(const char *table, Datum origin,
									 Datum roles);
static RequestStatus resolved_status(const LockedRequest *request,
									 bool has_no_task);
static bool may_change(const LockedRequest *request, RequestStatus to,
					   StatusChange by);
static void change_status(const LockedRequest *request, RequestStatus to,
						  StatusChange by, const char *assignments,
						  const char *task_id);
static void update_request(const LockedRequest *request,
						   const char *assignments, const char *task_id);
static void refuse_held(const LockedRequest *request, const char *verb);
pg_noreturn static void refuse(const LockedRequest *request,
							   const char *verb, const char *hint);

PG_FUNCTION_INFO_V1(cancel_screenshot_task_request);
PG_FUNCTION_INFO_V1(retry_screenshot_task_request);
PG_FUNCTION_INFO_V1(resolve_screenshot_task_request);
PG_FUNCTION_INFO_V1(adopt_screenshot_task_requests);

/*
 * cancel_screenshot_task_request(id) returns whether it is cancelled now
 */
Datum
cancel_screenshot_task_request(PG_FUNCTION_ARGS)
{
	LockedRequest request;
	Caller		caller;
	bool		cancelled = false;

	admin_lock_request(fcinfo, &request, &caller);
	/* A task that may exist is not to be forgotten once it is unwanted. */
	if (request.is_withdrawn)
	{
		if (!status_is_finished(request.status))
			ereport(NOTICE,
					(errmsg("screenshot task request %lld is being withdrawn",
							(long long) request.id)));
	}
	else if (may_change(&request, STATUS_CANCELLED, BY_CANCEL))
	{
		bool		was_pending = request.status == STATUS_PENDING;

		if (!was_pending)
			ereport(WARNING,
					(errmsg("screenshot task request %lld was in doubt when it was cancelled: its task may exist",
							(long long) request.id)));
		change_status(&request, STATUS_CANCELLED, BY_CANCEL,
					  was_pending ? "next_attempt_at = NULL" :
					  "next_attempt_at = NULL,"
					  " error_message = '" CANCELLED_IN_DOUBT "'", NULL);
		wake_at_commit(NO_CHANNELS);
		cancelled = true;
	}
	else if (request.status == STATUS_CREATED)
		ereport(NOTICE,
				(errmsg("the task of screenshot task request %lld has already been created",
						(long long) request.id),
				 errhint("Use withdraw_screenshot_task_request(%lld) to end it.",
						 (long long) request.id)));
	else if (request.status == STATUS_SENDING)
		ereport(NOTICE,
				(errmsg("screenshot task request %lld is being sent",
						(long long) request.id),
				 errhint("withdraw_screenshot_task_request(%lld) ends its task as soon as it is created.",
						 (long long) request.id)));
	admin_finish(&caller);
	PG_RETURN_BOOL(cancelled);
}

/*
 * retry_screenshot_task_request(id): send it, or if it is in doubt ask about
 * it, at once
 */
Datum
retry_screenshot_task_request(PG_FUNCTION_ARGS)
{
	LockedRequest request;
	Caller		caller;
	RequestStatus to;

	admin_lock_request(fcinfo, &request, &caller);
	/* Before the status is looked at: it is what the dump had. */
	refuse_held(&request, "retried");
	to = request.status == STATUS_IN_DOUBT || request.was_in_doubt ?
		STATUS_IN_DOUBT : request.status == STATUS_WITHDRAWING ?
		STATUS_WITHDRAWING : STATUS_PENDING;
	if (!may_change(&request, to, BY_RETRY))
		refuse(&request, "retried", NULL);
	if (request.is_withdrawn && status_is_finished(request.status))
		refuse(&request, "retried", "It is withdrawn: insert another request.");
	if (to == STATUS_WITHDRAWING)
		change_status(&request, to, BY_RETRY, "next_attempt_at = NULL", NULL);
	else if (to == STATUS_IN_DOUBT)
		change_status(&request, to, BY_RETRY,
					  "next_attempt_at = pg_catalog.clock_timestamp(), misses = 0",
					  NULL);
	/*
	 * After the question of doubt: a request in doubt may be asked about as
	 * long as the API lists its task.
	 */
	else if (request.has_ended)
		refuse(&request, "retried", "Its end_time has passed.  Insert a new request instead.");
	else
		change_status(&request, to, BY_RETRY, "next_attempt_at = " TAKEN_AT,
					  NULL);
	wake_at_commit(NO_CHANNELS);
	admin_finish(&caller);
	PG_RETURN_VOID();
}

/*
 * resolve_screenshot_task_request(id, task_id): a request in doubt has this
 * task; or none if it is null, and is sent again
 */
Datum
resolve_screenshot_task_request(PG_FUNCTION_ARGS)
{
	LockedRequest request;
	Caller		caller;
	RequestStatus to;

	admin_lock_request(fcinfo, &request, &caller);
	refuse_held(&request, "resolved");
	to = resolved_status(&request, PG_ARGISNULL(1));
	if (!may_change(&request, to, BY_RESOLVE))
		refuse(&request, "resolved",
			   request.status == STATUS_WITHDRAWING ?
			   "Use NULL to say that its task no longer exists." :
			   "Only requests in doubt can be resolved.");
	if (PG_ARGISNULL(1))
		change_status(&request, to, BY_RESOLVE,
					  request.status == STATUS_WITHDRAWING ?
					  "next_attempt_at = NULL, error_code = NULL,"
					  " error_message = 'resolved: its task is not there any more'" :
					  "next_attempt_at = NULL,"
					  " error_message = 'was in doubt; resolved by hand: no task was created'",
					  NULL);
	else
	{
		char	   *task_id = text_to_cstring(PG_GETARG_TEXT_PP(1));

		if (task_id[0] == '\0')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("task_id must not be empty"),
					 errhint("Use NULL if no task was created; the request will then be sent again.")));
		live_check_task_id(task_id);
		change_status(&request, to, BY_RESOLVE,
					  "next_attempt_at = NULL, error_code = NULL,"
					  " error_message = 'was in doubt; resolved by hand', task_id = $3",
					  task_id);
	}
	if (PG_ARGISNULL(1))
		wake_at_commit(ALL_CHANNELS);
	else
		wake_at_commit(NO_CHANNELS);
	admin_finish(&caller);
	PG_RETURN_VOID();
}

/*
 * What a request becomes that has a task, or none, as somebody says.
 */
static RequestStatus
resolved_status(const LockedRequest *request, bool has_no_task)
{
	if (request->status == STATUS_WITHDRAWING)
		return has_no_task ? STATUS_WITHDRAWN : STATUS_WITHDRAWING;
	if (!request->is_withdrawn)
		return has_no_task ? STATUS_PENDING : STATUS_CREATED;
	if (has_no_task)
		return STATUS_CANCELLED;
	return request->has_ended ? STATUS_CREATED : STATUS_WITHDRAWING;
}

/*
 * adopt_screenshot_task_requests() returns how many requests that were made
 * elsewhere are to be sent from here now
 *
 * What was being sent when they were copied may have become a task.
 */
Datum
adopt_screenshot_task_requests(PG_FUNCTION_ARGS)
{
	Oid			argtypes[3] = {INT8OID, OIDARRAYOID, INT8OID};
	Datum		args[3];
	Caller		caller;
	char	   *table;
	Oid			owner = admin_begin(&table, &caller);
	uint64		n;

	(void) fcinfo;
	args[0] = Int64GetDatum(request_origin());

	/*
	 * Privileges are checked once for each role, not for each row, of which a
	 * dump may have millions.
	 */
	args[1] = PointerGetDatum(find_roles_with_held_requests(table, caller.user,
															owner));

	/*
	 * The stamp of this transaction makes the generated column "origin" that
	 * of this database.
	 */
	args[2] = Int64GetDatum(request_stamp(GetTopFullTransactionId()));

	/*
	 * One statement, so that a request is adopted with all that goes with it
	 * or not at all.  What was in flight when the copy was made goes in doubt:
	 * the original's worker may have had an answer since.
	 */
	SPI_execute_with_args(psprintf(REQUEST_STATEMENT "UPDATE %1$s AS held SET stamp = $3, role = " REQUEST_ROLE ","
								   " status = CASE WHEN " STATUS SQL_SENDING
								   "  THEN " SQL_IN_DOUBT " ELSE status END,"
								   " next_attempt_at = CASE"
								   "  WHEN " STATUS SQL_PENDING " THEN " TAKEN_AT
								   "  WHEN " STATUS SQL_SENDING
								   "  THEN pg_catalog.clock_timestamp()"
								   "  ELSE next_attempt_at END,"
								   " error_message = CASE WHEN " STATUS SQL_SENDING
								   "  THEN 'request was in flight when its database was copied; outcome unknown'"
								   "  ELSE error_message END"
								   " WHERE " HELD_OF_CALLER " AND NOT " REFERENCE_IS_TAKEN,
								   table),
						  lengthof(args), argtypes, args, NULL, false, 0);
	/* Saved, as the next statement overwrites it. */
	n = SPI_processed;
	warn_of_taken_references(table, args[0], args[1]);
	wake_at_commit(NO_CHANNELS);
	admin_finish(&caller);
	PG_RETURN_INT64((int64) n);
}

/*
 * Say so if some requests of these roles stay held for their references.
 */
static void
warn_of_taken_references(const char *table, Datum origin, Datum roles)
{
	Oid			argtypes[2] = {INT8OID, OIDARRAYOID};
	Datum		args[2] = {origin, roles};

	SPI_execute_with_args(psprintf(REQUEST_STATEMENT "SELECT FROM %1$s AS held"
								   " WHERE " HELD_OF_CALLER " AND " REFERENCE_IS_TAKEN,
								   table),
						  lengthof(args), argtypes, args, NULL, false, 0);
	if (SPI_processed > 0)
		ereport(WARNING,
				(errmsg_plural("%llu screenshot task request stays held: another request has its reference",
							   "%llu screenshot task requests stay held: other requests have their references",
							   (unsigned long) SPI_processed,
							   (unsigned long long) SPI_processed),
				 errhint("Delete the requests that are not needed, and call adopt_screenshot_task_requests() again.")));
}

/*
 * The roles of held requests that the caller may administer: an oid[].
 */
static ArrayType *
find_roles_with_held_requests(const char *table, Oid caller, Oid owner)
{
	Oid			argtypes[1] = {INT8OID};
	Datum		args[1] = {Int64GetDatum(request_origin())};
	Datum	   *roles;
	int			n = 0;

	SPI_execute_with_args(psprintf(REQUEST_STATEMENT "SELECT DISTINCT " REQUEST_ROLE " FROM %s"
								   " WHERE " IS_HELD,
								   table),
						  lengthof(args), argtypes, args, NULL, false, 0);
	/* One more, so that it is never empty. */
	roles = palloc((SPI_processed + 1) * sizeof(Datum));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		role = spi_value((int) i, 1, OIDOID, &isnull);

		if (!isnull && may_administer(caller, owner, DatumGetObjectId(role)))
			roles[n++] = role;
		else if (isnull && may_administer(caller, owner, InvalidOid))
			ereport(WARNING,
					(errmsg("some screenshot task requests stay held: the roles that made them do not exist"),
					 errhint("Create the roles that \"requested_by\" names and call adopt_screenshot_task_requests() again, or cancel the requests.")));
	}
	return construct_array(roles, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT);
}

/*
 * Find and lock the request of the first argument, and go on as the owner of
 * the table; admin_finish() goes back.
 *
 * Raises an error if there is none, or none that the caller may administer.
 */
void
admin_lock_request(FunctionCallInfo fcinfo, LockedRequest *request,
				   Caller *caller)
{
	Oid			owner;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("request_id must not be null")));
	request->id = PG_GETARG_INT64(0);

	/*
	 * Looked at first without a lock: to wait for the lock of a row would tell
	 * the caller that it exists.
	 */
	owner = admin_begin(&request->table, caller);
	if (!find_request(request, caller->user, owner, "") ||
		!find_request(request, caller->user, owner, "FOR UPDATE"))
		no_such_request(request->id);
}

/*
 * Raise an error: there is no such request, or none that the caller may know
 * of.
 */
void
no_such_request(int64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("screenshot task request %lld does not exist",
					(long long) id)));
}

/*
 * Read the request of an id.  Returns false if there is none, or none that
 * the caller may administer.
 */
static bool
find_request(LockedRequest *request, Oid caller, Oid owner, const char *lock)
{
	Oid			argtypes[2] = {INT8OID, INT8OID};
	Datum		args[2] = {
		Int64GetDatum(request->id),
		Int64GetDatum(request_origin())
	};

	SPI_execute_with_args(psprintf(REQUEST_STATEMENT "SELECT status, task_id, " REQUEST_ROLE ","
								   " end_time OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp(),"
								   " origin OPERATOR(pg_catalog.<>) $2,"
								   " " STATUS SQL_CANCELLED
								   "  AND error_message OPERATOR(pg_catalog.=) '" CANCELLED_IN_DOUBT "',"
								   " reference, server, withdrawn_at IS NOT NULL,"
								   " finished_at, next_attempt_at"
								   " FROM %s WHERE id OPERATOR(pg_catalog.=) $1 %s",
								   request->table, lock),
						  lengthof(args), argtypes, args, NULL, false, 1);
	if (SPI_processed == 0)
		return false;
	request->role = spi_oid(0, 3);
	/* The same answer as for a row that does not exist. */
	if (!may_administer(caller, owner, request->role))
		return false;
	request->status_name = spi_text(0, 1);
	/* The owner of the table may have dropped NOT NULL. */
	if (request->status_name == NULL)
		request->status_name = pstrdup("of no status");

	/*
	 * A status that a later version has added is not known here.  It may be
	 * shown, but not changed.
	 */
	request->status = status_of_name(request->status_name);
	request->task_id = spi_text(0, 2);
	request->has_ended = spi_bool(0, 4);
	request->is_held = spi_bool(0, 5);
	request->was_in_doubt = spi_bool(0, 6);
	request->reference = spi_text(0, 7);
	request->server = spi_text(0, 8);
	request->is_withdrawn = spi_bool(0, 9);
	request->finished_at = spi_timestamptz(0, 10);
	request->next_attempt_at = spi_timestamptz(0, 11);
	return true;
}

/*
 * Go on as the owner of the table, and return it, and the table's qualified
 * name in SPI's memory; admin_finish() goes back.
 */
Oid
admin_begin(char **table, Caller *caller)
{
	Relation	relation;
	Oid			owner;

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot modify screenshot task requests during recovery"),
				 errhint("Connect to the primary server instead.")));

	/*
	 * The lock of an UPDATE, held to the end of the transaction: the table
	 * that was checked is the one that is changed.
	 */
	relation = request_table_open(RowExclusiveLock);
	owner = relation->rd_rel->relowner;

	/*
	 * Before the switch: events of the caller's that this makes due fire as
	 * the caller.
	 */
	make_triggers_immediate(relation);
	GetUserIdAndSecContext(&caller->user, &caller->security_context);
	/* What runs as the owner finds nothing that the caller made. */
	caller->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);

	/*
	 * A security-restricted operation, as for index expressions: triggers of
	 * the owner's run as the owner here, and must not be led by what the
	 * caller has set up.  NOFORCE_RLS lets the owner see all rows.
	 */
	SetUserIdAndSecContext(owner, caller->security_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION |
						   SECURITY_NOFORCE_RLS);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	*table = request_table_name(relation);
	kept_statements_use(relation);
	table_close(relation, NoLock);
	return owner;
}

/*
 * Have no trigger of the owner's on the table be deferred, which it may not be
 * in a security-restricted operation.  What the caller has done already fires
 * as the caller.
 */
static void
make_triggers_immediate(Relation relation)
{
	ConstraintsSetStmt statement = {.type = T_ConstraintsSetStmt};
	const TriggerDesc *triggers = relation->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		/* Those of foreign keys are, and look at the key alone. */
		if (trigger->tgdeferrable && !trigger->tgisinternal)
			statement.constraints =
				lappend(statement.constraints,
						makeRangeVar(get_namespace_name(RelationGetNamespace(relation)),
									 pstrdup(trigger->tgname), -1));
	}
	if (statement.constraints != NIL)
		AfterTriggerSetState(&statement);
}

/*
 * Raise an error if the current role may not insert into the request table.
 * The INSERT would, too, but without saying what mends it.
 */
void
check_may_insert(Relation relation)
{
	Oid			table = RelationGetRelid(relation);
	Oid			role = GetUserId();

	if (pg_class_aclcheck(table, role, ACL_INSERT) == ACLCHECK_OK ||
		pg_attribute_aclcheck_all(table, role, ACL_INSERT,
								  ACLMASK_ANY) == ACLCHECK_OK)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for table %s",
					RelationGetRelationName(relation)),
			 errhint("Have its owner GRANT INSERT ON %s TO %s.",
					 request_table_name(relation),
					 quote_identifier(GetUserNameFromId(role, false)))));
}

/*
 * May the caller administer the requests of a role?  Members may, and the owner
 * of the table.  InvalidOid stands for a role that does not exist.
 */
bool
may_administer(Oid caller, Oid owner, Oid role)
{
	/*
	 * has_privs_of_role(), not is_member_of_role(): a member that does not
	 * inherit has to SET ROLE first, as elsewhere in PostgreSQL.
	 */
	return has_privs_of_role(caller, owner) ||
		(OidIsValid(role) && has_privs_of_role(caller, role));
}

/*
 * May the request have this status next, by a function?
 */
static bool
may_change(const LockedRequest *request, RequestStatus to, StatusChange by)
{
	const Transition *transition = find_transition(request->status, to, by);

	return transition != NULL && (request->is_held || !transition->only_held);
}

/*
 * Give the request another status, which may_change() allows, and what goes with
 * that; assignments are what else changes, see update_request().
 */
static void
change_status(const LockedRequest *request, RequestStatus to, StatusChange by,
			  const char *assignments, const char *task_id)
{
	bool		is_finished = status_is_finished(to);

	Assert(may_change(request, to, by));
	(void) by;
	update_request(request,
				   psprintf("status = '%s', finished_at = %s, %s",
							status_name(to),
							is_finished ? "pg_catalog.clock_timestamp()" : "NULL",
							assignments), task_id);

	/*
	 * NOTIFY at commit, in the same transaction: whoever listens never hears
	 * of what was rolled back.
	 */
	if (is_finished)
		notify_result(request->id, request->reference, to,
					  task_id != NULL ? task_id : request->task_id);
}

/*
 * Change the request, provided that it is as it was found.  The assignments
 * may use task_id as $3, unless it is NULL.
 */
static void
update_request(const LockedRequest *request, const char *assignments,
			   const char *task_id)
{
	Oid			argtypes[3] = {INT8OID, TEXTOID, TEXTOID};
	Datum		args[3] = {
		Int64GetDatum(request->id),
		CStringGetTextDatum(request->status_name),
		task_id != NULL ? CStringGetTextDatum(task_id) : (Datum) 0
	};

	SPI_execute_with_args(psprintf(REQUEST_STATEMENT "UPDATE %s SET %s"
								   " WHERE id OPERATOR(pg_catalog.=) $1"
								   " AND status::pg_catalog.text OPERATOR(pg_catalog.=) $2",
								   request->table, assignments),
						  task_id != NULL ? 3 : 2, argtypes, args, NULL,
						  false, 0);

	/*
	 * The row is locked, and has the status that was found, so that nothing
	 * else can have kept it from being changed.
	 */
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("screenshot task request %lld was not changed",
						(long long) request->id),
				 errhint("Check the triggers on screenshot_task_request.")));
}

/*
 * Go back to being the caller.
 */
void
admin_finish(const Caller *caller)
{
	/*
	 * In the reverse order of admin_begin().  After an error PostgreSQL does the
	 * same at the end of the (sub)transaction.
	 */
	SPI_finish();
	AtEOXact_GUC(false, caller->guc_level);
	SetUserIdAndSecContext(caller->user, caller->security_context);
}

/*
 * Raise an error if a request was made elsewhere: nothing here would act on
 * what is said of it.
 */
static void
refuse_held(const LockedRequest *request, const char *verb)
{
	if (request->is_held)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("screenshot task request %lld cannot be %s: it is held",
						(long long) request->id, verb),
				 errdetail("It came in a dump or a copy of a database, and is not sent."),
				 errhint("Use adopt_screenshot_task_requests() to have it sent from this database.")));
}

/*
 * Raise an error: the request's status does not allow this.
 */
static void
refuse(const LockedRequest *request, const char *verb, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("screenshot task request %lld cannot be %s: it is %s",
					(long long) request->id, verb, request->status_name),
			 hint != NULL ? errhint("%s", hint) : 0));
}

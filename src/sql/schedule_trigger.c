/*-------------------------------------------------------------------------
 *
 * schedule_trigger.c
 *	  screenshot_task_trigger(): the requests of a table follow its rows
 *
 * The parameters of a request are taken from the row as the arguments of the
 * trigger say, see trigger_arguments.c.  A row that is changed so that its request
 * would be another one has the old one withdrawn, and a new one made; one that is
 * deleted has it withdrawn.  It runs as whoever fired the trigger, and needs that
 * role's right to insert; or as the owner of the table, if an argument says so.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "sql/make_request.h"
#include "sql/schedule_trigger.h"
#include "sql/trigger_arguments.h"
#include "sql/withdraw.h"

/* What is read once for all rows for which a statement fires a trigger */
typedef struct FiredTrigger
{
	TriggerArguments *arguments;
	Oid			owner;			/* whom it acts as; InvalidOid: whoever fired it */
} FiredTrigger;

static void describe_trigger(void *arg);
static void check_fired_rightly(FunctionCallInfo fcinfo);
static FiredTrigger *read_trigger(FunctionCallInfo fcinfo);
static void follow_row(FunctionCallInfo fcinfo);
static void follow_change(const TriggerData *data, const RequestValues *old,
						  const RequestValues *new);
static Oid	owner_to_act_as(const TriggerData *data);
static Oid	table_of_trigger(const Trigger *trigger);

static object_access_hook_type previous_object_access = NULL;

static void at_object_access(ObjectAccessType access, Oid class, Oid object,
							 int sub_object, void *arg);
static void check_new_trigger(Oid id);
static bool names_as_owner(HeapTuple tuple, TupleDesc desc);
pg_noreturn static void refuse_to_act(const char *trigger, const char *table,
									  const char *detail, const char *hint);

PG_FUNCTION_INFO_V1(screenshot_task_trigger);

/*
 * Have triggers be checked when they are created.  To be called as the library is
 * loaded.
 */
void
trigger_init(void)
{
	previous_object_access = object_access_hook;
	object_access_hook = at_object_access;
}

static void
at_object_access(ObjectAccessType access, Oid class, Oid object,
				 int sub_object, void *arg)
{
	if (previous_object_access)
		previous_object_access(access, class, object, sub_object, arg);
	if (class == TriggerRelationId && access == OAT_POST_CREATE)
		check_new_trigger(object);
}

/*
 * Raise an error if a trigger would act as the owner of its table, and somebody
 * creates it who may not.  Who creates triggers is not recorded, and the privilege
 * to may be gone when it is fired.
 */
static void
check_new_trigger(Oid id)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(id));
	scan = systable_beginscan(catalog, TriggerOidIndexId, true, SnapshotSelf, 1,
							  &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_trigger trigger = (Form_pg_trigger) GETSTRUCT(tuple);
		char	   *function = get_func_name(trigger->tgfoid);

		/* That of a partition is created with that of the table. */
		if (!OidIsValid(trigger->tgparentid) && function != NULL &&
			strcmp(function, "screenshot_task_trigger") == 0 &&
			names_as_owner(tuple, RelationGetDescr(catalog)) &&
			!relation_ownercheck(trigger->tgrelid, GetUserId()))
			refuse_to_act(NameStr(trigger->tgname),
						  get_rel_name(trigger->tgrelid),
						  "Only the owner of the table may create such a trigger.",
						  NULL);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
}

/*
 * Does an argument of a trigger, as the catalog has it, begin with as_owner?
 */
static bool
names_as_owner(HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, Anum_pg_trigger_tgargs, desc, &isnull);
	bytea	   *args = isnull ? NULL : DatumGetByteaPP(value);
	const char *arg = args == NULL ? NULL : VARDATA_ANY(args);
	const char *end = args == NULL ? NULL : arg + VARSIZE_ANY_EXHDR(args);

	/* Each ends with a NUL. */
	for (; arg < end; arg += strlen(arg) + 1)
	{
		if (strncmp(arg, AS_OWNER, strlen(AS_OWNER)) == 0)
			return true;
	}
	return false;
}

/*
 * Raise an error.  The hint may be NULL.
 */
pg_noreturn static void
refuse_to_act(const char *trigger, const char *table, const char *detail,
			  const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("trigger \"%s\" cannot act as the owner of table \"%s\"",
					trigger, table),
			 errdetail("%s", detail),
			 hint != NULL ? errhint("%s", hint) : 0));
}

/*
 * AFTER INSERT OR UPDATE OR DELETE ... FOR EACH ROW
 */
Datum
screenshot_task_trigger(PG_FUNCTION_ARGS)
{
	ErrorContextCallback context;

	check_fired_rightly(fcinfo);
	context.callback = describe_trigger;
	context.arg = fcinfo->context;
	context.previous = error_context_stack;
	error_context_stack = &context;
	follow_row(fcinfo);
	error_context_stack = context.previous;
	return PointerGetDatum(NULL);
}

/*
 * Context of an error: a value that does not fit is the trigger's matter.
 */
static void
describe_trigger(void *arg)
{
	TriggerData *data = arg;

	errcontext("trigger \"%s\" on table \"%s\"", data->tg_trigger->tgname,
			   RelationGetRelationName(data->tg_relation));
}

/*
 * Raise an error unless the trigger is one that can follow the rows of its table.
 * One that is fired by TRUNCATE is there to raise one: the rows are not known.
 */
static void
check_fired_rightly(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	const char *name;
	const char *table;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("screenshot_task_trigger must be called as a trigger")));
	name = data->tg_trigger->tgname;
	table = RelationGetRelationName(data->tg_relation);
	if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot truncate table \"%s\", whose rows have screenshot tasks",
						table),
				 errdetail("TRUNCATE fires no trigger for the rows that it removes."),
				 errhint("Use DELETE FROM %s.", quote_identifier(table))));
	if (!TRIGGER_FIRED_AFTER(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" on table \"%s\" must be fired AFTER the event",
						name, table),
				 errdetail("Before it, the row may still become another."),
				 errhint("Create it as AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW.",
						 quote_identifier(table))));
	if (!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" on table \"%s\" must be fired FOR EACH ROW",
						name, table),
				 errdetail("For a statement, it is not told of the rows."),
				 errhint("Create it as AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW.",
						 quote_identifier(table))));
}

static FiredTrigger *
read_trigger(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	FmgrInfo   *function = fcinfo->flinfo;
	FiredTrigger *fired = function->fn_extra;

	if (fired != NULL)
		return fired;
	fired = MemoryContextAllocZero(function->fn_mcxt, sizeof(FiredTrigger));
	fired->arguments = read_trigger_arguments(data->tg_trigger,
											  data->tg_relation,
											  function->fn_mcxt);
	if (acts_as_owner(fired->arguments))
		fired->owner = owner_to_act_as(data);
	function->fn_extra = fired;
	return fired;
}

/*
 * Have the request of a row follow it.
 */
static void
follow_row(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	const FiredTrigger *fired = read_trigger(fcinfo);
	TriggerArguments *arguments = fired->arguments;
	bool		is_update = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
	bool		is_insert = TRIGGER_FIRED_BY_INSERT(data->tg_event);
	RequestValues old;
	RequestValues new;
	Oid			user;
	int			security_context;

	if (is_update &&
		!row_has_changed(arguments, data->tg_trigtuple, data->tg_newtuple))
		return;
	if (!is_insert)
		take_row(arguments, data->tg_trigtuple, true, &old);
	if (is_update || is_insert)
		take_row(arguments, is_update ? data->tg_newtuple : data->tg_trigtuple,
				 false, &new);

	GetUserIdAndSecContext(&user, &security_context);
	if (OidIsValid(fired->owner))
		SetUserIdAndSecContext(fired->owner, security_context |
							   SECURITY_LOCAL_USERID_CHANGE);
	follow_change(data, is_insert ? NULL : &old,
				  is_update || is_insert ? &new : NULL);
	SetUserIdAndSecContext(user, security_context);
}

/*
 * Withdraw the request of the row as it was, and make one of the row as it is; NULL
 * stands for no row.
 */
static void
follow_change(const TriggerData *data, const RequestValues *old,
			  const RequestValues *new)
{
	bool		follows = TRIGGER_FOR_UPDATE(data->tg_trigger->tgtype) ||
		TRIGGER_FOR_DELETE(data->tg_trigger->tgtype);
	MadeRequest made;
	int64		withdrawn = 0;

	if (new != NULL && new->nulls[PARAMETER_REFERENCE] && follows)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("reference must not be null where the trigger is fired by UPDATE or DELETE"),
				 errdetail("When the row is changed or deleted, its request is found by that.")));
	if (old != NULL && !old->nulls[PARAMETER_REFERENCE])
		withdrawn = leave_reference(old);
	if (new == NULL)
		return;
	make_request(new, follows ? OTHER_ROW_IS_REPLACED : OTHER_STAYS, withdrawn,
				 &made);
	if (old != NULL || made.differing == NULL)
		return;
	if (made.existed)
		ereport(NOTICE,
				(errmsg("screenshot task request %lld has reference \"%s\" and other parameters",
						(long long) made.id,
						TextDatumGetCString(new->values[PARAMETER_REFERENCE])),
				 errdetail("No other request was made. These differ: %s.",
						   made.differing),
				 errhint("A reference must be unique over all rows and tables.")));
	else
		ereport(NOTICE,
				(errmsg("screenshot task request %lld replaces request %lld, which had reference \"%s\"",
						(long long) made.id, (long long) made.replaces,
						TextDatumGetCString(new->values[PARAMETER_REFERENCE])),
				 errdetail("These parameters differ: %s.", made.differing),
				 errhint("A reference must be unique over all rows and tables.")));
}

/*
 * The role that a trigger acts as that acts as the owner of its table: that of the
 * table on which it was created, if this is a partition.
 *
 * Raises an error if others may create triggers on that: they would have the owner
 * request whatever they like.
 */
static Oid
owner_to_act_as(const TriggerData *data)
{
	Oid			table = table_of_trigger(data->tg_trigger);
	Oid			owner;
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Datum		acl;
	bool		isnull;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", table);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	name = pstrdup(NameStr(((Form_pg_class) GETSTRUCT(tuple))->relname));
	acl = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relacl, &isnull);
	if (!isnull)
	{
		Acl		   *items = DatumGetAclPCopy(acl);

		for (int i = 0; i < ACL_NUM(items); i++)
		{
			const AclItem *item = &ACL_DAT(items)[i];

			if ((ACLITEM_GET_PRIVS(*item) & ACL_TRIGGER) == 0 ||
				(OidIsValid(item->ai_grantee) &&
				 has_privs_of_role(item->ai_grantee, owner)))
				continue;
			refuse_to_act(data->tg_trigger->tgname, name,
						  "Others have the privilege TRIGGER on the table, and could have the owner request any task.",
						  psprintf("REVOKE TRIGGER ON %s FROM %s.",
								   quote_identifier(name),
								   OidIsValid(item->ai_grantee) ?
								   quote_identifier(GetUserNameFromId(item->ai_grantee, false)) :
								   "PUBLIC"));
		}
	}
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * The table on which a trigger was created.
 */
static Oid
table_of_trigger(const Trigger *trigger)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	Oid			id = trigger->tgoid;
	Oid			table = InvalidOid;

	while (OidIsValid(id))
	{
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple	tuple;

		ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(id));
		scan = systable_beginscan(catalog, TriggerOidIndexId, true, NULL, 1,
								  &key);
		tuple = systable_getnext(scan);
		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "could not find trigger %u", id);
		table = ((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid;
		id = ((Form_pg_trigger) GETSTRUCT(tuple))->tgparentid;
		systable_endscan(scan);
	}
	table_close(catalog, AccessShareLock);
	return table;
}

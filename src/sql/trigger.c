/*-------------------------------------------------------------------------
 *
 * trigger.c
 *	  screenshot_task_trigger(): a request for each row of a user's table
 *
 * The parameters of a request are taken from the row as the arguments of the
 * trigger say, see trigger_arguments.c.  It runs as whoever fired the trigger,
 * and needs that role's right to insert.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "compat.h"
#include "sql/make_request.h"
#include "sql/trigger_arguments.h"

static void describe_trigger(void *arg);
static void check_fired_rightly(FunctionCallInfo fcinfo);
static void follow_row(FunctionCallInfo fcinfo);

PG_FUNCTION_INFO_V1(screenshot_task_trigger);

/*
 * AFTER INSERT OR UPDATE ... FOR EACH ROW
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
				 errhint("Create it as AFTER INSERT OR UPDATE ON %s FOR EACH ROW.",
						 quote_identifier(table))));
	if (!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" on table \"%s\" must be fired FOR EACH ROW",
						name, table),
				 errdetail("For a statement, it is not told of the rows."),
				 errhint("Create it as AFTER INSERT OR UPDATE ON %s FOR EACH ROW.",
						 quote_identifier(table))));
	if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" on table \"%s\" must not be fired by DELETE",
						name, table)));
}

/*
 * Request a task for the row that the trigger was fired for.
 */
static void
follow_row(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	FmgrInfo   *function = fcinfo->flinfo;
	RequestValues values;
	MadeRequest made;

	/* once for all rows of a statement */
	if (function->fn_extra == NULL)
		function->fn_extra = read_trigger_arguments(data->tg_trigger,
													data->tg_relation,
													function->fn_mcxt);
	take_row(function->fn_extra,
			 TRIGGER_FIRED_BY_UPDATE(data->tg_event) ?
			 data->tg_newtuple : data->tg_trigtuple, &values);
	make_request(&values, &made);
}

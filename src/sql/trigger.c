/*-------------------------------------------------------------------------
 *
 * trigger.c
 *	  screenshot_task_trigger(): a request for each row of a user's table
 *
 * The trigger becomes an INSERT into screenshot_task_request, with the values
 * of the row's columns as parameters of their own types, so that PostgreSQL's
 * rules of assignment say which column fits which parameter.  Constants are
 * read at each firing, since "now" is then another time, and so may be a time
 * without a zone.  It runs as whoever fired the trigger, and needs that role's
 * right to insert.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "sql/row_triggers.h"
#include "sql/admin_functions.h"
#include "table/request_table.h"
#include "util/statement.h"

/* The parameters of a request */
typedef struct Parameter
{
	const char *name;
	bool		required;
	Oid			type;			/* that a constant is read as */
} Parameter;

static const Parameter parameters[] = {
	{"stream_name", true, TEXTOID},
	{"domain_name", true, TEXTOID},
	{"app_name", true, TEXTOID},
	{"end_time", true, TIMESTAMPTZOID},
	{"template_id", true, INT8OID},
	{"start_time", false, TIMESTAMPTZOID},
	{"stream_type", false, INT4OID},
	{"extension", false, TEXTOID},
	{"server", false, NAMEOID},
	{"reference", false, TEXTOID},
};

#define N_PARAMETERS	((int) lengthof(parameters))

/* Where a parameter comes from */
typedef struct Source
{
	bool		given;			/* by an argument of the trigger? */
	const char *constant;		/* NULL: not from a constant */
	int			column;			/* 0: not from a column */
} Source;

/* The most INSERTs that a session keeps plans of */
#define MAX_PLANS			64

/* What an INSERT depends on */
typedef struct InsertKey
{
	NameData	schema;
	NameData	table;
	Oid			types[N_PARAMETERS];	/* InvalidOid: not given */
} InsertKey;

/* An INSERT, kept for all triggers that are alike */
typedef struct InsertPlan
{
	InsertKey	key;
	int			n_running;		/* executions under way, one in the other */
	SPIPlanPtr	plan;
} InsertPlan;

static void describe_trigger(void *arg);
static void check_fired_rightly(FunctionCallInfo fcinfo);
static void read_arguments(const Trigger *trigger, Relation relation,
						   Source *sources);
static void read_argument(const Trigger *trigger, Relation relation,
						  const char *argument, Source *sources);
static void take_columns_of_same_name(const Trigger *trigger,
									  Relation relation, Source *sources);
static char *list_columns(Relation relation);
static char *list_parameters(void);
static void check_column(Relation relation, int column);
static Datum read_constant(const char *constant, Oid type);
static InsertPlan *get_plan(const InsertKey *key);
static void execute(InsertPlan *plan, Datum *args, const char *nulls);
static void drop_idle_plans(HTAB *plans);
static SPIPlanPtr prepare_insert(const InsertKey *key);

PG_FUNCTION_INFO_V1(screenshot_task_trigger);

/*
 * AFTER INSERT OR UPDATE ... FOR EACH ROW
 */
Datum
screenshot_task_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	Source		sources[N_PARAMETERS];
	InsertKey	key;
	Datum		args[N_PARAMETERS];
	char		nulls[N_PARAMETERS];
	int			nargs = 0;
	HeapTuple	row;
	Relation	relation;
	Relation	requests;
	ErrorContextCallback context;

	check_fired_rightly(fcinfo);
	relation = data->tg_relation;
	context.callback = describe_trigger;
	context.arg = data;
	context.previous = error_context_stack;
	error_context_stack = &context;

	row = TRIGGER_FIRED_BY_UPDATE(data->tg_event) ?
		data->tg_newtuple : data->tg_trigtuple;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");

	read_arguments(data->tg_trigger, relation, sources);
	memset(&key, 0, sizeof(key));
	requests = request_table_open(RowExclusiveLock);
	namestrcpy(&key.schema,
			   get_namespace_name(RelationGetNamespace(requests)));
	namestrcpy(&key.table, RelationGetRelationName(requests));
	check_may_insert(requests);
	table_close(requests, NoLock);
	for (int i = 0; i < N_PARAMETERS; i++)
	{
		bool		isnull = false;

		if (sources[i].constant != NULL)
		{
			key.types[i] = parameters[i].type;
			args[nargs] = read_constant(sources[i].constant, key.types[i]);
		}
		else if (sources[i].column > 0)
		{
			check_column(relation, sources[i].column);
			key.types[i] = SPI_gettypeid(RelationGetDescr(relation),
										 sources[i].column);
			args[nargs] = SPI_getbinval(row, RelationGetDescr(relation),
										sources[i].column, &isnull);
		}
		else
			continue;
		nulls[nargs++] = isnull ? 'n' : ' ';
	}

	execute(get_plan(&key), args, nulls);
	SPI_finish();
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

static void
check_fired_rightly(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("screenshot_task_trigger must be called as a trigger")));
	if (!TRIGGER_FIRED_AFTER(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		TRIGGER_FIRED_BY_DELETE(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" must be fired AFTER INSERT OR UPDATE FOR EACH ROW",
						data->tg_trigger->tgname)));
}

/*
 * Find out where each parameter comes from.
 */
static void
read_arguments(const Trigger *trigger, Relation relation, Source *sources)
{
	memset(sources, 0, N_PARAMETERS * sizeof(Source));
	for (int i = 0; i < trigger->tgnargs; i++)
		read_argument(trigger, relation, trigger->tgargs[i], sources);
	take_columns_of_same_name(trigger, relation, sources);
}

/*
 * Read one argument: "parameter=column" or "parameter:=constant".
 */
static void
read_argument(const Trigger *trigger, Relation relation, const char *argument,
			  Source *sources)
{
	const char *equals = strchr(argument, '=');
	bool		is_constant = equals != NULL && equals > argument &&
		equals[-1] == ':';
	int			name_len = equals == NULL ? 0 :
		(int) (equals - argument) - (is_constant ? 1 : 0);
	int			which;

	for (which = 0; which < N_PARAMETERS; which++)
	{
		if ((int) strlen(parameters[which].name) == name_len &&
			strncmp(parameters[which].name, argument, name_len) == 0)
			break;
	}
	if (equals == NULL || which == N_PARAMETERS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid argument \"%s\" of trigger \"%s\" on table \"%s\"",
						argument, trigger->tgname,
						RelationGetRelationName(relation)),
				 errdetail("An argument says \"parameter=column\" or \"parameter:=constant\"."),
				 errhint("Parameters are: %s.", list_parameters())));
	if (sources[which].given)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("trigger \"%s\" on table \"%s\" gives %s twice",
						trigger->tgname, RelationGetRelationName(relation),
						parameters[which].name)));

	sources[which].given = true;
	if (is_constant)
	{
		sources[which].constant = equals + 1;
		return;
	}
	sources[which].column = SPI_fnumber(RelationGetDescr(relation), equals + 1);
	if (sources[which].column <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("argument \"%s\" of trigger \"%s\" names a column that table \"%s\" does not have",
						argument, trigger->tgname,
						RelationGetRelationName(relation)),
				 errhint("Columns are: %s.", list_columns(relation))));
}

/*
 * What no argument speaks of comes from the column of the same name, if
 * there is one.
 */
static void
take_columns_of_same_name(const Trigger *trigger, Relation relation,
						  Source *sources)
{
	for (int i = 0; i < N_PARAMETERS; i++)
	{
		int			column;

		if (sources[i].given)
			continue;
		column = SPI_fnumber(RelationGetDescr(relation), parameters[i].name);
		if (column > 0)
			sources[i].column = column;
		else if (parameters[i].required)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("trigger \"%s\" on table \"%s\" has nothing to take %s from",
							trigger->tgname, RelationGetRelationName(relation),
							parameters[i].name),
					 errdetail("The table has no column of that name, and no argument of the trigger gives it."),
					 errhint("Give the trigger an argument '%s=column' or '%s:=constant'. Columns are: %s.",
							 parameters[i].name, parameters[i].name,
							 list_columns(relation))));
	}
}

static char *
list_columns(Relation relation)
{
	TupleDesc	desc = RelationGetDescr(relation);
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped)
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
							 NameStr(TupleDescAttr(desc, i)->attname));
	}
	return names.data;
}

static char *
list_parameters(void)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < N_PARAMETERS; i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "",
						 parameters[i].name);
	return names.data;
}

/*
 * A column whose value is only computed as it is read has none in the row
 * that a trigger gets.
 */
static void
check_column(Relation relation, int column)
{
	Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(relation),
												column - 1);

	if (attribute->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a screenshot task cannot take a parameter from the virtual generated column \"%s\"",
						NameStr(attribute->attname)),
				 errhint("Make it a STORED generated column.")));
}

static Datum
read_constant(const char *constant, Oid type)
{
	Oid			input;
	Oid			element;

	getTypeInputInfo(type, &input, &element);
	return OidInputFunctionCall(input, unconstify(char *, constant), element,
								-1);
}

/*
 * The plan of an INSERT.
 */
static InsertPlan *
get_plan(const InsertKey *key)
{
	static HTAB *plans = NULL;
	InsertPlan *entry;
	SPIPlanPtr	plan;

	if (plans == NULL)
	{
		HASHCTL		control = {
			.keysize = sizeof(InsertKey),
			.entrysize = sizeof(InsertPlan)
		};

		plans = hash_create("screenshot_task trigger plans", 16, &control,
							HASH_ELEM | HASH_BLOBS);
	}

	entry = hash_search(plans, key, HASH_FIND, NULL);
	if (entry != NULL)
		return entry;

	/* All that may fail comes before there is an entry. */
	plan = prepare_insert(key);
	if (hash_get_num_entries(plans) >= MAX_PLANS)
		drop_idle_plans(plans);
	entry = hash_search(plans, key, HASH_ENTER, NULL);
	entry->n_running = 0;
	entry->plan = plan;
	(void) SPI_keepplan(plan);
	return entry;
}

static void
execute(InsertPlan *plan, Datum *args, const char *nulls)
{
	plan->n_running++;
	PG_TRY();
	{
		insert_request(plan->plan, args, nulls);
	}
	PG_FINALLY();
	{
		plan->n_running--;
	}
	PG_END_TRY();
}

/*
 * Make room: a session that lives long may see many types come and go.  A
 * plan that is being executed may be that of a trigger which fired this one.
 */
static void
drop_idle_plans(HTAB *plans)
{
	HASH_SEQ_STATUS status;
	InsertPlan *entry;

	hash_seq_init(&status, plans);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (entry->n_running > 0)
			continue;
		SPI_freeplan(entry->plan);
		(void) hash_search(plans, &entry->key, HASH_REMOVE, NULL);
	}
}

static SPIPlanPtr
prepare_insert(const InsertKey *key)
{
	StringInfoData names;
	StringInfoData values;
	Oid			argtypes[N_PARAMETERS];
	int			nargs = 0;
	char	   *text;

	initStringInfo(&names);
	initStringInfo(&values);
	for (int i = 0; i < N_PARAMETERS; i++)
	{
		const char *separator = nargs > 0 ? ", " : "";

		if (!OidIsValid(key->types[i]))
			continue;
		argtypes[nargs++] = key->types[i];
		appendStringInfo(&names, "%s%s", separator, parameters[i].name);
		appendStringInfo(&values, "%s$%d", separator, nargs);
	}
	text = psprintf("INSERT INTO %s (%s) VALUES (%s)"
					" ON CONFLICT (role, reference)"
					" WHERE reference IS NOT NULL DO NOTHING",
					quote_qualified_identifier(NameStr(key->schema),
											   NameStr(key->table)),
					names.data, values.data);
	return spi_prepare(text, nargs, argtypes);
}

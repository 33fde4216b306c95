/*-------------------------------------------------------------------------
 *
 * trigger_arguments.c
 *	  What the arguments of screenshot_task_trigger() say
 *
 * An argument says "parameter=column" or "parameter:=constant", and a constant
 * may have "{column}" in it.  The arguments are read once for each statement
 * that fires the trigger, and looked up in the table's columns as they are then;
 * with each row its parameters are taken from it.
 *
 * A column's value becomes a parameter's as an INSERT would assign it.  A
 * constant is read at each row: "now" is another time in another transaction,
 * and so may be a time without a zone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "sql/trigger_arguments.h"
#include "util/text.h"

/* A part of a constant: a text, or the text of a column */
typedef struct Part
{
	const char *text;			/* NULL: that of the column */
	int			column;
	const char *column_name;
	FmgrInfo	output;
} Part;

typedef enum SourceKind
{
	FROM_NOWHERE,
	FROM_COLUMN,				/* its value, converted by "convert" if that is set */
	FROM_COLUMN_TEXT,			/* its text, by "output", is read as a constant */
	FROM_PARTS					/* which are read as a constant */
} SourceKind;

/* Where a parameter comes from */
typedef struct Source
{
	SourceKind	kind;
	const char *argument;		/* NULL: the column has the parameter's name */
	int			column;
	FmgrInfo	convert;		/* fn_oid is InvalidOid: not needed */
	FmgrInfo	output;
	FmgrInfo	input;			/* of the parameter's type */
	Oid			input_element;
	Part	   *parts;
	int			n_parts;
} Source;

struct TriggerArguments
{
	TupleDesc	desc;			/* of the table */
	bool		as_owner;		/* are requests the owner's of the table? */
	Source		sources[N_PARAMETERS];
};

/* What is being read, for errors */
typedef struct Reader
{
	const Trigger *trigger;
	Relation	relation;
	TriggerArguments *arguments;
} Reader;

static void read_argument(Reader *reader, const char *argument);
pg_noreturn static void refuse_argument(const Reader *reader,
										const char *argument,
										const char *name, int length);
static void read_column(Reader *reader, int parameter, const char *column);
static void read_constant(Reader *reader, int parameter, const char *constant);
static const char *read_part(Reader *reader, Source *source,
							 const char *constant, Part *part);
static void read_as_owner(Reader *reader, const char *argument,
						  const char *value);
static void take_columns_of_same_name(Reader *reader);
static void require_reference(const Reader *reader);
static void take_column(Reader *reader, int parameter, int column);
static int	find_column(const Reader *reader, const char *argument,
						const char *column);
static void check_column(const Reader *reader, int column);
pg_noreturn static void refuse_type(const Reader *reader, int parameter,
									int column);
static char *list_columns(Relation relation);
static bool has_changed(const TriggerArguments *arguments, int parameter,
						HeapTuple old, HeapTuple new);
static bool is_same_column(const TriggerArguments *arguments, int column,
						   HeapTuple old, HeapTuple new);
static Datum get_value(const TriggerArguments *arguments, int parameter,
					   HeapTuple row, bool is_old, bool *isnull);
static char *join_parts(const TriggerArguments *arguments,
						const Source *source, HeapTuple row, bool is_old);

/*
 * Read the arguments of a trigger on a table: palloc'd in a context, for as
 * long as neither changes.
 *
 * Raises an error that says what is wrong with them.
 */
TriggerArguments *
read_trigger_arguments(const Trigger *trigger, Relation relation,
					   MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	Reader		reader = {trigger, relation, palloc0(sizeof(TriggerArguments))};

	reader.arguments->desc = CreateTupleDescCopyConstr(RelationGetDescr(relation));
	for (int i = 0; i < trigger->tgnargs; i++)
		read_argument(&reader, trigger->tgargs[i]);
	take_columns_of_same_name(&reader);
	if (TRIGGER_FOR_UPDATE(trigger->tgtype) ||
		TRIGGER_FOR_DELETE(trigger->tgtype))
		require_reference(&reader);
	MemoryContextSwitchTo(old);
	return reader.arguments;
}

/*
 * Read one argument.
 */
static void
read_argument(Reader *reader, const char *argument)
{
	const char *equals = strchr(argument, '=');
	bool		is_constant = equals != NULL && equals > argument &&
		equals[-1] == ':';
	int			length = equals == NULL ? (int) strlen(argument) :
		(int) (equals - argument) - (is_constant ? 1 : 0);
	int			parameter = find_parameter(argument, length);
	Source	   *source;

	if (is_constant && length == (int) strlen(AS_OWNER) &&
		strncmp(argument, AS_OWNER, length) == 0)
	{
		read_as_owner(reader, argument, equals + 1);
		return;
	}
	if (equals == NULL || parameter == N_PARAMETERS)
		refuse_argument(reader, argument, argument, length);
	source = &reader->arguments->sources[parameter];
	if (source->kind != FROM_NOWHERE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("trigger \"%s\" on table \"%s\" specifies %s more than once",
						reader->trigger->tgname,
						RelationGetRelationName(reader->relation),
						request_parameters[parameter].name)));
	source->argument = pstrdup(argument);
	if (is_constant)
		read_constant(reader, parameter, equals + 1);
	else
		read_column(reader, parameter, equals + 1);
}

/*
 * Raise an error for an argument of another form, or of a parameter that there
 * is not.
 */
pg_noreturn static void
refuse_argument(const Reader *reader, const char *argument, const char *name,
				int length)
{
	const char *names[N_PARAMETERS + 1];
	const char *closest;

	for (int i = 0; i < N_PARAMETERS; i++)
		names[i] = request_parameters[i].name;
	names[N_PARAMETERS] = AS_OWNER;
	closest = closest_name(pnstrdup(name, length), names, lengthof(names));
	if (closest != NULL && strncmp(closest, name, length) == 0)
		closest = NULL;			/* it lacks more than letters */
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid argument \"%s\" of trigger \"%s\" on table \"%s\"",
					argument, reader->trigger->tgname,
					RelationGetRelationName(reader->relation)),
			 errdetail("An argument has the form \"parameter=column\" or \"parameter:=constant\"."),
			 closest != NULL ?
			 errhint("Perhaps you meant the parameter \"%s\".", closest) :
			 errhint("Parameters are: %s.", list_parameters())));
}

static void
read_as_owner(Reader *reader, const char *argument, const char *value)
{
	if (!parse_bool(value, &reader->arguments->as_owner))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" of trigger \"%s\" on table \"%s\" is neither true nor false",
						argument, reader->trigger->tgname,
						RelationGetRelationName(reader->relation))));
}

/*
 * Raise an error if it cannot be found again what was requested for a row.
 */
static void
require_reference(const Reader *reader)
{
	const Source *source = &reader->arguments->sources[PARAMETER_REFERENCE];
	bool		has_column = source->kind == FROM_COLUMN ||
		source->kind == FROM_COLUMN_TEXT;

	for (int i = 0; source->kind == FROM_PARTS && i < source->n_parts; i++)
		has_column |= source->parts[i].text == NULL;
	if (!has_column)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("trigger \"%s\" on table \"%s\" has no reference that tells the rows apart",
						reader->trigger->tgname,
						RelationGetRelationName(reader->relation)),
				 errdetail("When a row is changed or deleted, its request is found by that."),
				 errhint("Give the trigger an argument such as 'reference:=%s {column}', with a column that is unique.",
						 RelationGetRelationName(reader->relation))));
}

/*
 * A parameter comes from the column of a name.
 */
static void
read_column(Reader *reader, int parameter, const char *column)
{
	const char *argument = reader->arguments->sources[parameter].argument;
	const char *name = request_parameters[parameter].name;
	int			length = (int) strlen(column);

	if (length > 2 && column[0] == '{' && column[length - 1] == '}' &&
		SPI_fnumber(reader->arguments->desc, column) <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" of trigger \"%s\" on table \"%s\" has braces around a column",
						argument, reader->trigger->tgname,
						RelationGetRelationName(reader->relation)),
				 errhint("Write '%s=%.*s', or '%s:=%s' for its text in a constant.",
						 name, length - 2, column + 1, name, column)));
	take_column(reader, parameter, find_column(reader, argument, column));
}

/*
 * A parameter comes from a constant: braces enclose columns, and are doubled
 * where they are themselves meant.
 */
static void
read_constant(Reader *reader, int parameter, const char *constant)
{
	Source	   *source = &reader->arguments->sources[parameter];
	Oid			input;

	source->kind = FROM_PARTS;
	source->parts = palloc0((strlen(constant) + 1) * sizeof(Part));
	while (*constant != '\0')
		constant = read_part(reader, source, constant,
							 &source->parts[source->n_parts++]);
	getTypeInputInfo(request_parameters[parameter].type, &input,
					 &source->input_element);
	fmgr_info(input, &source->input);
}

/*
 * Read a part of a constant, and return what follows.
 */
static const char *
read_part(Reader *reader, Source *source, const char *constant, Part *part)
{
	const char *end;
	bool		is_varlena;
	Oid			output;

	if (constant[0] != '{' && constant[0] != '}')
	{
		end = constant + strcspn(constant, "{}");
		part->text = pnstrdup(constant, end - constant);
		return end;
	}
	if (constant[1] == constant[0])
	{
		part->text = pnstrdup(constant, 1);
		return constant + 2;
	}
	end = constant + strcspn(constant, "}");
	if (constant[0] == '}' || *end == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" of trigger \"%s\" on table \"%s\" has an unmatched brace",
						source->argument, reader->trigger->tgname,
						RelationGetRelationName(reader->relation)),
				 errhint("Write \"{column}\" for the text of a column, and \"{{\" or \"}}\" for a brace.")));
	part->column_name = pnstrdup(constant + 1, end - constant - 1);
	part->column = find_column(reader, source->argument, part->column_name);
	check_column(reader, part->column);
	getTypeOutputInfo(TupleDescAttr(reader->arguments->desc,
									part->column - 1)->atttypid,
					  &output, &is_varlena);
	fmgr_info(output, &part->output);
	return end + 1;
}

/*
 * What no argument speaks of comes from the column of the same name, if there
 * is one.
 */
static void
take_columns_of_same_name(Reader *reader)
{
	for (int i = 0; i < N_PARAMETERS; i++)
	{
		const char *name = request_parameters[i].name;
		int			column;

		if (reader->arguments->sources[i].kind != FROM_NOWHERE)
			continue;
		column = SPI_fnumber(reader->arguments->desc, name);
		if (column > 0)
			take_column(reader, i, column);
		else if (request_parameters[i].required)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("trigger \"%s\" on table \"%s\" has no source for %s",
							reader->trigger->tgname,
							RelationGetRelationName(reader->relation), name),
					 errdetail("The table has no column of that name, and no argument of the trigger gives it."),
					 errhint("Give the trigger an argument '%s=column' or '%s:=constant'. Columns are: %s.",
							 name, name, list_columns(reader->relation))));
	}
}

/*
 * A parameter comes from a column.
 */
static void
take_column(Reader *reader, int parameter, int column)
{
	Source	   *source = &reader->arguments->sources[parameter];
	Oid			type = TupleDescAttr(reader->arguments->desc,
									 column - 1)->atttypid;
	Oid			wanted = request_parameters[parameter].type;
	Oid			function = InvalidOid;
	bool		is_varlena;

	check_column(reader, column);
	source->kind = FROM_COLUMN;
	source->column = column;
	if (getBaseType(type) == wanted)
		return;
	switch (find_coercion_pathway(wanted, type, COERCION_ASSIGNMENT, &function))
	{
		case COERCION_PATH_RELABELTYPE:
			break;
		case COERCION_PATH_FUNC:
			if (get_func_nargs(function) != 1)
				refuse_type(reader, parameter, column);
			fmgr_info(function, &source->convert);
			break;
		case COERCION_PATH_COERCEVIAIO:
			source->kind = FROM_COLUMN_TEXT;
			getTypeOutputInfo(type, &function, &is_varlena);
			fmgr_info(function, &source->output);
			getTypeInputInfo(wanted, &function, &source->input_element);
			fmgr_info(function, &source->input);
			break;
		default:
			refuse_type(reader, parameter, column);
	}
}

/*
 * The column of a name that an argument has.
 */
static int
find_column(const Reader *reader, const char *argument, const char *column)
{
	TupleDesc	desc = reader->arguments->desc;
	int			found = SPI_fnumber(desc, column);
	const char **names;
	const char *closest;
	int			n = 0;

	if (found > 0)
		return found;
	names = palloc((desc->natts + 1) * sizeof(char *));
	for (int i = 0; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped)
			names[n++] = NameStr(TupleDescAttr(desc, i)->attname);
	}
	closest = closest_name(column, names, n);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("argument \"%s\" of trigger \"%s\" names a column that table \"%s\" does not have",
					argument, reader->trigger->tgname,
					RelationGetRelationName(reader->relation)),
			 closest != NULL ?
			 errhint("Perhaps you meant the column \"%s\".", closest) :
			 errhint("Columns are: %s.", list_columns(reader->relation))));
}

/*
 * A column whose value is only computed as it is read has none in the row
 * that a trigger gets.
 */
static void
check_column(const Reader *reader, int column)
{
	Form_pg_attribute attribute = TupleDescAttr(reader->arguments->desc,
												column - 1);

	if (attribute->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot take a parameter of a screenshot task from virtual generated column \"%s\"",
						NameStr(attribute->attname)),
				 errhint("Make the column a STORED generated column.")));
}

pg_noreturn static void
refuse_type(const Reader *reader, int parameter, int column)
{
	Form_pg_attribute attribute = TupleDescAttr(reader->arguments->desc,
												column - 1);

	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("column \"%s\" of type %s cannot be assigned to %s of type %s",
					NameStr(attribute->attname),
					format_type_be(attribute->atttypid),
					request_parameters[parameter].name,
					format_type_be(request_parameters[parameter].type)),
			 errhint("Give the trigger another column, or its text as '%s:={%s}'.",
					 request_parameters[parameter].name,
					 NameStr(attribute->attname))));
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

/*
 * Are the requests those of the table's owner, whoever fires the trigger?
 */
bool
acts_as_owner(const TriggerArguments *arguments)
{
	return arguments->as_owner;
}

/*
 * Would a row's request be another one than that of the row before?
 */
bool
row_has_changed(const TriggerArguments *arguments, HeapTuple old,
				HeapTuple new)
{
	for (int i = 0; i < N_PARAMETERS; i++)
	{
		if (has_changed(arguments, i, old, new))
			return true;
	}
	return false;
}

static bool
has_changed(const TriggerArguments *arguments, int parameter, HeapTuple old,
			HeapTuple new)
{
	const Source *source = &arguments->sources[parameter];
	bool		is_same = source->column == 0 ||
		is_same_column(arguments, source->column, old, new);
	RequestValues values[2] = {0};

	for (int i = 0; is_same && i < source->n_parts; i++)
		is_same = source->parts[i].text != NULL ||
			is_same_column(arguments, source->parts[i].column, old, new);
	if (is_same)
		return false;
	values[0].given[parameter] = values[1].given[parameter] = true;
	values[0].values[parameter] = get_value(arguments, parameter, old, true,
											&values[0].nulls[parameter]);
	values[1].values[parameter] = get_value(arguments, parameter, new, false,
											&values[1].nulls[parameter]);
	return differing_parameters(&values[0], &values[1]) != NULL;
}

/*
 * Has a column the same bytes?
 */
static bool
is_same_column(const TriggerArguments *arguments, int column, HeapTuple old,
			   HeapTuple new)
{
	Form_pg_attribute attribute = TupleDescAttr(arguments->desc, column - 1);
	bool		was_null;
	bool		isnull;
	Datum		was = heap_getattr(old, column, arguments->desc, &was_null);
	Datum		is = heap_getattr(new, column, arguments->desc, &isnull);

	return was_null == isnull &&
		(isnull || datumIsEqual(was, is, attribute->attbyval,
								attribute->attlen));
}

/*
 * Take the parameters of a row of the table.  Values that are not part of the
 * row are palloc'd.
 *
 * Raises an error if one of them is not valid; but an old row may have been there
 * before the trigger was, and what has a null in a constant of it is null.
 */
void
take_row(const TriggerArguments *arguments, HeapTuple row, bool is_old,
		 RequestValues *values)
{
	for (int i = 0; i < N_PARAMETERS; i++)
	{
		values->given[i] = arguments->sources[i].kind != FROM_NOWHERE;
		values->values[i] = (Datum) 0;
		values->nulls[i] = true;
		if (values->given[i])
			values->values[i] = get_value(arguments, i, row, is_old,
										  &values->nulls[i]);
	}
}

static Datum
get_value(const TriggerArguments *arguments, int parameter, HeapTuple row,
		  bool is_old, bool *isnull)
{
	Source	   *source = unconstify(Source *, &arguments->sources[parameter]);
	Datum		value;
	char	   *text;

	*isnull = false;
	if (source->kind == FROM_PARTS)
	{
		text = join_parts(arguments, source, row, is_old);
		*isnull = text == NULL;
		if (*isnull)
			return (Datum) 0;
	}
	else
	{
		value = heap_getattr(row, source->column, arguments->desc, isnull);
		if (*isnull)
			return (Datum) 0;
		if (source->kind == FROM_COLUMN)
			return !OidIsValid(source->convert.fn_oid) ? value :
				FunctionCall1Coll(&source->convert, DEFAULT_COLLATION_OID,
								  value);
		text = OutputFunctionCall(&source->output, value);
	}
	return InputFunctionCall(&source->input, text, source->input_element, -1);
}

/*
 * The text of a constant, with the columns of a row in it; NULL if one of them is
 * null, in an old row.
 */
static char *
join_parts(const TriggerArguments *arguments, const Source *source,
		   HeapTuple row, bool is_old)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < source->n_parts; i++)
	{
		Part	   *part = &source->parts[i];
		bool		isnull;
		Datum		value;

		if (part->text != NULL)
		{
			appendStringInfoString(&text, part->text);
			continue;
		}
		value = heap_getattr(row, part->column, arguments->desc, &isnull);
		if (isnull && is_old)
			return NULL;
		if (isnull)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("column \"%s\" is null, and argument \"%s\" takes its text",
							part->column_name, source->argument),
					 errhint("Give the column a value, or take the parameter from a generated column that has one.")));
		appendStringInfoString(&text, OutputFunctionCall(&part->output, value));
	}
	return text.data;
}

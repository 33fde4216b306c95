/*-------------------------------------------------------------------------
 *
 * request_table.c
 *	  Finding screenshot_task_request, and checking that it has its shape
 *
 * The table's owner may rename it and put something else in its place, and may
 * alter its columns.  C code that took a number for the address of a text
 * would read memory that is not the row's.  So the table is found by what
 * belongs to the extension, whatever its name, and its columns and the type of
 * its status are checked under the lock under which rows are read or written.
 * Columns that were added behind those of the extension are welcome, and so
 * are those of them that were dropped.
 *
 * A check holds until the table, or the type, is changed: triggers check with
 * each row.
 *
 * Statements have to name the table, and no lock on it keeps its schema from
 * being renamed, and another made in its place.  Whoever may do that, such as
 * the owner of the database, would have the table's owner run what they put
 * there.  So each statement that is executed as the owner is checked, whenever
 * PostgreSQL has looked up its names, to have come to this table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "table/request_table.h"
#include "table/status.h"

#define EXTENSION_NAME	"screenshot_task"

/* A column, at the place that Anum_request_... says */
typedef struct Column
{
	const char *name;
	Oid			type;			/* InvalidOid: that of a status */
} Column;

static const Column columns[] = {
	{"id", INT8OID},
	{"stream_name", TEXTOID},
	{"domain_name", TEXTOID},
	{"app_name", TEXTOID},
	{"end_time", TIMESTAMPTZOID},
	{"template_id", INT8OID},
	{"start_time", TIMESTAMPTZOID},
	{"stream_type", INT4OID},
	{"extension", TEXTOID},
	{"server", NAMEOID},
	{"reference", TEXTOID},
	{"replaces", INT8OID},
	{"requested_by", NAMEOID},
	{"requested_at", TIMESTAMPTZOID},
	{"status", InvalidOid},
	{"next_attempt_at", TIMESTAMPTZOID},
	{"attempts", INT4OID},
	{"sent_at", TIMESTAMPTZOID},
	{"finished_at", TIMESTAMPTZOID},
	{"withdrawn_at", TIMESTAMPTZOID},
	{"task_id", TEXTOID},
	{"request_id", TEXTOID},
	{"trace_id", UUIDOID},
	{"error_code", TEXTOID},
	{"error_message", TEXTOID},
	{"misses", INT4OID},
	{"role", OIDOID},
	{"stamp", INT8OID},
	{"origin", INT8OID},
};

StaticAssertDecl(lengthof(columns) == Natts_request,
				 "each column of the request table has its entry");

/*
 * What was found to be as it should: the table, and the type of its statuses, to
 * which alone statements may refer besides what PostgreSQL is made with
 */
static struct
{
	Oid			table;			/* and not changed since */
	uint64		n_changes;		/* of that table, or of any enum */
	Oid			named_table;	/* see REQUEST_STATEMENT */
	Oid			named_type;		/* the same, of its statuses */
}			checked;

static post_parse_analyze_hook_type previous_post_parse_analyze = NULL;

static void watch_changes(void);
static void on_table_change(Datum arg, Oid relation);
static void on_enum_change(Datum arg, int cache, uint32 hash);
static void check_column(Relation relation, const Column *column,
						 Form_pg_attribute attribute);
pg_noreturn static void refuse_column(Relation relation, const char *column,
									  char *detail, const char *hint);
static void check_status_type(Relation relation, Oid extension);
static void check_statement(ParseState *pstate, Query *query,
							JumbleState *jumble);
static bool refers_elsewhere(Node *node, void *context);
static bool is_other_type(Oid type);

/*
 * Have statements that begin with REQUEST_STATEMENT be checked, from now on.
 */
void
request_table_init(void)
{
	previous_post_parse_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = check_statement;
}

/*
 * The extension's table, by its OID; InvalidOid if the extension is not in this
 * database.  It is not locked, and may be gone by now.
 *
 * Raises an error if the extension is here without its table.
 */
Oid
request_table_find(void)
{
	Oid			extension = get_extension_oid(EXTENSION_NAME, true);
	Oid			table = InvalidOid;
	Relation	catalog;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	if (!OidIsValid(extension))
		return InvalidOid;
	catalog = table_open(DependRelationId, AccessShareLock);
	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(ExtensionRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(extension));

	/*
	 * By the extension's members, not by name: the owner may have renamed the
	 * table, or put it into another schema.
	 */
	scan = systable_beginscan(catalog, DependReferenceIndexId, true, NULL,
							  lengthof(keys), keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend member = (Form_pg_depend) GETSTRUCT(tuple);

		/*
		 * Of several tables, the install script's is the first that was made.
		 */
		if (member->classid == RelationRelationId &&
			member->deptype == DEPENDENCY_EXTENSION &&
			get_rel_relkind(member->objid) == RELKIND_RELATION &&
			(!OidIsValid(table) || member->objid < table))
			table = member->objid;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	if (!OidIsValid(table))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("extension \"%s\" has no request table", EXTENSION_NAME),
				 errdetail("No table belongs to the extension."),
				 errhint("Use ALTER EXTENSION %s ADD TABLE to add it again.",
						 EXTENSION_NAME)));
	return table;
}

/*
 * Open the extension's table, with a lock, and check it.  The lock is for the
 * caller to keep as long as it relies on that, and for what it does by the
 * table's name: until then nobody can rename it.
 *
 * Raises an error if it is not there, or not as the install script made it.
 */
Relation
request_table_open(LOCKMODE mode)
{
	for (;;)
	{
		Oid			table = checked.table;
		Relation	relation;

		/*
		 * ALTER EXTENSION ... DROP TABLE sends no invalidation for the table,
		 * so that it is asked each time whose it is.
		 */
		if (!OidIsValid(table) ||
			!OidIsValid(getExtensionOfObject(RelationRelationId, table)))
			table = request_table_find();

		if (!OidIsValid(table))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("extension \"%s\" is not installed in this database",
							EXTENSION_NAME)));

		/*
		 * try_, since it may be dropped between being found and being locked.
		 */
		relation = try_table_open(table, mode);
		if (relation != NULL)
		{
			request_table_check(relation);
			return relation;
		}
		/* It was dropped meanwhile, perhaps to be made anew. */
		checked.table = InvalidOid;
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Raise an error unless a relation, which is open and locked, is the
 * extension's table, and as the install script made it.
 */
void
request_table_check(Relation relation)
{
	Oid			table = RelationGetRelid(relation);
	TupleDesc	desc = RelationGetDescr(relation);
	Oid			extension;
	uint64		before;

	/*
	 * The usual case, in which this costs one comparison for each row that a
	 * trigger sees.
	 */
	if (table == checked.table)
		return;

	/*
	 * Registered before the first look, so that no change is missed after it.
	 */
	watch_changes();

	/*
	 * Catalog access below may process invalidations.  If there was any, the
	 * check may have seen the old state, and is not remembered.
	 */
	before = checked.n_changes;

	extension = get_extension_oid(EXTENSION_NAME, true);
	if (!OidIsValid(extension) ||
		getExtensionOfObject(RelationRelationId, table) != extension ||
		relation->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not the request table of extension \"%s\"",
						RelationGetRelationName(relation), EXTENSION_NAME)));

	/*
	 * Fewer columns mean that the library is newer than the install script
	 * that was run.
	 */
	if (desc->natts < Natts_request)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" lacks columns of this version of screenshot_task",
						RelationGetRelationName(relation)),
				 errhint("Run ALTER EXTENSION screenshot_task UPDATE.")));
	for (int i = 0; i < Natts_request; i++)
		check_column(relation, &columns[i], TupleDescAttr(desc, i));
	check_status_type(relation, extension);

	/*
	 * Set even if the check is not remembered, for statements that run under
	 * this lock.
	 */
	checked.named_table = table;
	checked.named_type = TupleDescAttr(desc, Anum_request_status - 1)->atttypid;
	if (checked.n_changes == before)
		checked.table = table;
}

/*
 * Have checks be forgotten once they may not hold any longer.
 */
static void
watch_changes(void)
{
	static bool watching = false;

	if (watching)
		return;
	CacheRegisterRelcacheCallback(on_table_change, (Datum) 0);
	CacheRegisterSyscacheCallback(ENUMOID, on_enum_change, (Datum) 0);
	watching = true;
}

/*
 * Relation cache callback: the table may have changed.  May be called in the
 * middle of catalog access; must not read a catalog itself.
 */
static void
on_table_change(Datum arg, Oid relation)
{
	(void) arg;
	checked.n_changes++;
	/* InvalidOid means that the whole relation cache was reset. */
	if (!OidIsValid(relation) || relation == checked.table)
		checked.table = InvalidOid;
}

/*
 * System cache callback: a value of some enum may have changed.
 */
static void
on_enum_change(Datum arg, int cache, uint32 hash)
{
	(void) arg;
	(void) cache;
	(void) hash;
	checked.n_changes++;
	checked.table = InvalidOid;
}

/*
 * Raise an error unless a column is as the install script made it.
 */
static void
check_column(Relation relation, const Column *column,
			 Form_pg_attribute attribute)
{
	if (attribute->attisdropped)
		refuse_column(relation, column->name, pstrdup("It was dropped."),
					  "Dump the requests, and recreate the extension.");

	/*
	 * The statements name the columns, so that a swapped pair would be read as
	 * each other.
	 */
	if (strcmp(NameStr(attribute->attname), column->name) != 0)
		refuse_column(relation, column->name,
					  psprintf("It is named \"%s\".",
							   NameStr(attribute->attname)),
					  "Rename it back.");
	if (OidIsValid(column->type) && attribute->atttypid != column->type)
		refuse_column(relation, column->name,
					  psprintf("It has type %s instead of %s.",
							   format_type_be(attribute->atttypid),
							   format_type_be(column->type)),
					  "Give it back its type with ALTER TABLE ... ALTER COLUMN ... TYPE.");
	/* Names are compared in C, too. */
	if (column->type == NAMEOID &&
		attribute->attcollation != get_typcollation(NAMEOID))
		refuse_column(relation, column->name,
					  psprintf("It has collation \"%s\" instead of \"C\".",
							   get_collation_name(attribute->attcollation)),
					  "Give it back its collation with ALTER TABLE ... ALTER COLUMN ... TYPE ... COLLATE.");

	/*
	 * Without the generation expression, restored rows would keep the origin
	 * of the dump, and be sent.
	 */
	if (attribute->attnum == Anum_request_origin &&
		attribute->attgenerated != ATTRIBUTE_GENERATED_STORED)
		refuse_column(relation, column->name,
					  pstrdup("It is no longer a generated column."),
					  "Dump the requests, and recreate the extension.");
}

/*
 * Raise the error that a column is not as the install script made it.
 */
pg_noreturn static void
refuse_column(Relation relation, const char *column, char *detail,
			  const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
			 errmsg("column \"%s\" of table \"%s\" does not match extension \"%s\"",
					column, RelationGetRelationName(relation), EXTENSION_NAME),
			 errdetail_internal("%s", detail),
			 errhint("%s", hint)));
}

/*
 * Check that the type of the status is the extension's, and has all the values
 * that this library knows.  It may have more.
 */
static void
check_status_type(Relation relation, Oid extension)
{
	const char *name = columns[Anum_request_status - 1].name;
	Oid			type = TupleDescAttr(RelationGetDescr(relation),
									 Anum_request_status - 1)->atttypid;

	if (getExtensionOfObject(TypeRelationId, type) != extension ||
		get_typtype(type) != TYPTYPE_ENUM)
		refuse_column(relation, name,
					  psprintf("It has type %s instead of screenshot_task_status.",
							   format_type_be(type)),
					  "Give it back its type with ALTER TABLE ... ALTER COLUMN ... TYPE.");
	for (int i = 0; i < N_STATUSES; i++)
	{
		if (!SearchSysCacheExists2(ENUMTYPOIDNAME, ObjectIdGetDatum(type),
								   CStringGetDatum(status_name(i))))
			refuse_column(relation, name,
						  psprintf("Its type %s has no value \"%s\".",
								   format_type_be(type), status_name(i)),
						  "Rename the value back with ALTER TYPE ... RENAME VALUE.");
	}
}

/*
 * Check what the names in a statement of the extension's refer to.  Called
 * whenever a statement has been analyzed, including a kept plan that is
 * analyzed anew.
 */
static void
check_statement(ParseState *pstate, Query *query, JumbleState *jumble)
{
	if (previous_post_parse_analyze)
		previous_post_parse_analyze(pstate, query, jumble);

	/*
	 * Users' statements are none of this function's business, and cost it one
	 * comparison.
	 */
	if (pstate->p_sourcetext != NULL &&
		strncmp(pstate->p_sourcetext, REQUEST_STATEMENT,
				strlen(REQUEST_STATEMENT)) == 0 &&
		refers_elsewhere((Node *) query, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("request table of extension \"%s\" has moved",
						EXTENSION_NAME),
				 errdetail("Its schema was renamed concurrently."),
				 errhint("Try again.")));
}

/*
 * Does a query, or a part of one, refer to a table or a type that is neither
 * the extension's nor PostgreSQL's own?
 */
static bool
refers_elsewhere(Node *node, void *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_Query:
			{
				Query	   *query = (Query *) node;
				ListCell   *cell;

				foreach(cell, query->rtable)
				{
					RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

					/*
					 * Objects below FirstNormalObjectId were made by initdb,
					 * and are nobody's to replace.
					 */
					if (entry->rtekind == RTE_RELATION &&
						entry->relid >= FirstNormalObjectId &&
						entry->relid != checked.named_table)
						return true;
				}
				/* Into subqueries and CTEs as well. */
				return query_tree_walker(query, refers_elsewhere, context, 0);
			}
		case T_Const:
		case T_Param:
		case T_FuncExpr:
		case T_RelabelType:
		case T_CoerceViaIO:
		case T_ArrayCoerceExpr:
		/*
		 * These nodes name a type by themselves.  A cast to a type that
		 * somebody has put in place of the status type would call its input
		 * function.
		 */
		case T_CoerceToDomain:
			if (is_other_type(exprType(node)))
				return true;
			break;
		default:
			break;
	}
	return expression_tree_walker(node, refers_elsewhere, context);
}

/*
 * Is a type neither PostgreSQL's own nor that of a status?
 */
static bool
is_other_type(Oid type)
{
	return type >= FirstNormalObjectId && type != checked.named_type &&
		type != get_array_type(checked.named_type);
}

/*
 * The qualified name of the table, quoted for a statement, palloc'd.
 */
char *
request_table_name(Relation relation)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
									  RelationGetRelationName(relation));
}

/*
 * The qualified name of the type of the table's column status, quoted for a
 * statement, palloc'd.
 */
char *
request_table_status_type(Relation relation)
{
	return format_type_be_qualified(TupleDescAttr(RelationGetDescr(relation),
												  Anum_request_status - 1)->atttypid);
}

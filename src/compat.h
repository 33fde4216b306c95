/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  PostgreSQL 15 to 18 under one set of names
 *
 * The only place that looks at PG_VERSION_NUM.  Each entry gives the older
 * servers the newest form, and says since when that is PostgreSQL's own.
 *
 * test/versions runs the tests with 15, 17 and 18, which Debian's releases
 * have.  16 is between: whatever differs here, it has in one of the forms that
 * are tested, that of 15 for what is new since 17 or 18, and that of 17 for
 * what is new since 16.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_COMPAT_H
#define SCREENSHOT_TASK_COMPAT_H

#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_foreign_server.h"
#include "common/jsonapi.h"
#include "fmgr.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "screenshot_task supports PostgreSQL 15 to 18"
#endif

/* 16: what PostgreSQL looks up in a module is exported by these macros, where
 * the compiler hides the rest */
#if PG_VERSION_NUM < 160000
#undef PGDLLEXPORT
#define PGDLLEXPORT __attribute__((visibility("default")))
#undef PG_FUNCTION_INFO_V1
#define PG_FUNCTION_INFO_V1(funcname) \
extern PGDLLEXPORT Datum funcname(PG_FUNCTION_ARGS); \
extern PGDLLEXPORT const Pg_finfo_record * CppConcat(pg_finfo_,funcname)(void); \
const Pg_finfo_record * \
CppConcat(pg_finfo_,funcname) (void) \
{ \
	static const Pg_finfo_record my_finfo = { 1 }; \
	return &my_finfo; \
} \
extern int no_such_variable
#endif

/* 16: what is done with JSON as it is parsed can fail */
#if PG_VERSION_NUM < 160000
typedef void JsonActionResult;
#define JSON_ACTION_DONE
#else
typedef JsonParseErrorType JsonActionResult;
#define JSON_ACTION_DONE JSON_SUCCESS
#endif

/* 17: a parser of JSON may be the caller's */
#if PG_VERSION_NUM < 170000
#define makeJsonLexContextCstringLen(lex, json, len, encoding, need_escapes) \
	makeJsonLexContextCstringLen(json, (int) (len), encoding, need_escapes)
#endif

/* 16: varlena macros moved out of postgres.h */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* 18: wait event sets have a header of their own */
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif

/* 16: one function checks the privileges on any kind of object */
#if PG_VERSION_NUM < 160000
#define foreign_server_aclcheck(server, role, mode) \
	pg_foreign_server_aclcheck(server, role, mode)
#define relation_ownercheck(relation, role) \
	pg_class_ownercheck(relation, role)
#define database_ownercheck(database, role) \
	pg_database_ownercheck(database, role)
#else
#define foreign_server_aclcheck(server, role, mode) \
	object_aclcheck(ForeignServerRelationId, server, role, mode)
#define relation_ownercheck(relation, role) \
	object_ownercheck(RelationRelationId, relation, role)
#define database_ownercheck(database, role) \
	object_ownercheck(DatabaseRelationId, database, role)
#endif

/* 17: a wait event set belongs to a resource owner, or to none */
#if PG_VERSION_NUM < 170000
#define create_process_wait_event_set(nevents) \
	CreateWaitEventSet(TopMemoryContext, nevents)
#else
#define create_process_wait_event_set(nevents) \
	CreateWaitEventSet(NULL, nevents)
#endif

/* 17: extensions can name their own wait events */
#if PG_VERSION_NUM < 170000
#define WaitEventExtensionNew(name) PG_WAIT_EXTENSION
#endif

/* 17: the number of a PGPROC follows from its address */
#if PG_VERSION_NUM < 170000
#define GetNumberFromPGProc(proc) ((proc)->pgprocno)
#endif

/* 17: takes a relation */
#if PG_VERSION_NUM < 170000
#define get_identity_sequence(relation, column) \
	getIdentitySequence(RelationGetRelid(relation), column, true)
#else
#define get_identity_sequence(relation, column) \
	getIdentitySequence(relation, column, true)
#endif

/* 18: goes before the declaration of a function that does not return */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* 18: generated columns need not be stored */
#if PG_VERSION_NUM < 180000
#define ATTRIBUTE_GENERATED_VIRTUAL 'v'
#endif

#endif							/* SCREENSHOT_TASK_COMPAT_H */

/*-------------------------------------------------------------------------
 *
 * wrapper.c
 *	  The foreign-data wrapper that servers of the API belong to
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_foreign_server.h"
#include "foreign/foreign.h"
#include "utils/rel.h"

#include "compat.h"
#include "config/wrapper.h"

/*
 * The names of the wrapper's servers, in order: a list of char *, palloc'd.
 * With a role, only of those that it may use.
 */
List *
live_server_names(Oid role)
{
	ForeignDataWrapper *wrapper = GetForeignDataWrapperByName(FDW_NAME, true);
	List	   *names = NIL;
	Relation	servers;
	Relation	by_name;
	SysScanDesc scan;
	HeapTuple	tuple;

	/*
	 * The wrapper can be missing while the library is loaded: in a database
	 * without the extension, or while it is dropped.
	 */
	if (wrapper == NULL)
		return NIL;
	servers = table_open(ForeignServerRelationId, AccessShareLock);
	by_name = index_open(ForeignServerNameIndexId, AccessShareLock);

	/*
	 * In the order of the index, so that messages and views are the same each
	 * time.
	 */
	scan = systable_beginscan_ordered(servers, by_name, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext_ordered(scan, ForwardScanDirection)))
	{
		Form_pg_foreign_server server = (Form_pg_foreign_server) GETSTRUCT(tuple);

		if (server->srvfdw == wrapper->fdwid &&
			(!OidIsValid(role) ||
			 foreign_server_aclcheck(server->oid, role, ACL_USAGE) == ACLCHECK_OK))
			names = lappend(names, pstrdup(NameStr(server->srvname)));
	}
	systable_endscan_ordered(scan);
	index_close(by_name, AccessShareLock);
	table_close(servers, AccessShareLock);
	return names;
}

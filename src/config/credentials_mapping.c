/*-------------------------------------------------------------------------
 *
 * credentials_mapping.c
 *	  Credentials of a user mapping
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_user_mapping.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "config/credentials_source.h"

static bool take_user_mapping(Relation catalog, Oid server, Oid role,
							  Credentials *credentials);
static void take_options(Datum datum, Credentials *credentials);

/*
 * Read credentials from a role's user mapping, or else from that of PUBLIC; see
 * credentials_source.h.
 *
 * Not from the system cache, which would keep the secret key in memory.
 */
void
read_user_mapping(const LiveServer *server, Oid role, Credentials *credentials)
{
	Relation	catalog = table_open(UserMappingRelationId, AccessShareLock);
	const char *missing = NULL;
	bool		found;

	/*
	 * As GetUserMapping() does: the role's own mapping, then that of PUBLIC
	 * (umuser 0).
	 */
	found = take_user_mapping(catalog, server->oid, role, credentials) ||
		take_user_mapping(catalog, server->oid, InvalidOid, credentials);
	table_close(catalog, AccessShareLock);
	if (!found)
	{
		const char *role_name = quote_identifier(GetUserNameFromId(role, false));
		const char *server_name = quote_identifier(server->name);

		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("role %s has no user mapping for server \"%s\"",
						role_name, server->name),
				 errhint("Create one with CREATE USER MAPPING FOR %s SERVER %s OPTIONS (secret_id '...', secret_key '...').",
						 role_name, server_name)));
	}

	/*
	 * The validator refuses such a mapping, but may not have been there when
	 * it was made, as in a restored dump.
	 */
	if (credentials->secret_id == NULL)
		missing = "secret_id";
	else if (credentials->secret_key == NULL)
		missing = "secret_key";
	if (missing != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("user mapping of role %s for server \"%s\" has no %s",
						quote_identifier(GetUserNameFromId(role, false)),
						server->name, missing),
				 errhint("Add it with ALTER USER MAPPING ... OPTIONS (ADD %s '...').",
						 missing)));
}

/*
 * Take over the options of a role's user mapping for a server.  Returns false
 * if it has none.
 */
static bool
take_user_mapping(Relation catalog, Oid server, Oid role,
				  Credentials *credentials)
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found;

	ScanKeyInit(&keys[0], Anum_pg_user_mapping_umuser, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(role));
	ScanKeyInit(&keys[1], Anum_pg_user_mapping_umserver, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(server));

	/*
	 * With a NULL snapshot it is the catalog as it is now, whatever the
	 * isolation level of the transaction.
	 */
	scan = systable_beginscan(catalog, UserMappingUserServerIndexId, true, NULL,
							  lengthof(keys), keys);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
	{
		bool		isnull;
		Datum		datum = heap_getattr(tuple, Anum_pg_user_mapping_umoptions,
										 RelationGetDescr(catalog), &isnull);

		if (!isnull)
			take_options(datum, credentials);
	}
	systable_endscan(scan);
	return found;
}

/*
 * Take over the options of a user mapping, and wipe the copy that is made of
 * them.
 */
static void
take_options(Datum datum, Credentials *credentials)
{
	/*
	 * A small array in a page is not aligned, and this makes an aligned copy.
	 */
	ArrayType  *array = DatumGetArrayTypePCopy(datum);

	PG_TRY();
	{
		apply_options(credentials, UserMappingRelationId, array);
	}
	PG_FINALLY();
	{
		/*
		 * The copy is ours to wipe.  The page in shared buffers holds the
		 * options in any case, as for every foreign-data wrapper.
		 */
		explicit_bzero(array, VARSIZE(array));
	}
	PG_END_TRY();
	pfree(array);
}

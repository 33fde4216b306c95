/*-------------------------------------------------------------------------
 *
 * origin.c
 *	  Marks of rows that were made here
 *
 * A dump, or a copy of the cluster, takes rows to where their requests must not
 * be sent once more.  So each row has a mark of the database that it was made
 * in, and a trigger knows by another what the worker itself has written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "common/hashfn.h"
#include "miscadmin.h"

#include "table/request_queue.h"

/*
 * Digest of this cluster and this database, by which a request is known to
 * have been made here.
 */
int64
request_origin(void)
{
	static int64 origin = 0;	/* a process has one database */
	uint64		cluster = GetSystemIdentifier();

	/*
	 * The system identifier tells clusters apart, also one that was made by
	 * pg_upgrade; the OID tells copies within a cluster apart (CREATE DATABASE
	 * ... TEMPLATE).
	 */
	if (origin == 0)
		origin = (int64) hash_combine64(hash_bytes_extended((unsigned char *) &cluster,
															sizeof(cluster), 0),
										hash_bytes_uint32_extended(MyDatabaseId, 0));
	return origin;
}

/*
 * Mark of a row that was written by a transaction, of this cluster and
 * database.
 */
int64
request_stamp(FullTransactionId transaction)
{
	/*
	 * With the epoch: 32-bit transaction ids come around, and a dump is kept
	 * for long.
	 */
	uint64		number = U64FromFullTransactionId(transaction);

	return (int64) hash_combine64((uint64) request_origin(),
								  hash_bytes_extended((unsigned char *) &number,
													  sizeof(number), 0));
}

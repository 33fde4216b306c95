/*-------------------------------------------------------------------------
 *
 * withdrawal_notes.h
 *	  What the transaction under way has withdrawn so far
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_WITHDRAWAL_NOTES_H
#define SCREENSHOT_TASK_WITHDRAWAL_NOTES_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "table/status.h"

/* A withdrawal, and what the request was before it */
typedef struct WithdrawalNote
{
	int64		id;
	RequestStatus from;
	RequestStatus to;
	TimestampTz finished_at;	/* 0: it had none */
	TimestampTz next_attempt_at;	/* likewise */
} WithdrawalNote;

/* Digest of a role and a reference */
typedef uint64 ReferenceKey;

extern ReferenceKey reference_key(Oid role, const char *reference);
extern void notes_withdrawn(ReferenceKey key, const WithdrawalNote *note,
							const char *reference);
extern void notes_restored(ReferenceKey key, int64 id);
extern List *notes_withdrawn_of(ReferenceKey key);
extern void notes_change_holders(ReferenceKey key, int change);
extern int	notes_other_holders(ReferenceKey key);

#endif							/* SCREENSHOT_TASK_WITHDRAWAL_NOTES_H */

/*-------------------------------------------------------------------------
 *
 * subtransaction.c
 *	  Doing something in a subtransaction, and surviving its error
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "util/subtransaction.h"

/*
 * Call run(arg) in a subtransaction, and in the current memory context.
 *
 * Returns NULL; or, if it has raised an error and was undone, that error, in the
 * same context.  The caller sees whether it is one to live with, and raises any
 * other again with ReThrowError().
 */
ErrorData *
run_in_subtransaction(void (*run) (void *arg), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		run(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();

		/*
		 * Before anything is done about the error, since the failed
		 * subtransaction may hold locks.
		 */
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	/* As PL/pgSQL does: the end of a subtransaction leaves another one. */
	CurrentResourceOwner = owner;
	return error;
}

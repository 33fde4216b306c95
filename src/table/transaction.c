/*-------------------------------------------------------------------------
 *
 * transaction.c
 *	  Transactions on screenshot_task_request, as its owner
 *
 * What the worker does to the table is done in queue_run(); the network is never
 * waited for in there.
 *
 * The statements run as the owner of the table, in a security-restricted
 * operation, since the owner may have put triggers on it.  Policies that the
 * owner forces on itself are not for the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "table/request_queue.h"
#include "table/request_queue_private.h"
#include "table/request_table.h"

/*
 * How long rows are changed one by one in a transaction, while answers wait;
 * and for how long a lock is waited for only so long, once one was in vain
 */
#define MAX_CHANGE_TIME		(2 * US_PER_SECOND)
#define IMPATIENT_FOR		(5 * US_PER_SECOND)
#define IMPATIENT_TIMEOUT	"20ms"

QueueTransaction queue_transaction;

/* What outlives a transaction */
static struct
{
	char		error[1024];	/* that was logged; empty: since forgotten */
	MonotonicUs impatient_until;
}			last;

static QueueState queue_begin(const char *activity, bool one_by_one);
static void queue_commit(void);
static const char *queue_abort(void);
static QueueState find_table(Oid *owner);

/*
 * Is the extension in this database?  In a transaction of its own.
 */
bool
queue_exists(void)
{
	MemoryContext context = CurrentMemoryContext;
	bool		exists;

	StartTransactionCommand();
	exists = OidIsValid(get_extension_oid("screenshot_task", true));
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return exists;
}

/*
 * Do something in a transaction on the table, as its owner: call steps(arg).
 * "activity" is what pg_stat_activity shows.
 *
 * one_by_one: change each row in a subtransaction of its own, so that those
 * which a trigger refuses to have changed do not stop the others.  Without it,
 * one such row raises its error.
 *
 * Does not wait for the table: answers may be coming in meanwhile.  Returns what
 * became of it: QUEUE_OPEN, once it is committed.  If it failed, the error is
 * logged, and *error is its message and DETAIL, in the memory context that was
 * current, as is what the functions of request_queue.h return.
 */
QueueState
queue_run(const char *activity, bool one_by_one, void (*steps) (void *arg),
		  void *arg, const char **error)
{
	volatile QueueState state = QUEUE_FAILED;

	*error = NULL;
	PG_TRY();
	{
		state = queue_begin(activity, one_by_one);
		if (state == QUEUE_OPEN)
		{
			steps(arg);
			queue_commit();
		}
	}
	PG_CATCH();
	{
		*error = queue_abort();
		state = QUEUE_FAILED;
	}
	PG_END_TRY();
	return state;
}

/*
 * Begin it.
 */
static QueueState
queue_begin(const char *activity, bool one_by_one)
{
	ConstraintsSetStmt all_immediate = {.type = T_ConstraintsSetStmt};
	QueueState	state;
	Oid			owner;

	/*
	 * StartTransactionCommand() changes the current context.  What must
	 * outlive the transaction goes here.
	 */
	queue_transaction.caller_context = CurrentMemoryContext;
	queue_transaction.row_by_row = one_by_one;
	queue_transaction.change_by = monotonic_now() + MAX_CHANGE_TIME;
	queue_transaction.n_failed = 0;
	orphans_begin();

	/*
	 * now() and pg_stat_activity would otherwise show when the process was
	 * started.
	 */
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pgstat_report_activity(STATE_RUNNING, activity);
	GetUserIdAndSecContext(&queue_transaction.user,
						   &queue_transaction.security_context);
	/* SPI needs one, and so does reading the catalogs for the table. */
	PushActiveSnapshot(GetTransactionSnapshot());

	state = find_table(&owner);
	if (state != QUEUE_OPEN)
	{
		PopActiveSnapshot();
		CommitTransactionCommand();
		pgstat_report_activity(STATE_IDLE, NULL);
		MemoryContextSwitchTo(queue_transaction.caller_context);
		return state;
	}

	/*
	 * After the table was found, as the worker's own role: the owner might
	 * lack USAGE on its schema.
	 */
	SetUserIdAndSecContext(owner, queue_transaction.security_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION |
						   SECURITY_NOFORCE_RLS);
	/* No trigger may be deferred in a security-restricted operation. */
	AfterTriggerSetState(&all_immediate);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");

	/*
	 * lock_timeout has to be set anew in each transaction, since it is local
	 * to it.
	 */
	if (monotonic_now() < last.impatient_until)
		be_impatient();
	return QUEUE_OPEN;
}

/*
 * Commit the transaction.  Nothing that is done after the commit may raise an
 * error, which would be taken for a failed transaction; pgstat_report_stat()
 * might.
 */
static void
queue_commit(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	SetUserIdAndSecContext(queue_transaction.user,
						   queue_transaction.security_context);
	MemoryContextSwitchTo(queue_transaction.caller_context);
	/* Only now, when it is known that the commit did not fail. */
	orphans_commit();
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * Log the error that was caught, unless it is the one that was logged before,
 * and abort the transaction.  Statements are prepared anew the next time: what
 * they were prepared for may be gone.
 *
 * Returns the error's message and DETAIL, in the context in which the
 * transaction was begun.  To be called in PG_CATCH().
 */
static const char *
queue_abort(void)
{
	ErrorData  *error;
	char	   *text;

	/*
	 * As PostgresMain() does: an interrupt in here would jump out of the
	 * cleanup.
	 */
	HOLD_INTERRUPTS();
	/* It must not fire in another transaction. */
	disable_timeout(STATEMENT_TIMEOUT, false);
	MemoryContextSwitchTo(queue_transaction.caller_context);
	/* Before the abort, which resets the context that the error is in. */
	error = CopyErrorData();
	text = error->detail == NULL ? error->message :
		psprintf("%s\nDETAIL:  %s", error->message, error->detail);

	/*
	 * The same error may come back every few seconds for hours; one line in
	 * the log is enough.
	 */
	if (strncmp(last.error, text, sizeof(last.error) - 1) != 0)
		EmitErrorReport();
	strlcpy(last.error, text, sizeof(last.error));
	note_lock_timeout(error->sqlerrcode);
	AbortCurrentTransaction();
	MemoryContextSwitchTo(queue_transaction.caller_context);
	FlushErrorState();
	forget_statements();
	pgstat_report_activity(STATE_IDLE, NULL);
	RESUME_INTERRUPTS();
	return text;
}

/*
 * Have the next error be logged, even if it is the same as the last.
 */
void
queue_forget_error(void)
{
	last.error[0] = '\0';
}

/*
 * If the error is a lock_timeout, wait less for locks for a while: there may
 * be hundreds of rows whose triggers wait for the same lock.  Returns whether
 * it was.
 */
bool
note_lock_timeout(int sqlerrcode)
{
	MonotonicUs now = monotonic_now();

	if (sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		return false;

	/*
	 * Not extended while it lasts: after IMPATIENT_FOR one full lock_timeout
	 * is given another chance.
	 */
	if (last.impatient_until < now)
		last.impatient_until = now + IMPATIENT_FOR;
	return true;
}

/*
 * Wait for locks no longer, in this transaction, than while impatient.
 */
void
be_impatient(void)
{
	(void) set_config_option("lock_timeout", IMPATIENT_TIMEOUT, PGC_SUSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

/*
 * Find the table, lock it, check that it is what the statements expect, and have
 * these prepared for what it is called.  Its schema may be renamed all the same:
 * see REQUEST_STATEMENT.
 */
static QueueState
find_table(Oid *owner)
{
	Oid			table = request_table_find();
	Relation	relation;

	if (!OidIsValid(table))
		return QUEUE_GONE;

	/*
	 * Answers cannot be read while this process waits for a lock.  The caller
	 * tries again, and shows who is in the way.
	 */
	if (!ConditionalLockRelationOid(table, RowExclusiveLock))
		return QUEUE_BUSY;
	/* The lock may have been granted just after a DROP TABLE was committed. */
	relation = try_table_open(table, NoLock);
	if (relation == NULL)
		return QUEUE_GONE;
	request_table_check(relation);
	*owner = relation->rd_rel->relowner;
	use_names(request_table_name(relation),
			  request_table_status_type(relation));
	/* The lock is kept until the transaction ends. */
	table_close(relation, NoLock);
	return QUEUE_OPEN;
}

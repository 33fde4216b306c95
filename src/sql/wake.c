/*-------------------------------------------------------------------------
 *
 * wake.c
 *	  Waking the worker when a transaction commits
 *
 * A transaction that did something for the worker to look at marks itself.
 * Its commit then sets one flag and one latch, however much it did; nothing
 * that can fail is left to do there.  What was done in a subtransaction
 * counts only if that subtransaction, and each around it, commits: it is
 * enough to remember the outermost nesting level at which something was done.
 *
 * The latch is set once the others have been sent what the commit makes
 * invalid in their caches.  That comes after the transaction's callbacks: a
 * worker that was woken by those might see the rows, and yet the servers, user
 * mappings and roles as they were.
 *
 * What was prepared is committed by another transaction, perhaps in another
 * session, which did nothing of it: so every COMMIT PREPARED wakes the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/resowner.h"

#include "shmem/shared_state.h"
#include "sql/wake.h"
#include "util/crash_point.h"

static object_access_hook_type previous_object_access = NULL;
static ProcessUtility_hook_type previous_utility = NULL;

/* What the current transaction has done that others are told of */
static struct
{
	int			marked_level;	/* 0: it is not marked */
	int 		marked_slot;	/* of this database, in shared memory; or -1 */
	uint64		channels;		/* that may have ready requests */
	int 		news_slot;		/* as marked_slot, if requests were changed */
	bool		committed;		/* has it, having been marked? */

	/* the databases that it made or altered, by their database slot */
	bool		altered[MAX_DATABASES];
	bool		any_altered;
}			done = {.marked_slot = -1, .news_slot = -1};

static void at_transaction_end(XactEvent event, void *arg);
static void at_release(ResourceReleasePhase phase, bool is_commit,
					   bool is_top_level, void *arg);
static void at_subtransaction_end(SubXactEvent event, SubTransactionId mine,
								  SubTransactionId parent, void *arg);
static bool has_extension(void);
static void forget_databases(void);
static void note_database(const char *name);
static void at_utility(PlannedStmt *statement, const char *query_string,
					   bool read_only_tree, ProcessUtilityContext context,
					   ParamListInfo params, QueryEnvironment *environment,
					   DestReceiver *dest, QueryCompletion *completion);
static void at_object_access(ObjectAccessType access, Oid class, Oid object,
							 int sub_object, void *arg);

/*
 * Set up the callbacks, once a process.  To be called as the library is
 * preloaded.
 */
void
wake_init(void)
{
	/*
	 * Once a process: a callback is called in every transaction from then on,
	 * so that registering one in each would slow the session down more and
	 * more.
	 */
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterResourceReleaseCallback(at_release, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
	previous_object_access = object_access_hook;
	object_access_hook = at_object_access;
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = at_utility;
}

/*
 * Have the worker of this database look at what the current transaction, or
 * subtransaction, did, if and when it commits.  Without shared memory there
 * is no worker, and nothing to do.
 *
 * "channels" says in which channels requests may have become ready: a set of
 * channel_bit(), NO_CHANNELS, or ALL_CHANNELS if that is not known.
 */
void
wake_at_commit(uint64 channels)
{
	int			level = GetCurrentTransactionNestLevel();

	if (!shared_state_available())
		return;

	/*
	 * The slot is found while an error can still be raised, which the commit
	 * cannot.
	 */
	if (done.marked_level == 0)
	{
		done.marked_slot = find_or_make_database_slot(MyDatabaseId);
		if (done.marked_slot < 0)
			return;
		done.marked_level = level;
		done.channels = NO_CHANNELS;
	}
	else
		done.marked_level = Min(done.marked_level, level);
	done.channels |= channels;
}

/*
 * Have sessions look that wait for requests of this database, if the current
 * transaction commits.  If it was in a subtransaction that is rolled back,
 * they look in vain.
 */
void
tell_news_at_commit(void)
{
	/* Not made if there is none: then nobody waits. */
	if (shared_state_available())
		done.news_slot = find_database_slot(MyDatabaseId);
}

/*
 * The transaction has been committed, aborted, or prepared.
 */
static void
at_transaction_end(XactEvent event, void *arg)
{
	(void) arg;
	/* Most transactions: nothing of them is for the worker. */
	if (done.marked_level == 0 && !done.any_altered && done.news_slot < 0)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			/*
			 * Only noted here.  The others learn of it when their caches have
			 * been told what is invalid, see at_release().
			 */
			done.committed = true;
			if (done.marked_level == 0)
				done.marked_slot = -1;
			done.marked_level = 0;
			break;
		case XACT_EVENT_ABORT:
		/*
		 * What was prepared wakes the worker with COMMIT PREPARED, by
		 * whichever session.
		 */
		case XACT_EVENT_PREPARE:
			done.marked_level = 0;
			forget_databases();
			done.news_slot = -1;
			break;
		default:
			break;
	}
}

/*
 * The locks are released, which is after other processes were told what is
 * invalid: only now may they be woken.
 */
static void
at_release(ResourceReleasePhase phase, bool is_commit, bool is_top_level,
		   void *arg)
{
	(void) is_commit;
	(void) is_top_level;
	(void) arg;

	/*
	 * The flag, and not is_commit: resource owners of subtransactions and
	 * portals are released, too.
	 */
	if (!done.committed || phase != RESOURCE_RELEASE_AFTER_LOCKS)
		return;

	/*
	 * First, so that an error in here, of which there should be none, does not
	 * repeat it.
	 */
	done.committed = false;
	if (done.marked_slot >= 0 && !MUTANT("not-woken"))
		wake_database(done.marked_slot, done.channels);
	for (int i = 0; done.any_altered && i < MAX_DATABASES; i++)
	{
		if (done.altered[i])
			wake_for_altered_database(i);
	}
	if (done.news_slot >= 0)
		tell_news(done.news_slot);
	forget_databases();
	done.news_slot = -1;
}

/*
 * Forget which databases the transaction has altered.
 */
static void
forget_databases(void)
{
	if (done.any_altered)
		memset(done.altered, 0, sizeof(done.altered));
	done.any_altered = false;
}

/*
 * A subtransaction has ended: what it did is its parent's now, or undone.
 */
static void
at_subtransaction_end(SubXactEvent event, SubTransactionId mine,
					  SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	(void) mine;
	(void) parent;
	(void) arg;
	/* Marked further out: an end of this level changes nothing. */
	if (done.marked_level < level)
		return;
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		done.marked_level = level - 1;
	else if (event == SUBXACT_EVENT_ABORT_SUB)
		done.marked_level = 0;
}

/*
 * An extension was created or dropped, or a server or user mapping changed:
 * have the worker of this database look, or have one started.
 */
static void
at_object_access(ObjectAccessType access, Oid class, Oid object,
				 int sub_object, void *arg)
{
	if (previous_object_access)
		previous_object_access(access, class, object, sub_object, arg);

	/*
	 * Changes of these can end a pause, or bring the worker its first work.
	 * Other extensions are included, since the OID of this one is not known
	 * while it is dropped.
	 */
	if ((class == ExtensionRelationId ||
		 class == ForeignServerRelationId ||
		 class == UserMappingRelationId) &&
		(access == OAT_POST_CREATE ||
		 access == OAT_POST_ALTER ||
		 access == OAT_DROP) &&
		(class == ExtensionRelationId || has_extension()))
		wake_at_commit(ALL_CHANNELS);
}

/*
 * Is this extension in this database, so that there is a worker to wake?
 */
static bool
has_extension(void)
{
	return OidIsValid(get_extension_oid("screenshot_task", true));
}

/*
 * Have the launcher, and the worker, see whether a database may be served when
 * this transaction commits.  If it was in a subtransaction that is undone, they
 * look in vain.
 */
static void
note_database(const char *name)
{
	Oid			database = get_database_oid(name, true);
	int 		slot = OidIsValid(database) ? find_or_make_database_slot(database) : -1;

	if (slot < 0)
		return;
	done.altered[slot] = true;
	done.any_altered = true;
}

/*
 * ProcessUtility_hook: note commands that no other hook is called for.
 */
static void
at_utility(PlannedStmt *statement, const char *query_string,
		   bool read_only_tree, ProcessUtilityContext context,
		   ParamListInfo params, QueryEnvironment *environment,
		   DestReceiver *dest, QueryCompletion *completion)
{
	Node	   *node = statement->utilityStmt;
	/* Read before the statement runs, after which its tree may be gone. */
	bool		commits_prepared = IsA(node, TransactionStmt) &&
		((TransactionStmt *) node)->kind == TRANS_STMT_COMMIT_PREPARED;
	/* GRANT calls no object_access_hook. */
	bool		grants_server = IsA(node, GrantStmt) &&
		((GrantStmt *) node)->objtype == OBJECT_FOREIGN_SERVER;

	/* The statement may be gone once it has run. */
	char	   *database = NULL;

	if (IsA(node, CreatedbStmt))
		database = pstrdup(((CreatedbStmt *) node)->dbname);
	else if (IsA(node, AlterDatabaseStmt))
		database = pstrdup(((AlterDatabaseStmt *) node)->dbname);

	if (previous_utility)
		previous_utility(statement, query_string, read_only_tree, context,
						 params, environment, dest, completion);
	else
		standard_ProcessUtility(statement, query_string, read_only_tree,
								context, params, environment, dest,
								completion);

	/*
	 * COMMIT PREPARED has committed already; the command itself is a
	 * transaction, whose commit wakes the worker.
	 */
	if ((commits_prepared || grants_server) && has_extension())
	{
		wake_at_commit(ALL_CHANNELS);
		tell_news_at_commit();
	}
	/* What it was copied from may have the extension; or it has become a
	 * template, or is none any more. */
	if (database != NULL && shared_state_available())
		note_database(database);
}

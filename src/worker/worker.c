/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The process that sends a database's requests
 *
 * One loop around one wait.  In a short transaction the worker saves the
 * outcomes of requests that have ended, and claims as many new ones as the
 * account's limit allows; it commits, signs them and sends them.  No
 * transaction is open while it waits.
 *
 * The loop is here.  Its transactions are in work.c, what they look for in scan.c,
 * and what is done to requests in submission.c and lookup_order.c.
 *
 * A claimed request is "sending" on disk before its first byte leaves.  It
 * stays so until its outcome is on disk; as long as that cannot be written,
 * the worker keeps it in memory.  A worker that ends loses that memory, so
 * the next one calls in doubt what it finds "sending".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "compat.h"
#include "settings.h"
#include "shmem/activity.h"
#include "shmem/shared_state.h"
#include "table/request_queue.h"
#include "table/skip_list.h"
#include "worker/background_worker.h"
#include "worker/channel.h"
#include "worker/dispatch.h"
#include "worker/expiry.h"
#include "worker/log_throttling.h"
#include "worker/reconcile.h"
#include "worker/removal.h"
#include "worker/renewal.h"
#include "worker/withdrawal.h"
#include "worker/worker_private.h"

/* The most requests under way, over all servers */
#define MAX_TRANSFERS		250

/* How long another worker waits for requests under way, at the most */
#define PATIENCE			(10 * US_PER_SECOND)

/* A worker that has something to do sooner than this is not idle */
#define IDLE_AFTER			US_PER_SECOND

PGDLLEXPORT void screenshot_task_worker_main(Datum database);

/* What a worker is */
static struct
{
	int			slot;			/* of its database, in shared memory */
	bool		preempted;		/* is this process to end soon? */
	MonotonicUs give_up_at;		/* and does it then, whatever is in hand? */
}			worker = {.give_up_at = MONOTONIC_NEVER};

static void start(Oid database);
static void reload(void);
static void begin_work(void);
static void wait_to_begin(void);
static void leave_database(void);
static void make_room(void);

static void do_what_can_wait(void);
static void tell_activity(MonotonicUs next);
static void log_bursts_at_exit(int code, Datum arg);
static int	in_hand(void);
static void check_preemption(void);
static bool may_give_up_slot(void);
static bool may_begin_more(void);

static MonotonicUs next_event(void);

/*
 * Main function of a worker.
 */
void
screenshot_task_worker_main(Datum database)
{
	uint32		wait_event;
	MonotonicUs next;

	start(DatumGetObjectId(database));
	wait_event = WaitEventExtensionNew("ScreenshotTaskWorker");
	begin_work();
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();

		/*
		 * At once, whatever is in flight: the command's transaction waits for
		 * it.  What was sent is in doubt then.
		 */
		if (worker_must_leave(worker.slot))
			proc_exit(0);
		if (ConfigReloadPending)
			reload();
		scan_take_wakeup(worker.slot, false);
		counting_check(worker.slot);
		check_catalog_change();
		check_database_change();
		check_preemption();
		if (work_is_due(monotonic_now(), may_begin_more()))
		{
			work_on_table(worker.slot, may_begin_more());

			/*
			 * With requests in flight it stays, so that their results reach
			 * the log.
			 */
			if (work_has_no_table() && in_hand() == 0)
				leave_database();
		}
		if (worker.preempted && may_give_up_slot())
			make_room();

		/* Outside of any transaction, since it begins requests. */
		renew_credentials();

		/*
		 * A request must not be sent after this process was told to terminate.
		 */
		CHECK_FOR_INTERRUPTS();
		dispatch_start();

		/*
		 * Forced only when idle.  Autovacuum must hear of this table's
		 * updates, or it is never vacuumed.
		 */
		pgstat_report_stat(dispatch_jobs() == 0);
		log_throttling_flush(false);
		next = next_event();
		tell_activity(next);
		dispatch_wait(sooner(next, log_throttling_next_event()), wait_event);

		/*
		 * After the wait, so that answers that are here are read first, and
		 * new requests are on their way.
		 */
		do_what_can_wait();
	}
}

/*
 * Make this process the worker of a database and connect it, unless there is
 * a worker already or a command keeps workers out: it ends then.
 */
static void
start(Oid database)
{
	worker_begin();
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);

	/*
	 * A cancel has nothing here to cancel, but could end the wait of a
	 * claim's commit for a synchronous standby.  The request would then be
	 * sent without the standby knowing.
	 */
	pqsignal(SIGINT, SIG_IGN);
	BackgroundWorkerUnblockSignals();

	/* The launcher sees this one end and starts another when it is time. */
	worker.slot = announce_worker(database);
	if (worker.slot < 0)
		proc_exit(0);

	/*
	 * After the slot is taken, so that a command which wants the database
	 * alone finds whom to wait for.
	 */
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	fix_settings();
	catalog_changes_init(database);
	work_init();

	before_shmem_exit(log_bursts_at_exit, (Datum) 0);
	activity_start(worker.slot);
	scan_take_wakeup(worker.slot, true);
}

/*
 * End, and give the slot to another worker.
 */
static void
make_room(void)
{
	if (!database_is_served())
		leave_database();
	worker.preempted = false;

	/* So that next_event() below counts what commits have told of by now. */
	scan_take_wakeup(worker.slot, true);

	/* What is left unfinished is for the next worker, and soon. */
	give_up_slot(worker.slot, in_hand() == 0 ? next_event() : 0);
	proc_exit(0);
}

/*
 * Do what can wait until requests are on their way, in transactions of its
 * own: counting, expiry and removal.
 */
static void
do_what_can_wait(void)
{
	MonotonicUs now = monotonic_now();

	begin_cycle();
	if (counting_next_event() <= now)
		counting_run();
	if (!worker.preempted && expiry_next_event() <= now)
		expiry_run();
	if (!worker.preempted && removal_next_event() <= now)
		removal_run();
}

/*
 * Let others see what this process is doing.  "next" is when there
 * is something to do next.
 */
static void
tell_activity(MonotonicUs next)
{
	bool		idle = in_hand() == 0 &&
		next > monotonic_now() + IDLE_AFTER;
	StringInfoData pauses;

	/*
	 * An idle worker is the first to make room where background worker slots
	 * are scarce.
	 */
	set_idle(worker.slot, idle);
	begin_cycle();
	initStringInfo(&pauses);
	activity_set_pauses(channels_describe_pauses(monotonic_now(), &pauses),
						pauses.data);
	activity_set_work(scan_is_woken() || channels_have_work());
	activity_publish(worker.slot, !idle, in_hand());
}

/*
 * before_shmem_exit callback: log what was held back.
 */
static void
log_bursts_at_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
	log_throttling_flush(true);
}

/*
 * How many requests would be in doubt, or outcomes forgotten, if this process
 * ended now: requests in flight, and outcomes that are not saved.
 */
static int
in_hand(void)
{
	return dispatch_jobs() + outcomes_count();
}

/*
 * See whether this process should end: its database may no longer be served,
 * or another worker may need its slot.
 */
static void
check_preemption(void)
{
	worker.preempted = !database_is_served() || worker_preemption_requested(worker.slot);
	if (!worker.preempted)
		worker.give_up_at = MONOTONIC_NEVER;
	else if (worker.give_up_at == MONOTONIC_NEVER)
		worker.give_up_at = monotonic_now() + PATIENCE;
}

/*
 * May this process make room for another?  Not with something in hand, unless
 * others should not wait for that any longer: a request that is not answered,
 * which will be in doubt, or an outcome that cannot be written.
 */
static bool
may_give_up_slot(void)
{
	MonotonicUs now = monotonic_now();

	return outcomes_may_be_left(now) &&
		(dispatch_jobs() == 0 || worker.give_up_at <= now);
}

/*
 * Read the configuration anew, and try at once what was put off.
 */
static void
reload(void)
{
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	/* The configuration may have set synchronous_commit anew. */
	require_durable_commits();
	/* A reload is how a person says that what was wrong is mended. */
	(void) channels_end_pauses();
	withdrawal_scan();
	work_at_once();
	skip_list_expire(MONOTONIC_NEVER);
	removal_begin(true);
	scan_reloaded();
}

/*
 * See whether the extension is here, and see to the requests that the last
 * worker was sending.
 */
static void
begin_work(void)
{
	QueueState	state;
	int			n = 0;

	begin_cycle();
	if (!queue_exists())
		leave_database();

	/*
	 * Before the wait for the table: the launcher need not hold up other
	 * databases for a lock that this one waits for.
	 */
	confirm_extension(worker.slot);

	/*
	 * Before anything is sent: afterwards the rows that this worker sends look
	 * like those of the last one.
	 */
	while ((state = work_on_orphans(&n)) == QUEUE_BUSY)
	{
		activity_publish(worker.slot, true, 0);
		wait_to_begin();
	}
	if (state == QUEUE_GONE)
		leave_database();
	if (n > 0)
		ereport(LOG,
				(errmsg_plural("%d screenshot task request is in doubt: worker exited while it was in flight",
							   "%d screenshot task requests are in doubt: worker exited while they were in flight",
							   n, n),
				 errhint("Check the rows of screenshot_task_request with status in_doubt.")));
	dispatch_init(MAX_TRANSFERS);
}

/*
 * Wait until the next transaction may be tried.
 */
static void
wait_to_begin(void)
{
	while (work_not_before() > monotonic_now())
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 monotonic_wait_ms(monotonic_now(), work_not_before()),
						 WaitEventExtensionNew("ScreenshotTaskLocked"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		/* Nothing was begun yet, so that it may leave at once. */
		if (worker_must_leave(worker.slot) || worker_preemption_requested(worker.slot))
			proc_exit(0);
		if (ConfigReloadPending)
			reload();
	}
}

/*
 * The extension is not, or no longer, in this database; or the database may not
 * be served.
 */
static void
leave_database(void)
{
	set_no_extension(worker.slot);
	proc_exit(0);
}

/*
 * May something be begun that is then waited for?
 */
static bool
may_begin_more(void)
{
	return outcomes_have_room() && !worker.preempted && database_is_served();
}

/*
 * When to go on, if nothing happens before.
 */
static MonotonicUs
next_event(void)
{
	MonotonicUs now = monotonic_now();
	MonotonicUs next = sooner(scan_next_event(), scan_next_wakeup(worker.slot));

	/*
	 * Once it has passed, this process stays only for an outcome that it could
	 * not write.
	 */
	if (worker.give_up_at > now)
		next = Min(next, worker.give_up_at);
	if (outcomes_to_write())
		next = 0;
	next = sooner(next, catalog_changes_next_event());
	if (may_begin_more())
	{
		next = sooner(next, reconcile_next_event(now));
		next = sooner(next, withdrawal_next_event(now));
		if (screenshot_task_enabled && dispatch_room() > 0)
			next = sooner(next, channels_next_chance(now, dispatch_room()));
	}

	/*
	 * What follows has transactions of its own, and does not wait for those
	 * that fail.
	 */
	next = Max(next, work_not_before());
	next = sooner(next, counting_next_event());
	if (!worker.preempted)
		next = sooner(next, sooner(expiry_next_event(), removal_next_event()));
	return next;
}

/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The process that sends a database's requests
 *
 * One loop around one wait.  In a short transaction the worker writes down
 * what has become of the requests that have ended, and claims as many new
 * ones as the account's limit lets through; it commits, signs them and sends
 * them.  No transaction is open while it waits.
 *
 * A claimed request is "sending" on disk before its first byte leaves.  It
 * stays so until its outcome is on disk; as long as that cannot be written,
 * the worker keeps it in memory.  A worker that ends loses that memory, so
 * the next one calls in doubt what it finds "sending".
 *
 * A transaction that fails is logged, and tried again later and later.  One
 * row may be to blame for it: so after a failure each outcome has a
 * transaction of its own, and those that fail alone are set aside.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "http.h"
#include "lane.h"
#include "live_api.h"
#include "rate_limit.h"
#include "request_queue.h"
#include "screenshot_task.h"
#include "server.h"
#include "shared_state.h"
#include "worker.h"

/* The most requests under way, over all servers */
#define MAX_TRANSFERS		250

/* The most requests that one transaction claims for an account */
#define MAX_CLAIM			200

/* The most rows that one statement makes ready, or expires */
#define MAX_ROWS			1000

/* The most outcomes that are set aside before nothing more is sent */
#define MAX_STUCK			1000

/*
 * Slots are taken so much ahead of their time, so that the claim's commit is
 * over when it comes.
 */
#define CLAIM_AHEAD			(20 * US_PER_MS)

#define MIN_BACKOFF			US_PER_SECOND
#define MAX_BACKOFF			(60 * US_PER_SECOND)

/* A request from its claim until its outcome is written down */
typedef struct Request
{
	dlist_node	node;			/* in to_start, outcomes or stuck */
	MemoryContext context;		/* has the request and all it points to */
	Lane	   *lane;
	RateKey		key;
	RateTicket	ticket;
	TimestampTz end_time;
	HttpRequest http;
	HttpTransfer *transfer;
	FinishedRequest outcome;	/* its id and attempt are set from the start */
} Request;

PGDLLEXPORT void screenshot_task_worker_main(Datum database);

static HttpClient *client;
static int	place;				/* of this database, in shared memory */

static dlist_head to_start = DLIST_STATIC_INIT(to_start);	/* claimed */
static dlist_head outcomes = DLIST_STATIC_INIT(outcomes);	/* to be written */
static dlist_head stuck = DLIST_STATIC_INIT(stuck); /* could not be written */
static int	n_stuck = 0;
static int	n_in_flight = 0;	/* claimed, and not ended */

static MemoryContext cycle_context; /* reset before each transaction */

static bool look = true;		/* is there news in the table? */
static bool catalog_changed = false;	/* has something that may end pauses? */
static bool careful = false;	/* has a transaction failed? */
static int	failures = 0;		/* of transactions, in a row */
static MonotonicUs not_before = 0;	/* the next transaction */
static MonotonicUs sweep_at = 0;
static MonotonicUs due_at = MONOTONIC_NEVER;	/* the next waiting request */
static MonotonicUs stuck_retry_at = MONOTONIC_NEVER;

/* What the transaction under way must give back if it fails */
static Lane *resolving = NULL;	/* lane whose options are being read */
static RateTicket claim_tickets[MAX_CLAIM];
static int	n_claim_tickets = 0;

static void fix_settings(void);
static void require_durable_commits(void);
static void on_catalog_change(Datum arg, int cache, uint32 hash);
static void reload(void);
static void begin_work(void);
static void leave_database(void);

static bool has_database_work(MonotonicUs now);
static bool may_claim(MonotonicUs now);
static void work_on_database(void);
static void write_carefully(void);
static bool run_transaction(dlist_head *finished, bool go_on);
static bool recover_from_error(void);
static void write_outcomes(dlist_head *finished);
static void log_unwritten(const FinishedRequest *outcome);
static void forget_requests(dlist_head *finished);
static void look_at_table(void);

static List *claim_requests(void);
static void resolve_lane(Lane *lane);
static void share_room(MonotonicUs now);
static List *claim_for_account(Lane *first);
static void note_claimed(List *claimed, const LaneDemand *demands,
						 int n_demands, bool all_given);
static void end_claim(void);
static void take_over(List *claimed);
static Request *make_request(const ClaimedRequest *claimed, Lane *lane);
static bool sign_request(Request *request, const ClaimedRequest *claimed);

static void start_requests(void);
static bool start_request(Request *request);
static void take_left_and_done(void);
static void end_request(Request *request);
static void judge(Request *request, const HttpReply *reply,
				  const LiveAnswer *answer);
static void put_back(Request *request, bool free_of_charge);
static void set_outcome(Request *request, const char *status);
static void log_outcome(const Request *request);
static char *caught_message(MemoryContext context);
static MonotonicUs backoff(int n);
static MonotonicUs next_event(void);

/*
 * Have the postmaster start the worker of a database.  Returns false if there
 * is no free slot for one; else *handle is palloc'd.
 */
bool
worker_start(Oid database, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {0};

	snprintf(worker.bgw_name, BGW_MAXLEN, "screenshot_task worker");
	snprintf(worker.bgw_type, BGW_MAXLEN, "screenshot_task worker");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	/* The launcher starts it again: it knows when. */
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "screenshot_task");
	snprintf(worker.bgw_function_name, BGW_MAXLEN,
			 "screenshot_task_worker_main");
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

void
screenshot_task_worker_main(Datum database)
{
	uint32		wait_event;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);

	/*
	 * A cancel has nothing here to cancel, but could end the wait of a
	 * claim's commit for a synchronous standby.  The request would then be
	 * sent without the standby knowing.
	 */
	pqsignal(SIGINT, SIG_IGN);
	BackgroundWorkerUnblockSignals();

	place = announce_worker(DatumGetObjectId(database));
	if (place < 0)
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(database),
											  InvalidOid, 0);
	fix_settings();
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, on_catalog_change, (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGOID, on_catalog_change, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, on_catalog_change, (Datum) 0);
	cycle_context = AllocSetContextCreate(TopMemoryContext,
										  "screenshot_task cycle",
										  ALLOCSET_DEFAULT_SIZES);
	wait_event = WaitEventExtensionNew("ScreenshotTaskWorker");

	(void) take_wake(place);
	begin_work();
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
			reload();
		if (take_wake(place))
			look = true;
		if (has_database_work(monotonic_now()))
			work_on_database();

		/* Nothing leaves that a termination has come before. */
		CHECK_FOR_INTERRUPTS();
		start_requests();
		take_left_and_done();
		if (n_in_flight == 0)
			pgstat_report_stat(true);
		(void) http_wait(client, next_event(), wait_event);
		take_left_and_done();
	}
}

/*
 * Make the settings that matter to the worker what it needs, whatever the
 * configuration, the database or the role says.
 */
static void
fix_settings(void)
{
	static const struct
	{
		const char *name;
		const char *value;
	}			settings[] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"session_replication_role", "origin"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"transaction_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		/* an error rather than no rows, if the owner forces policies */
		{"row_security", "off"},
		/* an empty table's statistics would have it scanned when it is full */
		{"plan_cache_mode", "force_generic_plan"},
		{"enable_seqscan", "off"},
		{"enable_bitmapscan", "off"},
		{"enable_hashjoin", "off"},
		{"enable_mergejoin", "off"},
		{"jit", "off"},
	};

	for (int i = 0; i < (int) lengthof(settings); i++)
	{
		if (GetConfigOption(settings[i].name, true, false) != NULL)
			SetConfigOption(settings[i].name, settings[i].value,
							PGC_SUSET, PGC_S_OVERRIDE);
	}
	require_durable_commits();
}

/*
 * A claim must be on disk, and on a synchronous standby, to be one.
 */
static void
require_durable_commits(void)
{
	if (synchronous_commit < SYNCHRONOUS_COMMIT_ON)
		SetConfigOption("synchronous_commit", "on", PGC_SUSET,
						PGC_S_OVERRIDE);
}

/*
 * A server, a user mapping or a role has changed.
 */
static void
on_catalog_change(Datum arg, int cache, uint32 hash)
{
	(void) arg;
	(void) cache;
	(void) hash;
	catalog_changed = true;
}

static void
reload(void)
{
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	require_durable_commits();
	lanes_end_pauses();
	not_before = 0;
	stuck_retry_at = Min(stuck_retry_at, monotonic_now());
	look = true;
}

/*
 * See whether the extension is here, and see to the requests that the last
 * worker was sending.
 *
 * An error ends the process: the launcher starts it again, later and later.
 */
static void
begin_work(void)
{
	int			n;

	MemoryContextSwitchTo(cycle_context);
	if (!queue_begin("looking for requests that were being sent"))
		leave_database();
	n = queue_orphans_to_doubt();
	queue_commit();
	MemoryContextReset(cycle_context);

	if (n > 0)
		ereport(LOG,
				(errmsg("%d screenshot task requests are in doubt: they were being sent when the worker ended",
						n),
				 errhint("Look for rows of screenshot_task_request with status in_doubt.")));
	confirm_extension(place);
	client = http_client_create(MAX_TRANSFERS);
}

/*
 * The extension is not, or no longer, in this database.
 */
static void
leave_database(void)
{
	set_unwanted(place);
	proc_exit(0);
}

/* ----------------------------------------------------------------- database
 */

/*
 * Is there reason for a transaction?
 */
static bool
has_database_work(MonotonicUs now)
{
	if (stuck_retry_at <= now)
		return true;
	if (not_before > now)
		return false;
	return !dlist_is_empty(&outcomes) || look || sweep_at <= now ||
		due_at <= now || may_claim(now);
}

static bool
may_claim(MonotonicUs now)
{
	dlist_iter	iter;

	if (!screenshot_task_enabled || n_stuck >= MAX_STUCK ||
		n_in_flight >= http_max_transfers(client))
		return false;
	dlist_foreach(iter, &lanes)
	{
		if (lane_may_claim(dlist_container(Lane, node, iter.cur), now))
			return true;
	}
	return false;
}

/*
 * Write down outcomes, look at the table if there is reason to, and claim.
 */
static void
work_on_database(void)
{
	MonotonicUs now = monotonic_now();

	if (stuck_retry_at <= now || (careful && not_before <= now))
		write_carefully();
	if (not_before > now)
		return;

	if (run_transaction(&outcomes, true))
	{
		careful = false;
		failures = 0;
	}
	else
	{
		careful = true;
		look = true;
		not_before = monotonic_now() + backoff(failures++);
		/* The outcomes need not wait for what else may have failed. */
		stuck_retry_at = monotonic_now();
	}
}

/*
 * Write each outcome in a transaction of its own, and set those aside that
 * cannot be written.
 */
static void
write_carefully(void)
{
	dlist_head	waiting = DLIST_STATIC_INIT(waiting);

	while (!dlist_is_empty(&stuck))
		dlist_push_tail(&waiting, dlist_pop_head_node(&stuck));
	while (!dlist_is_empty(&outcomes))
		dlist_push_tail(&waiting, dlist_pop_head_node(&outcomes));
	n_stuck = 0;

	while (!dlist_is_empty(&waiting))
	{
		dlist_head	one = DLIST_STATIC_INIT(one);

		dlist_push_tail(&one, dlist_pop_head_node(&waiting));
		if (!run_transaction(&one, false))
		{
			dlist_push_tail(&stuck, dlist_pop_head_node(&one));
			n_stuck++;
		}
	}
	stuck_retry_at = n_stuck == 0 ? MONOTONIC_NEVER :
		monotonic_now() + MAX_BACKOFF;
}

/*
 * One transaction: write the outcomes given, which are forgotten once it has
 * committed; and if it is to go on, look at the table, and claim.
 *
 * Returns false, with the error logged and the outcomes kept, if it failed.
 */
static bool
run_transaction(dlist_head *finished, bool go_on)
{
	List	   *volatile claimed = NIL;
	volatile bool here = false;
	volatile bool failed = false;
	volatile bool again = false;

	do
	{
		MemoryContextReset(cycle_context);
		MemoryContextSwitchTo(cycle_context);
		again = false;
		PG_TRY();
		{
			here = queue_begin("working on screenshot task requests");
			if (here)
			{
				write_outcomes(finished);
				if (go_on)
				{
					look_at_table();
					claimed = claim_requests();
				}
				queue_commit();
			}
		}
		PG_CATCH();
		{
			/* A lane whose options cannot be read is done without. */
			again = recover_from_error();
			failed = !again;
			claimed = NIL;
			end_claim();
		}
		PG_END_TRY();
	} while (again);

	if (failed)
		return false;
	if (!here)
	{
		dlist_iter	iter;

		dlist_foreach(iter, finished)
			log_unwritten(&dlist_container(Request, node, iter.cur)->outcome);
		look = false;
		sweep_at = due_at = MONOTONIC_NEVER;
	}
	forget_requests(finished);
	take_over(claimed);
	end_claim();
	if (!here && n_in_flight == 0)
		leave_database();
	return true;
}

/*
 * Abort the transaction that failed, and log why.  Called in PG_CATCH().
 *
 * Returns whether it was for the options of a lane, which is paused then.
 */
static bool
recover_from_error(void)
{
	Lane	   *lane = resolving;

	resolving = NULL;
	HOLD_INTERRUPTS();
	if (lane != NULL)
		lane_pause(lane, caught_message(cycle_context));
	else
		EmitErrorReport();
	queue_abort();
	FlushErrorState();
	RESUME_INTERRUPTS();
	return lane != NULL;
}

/*
 * Write outcomes to the table.
 */
static void
write_outcomes(dlist_head *finished)
{
	FinishedRequest **array;
	int			n = 0;
	dlist_iter	iter;
	ListCell   *cell;

	dlist_foreach(iter, finished)
		n++;
	if (n == 0)
		return;
	array = palloc(n * sizeof(FinishedRequest *));
	n = 0;
	dlist_foreach(iter, finished)
		array[n++] = &dlist_container(Request, node, iter.cur)->outcome;

	foreach(cell, queue_finish(array, n))
		log_unwritten(lfirst(cell));
}

/*
 * A request is no longer there to be written to.  Its task is: this is the
 * last that is known of it.
 */
static void
log_unwritten(const FinishedRequest *outcome)
{
	if (outcome->task_id != NULL)
		ereport(LOG,
				(errmsg("screenshot task request %lld is gone, but its task was created",
						(long long) outcome->id),
				 errdetail("The TaskId is %s.", outcome->task_id),
				 errhint("stop_screenshot_task() ends the task.")));
	else
		ereport(LOG,
				(errmsg("screenshot task request %lld is gone; it would be %s",
						(long long) outcome->id, outcome->status)));
}

static void
forget_requests(dlist_head *finished)
{
	while (!dlist_is_empty(finished))
	{
		Request    *request = dlist_container(Request, node,
											  dlist_pop_head_node(finished));

		MemoryContextDelete(request->context);
	}
}

/*
 * See what is new in the table, if it is time to.
 */
static void
look_at_table(void)
{
	MonotonicUs now = monotonic_now();
	bool		more = false;
	TimestampTz due;
	ListCell   *cell;

	if (catalog_changed)
	{
		catalog_changed = false;
		lanes_end_pauses();
	}
	if (!look && due_at > now && sweep_at > now)
		return;

	if (sweep_at <= now)
	{
		more = queue_expire(MAX_ROWS) == MAX_ROWS;
		sweep_at = now + screenshot_task_sweep_interval * US_PER_SECOND;
	}
	more |= queue_wake_waiting(MAX_ROWS) == MAX_ROWS;
	foreach(cell, queue_find_lanes())
		lane_find(lfirst(cell))->has_work = true;

	due = queue_next_due();
	due_at = TIMESTAMP_NOT_FINITE(due) ? MONOTONIC_NEVER :
		now + Max(due - GetCurrentTimestamp(), 0);
	look = more;
}

/* -------------------------------------------------------------------- claim
 */

/*
 * Claim requests for all lanes that may send.  Returns a list of
 * ClaimedRequest; the tickets for those to be sent are in claim_tickets.
 */
static List *
claim_requests(void)
{
	MonotonicUs now = monotonic_now();
	List	   *claimed = NIL;
	dlist_iter	iter;

	if (!may_claim(now))
		return NIL;
	dlist_foreach(iter, &lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, iter.cur);

		if (lane_may_claim(lane, now))
			resolve_lane(lane);
	}
	share_room(now);
	dlist_foreach(iter, &lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, iter.cur);

		if (lane->demand > 0)
			claimed = list_concat(claimed, claim_for_account(lane));
	}
	return claimed;
}

/*
 * Read a lane's options and credentials, as they are now.
 *
 * Raises an error if the role may not send; run_transaction() knows by
 * "resolving" whom to blame.
 */
static void
resolve_lane(Lane *lane)
{
	MemoryContext old = MemoryContextSwitchTo(cycle_context);
	Oid			role;

	resolving = lane;
	role = get_role_oid(NameStr(lane->name.role), false);
	lane->options = get_live_server(NameStr(lane->name.server), role);
	lane->credentials = get_credentials(lane->options, role);
	lane->key = rate_key(lane->credentials->secret_id, LIVE_CREATE);
	lane->server->max_in_flight = lane->options->max_in_flight;
	resolving = NULL;
	MemoryContextSwitchTo(old);
}

/*
 * Set the demand of each lane: lanes of one server share its room.
 */
static void
share_room(MonotonicUs now)
{
	dlist_iter	iter;

	dlist_foreach(iter, &lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, iter.cur);

		lane->server->room = 0;
		lane->server->sharers = 0;
	}
	dlist_foreach(iter, &lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, iter.cur);

		if (lane->options == NULL)
			continue;
		lane->server->room = lane_room(lane, now);
		lane->server->sharers++;
	}
	dlist_foreach(iter, &lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, iter.cur);
		Server	   *server = lane->server;

		lane->demand = 0;
		if (lane->options == NULL)
			continue;
		lane->demand = (server->room + server->sharers - 1) / server->sharers;
		server->room -= lane->demand;
		server->sharers--;
	}
}

/*
 * Claim for all lanes of one account and limit: the first one's.
 */
static List *
claim_for_account(Lane *first)
{
	LaneDemand *demands = palloc(MAX_CLAIM * sizeof(LaneDemand));
	int			n_demands = 0;
	int			wanted = 0;
	int			per_second = first->options->requests_per_second;
	int			n;
	MonotonicUs retry_at;
	List	   *claimed = NIL;
	dlist_iter	iter;

	dlist_foreach(iter, &lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, iter.cur);

		if (lane->demand == 0 || lane->key != first->key ||
			lane->options->requests_per_second != per_second ||
			n_demands == MAX_CLAIM)
			continue;
		demands[n_demands].name = lane->name;
		demands[n_demands].most = lane->demand;
		wanted += lane->demand;
		n_demands++;
		lane->demand = 0;
	}

	wanted = Min(wanted, MAX_CLAIM - n_claim_tickets);
	wanted = Min(wanted, http_max_transfers(client) - n_in_flight -
				 n_claim_tickets);
	if (wanted <= 0)
		return NIL;
	n = rate_acquire(shared_rate_table(), first->key, per_second, wanted,
					 CLAIM_AHEAD, &claim_tickets[n_claim_tickets], &retry_at);
	n_claim_tickets += n;
	if (n > 0)
		claimed = queue_claim(demands, n_demands, n);
	note_claimed(claimed, demands, n_demands,
				 list_length(claimed) < n);
	if (n < wanted && list_length(claimed) == n)
	{
		for (int i = 0; i < n_demands; i++)
			lane_find(&demands[i].name)->slot_at = retry_at;
	}
	return claimed;
}

/*
 * Note which lanes have no more to claim.
 *
 * all_given: did the lanes give all that they have, up to their demands?
 */
static void
note_claimed(List *claimed, const LaneDemand *demands, int n_demands,
			 bool all_given)
{
	ListCell   *cell;

	if (!all_given)
		return;
	for (int i = 0; i < n_demands; i++)
		lane_find(&demands[i].name)->claimed = 0;
	foreach(cell, claimed)
		lane_find(&((ClaimedRequest *) lfirst(cell))->lane)->claimed++;
	for (int i = 0; i < n_demands; i++)
	{
		Lane	   *lane = lane_find(&demands[i].name);

		lane->has_work = lane->claimed == demands[i].most;
	}
}

/*
 * Forget what a claim needed, keys first of all; and give back the tickets
 * that no request has taken.
 */
static void
end_claim(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, iter.cur);

		wipe_credentials(lane->credentials);
		lane->credentials = NULL;
		lane->options = NULL;
		lane->demand = 0;
	}
	for (int i = 0; i < n_claim_tickets; i++)
		rate_release(&claim_tickets[i]);
	n_claim_tickets = 0;
}

/*
 * Requests have been claimed, and the claim has committed: get them ready.
 */
static void
take_over(List *claimed)
{
	ListCell   *cell;
	int			next_ticket = 0;

	foreach(cell, claimed)
	{
		ClaimedRequest *row = lfirst(cell);
		Lane	   *lane = lane_find(&row->lane);
		Request    *request;

		if (row->expired)
		{
			ereport(LOG,
					(errmsg("screenshot task request %lld has expired: its end_time passed before it could be sent",
							(long long) row->id)));
			continue;
		}
		request = make_request(row, lane);
		if (!sign_request(request, row))
		{
			end_request(request);
			continue;
		}
		while (claim_tickets[next_ticket].window == NULL ||
			   claim_tickets[next_ticket].key != lane->key)
			next_ticket++;
		request->ticket = claim_tickets[next_ticket];
		claim_tickets[next_ticket].window = NULL;
		request->http.leave_by = request->ticket.leave_by;
		dlist_push_tail(&to_start, &request->node);
	}
}

static Request *
make_request(const ClaimedRequest *claimed, Lane *lane)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "screenshot_task request",
												  ALLOCSET_SMALL_SIZES);
	Request    *request = MemoryContextAllocZero(context, sizeof(Request));

	request->context = context;
	request->lane = lane;
	request->key = lane->key;
	request->end_time = claimed->end_time;
	request->outcome.id = claimed->id;
	request->outcome.attempt = claimed->attempt;
	lane->server->in_flight++;
	n_in_flight++;
	return request;
}

/*
 * Sign a request with the lane's credentials.
 *
 * Returns false, with the outcome set, if that is not possible.
 */
static bool
sign_request(Request *request, const ClaimedRequest *claimed)
{
	Lane	   *lane = request->lane;
	LiveServer *options = lane->options;
	MemoryContext old = MemoryContextSwitchTo(request->context);
	LiveRequest *volatile signed_request = NULL;

	if (claimed->body == NULL)
	{
		request->outcome.error_message = pstrdup(claimed->problem);
		request->outcome.free_of_charge = true;
		set_outcome(request, "failed");
		MemoryContextSwitchTo(old);
		return false;
	}

	PG_TRY();
	{
		LiveRequest *signing = palloc(sizeof(LiveRequest));

		live_sign(signing, LIVE_CREATE, options->endpoint.authority,
				  options->region, options->language, lane->credentials,
				  live_start_time(GetCurrentTimestamp()),
				  pstrdup(claimed->body));
		signed_request = signing;
	}
	PG_CATCH();
	{
		lane_pause(lane, caught_message(request->context));
		FlushErrorState();
	}
	PG_END_TRY();

	if (signed_request == NULL)
		put_back(request, true);
	else
	{
		request->http.url = pstrdup(options->endpoint.url);
		request->http.host = pstrdup(options->endpoint.authority);
		request->http.headers = signed_request->headers;
		request->http.body = signed_request->body;
		request->http.body_len = signed_request->body_len;
		request->http.connect_timeout = options->connect_timeout;
		request->http.request_timeout = options->request_timeout;
		if (options->ca_file != NULL)
			request->http.ca_file = pstrdup(options->ca_file);
		if (options->proxy != NULL)
			request->http.proxy = pstrdup(options->proxy);
		request->http.owner = request;
	}
	MemoryContextSwitchTo(old);
	return signed_request != NULL;
}

/* --------------------------------------------------------------------- send
 */

/*
 * Start the requests whose slots have come.
 */
static void
start_requests(void)
{
	MonotonicUs now = monotonic_now();
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &to_start)
	{
		Request    *request = dlist_container(Request, node, iter.cur);

		if (request->ticket.go_at > now)
			continue;
		dlist_delete(&request->node);
		if (!start_request(request))
			end_request(request);
	}
}

/*
 * Start a request.  Returns false, with the outcome set, if libcurl cannot.
 */
static bool
start_request(Request *request)
{
	volatile bool started = false;

	PG_TRY();
	{
		http_start(client, &request->http, &request->transfer);
		started = true;
	}
	PG_CATCH();
	{
		request->outcome.error_message = caught_message(request->context);
		FlushErrorState();
	}
	PG_END_TRY();

	if (!started)
	{
		server_pause(request->lane->server, request->outcome.error_message);
		put_back(request, true);
	}
	return started;
}

/*
 * See which requests have left, and which have ended.
 */
static void
take_left_and_done(void)
{
	HttpTransfer *transfer;

	while ((transfer = http_next_left(client)) != NULL)
	{
		Request    *request = http_owner(transfer);

		rate_left(&request->ticket);
		request->outcome.sent_at = GetCurrentTimestamp();
		server_reached(request->lane->server);
	}
	while ((transfer = http_next_done(client)) != NULL)
	{
		Request    *request = http_owner(transfer);
		MemoryContext old = MemoryContextSwitchTo(request->context);
		HttpReply	reply;
		LiveAnswer	answer;

		http_reply(transfer, &reply);
		live_read_answer(&reply, true, &answer);
		judge(request, &reply, &answer);
		MemoryContextSwitchTo(old);
		end_request(request);
	}
}

/*
 * A request is no longer under way, and its outcome is set: give back what it
 * held, and have the outcome written.
 */
static void
end_request(Request *request)
{
	if (request->transfer != NULL && http_sent(request->transfer))
		rate_left(&request->ticket);
	else
		rate_release(&request->ticket);
	http_release(request->transfer);
	request->transfer = NULL;
	request->lane->server->in_flight--;
	n_in_flight--;
	dlist_push_tail(&outcomes, &request->node);
	log_outcome(request);
}

/*
 * What follows from an answer, or from there being none.
 */
static void
judge(Request *request, const HttpReply *reply, const LiveAnswer *answer)
{
	FinishedRequest *outcome = &request->outcome;
	Lane	   *lane = request->lane;
	const char *reason = answer->error_code == NULL ? answer->message :
		psprintf("%s: %s", answer->error_code,
				 answer->message ? answer->message : "");

	outcome->task_id = answer->task_id;
	outcome->request_id = answer->request_id;
	outcome->error_code = answer->error_code;
	outcome->error_message = answer->message;
	if (reply->sent && outcome->sent_at == 0)
		outcome->sent_at = GetCurrentTimestamp();
	if (reply->complete)
		server_answered(lane->server);

	switch (answer->outcome)
	{
		case LIVE_DONE:
			lane->pauses = 0;
			set_outcome(request, "created");
			break;
		case LIVE_REFUSED:
			set_outcome(request, "failed");
			break;
		case LIVE_UNKNOWN:
			if (!reply->complete)
				server_unanswered(lane->server, reason);
			outcome->error_message =
				psprintf("%s; whether a task was created is unknown",
						 answer->message ? answer->message : "no message");
			set_outcome(request, "in_doubt");
			break;
		case LIVE_NOT_SENT:
			if (reply->lapsed)
				outcome->error_message = NULL;
			else
				server_pause(lane->server, reason);
			put_back(request, true);
			break;
		case LIVE_THROTTLED:
			rate_pause(shared_rate_table(), request->key,
					   monotonic_now() + rate_throttle_pause());
			put_back(request, true);
			break;
		case LIVE_QUOTA:
			put_back(request, false);
			break;
		case LIVE_CREDENTIALS:
		case LIVE_SERVICE_STATE:
			lane_pause(lane, reason);
			put_back(request, true);
			break;
		case LIVE_ENVIRONMENT:
			server_pause(lane->server, reason);
			put_back(request, true);
			break;
	}
}

/*
 * A request goes back to pending.  One that is free of charge may go again as
 * soon as its lane and server may; another backs off.
 */
static void
put_back(Request *request, bool free_of_charge)
{
	FinishedRequest *outcome = &request->outcome;

	outcome->free_of_charge = free_of_charge;
	if (!free_of_charge)
		outcome->next_attempt_at =
			Min(GetCurrentTimestamp() + backoff(outcome->attempt),
				request->end_time);
	set_outcome(request, "pending");
	request->lane->has_work = true;
}

static void
set_outcome(Request *request, const char *status)
{
	request->outcome.status = status;
}

/*
 * One line for each request that a person may want to look at.
 */
static void
log_outcome(const Request *request)
{
	const FinishedRequest *outcome = &request->outcome;
	bool		failed = strcmp(outcome->status, "failed") == 0;

	if (!failed && strcmp(outcome->status, "in_doubt") != 0)
		return;
	ereport(LOG,
			(failed ?
			 errmsg("screenshot task request %lld failed",
					(long long) outcome->id) :
			 errmsg("screenshot task request %lld is in doubt",
					(long long) outcome->id),
			 errdetail_internal("%s%s%s%s%s",
								outcome->error_code ? outcome->error_code : "",
								outcome->error_code ? ": " : "",
								outcome->error_message ? outcome->error_message : "",
								outcome->request_id ? ", RequestId " : "",
								outcome->request_id ? outcome->request_id : "")));
}

/*
 * The message of the error that was caught, in the given context.
 */
static char *
caught_message(MemoryContext context)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	return error->message;
}

/*
 * How long to wait after the n-th failure in a row: at random up to a time
 * that doubles each time ("full jitter"), and no less than a second.
 */
static MonotonicUs
backoff(int n)
{
	MonotonicUs most = Min(MIN_BACKOFF << Min(n, 6), MAX_BACKOFF);

	return MIN_BACKOFF + (MonotonicUs) (pg_prng_double(&pg_global_prng_state) *
										(double) (most - MIN_BACKOFF));
}

/*
 * When to look up again, if nothing happens before.
 */
static MonotonicUs
next_event(void)
{
	MonotonicUs next = Min(sweep_at, due_at);
	dlist_iter	iter;

	if (look || !dlist_is_empty(&outcomes))
		next = 0;
	if (screenshot_task_enabled)
		next = Min(next, lanes_next_chance(monotonic_now()));
	next = Max(next, not_before);
	next = Min(next, stuck_retry_at);
	dlist_foreach(iter, &to_start)
		next = Min(next, dlist_container(Request, node, iter.cur)->ticket.go_at);
	return next;
}

/*-------------------------------------------------------------------------
 *
 * dispatch.c
 *	  The worker's requests to the API, from their permit to their answer
 *
 * A job waits until its permit starts, is started, and ends with a reply.
 * What a job is for, and what follows from its reply, is known to those who
 * add it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "api/sign.h"
#include "util/crash_point.h"
#include "worker/dispatch.h"

/*
 * So many jobs leave together.  Those of a larger burst are begun one by one,
 * and would all leave with the last one, each permit that much later in each
 * second.
 */
#define MAX_BURST		32

/* The jobs that there are */
static struct
{
	HttpClient *client;			/* which performs them */
	int			n;
	int			n_counted;		/* those with is_counted */
}			jobs;
static dlist_head to_start = DLIST_STATIC_INIT(to_start);

static void let_leave(void);
static void start(Job *job);
static void take_left_and_done(void);
static void note_left(Job *job);
static void end(Job *job, const HttpReply *reply);

/*
 * Make this process's HTTP client, once, for at most so many jobs at a time,
 * or fewer if file descriptors are short.  Raises an error if there are none.
 */
void
dispatch_init(int max_jobs)
{
	jobs.client = http_client_create(max_jobs);
}

/*
 * How many more jobs may be added.
 */
int
dispatch_room(void)
{
	return http_max_transfers(jobs.client) - jobs.n;
}

/*
 * How many jobs that are counted have been added, and have not ended.
 */
int
dispatch_jobs(void)
{
	return jobs.n_counted;
}

/*
 * Add a job.  It starts when its permit says so.
 */
void
dispatch_add(Job *job)
{
	Assert(dispatch_room() > 0);
	job->transfer = NULL;
	job->left_at = 0;

	/*
	 * Checked by the client just before the request is written, which may be
	 * much later than now.
	 */
	job->http.deadline = job->permit.deadline;
	job->http.owner = job;
	jobs.n++;
	jobs.n_counted += job->is_counted;
	dlist_push_tail(&to_start, &job->node);
}

/*
 * Start the jobs whose permits have started.
 */
void
dispatch_start(void)
{
	MonotonicUs now = monotonic_now();
	int			started = 0;
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &to_start)
	{
		Job		   *job = dlist_container(Job, node, iter.cur);

		if (job->permit.go_at > now)
			continue;
		dlist_delete(&job->node);
		start(job);
		if (++started % MAX_BURST == 0)
			let_leave();
	}
	if (started % MAX_BURST != 0)
		let_leave();
}

/*
 * Have the jobs that were started leave.
 */
static void
let_leave(void)
{
	http_begin(jobs.client);
	take_left_and_done();
}

/*
 * Start a job.  If that fails, it ends at once.
 */
static void
start(Job *job)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	job->started_at = monotonic_now();
	PG_TRY();
	{
		http_start(jobs.client, &job->http, &job->transfer);
		/* libcurl has copies by now. */
		live_wipe_token(job->http.headers);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);

		/*
		 * An error here, such as out of memory, is this job's alone; nothing
		 * of it was sent.
		 */
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();

	if (error != NULL)
	{
		/* Not sent, not complete: the same as if the connection had failed. */
		HttpReply	reply = {.error = error->message};

		end(job, &reply);
		FreeErrorData(error);
	}
}

/*
 * Wait until there is something to do for a job, the latch is set, or the
 * given time has come.
 */
void
dispatch_wait(MonotonicUs until, uint32 wait_event_info)
{
	dlist_iter	iter;

	dlist_foreach(iter, &to_start)
		until = Min(until, dlist_container(Job, node, iter.cur)->permit.go_at);
	http_wait(jobs.client, until, wait_event_info);
	take_left_and_done();
}

/*
 * See which jobs have left, and which have ended.
 */
static void
take_left_and_done(void)
{
	HttpTransfer *transfer;

	while ((transfer = http_next_left(jobs.client)) != NULL)
	{
		Job		   *job = http_owner(transfer);

		/*
		 * As soon as the request has left: the permit comes back a second
		 * after that.
		 */
		rate_left(&job->permit);
		note_left(job);
		CRASH_POINT("after-send");
	}
	while ((transfer = http_next_done(jobs.client)) != NULL)
	{
		Job		   *job = http_owner(transfer);
		HttpReply	reply;

		http_reply(transfer, &reply);
		/* The answer was here before anybody saw that the request had left. */
		if (reply.sent && job->left_at == 0)
			note_left(job);
		end(job, &reply);
	}
}

/*
 * Note that the request of a job has left.
 */
static void
note_left(Job *job)
{
	job->left_at = GetCurrentTimestamp();
	if (job->left != NULL)
		job->left(job);
}

/*
 * Give back what a job held, and tell its owner.
 */
static void
end(Job *job, const HttpReply *reply)
{
	HttpTransfer *transfer = job->transfer;

	if (reply->complete)
		rate_answered(&job->permit, reply->answered_at);
	if (reply->sent)
		rate_left(&job->permit);
	else
		rate_release(&job->permit);
	/* Before the owner is called, who may add the job again. */
	job->transfer = NULL;
	jobs.n--;
	jobs.n_counted -= job->is_counted;
	job->ended(job, reply);
	/* Last, since the reply's texts are the transfer's. */
	http_release(transfer);
}

/*-------------------------------------------------------------------------
 *
 * channel_job.c
 *	  The jobs of channels: what they count for, and what is counted of them
 *
 * A job (dispatch.c) knows nothing of channels.  One that has a channel is counted here
 * as one of its requests, from when it is added until it has ended.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "shmem/statistics.h"
#include "worker/channel.h"

/*
 * A server is known for so long after it was reached.  The connection is kept
 * for a little longer than that.
 */
#define KNOWN_FOR			(40 * US_PER_SECOND)

static void begin(Channel *channel, Attempt *attempt);
static void on_left(Job *job);
static void on_ended(Job *job, const HttpReply *reply);

/*
 * Add a job of a channel.
 */
void
channel_job_add(ChannelJob *job)
{
	begin(job->channel, &job->attempt);
	/* The existing connections may be the very fault. */
	job->job.http.fresh = !breaker_is_closed(&job->channel->server->breaker);
	job->job.is_counted = true;
	job->job.left = on_left;
	job->job.ended = on_ended;
	dispatch_add(&job->job);
}

/*
 * Count a request that begins.  on_ended() will follow.
 */
static void
begin(Channel *channel, Attempt *attempt)
{
	Server	   *server = channel->server;

	attempt->signed_at = monotonic_now();
	attempt->server_generation = breaker_begin(&server->breaker);
	attempt->channel_generation = breaker_begin(&channel->breaker);
	channel_begin_domain(channel, attempt);
	server->create_next = attempt->is_lookup;
	channel_count(channel, 1);
}

/*
 * A request has left for its server, so that there is a connection.
 */
static void
on_left(Job *job)
{
	Server	   *server = ((ChannelJob *) job)->channel->server;

	server->known_until = monotonic_now() + KNOWN_FOR;
	server->n_left++;
}

/*
 * A request has ended.  What its answer says is for channel_note_answer(),
 * afterwards.
 */
static void
on_ended(Job *job, const HttpReply *reply)
{
	ChannelJob *channel_job = (ChannelJob *) job;
	Channel    *channel = channel_job->channel;
	const Attempt *attempt = &channel_job->attempt;
	const char *server = NameStr(channel->server->name);

	if (reply->connections > 0)
		stat_count(server, COUNT_CONNECTIONS, reply->connections);
	if (reply->complete)
		stat_latency(server, monotonic_now() - job->started_at);
	breaker_end(&channel->server->breaker, attempt->server_generation);
	breaker_end(&channel->breaker, attempt->channel_generation);
	channel_end_domain(channel, attempt);
	channel_count(channel, -1);
	if (job->left_at != 0)
		channel->server->n_left--;
	channel_job->ended(channel_job, reply);
}

/*-------------------------------------------------------------------------
 *
 * channel_fallback.c
 *	  A server's fallback endpoint, and when requests go there
 *
 * Where a server is not reached, the next requests go to its fallback endpoint,
 * if it has one, instead of being paused: for a while that becomes longer, after
 * which one request tries the first endpoint again.  Only where neither is
 * reached the server is paused.
 *
 * Both are doors to the same service: requests that may have been sent by one
 * are looked up by the other, and the rate limit is one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "config/server.h"
#include "shmem/activity.h"
#include "worker/channel.h"

/* How long requests go to the fallback, at first and at the most */
#define MIN_FALLBACK		(5 * US_PER_SECOND)
#define MAX_FALLBACK		(300 * US_PER_SECOND)

static void go_on_anew(Server *server);

/*
 * A server is not reached: turn to its fallback endpoint.  Returns false if it
 * has none, or that is the one which is not reached.
 */
bool
server_turn_to_fallback(Server *server, const char *reason)
{
	MonotonicUs length = Min(MIN_FALLBACK << Min(server->n_fallbacks, 6),
							 MAX_FALLBACK);

	if (!server->has_fallback)
		return false;
	if (server->on_fallback)
	{
		/* After the pause that follows, the first one goes first. */
		server->on_fallback = false;
		return false;
	}
	server->on_fallback = true;
	server->n_fallbacks++;
	server->fallback_until = monotonic_now() + length;
	go_on_anew(server);
	activity_note_error(reason);
	ereport(LOG,
			(errmsg("screenshot tasks for server \"%s\" are sent to its fallback endpoint for %d s",
					NameStr(server->name), (int) (length / US_PER_SECOND)),
			 errdetail_internal("%s", reason)));
	return true;
}

/*
 * Have one request go first; those that are under way say nothing any more.
 */
static void
go_on_anew(Server *server)
{
	server->known_until = 0;
	breaker_half_open(&server->breaker);
}

/*
 * The options of a server were read: choose where its requests go.
 */
void
server_choose_endpoint(Server *server, LiveServer *options)
{
	server->has_fallback = options->has_fallback;
	if (server->on_fallback &&
		(!server->has_fallback || server->fallback_until <= monotonic_now()))
	{
		server->on_fallback = false;
		go_on_anew(server);
	}
	if (server->on_fallback)
		server_use_fallback(options);
}

/*
 * A server has answered, at the endpoint where requests go.
 */
void
server_noted_answer(Server *server)
{
	if (server->on_fallback || server->n_fallbacks == 0)
		return;
	server->n_fallbacks = 0;
	ereport(LOG,
			(errmsg("screenshot tasks for server \"%s\" are sent to its endpoint again",
					NameStr(server->name))));
}

/*
 * What kept a server from being reached may have changed: try its first endpoint.
 * Returns whether requests went to the other one.
 */
bool
server_end_fallback(Server *server)
{
	bool		was_on_fallback = server->on_fallback;

	if (was_on_fallback)
		go_on_anew(server);
	server->on_fallback = false;
	return was_on_fallback;
}

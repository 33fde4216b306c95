/*-------------------------------------------------------------------------
 *
 * lane.c
 *	  Who sends to where: the worker's lanes and servers, and their pauses
 *
 * A fault that is not the request's own is no reason to try the next request
 * at once.  Faults of the credentials or the account pause the lane, faults
 * of the network or the endpoint the server with all its lanes; other servers
 * go on.  Each pause in a row is twice as long as the one before.  All end
 * when a server or a user mapping is changed, or the settings are reloaded.
 *
 * Of a server that was not heard of for a while one request is sent first,
 * and the others once a connection stands: else as many connections would be
 * opened at once as there are requests, and their slots held meanwhile.  A
 * server that left a request unanswered must answer one first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/memutils.h"

#include "compat.h"
#include "lane.h"

/*
 * A server is known for so long after it was reached.  The connection is kept
 * for a little longer than that.
 */
#define KNOWN_FOR			(40 * US_PER_SECOND)

#define MIN_PAUSE			(5 * US_PER_SECOND)
#define MAX_PAUSE			(300 * US_PER_SECOND)

dlist_head	lanes = DLIST_STATIC_INIT(lanes);

static dlist_head servers = DLIST_STATIC_INIT(servers);

static Server *find_server(const Name name);
static MonotonicUs not_before(const Lane *lane);
static MonotonicUs pause_time(int *pauses);

/*
 * The lane of a name, made if there is none.
 */
Lane *
lane_find(const LaneName *name)
{
	dlist_iter	iter;
	Lane	   *lane;

	dlist_foreach(iter, &lanes)
	{
		lane = dlist_container(Lane, node, iter.cur);
		if (strcmp(NameStr(lane->name.server), NameStr(name->server)) == 0 &&
			strcmp(NameStr(lane->name.role), NameStr(name->role)) == 0)
			return lane;
	}
	lane = MemoryContextAllocZero(TopMemoryContext, sizeof(Lane));
	lane->name = *name;
	lane->server = find_server(&lane->name.server);
	dlist_push_tail(&lanes, &lane->node);
	return lane;
}

static Server *
find_server(const Name name)
{
	dlist_iter	iter;
	Server	   *server;

	dlist_foreach(iter, &servers)
	{
		server = dlist_container(Server, node, iter.cur);
		if (strcmp(NameStr(server->name), NameStr(*name)) == 0)
			return server;
	}
	server = MemoryContextAllocZero(TopMemoryContext, sizeof(Server));
	server->name = *name;
	server->max_in_flight = 1;
	dlist_push_tail(&servers, &server->node);
	return server;
}

/*
 * May requests of a lane be claimed now?
 */
bool
lane_may_claim(const Lane *lane, MonotonicUs now)
{
	return lane->has_work && not_before(lane) <= now &&
		lane_room(lane, now) > 0;
}

/*
 * When a lane's slot has come, and all its pauses have ended.
 */
static MonotonicUs
not_before(const Lane *lane)
{
	return Max(lane->slot_at,
			   Max(lane->paused_until, lane->server->paused_until));
}

/*
 * How many more requests of a lane may be under way.
 */
int
lane_room(const Lane *lane, MonotonicUs now)
{
	const Server *server = lane->server;
	int			most = server->max_in_flight;

	if (server->suspect || server->known_until < now)
		most = 1;
	return Max(most - server->in_flight, 0);
}

/*
 * Pause a lane, and say so in the log.
 */
void
lane_pause(Lane *lane, const char *reason)
{
	MonotonicUs now = monotonic_now();
	MonotonicUs pause;

	if (lane->paused_until > now)
		return;
	pause = pause_time(&lane->pauses);
	lane->paused_until = now + pause;
	ereport(LOG,
			(errmsg("screenshot tasks of role %s for server \"%s\" are paused for %d s",
					quote_identifier(NameStr(lane->name.role)),
					NameStr(lane->name.server), (int) (pause / US_PER_SECOND)),
			 errdetail_internal("%s", reason),
			 errhint("The pause ends at any change of the server or the user mapping, and at a reload.")));
}

/*
 * Pause a server, and say so in the log.
 */
void
server_pause(Server *server, const char *reason)
{
	MonotonicUs now = monotonic_now();
	MonotonicUs pause;

	server->known_until = 0;
	if (server->paused_until > now)
		return;
	pause = pause_time(&server->pauses);
	server->paused_until = now + pause;
	ereport(LOG,
			(errmsg("screenshot tasks for server \"%s\" are paused for %d s",
					NameStr(server->name), (int) (pause / US_PER_SECOND)),
			 errdetail_internal("%s", reason),
			 errhint("The pause ends at any change of the server or a user mapping, and at a reload.")));
}

static MonotonicUs
pause_time(int *pauses)
{
	return Min(MIN_PAUSE << Min((*pauses)++, 6), MAX_PAUSE);
}

/*
 * A request has left for the server: there is a connection.
 */
void
server_reached(Server *server)
{
	server->known_until = monotonic_now() + KNOWN_FOR;
}

/*
 * The API behind the server has answered.
 */
void
server_answered(Server *server)
{
	server->suspect = false;
	server->pauses = 0;
}

/*
 * A request that had left was not answered.  One alone may be bad luck.
 */
void
server_unanswered(Server *server, const char *reason)
{
	if (server->suspect)
		server_pause(server, reason);
	server->suspect = true;
}

/*
 * End all pauses: what they were for may have changed.
 */
void
lanes_end_pauses(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, iter.cur);

		lane->paused_until = 0;
		lane->pauses = 0;
		lane->server->paused_until = 0;
		lane->server->pauses = 0;
		lane->server->suspect = false;
	}
}

/*
 * When the next lane may claim that cannot now, for its pause or its slot.
 * One that only lacks room is told by the end of a request.
 */
MonotonicUs
lanes_next_chance(MonotonicUs now)
{
	MonotonicUs next = MONOTONIC_NEVER;
	dlist_iter	iter;

	dlist_foreach(iter, &lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, iter.cur);
		MonotonicUs chance = not_before(lane);

		if (lane->has_work && chance > now && lane_room(lane, now) > 0)
			next = Min(next, chance);
	}
	return next;
}

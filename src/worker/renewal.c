/*-------------------------------------------------------------------------
 *
 * renewal.c
 *	  The worker's fetches of credentials of roles
 *
 * That a channel wants credentials is found out in a transaction.  They are
 * fetched outside of any, by jobs among the others, while the channel waits or
 * goes on with the old ones, and other channels are not concerned.  Once the fetch
 * has ended, the channel finds out in its next transaction how.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "compat.h"
#include "config/role_credentials.h"
#include "worker/channel.h"
#include "worker/dispatch.h"
#include "worker/renewal.h"

/* A fetch under way; in TopMemoryContext, until its last reply */
typedef struct Renewal
{
	Job			job;			/* first, so that a Job can be cast to this */
	RoleFetch	fetch;
} Renewal;

static bool begin(const RoleWish *wish);
static void on_reply(Job *job, const HttpReply *reply);

/*
 * Begin to fetch the credentials that channels want, and let channels go on
 * whose fetch has ended.  Outside of transactions.
 */
void
renew_credentials(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);
		RoleState	state;

		if (!channel->wants_set)
			continue;

		/*
		 * Looked at in each turn: another channel's fetch may have brought
		 * what this one waits for.
		 */
		state = role_look(&channel->wish, NULL, NULL);
		if ((state == ROLE_DUE || state == ROLE_UNKNOWN) &&
			dispatch_room() > 0 && !begin(&channel->wish))
			channel->waits_until = 0;
		if (state == ROLE_KNOWN)
			channel->wants_set = false;
		if (state == ROLE_KNOWN || state == ROLE_FAILED)
			channel->waits_until = 0;
	}
}

/*
 * Begin a fetch.  Returns false if the channel is to look for itself what there
 * is, or how else to fetch it.
 */
static bool
begin(const RoleWish *wish)
{
	Renewal    *renewal = MemoryContextAllocZero(TopMemoryContext,
												 sizeof(Renewal));

	if (!role_fetch_begin(wish, &renewal->fetch, &renewal->job.http))
	{
		pfree(renewal);
		return false;
	}
	renewal->job.ended = on_reply;

	/*
	 * These services have no rate limit of ours: the permit is one that never
	 * expires, and has no window.
	 */
	renewal->job.permit.deadline = MONOTONIC_NEVER;
	dispatch_add(&renewal->job);
	return true;
}

/*
 * A request of a fetch has ended: go on with the next one, if there is one.
 */
static void
on_reply(Job *job, const HttpReply *reply)
{
	Renewal    *renewal = (Renewal *) job;

	if (role_fetch_go_on(&renewal->fetch, reply, &renewal->job.http))
	{
		dispatch_add(&renewal->job);
		return;
	}
	pfree(renewal);
}

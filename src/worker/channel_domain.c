/*-------------------------------------------------------------------------
 *
 * channel_domain.c
 *	  Domains that the API refuses to a role
 *
 * Permissions are granted for each domain.  What is refused of one domain opens
 * a circuit breaker for that domain of the channel, and others go on.  Once
 * different domains are refused, and no request was done meanwhile, the channel
 * is paused; then one of a domain that was not refused goes first, if there is
 * one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/memutils.h"

#include "compat.h"
#include "shmem/activity.h"
#include "worker/channel.h"

/* How much longer a refused domain is paused than its channel */
#define DOMAIN_LAG			US_PER_SECOND

/* The most domains of a channel of which it is known that they are refused */
#define MAX_DOMAINS			100

/* A domain that the API has refused to a channel's role */
typedef struct RefusedDomain
{
	dlist_node	node;
	char	   *name;
	Breaker		breaker;
	bool		counted;		/* in Channel.n_refused? */
} RefusedDomain;

static RefusedDomain *find_domain(const Channel *channel, const char *name);
static RefusedDomain *add_domain(Channel *channel, const char *name);
static void forget_domain(RefusedDomain *domain);
static bool may_try(const RefusedDomain *domain, MonotonicUs now);
static void pause_domain(Channel *channel, RefusedDomain *domain,
						 const char *reason);

/*
 * Count a request, or a lookup, that begins for its domain.
 */
void
channel_begin_domain(Channel *channel, Attempt *attempt)
{
	RefusedDomain *domain = attempt->domain == NULL ? NULL :
		find_domain(channel, attempt->domain);

	attempt->domain_generation = domain == NULL ? 0 :
		breaker_begin(&domain->breaker);
}

/*
 * Count a request that has ended for its domain.
 */
void
channel_end_domain(Channel *channel, const Attempt *attempt)
{
	RefusedDomain *domain = attempt->domain_generation == 0 ? NULL :
		find_domain(channel, attempt->domain);

	if (domain == NULL)
		return;
	breaker_end(&domain->breaker, attempt->domain_generation);
	/* Now others of the domain may go, or one more to try. */
	channel->domain_due_at = 0;
}

/*
 * Note that the API has refused a request for its domain: others of that
 * domain wait.  If it has refused requests of different domains, and accepted
 * none meanwhile, the whole channel waits; the refused domains then wait
 * longer, so that another goes first.
 */
void
channel_note_refused_domain(Channel *channel, const Attempt *attempt,
							const char *reason)
{
	RefusedDomain *domain = find_domain(channel, attempt->domain);
	dlist_iter	iter;

	if (domain == NULL)
		domain = add_domain(channel, attempt->domain);
	/* It began before the last refusal, and says nothing that is not known. */
	else if (attempt->domain_generation != domain->breaker.generation)
		return;
	pause_domain(channel, domain, reason);
	if (!domain->counted)
		channel->n_refused++;
	domain->counted = true;

	/*
	 * One domain may be missing from what the account is granted; two in a row
	 * mean that it is granted nothing.
	 */
	if (channel->n_refused < 2 ||
		attempt->channel_generation != channel->breaker.generation)
		return;

	channel_pause(channel, reason, NULL);
	dlist_foreach(iter, &channel->domains)
	{
		Breaker    *other = &dlist_container(RefusedDomain, node, iter.cur)->breaker;

		if (other->open_until > channel->breaker.open_until)
			continue;

		/*
		 * Otherwise the request that tries the channel would be one of a
		 * domain that is known to be refused.
		 */
		other->open_until = channel->breaker.open_until + DOMAIN_LAG;
		other->ends_at = channel->breaker.ends_at + DOMAIN_LAG;
	}
	channel->domain_due_at = 0;
}

/*
 * Note that the API has accepted a request of a domain.
 */
void
channel_note_allowed_domain(Channel *channel, const char *name)
{
	RefusedDomain *domain = find_domain(channel, name);
	dlist_iter	iter;

	channel->n_refused = 0;
	dlist_foreach(iter, &channel->domains)
		dlist_container(RefusedDomain, node, iter.cur)->counted = false;
	if (domain != NULL)
	{
		forget_domain(domain);
		channel_has_work_from(channel, DT_NOBEGIN, 0);
	}
}

/*
 * What is known of a domain that was refused; NULL: it was not.
 */
static RefusedDomain *
find_domain(const Channel *channel, const char *name)
{
	dlist_iter	iter;

	dlist_foreach(iter, unconstify(dlist_head *, &channel->domains))
	{
		RefusedDomain *domain = dlist_container(RefusedDomain, node, iter.cur);

		if (strcmp(domain->name, name) == 0)
			return domain;
	}
	return NULL;
}

/*
 * Note a domain that is refused.  If there are too many, the oldest is forgotten,
 * and tried like any other.
 */
static RefusedDomain *
add_domain(Channel *channel, const char *name)
{
	RefusedDomain *domain = MemoryContextAllocZero(TopMemoryContext,
												   sizeof(RefusedDomain));
	int			n = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &channel->domains)
		n++;
	if (n >= MAX_DOMAINS)
		forget_domain(dlist_head_element(RefusedDomain, node, &channel->domains));
	domain->name = MemoryContextStrdup(TopMemoryContext, name);
	dlist_push_tail(&channel->domains, &domain->node);
	return domain;
}

/*
 * Forget that a domain is refused, and free what was known.
 */
static void
forget_domain(RefusedDomain *domain)
{
	dlist_delete(&domain->node);
	pfree(domain->name);
	pfree(domain);
}

/*
 * May a request of this domain be sent now, as far as the domain is concerned?
 */
bool
channel_takes_domain(const Channel *channel, const char *name)
{
	RefusedDomain *domain = find_domain(channel, name);

	return domain == NULL || may_try(domain, monotonic_now());
}

/*
 * May one more request of a refused domain be sent, to try it?
 */
static bool
may_try(const RefusedDomain *domain, MonotonicUs now)
{
	return !breaker_is_open(&domain->breaker, now) &&
		breaker_room(&domain->breaker) > 0;
}

/*
 * The domains none of whose requests may be sent: a list of char *.
 */
List *
channel_refused_domains(const Channel *channel, MonotonicUs now)
{
	List	   *names = NIL;
	dlist_iter	iter;

	dlist_foreach(iter, unconstify(dlist_head *, &channel->domains))
	{
		RefusedDomain *domain = dlist_container(RefusedDomain, node, iter.cur);

		if (!may_try(domain, now))
			names = lappend(names, domain->name);
	}
	return names;
}

/*
 * Look for requests of the domains whose pauses have ended, or whose trial
 * has.
 */
void
channel_look_for_domains(Channel *channel, MonotonicUs now)
{
	dlist_iter	iter;

	if (channel->domain_due_at > now)
		return;
	channel->domain_due_at = MONOTONIC_NEVER;
	dlist_foreach(iter, &channel->domains)
	{
		RefusedDomain *domain = dlist_container(RefusedDomain, node, iter.cur);

		if (breaker_is_open(&domain->breaker, now))
			channel->domain_due_at = Min(channel->domain_due_at,
										 domain->breaker.open_until);
	}
	channel_has_work_from(channel, DT_NOBEGIN, 0);
}

/*
 * Pause a domain of a channel, and log it.
 */
static void
pause_domain(Channel *channel, RefusedDomain *domain, const char *reason)
{
	MonotonicUs pause = breaker_open(&domain->breaker, reason);

	channel->domain_due_at = 0;
	activity_note_error(domain->breaker.reason);
	ereport(LOG,
			(errmsg("screenshot tasks of domain \"%s\" and role %s for server \"%s\" are paused for %d s",
					domain->name, quote_identifier(NameStr(channel->role_name)),
					NameStr(channel->name.server), (int) (pause / US_PER_SECOND)),
			 errdetail_internal("%s", reason),
			 errhint("Check in the console what the account may do with this domain.  The pause ends at any change of the server, of the user mapping or of the role, and at a reload.")));
}

/*
 * End the pauses of a channel's domains.  Returns whether there were any.
 */
bool
channel_end_domain_pauses(Channel *channel, MonotonicUs now)
{
	bool		any = false;
	dlist_iter	iter;

	channel->n_refused = 0;
	dlist_foreach(iter, &channel->domains)
	{
		RefusedDomain *domain = dlist_container(RefusedDomain, node, iter.cur);

		any |= breaker_try_again(&domain->breaker, now);
		domain->counted = false;
		channel->domain_due_at = 0;
	}
	return any;
}

/*
 * Append which domains of a channel are paused, a line each, behind other
 * lines if there are any.  Returns how many there are.
 */
int
channel_describe_domain_pauses(const Channel *channel, MonotonicUs now,
							   StringInfo lines)
{
	int			n = 0;
	dlist_iter	iter;

	dlist_foreach(iter, unconstify(dlist_head *, &channel->domains))
	{
		RefusedDomain *domain = dlist_container(RefusedDomain, node, iter.cur);

		if (!breaker_is_open(&domain->breaker, now))
			continue;
		appendStringInfo(lines, "%sdomain \"%s\" of role %s on server \"%s\"",
						 lines->len > 0 ? "\n" : "", domain->name,
						 quote_identifier(NameStr(channel->role_name)),
						 NameStr(channel->name.server));
		breaker_describe(&domain->breaker, lines);
		n++;
	}
	return n;
}

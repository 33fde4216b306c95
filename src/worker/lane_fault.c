/*-------------------------------------------------------------------------
 *
 * lane_fault.c
 *	  What answers say of servers, lanes and domains, and their pauses
 *
 * A fault that is not the request's own is no reason to try the next request
 * at once.  Faults of the credentials or the account open the lane's circuit
 * breaker, faults of the network or the endpoint the server's, for all its
 * lanes; other servers go on.  So do answers that leave it open whether a task
 * was made, if there are several in a row.  What is refused of one domain alone
 * opens a breaker for that domain of the lane, and the lane's once different
 * domains are refused.  All pauses end when a server, a user mapping or a role
 * is changed, or the settings are reloaded.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/pg_bitutils.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "api/error_class.h"
#include "api/task.h"
#include "shmem/activity.h"
#include "shmem/shared_state.h"
#include "shmem/statistics.h"
#include "worker/lane.h"

/*
 * An outage: so many ambiguous answers in a row, and three quarters of the last
 * ones, of so many.
 */
#define OUTAGE_IN_A_ROW		5
#define LAST_ANSWERS		8

/* How much longer a refused domain is paused than its lane */
#define DOMAIN_LAG			US_PER_SECOND

/* The most domains of a lane of which it is known that they are refused */
#define MAX_DOMAINS			100

/* A domain that the API has refused to a lane's role */
typedef struct RefusedDomain
{
	dlist_node	node;
	char	   *name;
	Breaker		breaker;
	bool		counted;		/* in Lane.n_refused? */
} RefusedDomain;

static bool is_first_refusal(Lane *lane, MonotonicUs signed_at,
							 const LiveAnswer *answer);
static void note_at_server(Server *server, const Attempt *attempt,
						   const HttpReply *reply, const LiveAnswer *answer,
						   const char *reason);
static void note_unanswered(Server *server, const char *reason);
static void note_ambiguous(Server *server, bool is_new, const char *reason);
static void note_answered(Server *server, const Attempt *attempt);
static void count_answer(Server *server, uint32 bit);
static bool in_outage(const Server *server);
static void note_at_lane(Lane *lane, const Attempt *attempt,
						 const LiveAnswer *answer, const char *reason);
static void note_refused_domain(Lane *lane, const Attempt *attempt,
								const char *reason);
static void note_allowed(Lane *lane, const char *name);
static RefusedDomain *find_domain(const Lane *lane, const char *name);
static RefusedDomain *add_domain(Lane *lane, const char *name);
static void forget_domain(RefusedDomain *domain);
static bool may_try(const RefusedDomain *domain, MonotonicUs now);
static void pause_server(Server *server, const char *reason);
static void pause_domain(Lane *lane, RefusedDomain *domain,
						 const char *reason);
static void describe_pause(const Breaker *breaker, StringInfo text);
static const char *describe_clocks(const LiveAnswer *answer,
								   const char *reason);

/*
 * A request of a lane begins.  lane_end() must follow.
 */
void
lane_begin(Lane *lane, Attempt *attempt)
{
	RefusedDomain *domain = attempt->domain == NULL ? NULL :
		find_domain(lane, attempt->domain);

	attempt->signed_at = monotonic_now();
	attempt->server_generation = breaker_begin(&lane->server->breaker);
	attempt->lane_generation = breaker_begin(&lane->breaker);
	attempt->domain_generation = domain == NULL ? 0 :
		breaker_begin(&domain->breaker);
	lane->server->in_flight++;
	lane->requester->in_flight++;
}

/*
 * It has ended.  What its answer says is for lane_note_answer(), afterwards.
 */
void
lane_end(Lane *lane, const Attempt *attempt)
{
	RefusedDomain *domain = attempt->domain_generation == 0 ? NULL :
		find_domain(lane, attempt->domain);

	breaker_end(&lane->server->breaker, attempt->server_generation);
	breaker_end(&lane->breaker, attempt->lane_generation);
	if (domain != NULL)
	{
		breaker_end(&domain->breaker, attempt->domain_generation);
		/* Others of the domain may go then, or one more to try. */
		lane->domain_due_at = 0;
	}
	lane->server->in_flight--;
	lane->requester->in_flight--;
}

/*
 * Draw from the answer to a request what it says of the server, the account and
 * the domain.
 */
void
lane_note_answer(Lane *lane, const Attempt *attempt, const HttpReply *reply,
				 const LiveAnswer *answer)
{
	const char *reason = answer->message ? answer->message : "no message";

	if (answer->error_code != NULL)
		reason = psprintf("%s: %s", answer->error_code, reason);
	if (answer->outcome == LIVE_THROTTLED)
	{
		stat_count(NameStr(lane->server->name), COUNT_THROTTLED, 1);
		rate_refused(shared_rate_table(), attempt->key);
	}
	note_at_server(lane->server, attempt, reply, answer, reason);
	note_at_lane(lane, attempt, answer, reason);
}

/*
 * Note what an answer says of the server.  One to a request that began before
 * the last failure says nothing new of what may have failed with it.
 */
static void
note_at_server(Server *server, const Attempt *attempt, const HttpReply *reply,
			   const LiveAnswer *answer, const char *reason)
{
	bool		is_new = attempt->server_generation == server->breaker.generation;

	if (answer->outcome == LIVE_UNKNOWN && answer->error_code != NULL)
		note_ambiguous(server, is_new, reason);
	else if (answer->outcome == LIVE_UNKNOWN && is_new)
		note_unanswered(server, reason);
	else if (answer->outcome == LIVE_NOT_SENT)
	{
		/* One that no connection was made for in time is its network's. */
		if (is_new && (!reply->lapsed ||
					   (reply->connections > 0 && !reply->delayed)))
			pause_server(server, reason);
	}
	else if (answer->outcome == LIVE_ENVIRONMENT ||
			 live_clocks_disagree(answer))
	{
		if (is_new)
			pause_server(server, live_clocks_disagree(answer) ?
						 describe_clocks(answer, reason) : reason);
	}
	else if (answer->outcome != LIVE_UNKNOWN)
		note_answered(server, attempt);
}

/*
 * A request has left, and the API has not answered it.  That may be bad luck, of
 * all that were under way with it; but not if it was sent to try the server.
 */
static void
note_unanswered(Server *server, const char *reason)
{
	if (breaker_has_no_answer(&server->breaker))
		pause_server(server, reason);
	else
		breaker_half_open(&server->breaker);
	server->known_until = 0;
}

/*
 * The API has answered, but not whether it has made a task.
 */
static void
note_ambiguous(Server *server, bool is_new, const char *reason)
{
	server->ambiguous++;
	count_answer(server, 1);
	if (is_new && in_outage(server))
		pause_server(server,
					 psprintf("%d answers in a row were not conclusive, the last of them %s",
							  server->ambiguous, reason));
}

/*
 * The API has done what it was asked, or said that it has not.  In an outage of
 * what makes tasks, only that it makes one, or refuses to, tells that it is over.
 */
static void
note_answered(Server *server, const Attempt *attempt)
{
	if (attempt->domain != NULL)
	{
		server->ambiguous = 0;
		count_answer(server, 0);
		server->create_next = false;
	}
	if (server->ambiguous < OUTAGE_IN_A_ROW)
		breaker_answered(&server->breaker, attempt->server_generation);
	else
		server->create_next = true;
}

static void
count_answer(Server *server, uint32 bit)
{
	server->last_answers = (server->last_answers << 1 | bit) &
		((1 << LAST_ANSWERS) - 1);
	server->n_last_answers = Min(server->n_last_answers + 1, LAST_ANSWERS);
}

static bool
in_outage(const Server *server)
{
	return server->ambiguous >= OUTAGE_IN_A_ROW &&
		4 * pg_popcount32(server->last_answers) >= 3 * server->n_last_answers;
}

/*
 * Note what an answer says of the account, and of what it may do.
 */
static void
note_at_lane(Lane *lane, const Attempt *attempt, const LiveAnswer *answer,
			 const char *reason)
{
	bool		is_new = attempt->lane_generation == lane->breaker.generation;

	switch (answer->outcome)
	{
		case LIVE_DONE:
			breaker_answered(&lane->breaker, attempt->lane_generation);
			if (attempt->signed_at > lane->refused_at)
				lane->refused_at = 0;
			if (attempt->domain != NULL)
				note_allowed(lane, attempt->domain);
			break;
		case LIVE_QUOTA:
		case LIVE_REFUSED:
			breaker_answered(&lane->breaker, attempt->lane_generation);
			break;
		case LIVE_CREDENTIALS:
			if (!live_clocks_disagree(answer) &&
				!is_first_refusal(lane, attempt->signed_at, answer) && is_new)
				lane_pause(lane, reason,
						   live_credentials_hint(answer->error_code));
			break;
		case LIVE_PERMISSION:
			if (attempt->domain != NULL)
				note_refused_domain(lane, attempt, reason);
			break;
		case LIVE_SERVICE_STATE:
			if (is_new)
				lane_pause(lane, reason, NULL);
			break;
		case LIVE_NOT_SENT:
		case LIVE_THROTTLED:
		case LIVE_ENVIRONMENT:
		case LIVE_UNKNOWN:
			break;
	}
}

/*
 * The API has refused a request of a domain: others of that domain wait.  If it
 * has refused those of different domains, and done none meanwhile, all of the
 * lane do; the refused ones then for longer, so that another goes first.
 */
static void
note_refused_domain(Lane *lane, const Attempt *attempt, const char *reason)
{
	RefusedDomain *domain = find_domain(lane, attempt->domain);
	dlist_iter	iter;

	if (domain == NULL)
		domain = add_domain(lane, attempt->domain);
	else if (attempt->domain_generation != domain->breaker.generation)
		return;
	pause_domain(lane, domain, reason);
	if (!domain->counted)
		lane->n_refused++;
	domain->counted = true;
	if (lane->n_refused < 2 ||
		attempt->lane_generation != lane->breaker.generation)
		return;

	lane_pause(lane, reason, NULL);
	dlist_foreach(iter, &lane->domains)
	{
		domain = dlist_container(RefusedDomain, node, iter.cur);
		if (domain->counted && domain->breaker.open_until <= lane->breaker.open_until)
		{
			domain->breaker.open_until = lane->breaker.open_until + DOMAIN_LAG;
			domain->breaker.ends_at = lane->breaker.ends_at + DOMAIN_LAG;
		}
	}
	lane->domain_due_at = 0;
}

/*
 * The API has done what it was asked of a domain.
 */
static void
note_allowed(Lane *lane, const char *name)
{
	RefusedDomain *domain = find_domain(lane, name);
	dlist_iter	iter;

	lane->n_refused = 0;
	dlist_foreach(iter, &lane->domains)
		dlist_container(RefusedDomain, node, iter.cur)->counted = false;
	if (domain != NULL)
	{
		forget_domain(domain);
		lane_has_new_work(lane);
	}
}

static RefusedDomain *
find_domain(const Lane *lane, const char *name)
{
	dlist_iter	iter;

	dlist_foreach(iter, (dlist_head *) &lane->domains)
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
add_domain(Lane *lane, const char *name)
{
	RefusedDomain *domain = MemoryContextAllocZero(TopMemoryContext,
												   sizeof(RefusedDomain));
	int			n = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &lane->domains)
		n++;
	if (n >= MAX_DOMAINS)
		forget_domain(dlist_head_element(RefusedDomain, node, &lane->domains));
	domain->name = MemoryContextStrdup(TopMemoryContext, name);
	dlist_push_tail(&lane->domains, &domain->node);
	return domain;
}

static void
forget_domain(RefusedDomain *domain)
{
	dlist_delete(&domain->node);
	pfree(domain->name);
	pfree(domain);
}

/*
 * Why requests are not worth signing: the clocks, and how far apart they are.
 */
static const char *
describe_clocks(const LiveAnswer *answer, const char *reason)
{
	if (answer->error_code == NULL)
		reason = "signatures hold for five minutes either way";
	if (answer->ahead == 0)
		return psprintf("the clocks of the API and of this machine disagree (%s)",
						reason);
	return psprintf("the API's clock is %lld s %s this machine's (%s)",
					llabs((long long) answer->ahead),
					answer->ahead > 0 ? "ahead of" : "behind", reason);
}

/*
 * Is this the refusal of a token after which the credentials are read anew,
 * and the requests sent once more; or of one that was signed before that?
 */
static bool
is_first_refusal(Lane *lane, MonotonicUs signed_at, const LiveAnswer *answer)
{
	if (answer->error_code == NULL ||
		strcmp(answer->error_code, LIVE_TOKEN_FAILURE) != 0)
		return false;
	lane->newer_than = Max(lane->newer_than, signed_at);
	if (lane->refused_at == 0)
		lane->refused_at = monotonic_now();
	return signed_at <= lane->refused_at;
}

/*
 * May a request of a domain be sent, as far as that goes?
 */
bool
lane_takes_domain(const Lane *lane, const char *name)
{
	RefusedDomain *domain = find_domain(lane, name);

	return domain == NULL || may_try(domain, monotonic_now());
}

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
lane_refused_domains(const Lane *lane, MonotonicUs now)
{
	List	   *names = NIL;
	dlist_iter	iter;

	dlist_foreach(iter, (dlist_head *) &lane->domains)
	{
		RefusedDomain *domain = dlist_container(RefusedDomain, node, iter.cur);

		if (!may_try(domain, now))
			names = lappend(names, domain->name);
	}
	return names;
}

/*
 * If the pause of a domain has ended, or a request that was to try it, look for
 * its requests.
 */
void
lane_try_domains(Lane *lane, MonotonicUs now)
{
	dlist_iter	iter;

	if (lane->domain_due_at > now)
		return;
	lane->domain_due_at = MONOTONIC_NEVER;
	dlist_foreach(iter, &lane->domains)
	{
		RefusedDomain *domain = dlist_container(RefusedDomain, node, iter.cur);

		if (breaker_is_open(&domain->breaker, now))
			lane->domain_due_at = Min(lane->domain_due_at,
									  domain->breaker.open_until);
	}
	lane_has_new_work(lane);
}

/*
 * Pause a lane, unless it is paused, and say so in the log.  The hint, which
 * says what mends it in whole sentences, may be NULL.
 */
void
lane_pause(Lane *lane, const char *reason, const char *hint)
{
	MonotonicUs pause;

	lane->wants_set = false;
	lane->waits_until = 0;
	if (breaker_is_open(&lane->breaker, monotonic_now()))
		return;
	pause = breaker_open(&lane->breaker, reason);
	activity_note_error(lane->breaker.reason);
	ereport(LOG,
			(errmsg("screenshot tasks of role %s for server \"%s\" are paused for %d s",
					quote_identifier(NameStr(lane->role_name)),
					NameStr(lane->name.server), (int) (pause / US_PER_SECOND)),
			 errdetail_internal("%s", reason),
			 errhint("%s%sThe pause ends at any change of the server, of the user mapping or of the role, and at a reload.",
					 hint ? hint : "", hint ? " " : "")));
}

static void
pause_server(Server *server, const char *reason)
{
	MonotonicUs pause;

	server->known_until = 0;
	server->create_next = false;
	if (breaker_is_open(&server->breaker, monotonic_now()))
		return;
	pause = breaker_open(&server->breaker, reason);
	activity_note_error(server->breaker.reason);
	ereport(LOG,
			(errmsg("screenshot tasks for server \"%s\" are paused for %d s",
					NameStr(server->name), (int) (pause / US_PER_SECOND)),
			 errdetail_internal("%s", reason),
			 errhint("The pause ends at any change of the server, of a user mapping or of a role, and at a reload.")));
}

/*
 * Pause a domain of a lane.
 */
static void
pause_domain(Lane *lane, RefusedDomain *domain, const char *reason)
{
	MonotonicUs pause = breaker_open(&domain->breaker, reason);

	lane->domain_due_at = 0;
	activity_note_error(domain->breaker.reason);
	ereport(LOG,
			(errmsg("screenshot tasks of domain \"%s\" and role %s for server \"%s\" are paused for %d s",
					domain->name, quote_identifier(NameStr(lane->role_name)),
					NameStr(lane->name.server), (int) (pause / US_PER_SECOND)),
			 errdetail_internal("%s", reason),
			 errhint("See in the console what the account may do with this domain. The pause ends at any change of the server, of the user mapping or of the role, and at a reload.")));
}

/*
 * Say which servers, roles on servers, and domains of these are paused, until when
 * and why, a line each.  Returns how many there are.
 */
int
lanes_describe_pauses(MonotonicUs now, StringInfo lines)
{
	int			n = 0;
	dlist_iter	iter;
	dlist_iter	domain_iter;

	dlist_foreach(iter, &servers)
	{
		Server	   *server = dlist_container(Server, node, iter.cur);

		if (!breaker_is_open(&server->breaker, now))
			continue;
		appendStringInfo(lines, "%sserver \"%s\"", n++ > 0 ? "\n" : "",
						 NameStr(server->name));
		describe_pause(&server->breaker, lines);
	}
	dlist_foreach(iter, &lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, iter.cur);

		if (breaker_is_open(&lane->breaker, now))
		{
			appendStringInfo(lines, "%srole %s on server \"%s\"",
							 n++ > 0 ? "\n" : "",
							 quote_identifier(NameStr(lane->role_name)),
							 NameStr(lane->name.server));
			describe_pause(&lane->breaker, lines);
		}
		dlist_foreach(domain_iter, &lane->domains)
		{
			RefusedDomain *domain = dlist_container(RefusedDomain, node,
													domain_iter.cur);

			if (!breaker_is_open(&domain->breaker, now))
				continue;
			appendStringInfo(lines, "%sdomain \"%s\" of role %s on server \"%s\"",
							 n++ > 0 ? "\n" : "", domain->name,
							 quote_identifier(NameStr(lane->role_name)),
							 NameStr(lane->name.server));
			describe_pause(&domain->breaker, lines);
		}
	}
	return n;
}

static void
describe_pause(const Breaker *breaker, StringInfo text)
{
	appendStringInfo(text, " until %s: %s",
					 timestamptz_to_str(breaker->ends_at), breaker->reason);
}

/*
 * End all pauses: what they were for may have changed.  One request goes first.
 * Returns whether there were any.
 */
bool
lanes_end_pauses(void)
{
	MonotonicUs now = monotonic_now();
	bool		any = false;
	dlist_iter	iter;
	dlist_iter	domain_iter;

	dlist_foreach(iter, &servers)
		any |= breaker_try_again(&dlist_container(Server, node, iter.cur)->breaker,
								 now);
	dlist_foreach(iter, &lanes)
	{
		Lane	   *lane = dlist_container(Lane, node, iter.cur);

		any |= breaker_try_again(&lane->breaker, now);
		any |= lane->waits_until > now;
		lane->refused_at = 0;
		lane->n_refused = 0;
		dlist_foreach(domain_iter, &lane->domains)
		{
			RefusedDomain *domain = dlist_container(RefusedDomain, node,
													domain_iter.cur);

			any |= breaker_try_again(&domain->breaker, now);
			domain->counted = false;
			lane->domain_due_at = 0;
		}
	}
	return any;
}

/*-------------------------------------------------------------------------
 *
 * channel_fault.c
 *	  What answers say of servers and channels, and their pauses
 *
 * A fault that is not the request's own is no reason to try the next request
 * at once.  Faults of the credentials or the account open the channel's circuit
 * breaker, faults of the network or the endpoint the server's, for all its
 * channels; other servers go on.  So do answers that leave it open whether a
 * task was made, if there are several in a row.  All pauses end when a server, a
 * user mapping or a role is changed, or the settings are reloaded.
 *
 * A lookup may be repeated, and is, after a while: that one is not answered is a
 * reason to pause only where it was to tell whether the server answers again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/pg_bitutils.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "api/error_class.h"
#include "shmem/activity.h"
#include "shmem/shared_state.h"
#include "shmem/statistics.h"
#include "worker/channel.h"

/*
 * An outage: so many ambiguous answers in a row, and three quarters of the last
 * ones, of so many.
 */
#define OUTAGE_IN_A_ROW		5
#define LAST_ANSWERS		8

static void note_at_server(Server *server, const Attempt *attempt,
						   const HttpReply *reply, const LiveAnswer *answer,
						   const char *reason);
static void note_unanswered(Server *server, const Attempt *attempt,
							const char *reason);
static void note_ambiguous(Server *server, const Attempt *attempt,
						   const char *reason);
static void note_answered(Server *server, const Attempt *attempt);
static void count_answer(Server *server, uint32 bit);
static bool in_outage(const Server *server);
static void note_at_channel(Channel *channel, const Attempt *attempt,
							const LiveAnswer *answer, const char *reason);
static bool is_first_refusal(Channel *channel, MonotonicUs signed_at,
							 const LiveAnswer *answer);
static const char *describe_clocks(const LiveAnswer *answer,
								   const char *reason);
static void pause_server(Server *server, const Attempt *attempt,
						 const char *reason);

/*
 * Take in what the answer to a request says of the server, the account and the
 * domain.
 */
void
channel_note_answer(Channel *channel, const Attempt *attempt,
					const HttpReply *reply, const LiveAnswer *answer)
{
	const char *reason = answer->message ? answer->message : "no message";
	uint32		generation = channel->server->breaker.generation;

	if (answer->error_code != NULL)
		reason = psprintf("%s: %s", answer->error_code, reason);
	if (answer->outcome == LIVE_THROTTLED)
	{
		stat_count(NameStr(channel->server->name), COUNT_THROTTLED, 1);

		/*
		 * After rate_answered(), which dispatch.c has called and which
		 * measures the lateness for this.
		 */
		rate_refused(shared_rate_table(), attempt->key);
	}
	note_at_server(channel->server, attempt, reply, answer, reason);
	if (channel->server->breaker.generation != generation)
		channel->failed_at = monotonic_now();
	note_at_channel(channel, attempt, answer, reason);
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

	/*
	 * With clocks too far apart every signature is refused, whatever else the
	 * answer says.
	 */
	if (live_clocks_disagree(answer))
	{
		if (is_new)
			pause_server(server, attempt, describe_clocks(answer, reason));
		return;
	}
	switch (answer->outcome)
	{
		case LIVE_NOT_SENT:
			/* If no connection was made in time, it is the network's fault. */
			if (is_new && (!reply->missed_deadline ||
						   (reply->connections > 0 && !reply->delayed)) &&
				!server_turn_to_fallback(server, reason))
				pause_server(server, attempt, reason);
			break;
		case LIVE_ENVIRONMENT:
			if (is_new)
				pause_server(server, attempt, reason);
			break;
		case LIVE_UNKNOWN:
			/* What answers without a code is not the API. */
			if (answer->error_code != NULL && !attempt->is_lookup)
				note_ambiguous(server, attempt, reason);
			else if (is_new)
				note_unanswered(server, attempt, reason);
			break;
		case LIVE_DONE:
		case LIVE_THROTTLED:
		case LIVE_QUOTA:
		case LIVE_CREDENTIALS:
		case LIVE_PERMISSION:
		case LIVE_SERVICE_STATE:
		case LIVE_ADDRESS:
		case LIVE_REFUSED:
			/*
			 * A refusal, too, is an answer of the API: the server is reached.
			 */
			note_answered(server, attempt);
			break;
	}
}

/*
 * Note that a request has left and the API has not answered it.  That may be
 * bad luck, of all that were in flight with it; but not if it was sent to try
 * the server.
 */
static void
note_unanswered(Server *server, const Attempt *attempt, const char *reason)
{
	if (breaker_has_no_answer(&server->breaker))
	{
		if (!server_turn_to_fallback(server, reason))
			pause_server(server, attempt, reason);
	}
	else if (!attempt->is_lookup)
	{
		breaker_half_open(&server->breaker);
		server->known_until = 0;
		server->create_next = false;
	}
}

/*
 * Note that the API has answered without saying whether it made a task.
 */
static void
note_ambiguous(Server *server, const Attempt *attempt, const char *reason)
{
	server->n_ambiguous++;
	count_answer(server, 1);
	if (attempt->server_generation == server->breaker.generation &&
		in_outage(server))
		pause_server(server, attempt,
					 psprintf("%d inconclusive answers in a row, the last one: %s",
							  server->n_ambiguous, reason));
}

/*
 * Note that the API has done what it was asked, or said that it has not.
 * While CreateScreenshotTask has an outage, an answered lookup says no more
 * than that the server is reached.
 */
static void
note_answered(Server *server, const Attempt *attempt)
{
	if (attempt->server_generation == server->breaker.generation)
		server_noted_answer(server);
	if (!attempt->is_lookup)
	{
		server->n_ambiguous = 0;
		count_answer(server, 0);
	}
	if (server->n_ambiguous < OUTAGE_IN_A_ROW ||
		breaker_has_no_answer(&server->breaker))
		breaker_answered(&server->breaker, attempt->server_generation);
}

/*
 * Count an answer among the last ones: 1 if it was ambiguous.
 */
static void
count_answer(Server *server, uint32 bit)
{
	server->last_answers = (server->last_answers << 1 | bit) &
		((1 << LAST_ANSWERS) - 1);
	server->n_last_answers = Min(server->n_last_answers + 1, LAST_ANSWERS);
}

/*
 * Do the last answers mean that CreateScreenshotTask has an outage?
 */
static bool
in_outage(const Server *server)
{
	return server->n_ambiguous >= OUTAGE_IN_A_ROW &&
		4 * pg_popcount32(server->last_answers) >= 3 * server->n_last_answers;
}

/*
 * Note what an answer says of the account, and of what it may do.
 */
static void
note_at_channel(Channel *channel, const Attempt *attempt,
				const LiveAnswer *answer, const char *reason)
{
	bool		is_new = attempt->channel_generation == channel->breaker.generation;

	switch (answer->outcome)
	{
		case LIVE_DONE:
			breaker_answered(&channel->breaker, attempt->channel_generation);

			/*
			 * An answer to a request that was signed before the refusal says
			 * nothing of the credentials that replaced those.
			 */
			if (attempt->signed_at > channel->refused_at)
				channel->refused_at = 0;
			if (attempt->domain != NULL)
				channel_note_allowed_domain(channel, attempt->domain);
			break;
		case LIVE_QUOTA:
		case LIVE_REFUSED:
			breaker_answered(&channel->breaker, attempt->channel_generation);
			break;
		case LIVE_CREDENTIALS:
			if (!live_clocks_disagree(answer) &&
				!is_first_refusal(channel, attempt->signed_at, answer) && is_new)
				channel_pause(channel, reason,
							  live_error_hint(answer->error_code));
			break;
		case LIVE_PERMISSION:
			if (attempt->domain != NULL)
				channel_note_refused_domain(channel, attempt, reason);
			break;
		case LIVE_SERVICE_STATE:
		case LIVE_ADDRESS:
			if (is_new)
				channel_pause(channel, reason, NULL);
			break;
		case LIVE_NOT_SENT:
		case LIVE_THROTTLED:
		case LIVE_ENVIRONMENT:
		case LIVE_UNKNOWN:
			break;
	}
}

/*
 * Is this the first refusal of a token, after which the credentials are read
 * anew and the requests sent once more; or a refusal of a request that was
 * signed before that?
 */
static bool
is_first_refusal(Channel *channel, MonotonicUs signed_at, const LiveAnswer *answer)
{
	if (answer->error_code == NULL ||
		strcmp(answer->error_code, LIVE_TOKEN_FAILURE) != 0)
		return false;

	/*
	 * From here on only credentials that are read later than this signature
	 * are used.
	 */
	channel->newer_than = Max(channel->newer_than, signed_at);
	if (channel->refused_at == 0)
		channel->refused_at = monotonic_now();
	return signed_at <= channel->refused_at;
}

/*
 * The reason of a pause for clocks that differ, and by how much.
 */
static const char *
describe_clocks(const LiveAnswer *answer, const char *reason)
{
	if (answer->error_code == NULL)
		reason = "signatures are valid for five minutes either way";
	if (answer->ahead == 0)
		return psprintf("the clocks of the API and of this machine differ (%s)",
						reason);
	return psprintf(answer->ahead > 0 ?
					"the API's clock is %lld s ahead of this machine's (%s)" :
					"the API's clock is %lld s behind this machine's (%s)",
					llabs((long long) answer->ahead), reason);
}

/*
 * Pause a channel, unless it is paused, and log it.  The hint, whole sentences
 * that say how to mend it, may be NULL.
 */
void
channel_pause(Channel *channel, const char *reason, const char *hint)
{
	MonotonicUs pause;

	/* A pause that has a reason ends the wait for credentials. */
	channel->wants_set = false;
	channel->waits_until = 0;
	/* One pause and one line for all requests that were in flight. */
	if (breaker_is_open(&channel->breaker, monotonic_now()))
		return;
	pause = breaker_open(&channel->breaker, reason);
	activity_note_error(channel->breaker.reason);
	ereport(LOG,
			(errmsg("screenshot tasks of role %s for server \"%s\" are paused for %d s",
					quote_identifier(NameStr(channel->role_name)),
					NameStr(channel->name.server), (int) (pause / US_PER_SECOND)),
			 errdetail_internal("%s", reason),
			 errhint("%s%sThe pause ends at any change of the server, of the user mapping or of the role, and at a reload.",
					 hint ? hint : "", hint ? "  " : "")));
}

/*
 * Pause a server for what became of a request.
 */
static void
pause_server(Server *server, const Attempt *attempt, const char *reason)
{
	MonotonicUs pause;

	server->known_until = 0;
	/* The next to go first is of the other kind, which may be answered. */
	server->create_next = attempt->is_lookup;
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
 * Append which servers, roles on servers, and domains of these are paused,
 * until when and why, a line each.  Returns how many there are.
 */
int
channels_describe_pauses(MonotonicUs now, StringInfo lines)
{
	int			n = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &servers)
	{
		Server	   *server = dlist_container(Server, node, iter.cur);

		if (server->disabled)
		{
			appendStringInfo(lines, "%sserver \"%s\" by its option \"enabled\"",
							 lines->len > 0 ? "\n" : "", NameStr(server->name));
			n++;
			continue;
		}
		if (!breaker_is_open(&server->breaker, now))
			continue;
		appendStringInfo(lines, "%sserver \"%s\"", lines->len > 0 ? "\n" : "",
						 NameStr(server->name));
		breaker_describe(&server->breaker, lines);
		n++;
	}
	dlist_foreach(iter, &channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);

		if (breaker_is_open(&channel->breaker, now))
		{
			appendStringInfo(lines, "%srole %s on server \"%s\"",
							 lines->len > 0 ? "\n" : "",
							 quote_identifier(NameStr(channel->role_name)),
							 NameStr(channel->name.server));
			breaker_describe(&channel->breaker, lines);
			n++;
		}
		n += channel_describe_domain_pauses(channel, now, lines);
	}
	return n;
}

/*
 * End all pauses, since what they were for may have changed: one request goes
 * first.  Returns whether there were any.
 */
bool
channels_end_pauses(void)
{
	MonotonicUs now = monotonic_now();
	bool		any = servers_read_anew();
	dlist_iter	iter;

	dlist_foreach(iter, &servers)
	{
		Server	   *server = dlist_container(Server, node, iter.cur);

		/* "|=", not "||": each of them has to be called. */
		any |= breaker_try_again(&server->breaker, now);
		any |= server_end_fallback(server);
		server->n_ambiguous = 0;
		server->n_last_answers = 0;
		server->last_answers = 0;
	}
	dlist_foreach(iter, &channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);

		any |= breaker_try_again(&channel->breaker, now);
		any |= channel_end_domain_pauses(channel, now);
		any |= channel->waits_until > now;
		any |= channel->list_look_at > now;
		channel->list_until = channel->list_look_at = 0;
		channel->refused_at = 0;
	}
	return any;
}

/*
 * Have the options of disabled servers be read again.  Returns whether there
 * are any.
 */
bool
servers_read_anew(void)
{
	bool		any = false;
	dlist_iter	iter;

	dlist_foreach(iter, &servers)
	{
		Server	   *server = dlist_container(Server, node, iter.cur);

		any |= server->disabled;
		server->disabled = false;
	}
	return any;
}

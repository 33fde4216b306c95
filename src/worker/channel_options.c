/*-------------------------------------------------------------------------
 *
 * channel_options.c
 *	  The options and credentials of a channel, for the length of a transaction
 *
 * A channel that sends with a role's credentials may want some that must be
 * fetched.  It is noted here; renewal.c fetches them, while the channel waits.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "api/task.h"
#include "config/server.h"
#include "util/subtransaction.h"
#include "worker/channel.h"

/* longer than credentials take to be fetched, or not */
#define WAIT_FOR_SET		((ROLE_FETCH_TIMEOUT + 3000) * US_PER_MS)

static ErrorData *try_to_resolve(Channel *channel);
static void resolve(void *arg);
static void read_options(Channel *channel);
static void note_enabled(Server *server, bool enabled);
static void want_set(Channel *channel, const RoleWish *wish, bool waits);
static void forget_options(Channel *channel);

/*
 * Read a channel's options and credentials as they are now, within a
 * transaction.  They stay until channels_forget_options().
 *
 * Returns false if there are none: the role may not send to the server, and
 * the channel is paused; or the credentials are still to be fetched, and it waits;
 * or the server is disabled.
 */
bool
channel_resolve(Channel *channel)
{
	ErrorData  *error = try_to_resolve(channel);

	if (error != NULL)
	{
		channel_pause(channel, error->message, error->hint);
		FreeErrorData(error);
	}
	return channel->credentials != NULL;
}

/*
 * The account that a channel sends for, within a transaction: by what it has now;
 * else by what it had when this was last asked; else 0.
 */
uint64
channel_account(Channel *channel)
{
	(void) try_to_resolve(channel);
	return channel->account;
}

/*
 * Read a channel's options and credentials, if that was not done.  Returns NULL, or
 * what is wrong with them, palloc'd.
 */
static ErrorData *
try_to_resolve(Channel *channel)
{
	ErrorData  *error;

	/*
	 * Once a transaction is enough: the catalogs are as they were when it
	 * began to be used.
	 */
	if (channel->options != NULL)
		return NULL;
	if (channel->context == NULL)
		channel->context = AllocSetContextCreate(TopMemoryContext,
											  "screenshot_task channel",
											  ALLOCSET_SMALL_SIZES);

	/*
	 * A failure for one channel must not undo what the transaction did for
	 * others.
	 */
	error = run_in_subtransaction(resolve, channel);
	if (error != NULL)
		forget_options(channel);
	return error;
}

/*
 * Read a channel's options and credentials, in its memory context, or raise an
 * error.
 */
static void
resolve(void *arg)
{
	Channel    *channel = arg;
	MemoryContext old = MemoryContextSwitchTo(channel->context);

	read_options(channel);
	MemoryContextSwitchTo(old);
}

static void
read_options(Channel *channel)
{
	Oid 		role = channel->name.role;
	char	   *role_name = GetUserNameFromId(role, true);
	RoleWish	wish;
	RoleState	state;

	/*
	 * Told apart from other reasons, since nothing but a person can help here.
	 */
	if (role_name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role with OID %u, which made the requests, was dropped; cancel them with cancel_screenshot_task_request()",
						role)));
	namestrcpy(&channel->role_name, role_name);
	channel->options = get_live_server(NameStr(channel->name.server), role);
	note_enabled(channel->server, channel->options->enabled);
	/* Nothing is sent, so that no credentials are needed. */
	if (!channel->options->enabled)
	{
		channel->wants_set = false;
		return;
	}
	server_choose_endpoint(channel->server, channel->options);
	/*
	 * A wait that goes on keeps its beginning, so that it sees a failure since
	 * then.
	 */
	memset(&wish, 0, sizeof(wish));
	wish.since = channel->wants_set ? channel->wish.since : monotonic_now();
	/* A set that was refused must not be used again. */
	wish.newer_than = channel->newer_than;
	channel->credentials = credentials_find(channel->options, role, &wish, &state);
	if (state != ROLE_KNOWN)
		want_set(channel, &wish, channel->credentials == NULL);
	else
		channel->wants_set = false;
	if (channel->credentials != NULL)
	{
		channel->account = channel->credentials->account;
		channel->key = rate_key(channel->account, live_actions[LIVE_CREATE].name);
	}
	/* Kept beyond the transaction, for limits between transactions. */
	channel->server->max_in_flight = channel->options->max_in_flight;
}

/*
 * Note whether a server is enabled, and log it when that changes.
 */
static void
note_enabled(Server *server, bool enabled)
{
	server->disabled = !enabled;
	if (server->disabled == server->told_disabled)
		return;
	server->told_disabled = server->disabled;
	if (enabled)
		ereport(LOG,
				(errmsg("screenshot tasks for server \"%s\" are no longer paused by its option \"enabled\"",
						NameStr(server->name))));
	else
		ereport(LOG,
				(errmsg("screenshot tasks for server \"%s\" are paused by its option \"enabled\"",
						NameStr(server->name)),
				 errhint("The pause ends with ALTER SERVER %s OPTIONS (SET enabled 'true').",
						 quote_identifier(NameStr(server->name)))));
}

/*
 * Note that a channel wants credentials of a role to be fetched, and whether it
 * waits for them.
 */
static void
want_set(Channel *channel, const RoleWish *wish, bool waits)
{
	channel->wants_set = true;
	channel->wish = *wish;
	/* A set that can still be used is renewed while it is. */
	channel->waits_until = waits ? monotonic_now() + WAIT_FOR_SET : 0;
}

/*
 * Forget the options and credentials of all channels, keys first of all.
 */
void
channels_forget_options(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &channels)
		forget_options(dlist_container(Channel, node, iter.cur));
}

/*
 * Forget the options and credentials of a channel, if it has any.
 */
static void
forget_options(Channel *channel)
{
	wipe_credentials(channel->credentials);
	channel->credentials = NULL;
	channel->options = NULL;
	channel->demand = 0;
	if (channel->context != NULL)
		MemoryContextDelete(channel->context);
	channel->context = NULL;
}

/*
 * Make a signed request to the server of a channel that is resolved, in the
 * current memory context.  Without a trace_id, it has a new one.
 *
 * Returns NULL, or why it cannot be signed.
 */
const char *
channel_sign(Channel *channel, LiveActionId action, const char *body,
		  const char *trace_id, HttpRequest *http)
{
	MemoryContext context = CurrentMemoryContext;
	LiveServer *options = channel->options;
	LiveRequest *request = palloc(sizeof(LiveRequest));
	const char *volatile problem = NULL;

	PG_TRY();
	{
		live_sign(request, live_actions[action].name,
				  options->endpoint.authority, options->region,
				  options->language,
				  trace_id ? trace_id : live_new_trace_id(), channel->credentials,
				  /*
				   * Signed just before it is sent: a signature is valid for
				   * five minutes.
				   */
				  live_seconds(GetCurrentTimestamp()), pstrdup(body));
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		problem = CopyErrorData()->message;
		FlushErrorState();
	}
	PG_END_TRY();
	if (problem != NULL)
		return problem;

	server_http_request(options, request, http);
	return NULL;
}

/*-------------------------------------------------------------------------
 *
 * machine_role.c
 *	  Credentials of this machine's role, from the vendor's metadata service
 *
 * A machine of the vendor's cloud may have a role.  Its metadata service gives
 * the role's name, and under that name a set of temporary credentials with the
 * time at which they end.
 *
 * Each process has a set of its own of each metadata service that it uses.  It
 * is renewed RENEW_AHEAD before its end, and used as it is meanwhile.
 *
 * The service may hand out a set that ends sooner than that, or the old one
 * once more, or not answer: whatever it does, a set that can be used is used,
 * and fetches for its renewal are RENEW_PAUSE apart.
 *
 * Nothing here sends anything: a fetch is a request to make, and what follows
 * from its reply.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "api/task.h"
#include "config/machine_role.h"
#include "util/text.h"

#define METADATA_PATH	"latest/meta-data/cam/security-credentials/"

/* How many metadata services there can be: a machine has one. */
#define N_ENTRIES		4

#define RENEW_AHEAD		300		/* seconds */
#define RENEW_PAUSE		10		/* seconds */

/* A set that ends within so many seconds is as good as none. */
#define MIN_LIFE		5

#define MAX_PROBLEM		512

/* What is known of one metadata service */
typedef struct RoleEntry
{
	char		url[296];		/* of the service; empty: a free entry */
	MonotonicUs used_at;		/* when it was last looked at */
	MonotonicUs fetched_at;		/* when the set was; 0: there is none */
	int64		ends_at;		/* when the set expires, in Unix seconds */
	MonotonicUs renew_at;		/* when to fetch the next one */
	bool		is_fetching;	/* is a fetch in flight? */
	MonotonicUs failed_at;		/* when a fetch last failed; 0: none has */
	char		problem[MAX_PROBLEM];	/* why it failed */
	char	   *secret_id;		/* the set, in TopMemoryContext */
	char	   *secret_key;
	char	   *token;
} RoleEntry;

static RoleEntry entries[N_ENTRIES];

static RoleEntry *find_entry(const char *url);
static RoleEntry *take_entry(const char *url);
static void forget_set(RoleEntry *entry);
static void forget_sets_at_exit(int code, Datum arg);
static RoleState state_of(const RoleEntry *entry, const RoleWish *wish,
						  MonotonicUs now, int64 wall);
static void copy_set(const RoleEntry *entry, Credentials *credentials);
static void make_request(RoleFetch *fetch, HttpRequest *request);
static const char *read_reply(const RoleFetch *fetch, const HttpReply *reply);
static const char *take_name(RoleFetch *fetch, const HttpReply *reply);
static const char *take_set(const RoleFetch *fetch, const HttpReply *reply);
static const char *check_set(const RoleAnswer *answer);
static void store_set(const char *url, const RoleAnswer *answer);
static void note_failure(const char *url, const char *problem);
static int64 wall_seconds(void);

/*
 * Wish for credentials to use with a server: any, and no failure but one that
 * is still to come.
 */
void
role_wish(RoleWish *wish, const LiveServer *server)
{
	memset(wish, 0, sizeof(*wish));
	wish->server = server->oid;
	strlcpy(wish->url, server->metadata.url, sizeof(wish->url));
	strlcpy(wish->host, server->metadata.authority, sizeof(wish->host));
	if (server->ca_file != NULL)
		strlcpy(wish->ca_file, server->ca_file, sizeof(wish->ca_file));
	/* A failure recorded before now says nothing of the next fetch. */
	wish->since = monotonic_now();
}

/*
 * Look what there is of what is wished for.
 *
 * If that is ROLE_KNOWN or ROLE_DUE, *credentials is set, palloc'd; the caller
 * wipes it.  If it is ROLE_FAILED, *problem is why, palloc'd.  Either pointer
 * may be NULL.
 */
RoleState
role_look(const RoleWish *wish, Credentials *credentials, char **problem)
{
	RoleEntry  *entry = find_entry(wish->url);
	MonotonicUs now = monotonic_now();
	RoleState	state;

	if (entry == NULL)
		return ROLE_UNKNOWN;
	entry->used_at = now;
	state = state_of(entry, wish, now, wall_seconds());
	if (state == ROLE_FAILED && problem != NULL)
		*problem = pstrdup(entry->problem);
	if ((state == ROLE_KNOWN || state == ROLE_DUE) && credentials != NULL)
		copy_set(entry, credentials);
	return state;
}

/*
 * The entry of a service, or NULL.
 */
static RoleEntry *
find_entry(const char *url)
{
	for (int i = 0; i < N_ENTRIES; i++)
	{
		if (strcmp(entries[i].url, url) == 0)
			return &entries[i];
	}
	return NULL;
}

/*
 * The entry of a service; if it has none, that which was not used for longest.
 */
static RoleEntry *
take_entry(const char *url)
{
	static bool wiped_at_exit = false;
	RoleEntry  *entry = find_entry(url);

	if (entry != NULL)
		return entry;
	/* Registered when there is first something to wipe, and once. */
	if (!wiped_at_exit)
		on_proc_exit(forget_sets_at_exit, (Datum) 0);
	wiped_at_exit = true;
	entry = &entries[0];
	for (int i = 1; i < N_ENTRIES; i++)
	{
		/*
		 * More services than entries happen only with as many servers that
		 * name different ones.  The set that is lost is fetched again.
		 */
		if (entries[i].used_at < entry->used_at)
			entry = &entries[i];
	}
	forget_set(entry);
	memset(entry, 0, sizeof(*entry));
	strlcpy(entry->url, url, sizeof(entry->url));
	return entry;
}

/*
 * Wipe and free the set of an entry, if it has one.
 */
static void
forget_set(RoleEntry *entry)
{
	char	  **const texts[] = {
		&entry->secret_id, &entry->secret_key, &entry->token
	};

	for (int i = 0; i < (int) lengthof(texts); i++)
	{
		wipe_text(*texts[i]);
		if (*texts[i] != NULL)
			pfree(*texts[i]);
		*texts[i] = NULL;
	}
	entry->fetched_at = 0;
}

static void
forget_sets_at_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
	for (int i = 0; i < N_ENTRIES; i++)
		forget_set(&entries[i]);
}

/*
 * What an entry has for a wish, at a point of the monotonic clock and of the
 * wall clock (Unix seconds).
 */
static RoleState
state_of(const RoleEntry *entry, const RoleWish *wish, MonotonicUs now,
		 int64 wall)
{
	if (entry->fetched_at > wish->newer_than &&
		entry->ends_at - MIN_LIFE > wall)
		return !entry->is_fetching && entry->renew_at <= now ? ROLE_DUE : ROLE_KNOWN;

	/*
	 * Only a failure that came after the wish: the caller has waited for it,
	 * and gets its reason rather than another fetch.
	 */
	if (entry->failed_at > wish->since)
		return ROLE_FAILED;
	return entry->is_fetching ? ROLE_AWAITED : ROLE_UNKNOWN;
}

/*
 * Copy the set of an entry, for the caller to wipe.
 */
static void
copy_set(const RoleEntry *entry, Credentials *credentials)
{
	credentials->secret_id = pstrdup(entry->secret_id);
	credentials->secret_key = pstrdup(entry->secret_key);
	credentials->token = pstrdup(entry->token);

	/*
	 * Each set has an id of its own, but the account is the same: by this name
	 * the rate limit recognizes it.
	 */
	credentials->source_name = psprintf("role of %s", entry->url);
}

/*
 * Begin to fetch what is wished for, unless it is there by now, or has failed:
 * then this returns false, and it is worth to look again.  The worker begins
 * none while one is under way; a call from one of its triggers cannot wait for
 * that.
 *
 * *request is to be sent, within ROLE_FETCH_TIMEOUT, and its strings are
 * *fetch's.  role_fetch_go_on() or role_fetch_abandon() must follow.
 */
bool
role_fetch_begin(const RoleWish *wish, RoleFetch *fetch, HttpRequest *request)
{
	MonotonicUs now = monotonic_now();
	RoleEntry  *entry = take_entry(wish->url);
	RoleState	state = state_of(entry, wish, now, wall_seconds());

	if (state == ROLE_KNOWN || state == ROLE_FAILED)
		return false;
	entry->used_at = now;
	entry->is_fetching = true;

	/*
	 * Set before the fetch, so that one that is never ended is tried again,
	 * too.
	 */
	entry->renew_at = now + RENEW_PAUSE * US_PER_SECOND;

	/*
	 * A copy, since the fetch may outlive the transaction in which it was
	 * wished for.
	 */
	fetch->wish = *wish;
	fetch->give_up_at = now + ROLE_FETCH_TIMEOUT * US_PER_MS;
	fetch->name[0] = '\0';
	make_request(fetch, request);
	return true;
}

/*
 * Describe the next request of a fetch: for the role's name, or, once that is
 * known, for its credentials.  The strings are *fetch's.
 */
static void
make_request(RoleFetch *fetch, HttpRequest *request)
{
	static char *const no_headers[] = {NULL};
	/* Both requests of a fetch share its time. */
	MonotonicUs left = fetch->give_up_at - monotonic_now();

	/* The name is empty at first: the folder alone lists the role. */
	snprintf(fetch->url, sizeof(fetch->url), "%s" METADATA_PATH "%s",
			 fetch->wish.url, fetch->name);
	memset(request, 0, sizeof(*request));
	/* So that no connection is shared with another server's requests. */
	request->server = fetch->wish.server;
	request->url = fetch->url;
	request->host = fetch->wish.host;
	request->headers = no_headers;
	request->request_timeout = (int) (Max(left, US_PER_MS) / US_PER_MS);
	request->connect_timeout = request->request_timeout;
	if (fetch->wish.ca_file[0] != '\0')
		request->ca_file = fetch->wish.ca_file;
	/* The metadata service has no rate limit, so that there is no permit. */
	request->deadline = MONOTONIC_NEVER;
}

/*
 * Draw from the reply to a fetch's request what follows.
 *
 * Returns true if that is another request, in *request; false if the fetch has
 * ended, well or not: look what there is.  Raises nothing but out of memory.
 */
bool
role_fetch_go_on(RoleFetch *fetch, const HttpReply *reply,
				 HttpRequest *request)
{
	const char *problem = read_reply(fetch, reply);

	if (problem == NULL && fetch->name[0] == '\0')
	{
		problem = take_name(fetch, reply);
		if (problem == NULL)
		{
			make_request(fetch, request);
			return true;
		}
	}
	else if (problem == NULL)
		problem = take_set(fetch, reply);
	if (problem != NULL)
		note_failure(fetch->wish.url, problem);
	return false;
}

/*
 * Is a reply one that can be read?  Returns NULL, or what is wrong with it.
 */
static const char *
read_reply(const RoleFetch *fetch, const HttpReply *reply)
{
	if (!reply->complete)
		return reply->error;
	if (reply->status != 200)
		return psprintf("\"%s\" returned HTTP status %ld%s",
						fetch->wish.host, reply->status,
						reply->status == 404 ?
						": the machine has no instance role" : "");
	return NULL;
}

/*
 * Take the role's name, or the credentials, from a reply.  Returns NULL, or
 * what is wrong with it, palloc'd.
 */
static const char *
take_name(RoleFetch *fetch, const HttpReply *reply)
{
	const char *problem = role_read_name(reply->body, reply->body_len,
										 fetch->name);

	return problem == NULL ? NULL :
		psprintf("\"%s\" %s", fetch->wish.host, problem);
}

static const char *
take_set(const RoleFetch *fetch, const HttpReply *reply)
{
	RoleAnswer	answer;
	const char *problem = role_read_set(reply->body, reply->body_len, &answer);

	if (problem == NULL)
		problem = check_set(&answer);
	if (problem == NULL)
		store_set(fetch->wish.url, &answer);
	else
		problem = psprintf("\"%s\" %s", fetch->wish.host, problem);
	role_wipe_answer(&answer);
	/* The reply is the transfer's, which will be used again. */
	explicit_bzero(unconstify(char *, reply->body), reply->body_len);
	return problem;
}

/*
 * Are credentials such as can be used?  Returns NULL, or what is wrong.
 */
static const char *
check_set(const RoleAnswer *answer)
{
	Credentials checked = {0};
	const char *problem = NULL;

	/*
	 * By the rules for user mappings: these values go into headers, and must
	 * not break out of them.
	 */
	if (set_credential(&checked, "secret_id", answer->secret_id) != NULL)
		problem = "returned an invalid TmpSecretId";
	else if (set_credential(&checked, "secret_key", answer->secret_key) != NULL)
		problem = "returned an invalid TmpSecretKey";
	else if (set_credential(&checked, "token", answer->token) != NULL)
		problem = "returned an invalid Token";
	/*
	 * An error of its own: a wrong clock here looks the same as a stale
	 * answer.
	 */
	else if (answer->ends_at - MIN_LIFE <= wall_seconds())
		problem = "returned credentials that have expired by this machine's clock";
	wipe_text(checked.secret_id);
	wipe_text(checked.secret_key);
	wipe_text(checked.token);
	return problem;
}

/*
 * Make a set that of its service.
 */
static void
store_set(const char *url, const RoleAnswer *answer)
{
	RoleEntry  *entry = take_entry(url);
	MonotonicUs now = monotonic_now();
	int64		life = answer->ends_at - wall_seconds();

	/* "for ever" is no number of microseconds */
	life = Min(life, 365 * SECS_PER_DAY);
	forget_set(entry);
	entry->secret_id = MemoryContextStrdup(TopMemoryContext, answer->secret_id);
	entry->secret_key = MemoryContextStrdup(TopMemoryContext, answer->secret_key);
	entry->token = MemoryContextStrdup(TopMemoryContext, answer->token);
	entry->used_at = now;
	entry->fetched_at = now;
	entry->ends_at = answer->ends_at;

	/*
	 * By the monotonic clock, so that a step of the wall clock does not put
	 * renewal off.  At least RENEW_PAUSE from now, if the service hands out
	 * sets that end sooner than RENEW_AHEAD.
	 */
	entry->renew_at = now +
		Max(life - RENEW_AHEAD, RENEW_PAUSE) * US_PER_SECOND;
	entry->is_fetching = false;
}

/*
 * A fetch has failed.  Those who need it find out why; as long as the old set
 * can be used, it is the log's matter.
 */
static void
note_failure(const char *url, const char *problem)
{
	RoleEntry  *entry = take_entry(url);
	int64		ends_in = entry->fetched_at == 0 ? 0 :
		entry->ends_at - wall_seconds();

	entry->is_fetching = false;
	entry->failed_at = monotonic_now();
	strlcpy(entry->problem, problem, sizeof(entry->problem));

	/*
	 * Without a usable set the caller reports the error, and a line in the log
	 * would only repeat it.
	 */
	if (ends_in > MIN_LIFE)
		ereport(LOG,
				(errmsg("could not refresh the credentials of the instance role: %s",
						problem),
				 errdetail("Current credentials expire in %lld s.",
						   (long long) ends_in)));
}

/*
 * A fetch was given up, and has neither succeeded nor failed.
 */
void
role_fetch_abandon(const RoleFetch *fetch)
{
	RoleEntry  *entry = find_entry(fetch->wish.url);

	if (entry != NULL)
		entry->is_fetching = false;
}

/*
 * Now, in Unix seconds, as the metadata service gives the end of a set.
 */
static int64
wall_seconds(void)
{
	return live_seconds(GetCurrentTimestamp());
}

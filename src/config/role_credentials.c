/*-------------------------------------------------------------------------
 *
 * role_credentials.c
 *	  Temporary credentials of roles, as far as this process has fetched them
 *
 * The credentials of a role end, and are fetched anew before they do: each
 * process has sets of its own, in its own memory.  Where they come from, and by
 * which requests, is in instance_role.c and sts.c.
 *
 * A set is renewed when a tenth of its life is left, but RENEW_AHEAD before its
 * end at the least, and used as it is meanwhile.
 *
 * A service may hand out a set that ends sooner than that, or the old one once
 * more, or not answer: whatever it does, a set that can be used is used, and
 * fetches for its renewal are RENEW_PAUSE apart.
 *
 * Nothing here sends anything: a fetch is a request to make, and what follows
 * from its reply.  The request is made where the credentials are looked for,
 * which is where options and files can be read, and kept here until it is sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <openssl/evp.h>

#include "lib/ilist.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "api/sign.h"
#include "api/task.h"
#include "config/role_credentials.h"
#include "util/text.h"

#define RENEW_AHEAD		300		/* seconds */
#define RENEW_PAUSE		10		/* seconds */

/* A set that ends within so many seconds is as good as none. */
#define MIN_LIFE		5

/* A signature is valid for five minutes.  A request that has waited for so many
 * seconds is made anew. */
#define MAX_WAIT		60

/* What was not used for so many seconds is forgotten. */
#define FORGET_AFTER	3600

#define MAX_PROBLEM		512

/* What is known of one role's credentials */
typedef struct RoleEntry
{
	dlist_node	node;			/* in "entries" */
	uint8		key[ROLE_KEY_LEN];
	MonotonicUs used_at;
	MonotonicUs fetched_at;		/* the set; 0: there is none */
	int64		ends_at;		/* the set, in Unix seconds */
	MonotonicUs renew_at;		/* when to fetch the next one */
	RoleRequest *request;		/* by which to; NULL: none is made */
	bool		is_fetching;	/* is a fetch under way? */
	MonotonicUs failed_at;		/* the last fetch that did; 0: none */
	char		problem[MAX_PROBLEM];	/* why it did */
	char		hint[MAX_PROBLEM];	/* what to do about it; empty: nothing */
	char	   *secret_id;		/* the set, in TopMemoryContext */
	char	   *secret_key;
	char	   *token;
} RoleEntry;

static dlist_head entries = DLIST_STATIC_INIT(entries);

static RoleEntry *find_entry(const uint8 *key);
static RoleEntry *take_entry(const uint8 *key);
static void forget_unused(MonotonicUs now);
static void forget_set(RoleEntry *entry);
static void forget_sets_at_exit(int code, Datum arg);
static RoleState state_of(const RoleEntry *entry, const RoleWish *wish,
						  MonotonicUs now, int64 wall);
static void free_request(RoleRequest *request);
static void set_timeout(const RoleFetch *fetch, HttpRequest *http);
static const char *check_set(const RoleAnswer *answer);
static void store_set(const RoleWish *wish, const RoleAnswer *answer);
static int64 wall_seconds(void);

/*
 * Look what there is of what is wished for.
 *
 * If that is ROLE_KNOWN or ROLE_DUE, *credentials is set, palloc'd, but for
 * source_name; the caller wipes it.  If it is ROLE_FAILED, *failure is why.
 * Either pointer may be NULL.
 */
RoleState
role_look(const RoleWish *wish, Credentials *credentials, RoleFailure *failure)
{
	RoleEntry  *entry = find_entry(wish->key);
	MonotonicUs now = monotonic_now();
	RoleState	state;

	if (entry == NULL)
		return ROLE_UNKNOWN;
	entry->used_at = now;
	state = state_of(entry, wish, now, wall_seconds());
	if (state == ROLE_FAILED && failure != NULL)
	{
		failure->problem = pstrdup(entry->problem);
		failure->hint = entry->hint[0] == '\0' ? NULL : pstrdup(entry->hint);
	}
	if ((state == ROLE_KNOWN || state == ROLE_DUE) && credentials != NULL)
	{
		credentials->secret_id = pstrdup(entry->secret_id);
		credentials->secret_key = pstrdup(entry->secret_key);
		credentials->token = pstrdup(entry->token);
	}
	return state;
}

/*
 * The entry of a key, or NULL.
 */
static RoleEntry *
find_entry(const uint8 *key)
{
	dlist_iter	iter;

	dlist_foreach(iter, &entries)
	{
		RoleEntry  *entry = dlist_container(RoleEntry, node, iter.cur);

		if (memcmp(entry->key, key, ROLE_KEY_LEN) == 0)
			return entry;
	}
	return NULL;
}

/*
 * The same, made if there is none.
 */
static RoleEntry *
take_entry(const uint8 *key)
{
	static bool wiped_at_exit = false;
	RoleEntry  *entry = find_entry(key);

	if (entry != NULL)
		return entry;
	/* Registered when there is first something to wipe, and once. */
	if (!wiped_at_exit)
		on_proc_exit(forget_sets_at_exit, (Datum) 0);
	wiped_at_exit = true;
	forget_unused(monotonic_now());
	entry = MemoryContextAllocZero(TopMemoryContext, sizeof(RoleEntry));
	memcpy(entry->key, key, ROLE_KEY_LEN);
	entry->used_at = monotonic_now();
	dlist_push_head(&entries, &entry->node);
	return entry;
}

/*
 * Keys and roles are replaced, and a process may run for months.
 */
static void
forget_unused(MonotonicUs now)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &entries)
	{
		RoleEntry  *entry = dlist_container(RoleEntry, node, iter.cur);

		if (entry->is_fetching ||
			entry->used_at + FORGET_AFTER * US_PER_SECOND > now)
			continue;
		forget_set(entry);
		free_request(entry->request);
		dlist_delete(&entry->node);
		pfree(entry);
	}
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
	dlist_iter	iter;

	(void) code;
	(void) arg;
	dlist_foreach(iter, &entries)
		forget_set(dlist_container(RoleEntry, node, iter.cur));
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
 * A request to be described, with a memory context of its own; for
 * role_set_request().
 */
RoleRequest *
role_request_new(void)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "screenshot_task role request",
												  ALLOCSET_SMALL_SIZES);
	RoleRequest *request = MemoryContextAllocZero(context, sizeof(RoleRequest));

	request->context = context;
	request->made_at = monotonic_now();
	/* These services have no rate limit of ours, so that there is no permit. */
	request->http.deadline = MONOTONIC_NEVER;
	return request;
}

/*
 * Wipe what is secret in a request, and free it.  NULL is allowed.
 */
static void
free_request(RoleRequest *request)
{
	if (request == NULL)
		return;
	live_wipe_token(request->http.headers);
	if (request->http.body != NULL)
		explicit_bzero(unconstify(char *, request->http.body),
					   request->http.body_len);
	MemoryContextDelete(request->context);
}

/*
 * Keep the request by which what is wished for is to be fetched, in place of any
 * other.
 */
void
role_set_request(const RoleWish *wish, RoleRequest *request)
{
	RoleEntry  *entry = take_entry(wish->key);

	free_request(entry->request);
	entry->request = request;
}

/*
 * Begin to fetch what is wished for, unless it is there by now, or has failed,
 * or nothing is known by which to fetch it: then this returns false, and it is
 * worth to look again.  The worker begins none while one is under way; a call
 * from one of its triggers cannot wait for that.
 *
 * *http is to be sent, and its strings are *fetch's.  role_fetch_go_on() or
 * role_fetch_abandon() must follow.
 */
bool
role_fetch_begin(const RoleWish *wish, RoleFetch *fetch, HttpRequest *http)
{
	MonotonicUs now = monotonic_now();
	RoleEntry  *entry = take_entry(wish->key);
	RoleState	state = state_of(entry, wish, now, wall_seconds());

	if (state == ROLE_KNOWN || state == ROLE_FAILED || entry->request == NULL)
		return false;
	if (entry->request->made_at + MAX_WAIT * US_PER_SECOND < now)
	{
		free_request(entry->request);
		entry->request = NULL;
		return false;
	}
	entry->used_at = now;
	entry->is_fetching = true;

	/*
	 * Set before the fetch, so that one that is never ended is tried again,
	 * too.
	 */
	entry->renew_at = now + RENEW_PAUSE * US_PER_SECOND;

	/*
	 * Copies, since the fetch may outlive the transaction in which it was
	 * wished for.
	 */
	memset(fetch, 0, sizeof(*fetch));
	fetch->wish = *wish;
	fetch->request = entry->request;
	entry->request = NULL;
	fetch->give_up_at = now + fetch->request->http.request_timeout * US_PER_MS;
	set_timeout(fetch, http);
	return true;
}

/*
 * Describe the next request of a fetch, which has what is left of its time.
 */
static void
set_timeout(const RoleFetch *fetch, HttpRequest *http)
{
	MonotonicUs left = fetch->give_up_at - monotonic_now();

	*http = fetch->request->http;
	http->request_timeout = (int) (Max(left, US_PER_MS) / US_PER_MS);
	http->connect_timeout = http->request_timeout;
}

/*
 * Draw from the reply to a fetch's request what follows.
 *
 * Returns true if that is another request, in *http; false if the fetch has
 * ended, well or not: look what there is.  Raises nothing but out of memory.
 */
bool
role_fetch_go_on(RoleFetch *fetch, const HttpReply *reply, HttpRequest *http)
{
	RoleAnswer	answer = {0};
	RoleFailure failure = {.hint = fetch->request->hint};

	if (!reply->complete)
		failure.problem = reply->error;
	else if (fetch->wish.kind != ROLE_OF_INSTANCE)
		sts_read(fetch, reply, &answer, &failure);
	else if (instance_role_read(fetch, reply, &answer, &failure))
	{
		set_timeout(fetch, http);
		return true;
	}

	if (failure.problem == NULL)
	{
		const char *problem = check_set(&answer);

		if (problem == NULL)
			store_set(&fetch->wish, &answer);
		else
			failure.problem = psprintf("\"%s\" %s", fetch->request->http.host,
									   problem);
	}
	role_wipe_answer(&answer);
	if (reply->complete)
		explicit_bzero(unconstify(char *, reply->body), reply->body_len);
	if (failure.problem != NULL)
		role_note_failure(&fetch->wish, &failure);
	role_fetch_abandon(fetch);
	return false;
}

/*
 * Are credentials such as can be used?  Returns NULL, or what is wrong.
 */
static const char *
check_set(const RoleAnswer *answer)
{
	Credentials checked = {0};
	const char *problem = NULL;

	/* The rules that options have: what is let in here becomes headers. */
	if (set_credential(&checked, "secret_id", answer->secret_id) != NULL)
		problem = "returned an invalid TmpSecretId";
	else if (set_credential(&checked, "secret_key", answer->secret_key) != NULL)
		problem = "returned an invalid TmpSecretKey";
	else if (set_credential(&checked, "token", answer->token) != NULL)
		problem = "returned an invalid Token";
	else if (answer->ends_at - MIN_LIFE <= wall_seconds())
		problem = "returned credentials that have expired by this machine's clock";
	wipe_text(checked.secret_id);
	wipe_text(checked.secret_key);
	wipe_text(checked.token);
	return problem;
}

/*
 * Store the set that was wished for.
 */
static void
store_set(const RoleWish *wish, const RoleAnswer *answer)
{
	RoleEntry  *entry = take_entry(wish->key);
	MonotonicUs now = monotonic_now();
	int64		life = answer->ends_at - wall_seconds();

	/* "for ever" is no number of microseconds */
	life = Min(life, 365 * SECS_PER_DAY);
	forget_set(entry);
	free_request(entry->request);
	entry->request = NULL;
	entry->secret_id = MemoryContextStrdup(TopMemoryContext, answer->secret_id);
	entry->secret_key = MemoryContextStrdup(TopMemoryContext, answer->secret_key);
	entry->token = MemoryContextStrdup(TopMemoryContext, answer->token);
	entry->used_at = now;
	entry->fetched_at = now;
	entry->ends_at = answer->ends_at;
	entry->renew_at = now +
		Max(life - Max(life / 10, RENEW_AHEAD), RENEW_PAUSE) * US_PER_SECOND;
	entry->is_fetching = false;
}

/*
 * What is wished for cannot be fetched.  Those who need it find out why; as long
 * as there is a set that can be used, it is only logged.
 */
void
role_note_failure(const RoleWish *wish, const RoleFailure *failure)
{
	RoleEntry  *entry = take_entry(wish->key);
	MonotonicUs now = monotonic_now();
	int64		ends_in = entry->fetched_at == 0 ? 0 :
		entry->ends_at - wall_seconds();

	entry->is_fetching = false;
	entry->failed_at = now;
	entry->renew_at = now + RENEW_PAUSE * US_PER_SECOND;
	strlcpy(entry->hint, failure->hint != NULL ? failure->hint : "",
			sizeof(entry->hint));
	strlcpy(entry->problem, failure->problem, sizeof(entry->problem));
	if (ends_in > MIN_LIFE)
		ereport(LOG,
				(wish->name[0] == '\0' ?
				 errmsg("could not refresh the credentials of the instance role: %s",
						failure->problem) :
				 errmsg("could not refresh the credentials of role \"%s\": %s",
						wish->name, failure->problem),
				 errdetail("Current credentials expire in %lld s.",
						   (long long) ends_in)));
}

/*
 * A fetch has ended; if it was given up, it has neither succeeded nor failed.
 */
void
role_fetch_abandon(RoleFetch *fetch)
{
	RoleEntry  *entry = find_entry(fetch->wish.key);

	if (entry != NULL)
		entry->is_fetching = false;
	free_request(fetch->request);
	fetch->request = NULL;
}

/*
 * Forget a set that was refused as not, or no longer, valid: the next one is to
 * be fetched.
 */
void
role_forget(const uint8 *key)
{
	RoleEntry  *entry = find_entry(key);

	if (entry != NULL)
		forget_set(entry);
}

/*
 * Set the key of a wish: a digest of all that its credentials depend on, which a
 * text has.
 */
void
role_key(RoleWish *wish, const char *text)
{
	char	   *whole = psprintf("%d %s", wish->kind, text);

	if (!EVP_Digest(whole, strlen(whole), wish->key, NULL, EVP_sha256(), NULL))
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("OpenSSL does not provide SHA-256")));
	pfree(whole);
}

static int64
wall_seconds(void)
{
	return live_seconds(GetCurrentTimestamp());
}

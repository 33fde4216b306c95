/*-------------------------------------------------------------------------
 *
 * machine_role.c
 *	  Credentials of this machine's role, from the vendor's metadata service
 *
 * A machine of the vendor's cloud may have a role.  Its metadata service gives
 * the role's name, and under that name a set of temporary credentials with the
 * time at which they end.
 *
 * A table, in shared memory or in a process alone where there is none, keeps
 * the set of each metadata service.  The sets are sealed: whoever sees the
 * table sees no key.  One process fetches a set, while the others wait for
 * it, or go on with the old one.  It is renewed RENEW_AHEAD before its end, by
 * whoever uses it then.
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

#include "storage/condition_variable.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "config/machine_role.h"
#include "config/seal.h"

#define METADATA_PATH	"latest/meta-data/cam/security-credentials/"

/* How many metadata services there can be: a machine has one. */
#define N_ENTRIES		4

#define RENEW_AHEAD		300		/* seconds */
#define RENEW_PAUSE		10		/* seconds */

/* A set that ends within so many seconds is as good as none. */
#define MIN_LIFE		5

/* A fetch that has not ended by then never will: its process is gone. */
#define FETCH_LIMIT		((ROLE_FETCH_TIMEOUT + 1000) * US_PER_MS)

/* id, key and token, each at its longest and with its NUL */
#define MAX_SET			(256 + 256 + 8193)
#define MAX_PROBLEM		512

/* What is known of one metadata service, under the table's mutex */
typedef struct RoleEntry
{
	char		url[296];		/* of the service; empty: a free entry */
	MonotonicUs used_at;
	MonotonicUs fetched_at;		/* the set; 0: there is none */
	int64		ends_at;		/* the set, in Unix seconds */
	MonotonicUs renew_at;		/* when to fetch the next one */
	MonotonicUs fetch_until;	/* a fetch is under way until then; 0: none */
	MonotonicUs failed_at;		/* the last fetch that did; 0: none */
	char		problem[MAX_PROBLEM];	/* why it did */
	ConditionVariable fetch_ended;	/* not under the mutex */
	size_t		sealed_len;
	unsigned char sealed[MAX_SET + SEAL_OVERHEAD];
} RoleEntry;

struct RoleTable
{
	slock_t		mutex;
	RoleEntry	entries[N_ENTRIES];
};

static RoleEntry *find_entry(RoleTable *table, const char *url);
static RoleEntry *take_entry(RoleTable *table, const char *url);
static RoleState state_of(const RoleEntry *entry, const RoleWish *wish,
						  MonotonicUs now, int64 wall);
static bool open_set(const unsigned char *sealed, size_t sealed_len,
					 const char *url, Credentials *credentials);
static void make_request(RoleFetch *fetch, HttpRequest *request);
static const char *read_reply(const RoleFetch *fetch, const HttpReply *reply);
static const char *take_name(RoleFetch *fetch, const HttpReply *reply);
static const char *take_set(RoleTable *table, const RoleFetch *fetch,
							const HttpReply *reply);
static const char *check_set(const RoleAnswer *answer);
static bool store_set(RoleTable *table, const char *url,
					  const RoleAnswer *answer);
static void note_failure(RoleTable *table, const char *url,
						 const char *problem);
static int64 wall_seconds(void);

/*
 * Bytes that a table takes.
 */
Size
role_table_size(void)
{
	return sizeof(RoleTable);
}

/*
 * Make a table in memory of that size.
 */
void
role_table_init(RoleTable *table)
{
	memset(table, 0, sizeof(*table));
	SpinLockInit(&table->mutex);
	for (int i = 0; i < N_ENTRIES; i++)
		ConditionVariableInit(&table->entries[i].fetch_ended);
}

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
role_look(RoleTable *table, const RoleWish *wish, Credentials *credentials,
		  char **problem)
{
	unsigned char *sealed = palloc(MAX_SET + SEAL_OVERHEAD);
	size_t		sealed_len = 0;
	char		reason[MAX_PROBLEM];
	int64		wall = wall_seconds();
	MonotonicUs now = monotonic_now();
	RoleState	state = ROLE_UNKNOWN;
	RoleEntry  *entry;

	SpinLockAcquire(&table->mutex);
	entry = find_entry(table, wish->url);
	if (entry != NULL)
	{
		state = state_of(entry, wish, now, wall);
		entry->used_at = now;
		sealed_len = entry->sealed_len;
		memcpy(sealed, entry->sealed, sealed_len);
		memcpy(reason, entry->problem, sizeof(reason));
	}
	SpinLockRelease(&table->mutex);

	if (state == ROLE_FAILED && problem != NULL)
		*problem = pstrdup(reason);
	if ((state == ROLE_KNOWN || state == ROLE_DUE) && credentials != NULL &&
		!open_set(sealed, sealed_len, wish->url, credentials))
		elog(ERROR, "could not open the sealed credentials of this machine's role");
	pfree(sealed);
	return state;
}

static RoleEntry *
find_entry(RoleTable *table, const char *url)
{
	for (int i = 0; i < N_ENTRIES; i++)
	{
		if (strcmp(table->entries[i].url, url) == 0)
			return &table->entries[i];
	}
	return NULL;
}

/*
 * The entry of a service; if it has none, that which was not used for longest.
 */
static RoleEntry *
take_entry(RoleTable *table, const char *url)
{
	RoleEntry  *entry = find_entry(table, url);

	if (entry != NULL)
		return entry;
	entry = &table->entries[0];
	for (int i = 1; i < N_ENTRIES; i++)
	{
		if (table->entries[i].used_at < entry->used_at)
			entry = &table->entries[i];
	}
	strlcpy(entry->url, url, sizeof(entry->url));
	entry->used_at = 0;
	entry->fetched_at = 0;
	entry->ends_at = 0;
	entry->renew_at = 0;
	entry->fetch_until = 0;
	entry->failed_at = 0;
	entry->problem[0] = '\0';
	entry->sealed_len = 0;
	return entry;
}

static RoleState
state_of(const RoleEntry *entry, const RoleWish *wish, MonotonicUs now,
		 int64 wall)
{
	bool		fetching = entry->fetch_until > now;

	if (entry->fetched_at > wish->newer_than &&
		entry->ends_at - MIN_LIFE > wall)
		return !fetching && entry->renew_at <= now ? ROLE_DUE : ROLE_KNOWN;
	if (entry->failed_at > wish->since)
		return ROLE_FAILED;
	return fetching ? ROLE_AWAITED : ROLE_UNKNOWN;
}

static bool
open_set(const unsigned char *sealed, size_t sealed_len, const char *url,
		 Credentials *credentials)
{
	char	   *plain = palloc(MAX_SET);
	bool		opened = seal_open(sealed, sealed_len, url, plain);

	if (opened)
	{
		const char *id = plain;
		const char *key = id + strlen(id) + 1;
		const char *token = key + strlen(key) + 1;

		credentials->secret_id = pstrdup(id);
		credentials->secret_key = pstrdup(key);
		credentials->token = pstrdup(token);
		/* Each set has an id of its own; the account is always the same. */
		credentials->source_name = psprintf("role of %s", url);
	}
	explicit_bzero(plain, MAX_SET);
	pfree(plain);
	return opened;
}

/*
 * Wait until the fetch that is under way has ended, if there is one.
 *
 * Interrupts are served, and so may raise an error.
 */
void
role_wait(RoleTable *table, const RoleWish *wish, uint32 wait_event_info)
{
	RoleEntry  *entry;

	SpinLockAcquire(&table->mutex);
	entry = find_entry(table, wish->url);
	SpinLockRelease(&table->mutex);
	if (entry == NULL)
		return;

	ConditionVariablePrepareToSleep(&entry->fetch_ended);
	for (;;)
	{
		MonotonicUs now = monotonic_now();
		MonotonicUs until;

		SpinLockAcquire(&table->mutex);
		until = strcmp(entry->url, wish->url) == 0 ? entry->fetch_until : 0;
		SpinLockRelease(&table->mutex);
		if (until <= now ||
			ConditionVariableTimedSleep(&entry->fetch_ended,
										monotonic_wait_ms(now, until),
										wait_event_info))
			break;
	}
	ConditionVariableCancelSleep();
}

/*
 * Begin to fetch what is wished for, unless another process has: then this
 * returns false, and it is worth to look again.
 *
 * *request is to be sent, within ROLE_FETCH_TIMEOUT, and its strings are
 * *fetch's.  role_fetch_go_on() or role_fetch_abandon() must follow.
 */
bool
role_fetch_begin(RoleTable *table, const RoleWish *wish, RoleFetch *fetch,
				 HttpRequest *request)
{
	int64		wall = wall_seconds();
	MonotonicUs now = monotonic_now();
	RoleEntry  *entry;
	RoleState	state;

	SpinLockAcquire(&table->mutex);
	entry = take_entry(table, wish->url);
	state = state_of(entry, wish, now, wall);
	if (state == ROLE_DUE || state == ROLE_UNKNOWN)
	{
		entry->used_at = now;
		entry->fetch_until = now + FETCH_LIMIT;
		entry->renew_at = now + RENEW_PAUSE * US_PER_SECOND;
	}
	SpinLockRelease(&table->mutex);
	if (state != ROLE_DUE && state != ROLE_UNKNOWN)
		return false;

	fetch->wish = *wish;
	fetch->give_up_at = now + ROLE_FETCH_TIMEOUT * US_PER_MS;
	fetch->name[0] = '\0';
	make_request(fetch, request);
	return true;
}

static void
make_request(RoleFetch *fetch, HttpRequest *request)
{
	static char *const no_headers[] = {NULL};
	MonotonicUs left = fetch->give_up_at - monotonic_now();

	snprintf(fetch->url, sizeof(fetch->url), "%s" METADATA_PATH "%s",
			 fetch->wish.url, fetch->name);
	memset(request, 0, sizeof(*request));
	request->server = fetch->wish.server;
	request->url = fetch->url;
	request->host = fetch->wish.host;
	request->headers = no_headers;
	request->request_timeout = (int) (Max(left, US_PER_MS) / US_PER_MS);
	request->connect_timeout = request->request_timeout;
	if (fetch->wish.ca_file[0] != '\0')
		request->ca_file = fetch->wish.ca_file;
	request->leave_by = MONOTONIC_NEVER;
}

/*
 * Draw from the reply to a fetch's request what follows.
 *
 * Returns true if that is another request, in *request; false if the fetch has
 * ended, well or not: look what there is.  Raises nothing but out of memory.
 */
bool
role_fetch_go_on(RoleTable *table, RoleFetch *fetch, const HttpReply *reply,
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
		problem = take_set(table, fetch, reply);
	if (problem != NULL)
		note_failure(table, fetch->wish.url, problem);
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
		return psprintf("\"%s\" answers with HTTP status %ld%s",
						fetch->wish.host, reply->status,
						reply->status == 404 ?
						": the machine has no role" : "");
	return NULL;
}

static const char *
take_name(RoleFetch *fetch, const HttpReply *reply)
{
	const char *problem = role_read_name(reply->body, reply->body_len,
										 fetch->name);

	return problem == NULL ? NULL :
		psprintf("\"%s\" %s", fetch->wish.host, problem);
}

static const char *
take_set(RoleTable *table, const RoleFetch *fetch, const HttpReply *reply)
{
	char	   *body = palloc(reply->body_len + 1);
	RoleAnswer	answer;
	const char *volatile problem = NULL;

	memcpy(body, reply->body, reply->body_len + 1);
	PG_TRY();
	{
		problem = role_read_set(body, reply->body_len, &answer);
		if (problem == NULL)
			problem = check_set(&answer);
		if (problem == NULL && !store_set(table, fetch->wish.url, &answer))
			problem = "gives credentials that OpenSSL could not seal";
		if (problem != NULL)
			problem = psprintf("\"%s\" %s", fetch->wish.host, problem);
	}
	PG_FINALLY();
	{
		explicit_bzero(body, reply->body_len);
		pfree(body);
	}
	PG_END_TRY();
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

	if (set_credential(&checked, "secret_id", answer->secret_id) != NULL)
		problem = "gives no valid TmpSecretId";
	else if (set_credential(&checked, "secret_key", answer->secret_key) != NULL)
		problem = "gives no valid TmpSecretKey";
	else if (set_credential(&checked, "token", answer->token) != NULL)
		problem = "gives no valid Token";
	else if (answer->ends_at - MIN_LIFE <= wall_seconds())
		problem = "gives credentials that have ended, by this machine's clock";
	wipe_text(checked.secret_id);
	wipe_text(checked.secret_key);
	wipe_text(checked.token);
	return problem;
}

/*
 * Seal a set, and make it that of its service.  Returns false if OpenSSL
 * fails.
 */
static bool
store_set(RoleTable *table, const char *url, const RoleAnswer *answer)
{
	const char *parts[] = {answer->secret_id, answer->secret_key, answer->token};
	char	   *plain = palloc(MAX_SET);
	unsigned char *sealed = palloc(MAX_SET + SEAL_OVERHEAD);
	size_t		len = 0;
	bool		is_sealed;
	int64		life = answer->ends_at - wall_seconds();
	MonotonicUs now;
	RoleEntry  *entry;

	for (int i = 0; i < (int) lengthof(parts); i++)
	{
		size_t		part_len = strlen(parts[i]) + 1;

		memcpy(plain + len, parts[i], part_len);
		len += part_len;
	}
	is_sealed = seal(plain, len, url, sealed);
	explicit_bzero(plain, len);
	pfree(plain);
	if (!is_sealed)
		return false;

	now = monotonic_now();
	/* "for ever" is no number of microseconds */
	life = Min(life, 365 * SECS_PER_DAY);
	SpinLockAcquire(&table->mutex);
	entry = take_entry(table, url);
	entry->used_at = now;
	entry->fetched_at = now;
	entry->ends_at = answer->ends_at;
	entry->renew_at = now +
		Max(life - RENEW_AHEAD, RENEW_PAUSE) * US_PER_SECOND;
	entry->fetch_until = 0;
	entry->sealed_len = len + SEAL_OVERHEAD;
	memcpy(entry->sealed, sealed, entry->sealed_len);
	SpinLockRelease(&table->mutex);
	ConditionVariableBroadcast(&entry->fetch_ended);
	pfree(sealed);
	return true;
}

/*
 * A fetch has failed.  Those who need it find out why; as long as the old set
 * can be used, it is the log's matter.
 */
static void
note_failure(RoleTable *table, const char *url, const char *problem)
{
	int64		wall = wall_seconds();
	int64		ends_in;
	RoleEntry  *entry;

	SpinLockAcquire(&table->mutex);
	entry = take_entry(table, url);
	entry->fetch_until = 0;
	entry->failed_at = monotonic_now();
	strlcpy(entry->problem, problem, sizeof(entry->problem));
	ends_in = entry->fetched_at != 0 ? entry->ends_at - wall : 0;
	SpinLockRelease(&table->mutex);
	ConditionVariableBroadcast(&entry->fetch_ended);

	if (ends_in > MIN_LIFE)
		ereport(LOG,
				(errmsg("could not renew the credentials of this machine's role: %s",
						problem),
				 errdetail("Those that there are end in %lld s.",
						   (long long) ends_in)));
}

/*
 * A fetch was given up, and has neither succeeded nor failed.
 */
void
role_fetch_abandon(RoleTable *table, const RoleFetch *fetch)
{
	RoleEntry  *entry;

	SpinLockAcquire(&table->mutex);
	entry = find_entry(table, fetch->wish.url);
	if (entry != NULL)
		entry->fetch_until = 0;
	SpinLockRelease(&table->mutex);
	if (entry != NULL)
		ConditionVariableBroadcast(&entry->fetch_ended);
}

static int64
wall_seconds(void)
{
	return live_seconds(GetCurrentTimestamp());
}

/*-------------------------------------------------------------------------
 *
 * credentials.c
 *	  With which credentials a role sends to a server
 *
 * They are those of the role's user mapping; or, if the server's option
 * "credentials" says so, this machine's own: from the environment that the
 * server was started in, from a file, of the machine's role, or of its pod's.
 * These are lent to whoever has USAGE on the server, which a superuser must own
 * for that: see trust.c.  With the option "role_arn" they are not sent with, but
 * assume that role, and what STS gives for it is.
 *
 * What is read is one set, read anew at each use: id, key and token of two
 * sets make none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "compat.h"
#include "config/credentials.h"
#include "config/credentials_source.h"
#include "config/role_credentials.h"
#include "util/text.h"

static RoleState find_own(const LiveServer *server, Oid role, RoleWish *wish,
						  Credentials *credentials);
static RoleState find_assumed(const LiveServer *server, Oid role,
							  RoleWish *wish, Credentials *credentials);
static RoleState find_signer(const LiveServer *server, RoleWish *wish,
							 RoleState state, Credentials *signer);
static bool are_fetched(const LiveServer *server);
static void own_wish(RoleWish *wish, const LiveServer *server);
static char *name_source(const LiveServer *server, const RoleWish *wish);
static RoleState look(const LiveServer *server, const RoleWish *wish,
					  Credentials *credentials);
static bool prepare_own(const LiveServer *server, const RoleWish *wish,
						const RoleWish *usable);
static void read_own(const LiveServer *server, Oid role,
					 Credentials *credentials);
static uint64 digest_account(const LiveServer *server,
							 const Credentials *credentials);
static void fetch_role(const RoleWish *wish);
pg_noreturn static void raise_role_failure(const RoleWish *wish,
										   const RoleFailure *failure);

/*
 * The credentials with which a role sends to a server, for a session.
 *
 * Of a role of Tencent Cloud's, only a set that was fetched after newer_than, or
 * any if that is 0; it may have to be fetched first, for ROLE_FETCH_TIMEOUT once
 * or twice, in which interrupts are served.
 *
 * palloc'd; wipe_credentials() after use.  Raises an error if there are none.
 */
Credentials *
credentials_get(const LiveServer *server, Oid role, MonotonicUs newer_than)
{
	/* A failure recorded before now says nothing of the next fetch. */
	MonotonicUs since = monotonic_now();

	for (;;)
	{
		RoleWish	wish = {.newer_than = newer_than, .since = since};
		RoleState	state;

		/*
		 * Again after each fetch, successful or not: a failure is recorded
		 * with its reason, and raised from there.
		 */
		Credentials *credentials = credentials_find(server, role, &wish, &state);

		if (state == ROLE_KNOWN)
			return credentials;
		wipe_credentials(credentials);
		fetch_role(&wish);
	}
}

/*
 * The credentials with which a role sends to a server, if they can be had
 * without waiting.
 *
 * *state is ROLE_KNOWN, but of what is fetched it may be another: ROLE_DUE; or
 * ROLE_UNKNOWN or ROLE_AWAITED, and NULL is returned.  Then *wish is what must be
 * fetched before this is asked again.  Before, it says which sets are wanted, by
 * newer_than and since.  palloc'd, and errors, as above.
 */
Credentials *
credentials_find(const LiveServer *server, Oid role, RoleWish *wish,
				 RoleState *state)
{
	Credentials *credentials = palloc0(sizeof(Credentials));

	PG_TRY();
	{
		*state = server->role_arn != NULL ?
			find_assumed(server, role, wish, credentials) :
			find_own(server, role, wish, credentials);
		if (*state == ROLE_KNOWN || *state == ROLE_DUE)
			credentials->account = digest_account(server, credentials);
	}
	PG_CATCH();
	{
		wipe_credentials(credentials);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (*state == ROLE_KNOWN || *state == ROLE_DUE)
		return credentials;
	pfree(credentials);
	return NULL;
}

/*
 * Find those that the option "credentials" names.
 */
static RoleState
find_own(const LiveServer *server, Oid role, RoleWish *wish,
		 Credentials *credentials)
{
	RoleState	state;

	if (!are_fetched(server))
	{
		read_own(server, role, credentials);
		return ROLE_KNOWN;
	}
	own_wish(wish, server);
	state = look(server, wish, credentials);
	if (state != ROLE_KNOWN &&
		!prepare_own(server, wish, state == ROLE_DUE ? wish : NULL))
		return ROLE_KNOWN;
	return state;
}

/*
 * Find those of the role that the option "role_arn" names.
 */
static RoleState
find_assumed(const LiveServer *server, Oid role, RoleWish *wish,
			 Credentials *credentials)
{
	Credentials *signer = palloc0(sizeof(Credentials));
	volatile RoleState state = ROLE_UNKNOWN;

	PG_TRY();
	{
		char	   *signed_by;

		if (are_fetched(server))
		{
			RoleWish	own = {.newer_than = 0};

			own_wish(&own, server);
			signed_by = name_source(server, &own);
		}
		else
		{
			read_own(server, role, signer);
			signed_by = psprintf("%016llx", (unsigned long long)
								 digest_account(server, signer));
		}
		assumed_role_wish(wish, server, signed_by);
		state = look(server, wish, credentials);
		if (state != ROLE_KNOWN)
			state = find_signer(server, wish, state, signer);
	}
	PG_FINALLY();
	{
		wipe_credentials(signer);
	}
	PG_END_TRY();
	return state;
}

/*
 * Have a role assumed: make the request for it, signed with the server's own
 * credentials.  Those may have to be fetched first: then they are wished for
 * instead.
 *
 * The state is that of what is wished for, and then what follows from both.  What
 * can still be used is used, whatever is wrong with the other credentials.
 */
static RoleState
find_signer(const LiveServer *server, RoleWish *wish, RoleState state,
			Credentials *signer)
{
	RoleWish	own = {.since = wish->since};
	RoleState	own_state = ROLE_KNOWN;
	RoleRequest *request;

	if (are_fetched(server))
	{
		RoleFailure failure;

		own_wish(&own, server);
		own_state = role_look(&own, signer, &failure);
		if (own_state == ROLE_FAILED && state != ROLE_DUE)
			raise_role_failure(&own, &failure);
		if (own_state == ROLE_FAILED)
		{
			role_note_failure(wish, &failure);
			return ROLE_KNOWN;
		}
	}
	if (own_state == ROLE_UNKNOWN || own_state == ROLE_AWAITED)
	{
		if (!prepare_own(server, &own, state == ROLE_DUE ? wish : NULL))
			return ROLE_KNOWN;
		*wish = own;
		return state == ROLE_DUE ? state : own_state;
	}

	request = assumed_role_request(server, signer);
	request->has_signed_by = are_fetched(server);
	memcpy(request->signed_by, own.key, ROLE_KEY_LEN);
	role_set_request(wish, request);
	return state;
}

/*
 * Are the credentials that a server's option "credentials" names fetched from
 * somewhere?  All others are read on the spot.
 */
static bool
are_fetched(const LiveServer *server)
{
	return server->credentials == FROM_ROLE || server->credentials == FROM_TKE;
}

/*
 * Wish for them.
 */
static void
own_wish(RoleWish *wish, const LiveServer *server)
{
	if (server->credentials == FROM_TKE)
		pod_role_wish(wish, server);
	else
		instance_role_wish(wish, server);
}

/*
 * By what a role is known, whatever set of credentials it has at the moment;
 * palloc'd.  Only who may have the role has got a set of it.
 */
static char *
name_source(const LiveServer *server, const RoleWish *wish)
{
	return wish->kind == ROLE_OF_INSTANCE ?
		psprintf("role of %s", server->metadata.url) :
		psprintf("role %s", wish->name);
}

/*
 * Look what there is of what is wished for.  Raises the failure of a fetch that
 * was waited for.
 */
static RoleState
look(const LiveServer *server, const RoleWish *wish, Credentials *credentials)
{
	RoleFailure failure;
	RoleState	state = role_look(wish, credentials, &failure);

	if (state == ROLE_FAILED)
		raise_role_failure(wish, &failure);
	if (state == ROLE_KNOWN || state == ROLE_DUE)
		credentials->source_name = name_source(server, wish);
	return state;
}

/*
 * Make the request by which a server's own credentials are fetched.
 *
 * If that fails, it raises an error; but where there is a set that can be used
 * meanwhile, of the wish that is given, it is only noted as the reason why that
 * is not renewed, and this returns false.
 */
static bool
prepare_own(const LiveServer *server, const RoleWish *wish,
			const RoleWish *usable)
{
	MemoryContext context = CurrentMemoryContext;
	RoleRequest *volatile request = NULL;

	PG_TRY();
	{
		request = wish->kind == ROLE_OF_POD ? pod_role_request(server) :
			instance_role_request(server);
	}
	PG_CATCH();
	{
		ErrorData  *error;
		RoleFailure failure;

		/* What is caught has touched memory and a file that is closed again. */
		if (usable == NULL)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		failure.problem = error->message;
		failure.hint = error->hint;
		role_note_failure(usable, &failure);
		FreeErrorData(error);
	}
	PG_END_TRY();
	if (request != NULL)
		role_set_request(wish, request);
	return request != NULL;
}

/*
 * Read what is not fetched.
 */
static void
read_own(const LiveServer *server, Oid role, Credentials *credentials)
{
	switch (server->credentials)
	{
		case FROM_USER_MAPPING:
			read_user_mapping(server, role, credentials);
			break;
		case FROM_ENVIRONMENT:
			read_environment(credentials);
			break;
		case FROM_FILE:
			read_file(credentials);
			break;
		case FROM_ROLE:
		case FROM_TKE:
			Assert(false);
			break;
	}
}

/*
 * What identifies an account, in shared memory as well: a digest of the
 * endpoint and of the key pair, which only somebody with the secret key can
 * make, and from which nobody recovers it.  So nobody affects the rate limit
 * of an account by knowing its secret id, or by a server that answers as it
 * likes.
 *
 * Credentials that are renewed have a name of their own in place of the keys.
 * Never 0.
 */
static uint64
digest_account(const LiveServer *server, const Credentials *credentials)
{
	const char *name = credentials->source_name;
	const char *key = name != NULL ? "" : credentials->secret_key;
	char	   *text = psprintf("%s %s %s", server->account_url,
								name != NULL ? "of" : "id",
								name != NULL ? name : credentials->secret_id);
	unsigned char digest[EVP_MAX_MD_SIZE];
	uint64		account;

	/*
	 * Not pg_hmac_create(), which registers with CurrentResourceOwner: the
	 * worker has none between transactions.
	 */
	if (HMAC(EVP_sha256(), key, (int) strlen(key), (unsigned char *) text,
			 strlen(text), digest, NULL) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("OpenSSL does not provide HMAC with SHA-256")));
	wipe_text(text);

	/*
	 * 64 bits are enough: nobody can choose the digest without the secret key.
	 */
	memcpy(&account, digest, sizeof(account));
	return account != 0 ? account : 1;
}

/*
 * Wipe credentials from memory, and free them.  NULL is allowed.
 */
void
wipe_credentials(Credentials *credentials)
{
	if (credentials == NULL)
		return;
	wipe_text(credentials->secret_id);
	wipe_text(credentials->secret_key);
	wipe_text(credentials->token);
	pfree(credentials);
}

/*
 * Fetch the credentials of a role, and wait until the fetch has ended,
 * successful or not.
 */
static void
fetch_role(const RoleWish *wish)
{
	static HttpClient *client = NULL;
	static uint32 wait_event = 0;
	RoleFetch  *fetch = palloc(sizeof(RoleFetch));
	HttpTransfer **transfer = palloc0(sizeof(HttpTransfer *));
	HttpRequest request;

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("ScreenshotTaskRole");
	/* A client of its own: the one for calls belongs to a layer above. */
	if (client == NULL)
		client = http_client_create(1);
	/* Another caller's fetch has ended meanwhile; the caller looks again. */
	if (!role_fetch_begin(wish, fetch, &request))
		return;
	PG_TRY();
	{
		bool		more = true;

		while (more)
		{
			HttpReply	reply;

			/*
			 * Two requests follow each other: the role's name first, then its
			 * credentials under that name.
			 */
			http_start(client, &request, transfer);
			http_begin(client);
			while (http_next_done(client) == NULL)
			{
				/* Only here, where libcurl is not on the stack. */
				CHECK_FOR_INTERRUPTS();
				http_wait(client, MONOTONIC_NEVER, wait_event);
			}
			http_reply(*transfer, &reply);
			more = role_fetch_go_on(fetch, &reply, &request);
			http_release(*transfer);
			*transfer = NULL;
		}
	}
	PG_CATCH();
	{
		http_release(*transfer);

		/*
		 * Otherwise is_fetching would stay set, and keep others from fetching.
		 */
		role_fetch_abandon(fetch);
		PG_RE_THROW();
	}
	PG_END_TRY();
	pfree(transfer);
	pfree(fetch);
}

/*
 * Raise the error that a role's credentials cannot be had, and why.
 */
static void
raise_role_failure(const RoleWish *wish, const RoleFailure *failure)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			 wish->kind == ROLE_OF_INSTANCE ?
			 errmsg("could not get the credentials of the instance role: %s",
					failure->problem) :
			 errmsg("could not get the credentials of role \"%s\": %s",
					wish->name, failure->problem),
			 failure->hint != NULL ? errhint("%s", failure->hint) : 0));
}

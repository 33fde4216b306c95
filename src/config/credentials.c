/*-------------------------------------------------------------------------
 *
 * credentials.c
 *	  With which credentials a role sends to a server
 *
 * They are those of the role's user mapping; or, if the server's option
 * "credentials" says so, this machine's own: from the environment that the
 * server was started in, from a file, or of the machine's role.  These are lent
 * to whoever has USAGE on the server, which a superuser must own for that: see
 * trust.c.
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
#include "util/text.h"

static uint64 digest_account(const LiveServer *server,
							 const Credentials *credentials);
static void fetch_role(const RoleWish *wish);
pg_noreturn static void raise_role_failure(const char *problem);

/*
 * The credentials with which a role sends to a server, for a session.
 *
 * Of the machine's role, only a set that was fetched after newer_than, or any
 * if that is 0; it may have to be fetched first, for ROLE_FETCH_TIMEOUT, in
 * which interrupts are served.
 *
 * palloc'd; wipe_credentials() after use.  Raises an error if there are none.
 */
Credentials *
credentials_get(const LiveServer *server, Oid role, MonotonicUs newer_than)
{
	RoleWish	wish;

	role_wish(&wish, server);
	wish.newer_than = newer_than;

	for (;;)
	{
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
 * *state is ROLE_KNOWN, but of the machine's role it may be another: ROLE_DUE;
 * or ROLE_UNKNOWN or ROLE_AWAITED, and NULL is returned.  wish is what
 * role_wish() made; palloc'd, and errors, as above.
 */
Credentials *
credentials_find(const LiveServer *server, Oid role, const RoleWish *wish,
				 RoleState *state)
{
	Credentials *credentials = palloc0(sizeof(Credentials));
	char	   *problem;

	/* All sources but the last are read on the spot. */
	*state = ROLE_KNOWN;
	PG_TRY();
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
				*state = role_look(wish, credentials, &problem);
				if (*state == ROLE_FAILED)
					raise_role_failure(problem);
				break;
		}
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
 * By what an account is known, in shared memory as well: a digest of the
 * endpoint and of what is signed with, which only who has the secret key can
 * make, and from which nobody recovers it.  So somebody who knows another's
 * secret id, or whose server answers as it likes, affects nobody else.
 *
 * Credentials that are renewed have a name of their own in place of the keys.
 * Never 0.
 */
static uint64
digest_account(const LiveServer *server, const Credentials *credentials)
{
	const char *name = credentials->source_name;
	const char *key = name != NULL ? "" : credentials->secret_key;
	char	   *text = psprintf("%s %s %s", server->endpoint.url,
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
 * Fetch the credentials of the machine's role, and wait until that has ended,
 * well or not.
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
 * Raise the error that the metadata service gave no credentials, and why.
 */
static void
raise_role_failure(const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			 errmsg("could not get the credentials of the instance role: %s",
					problem),
			 errhint("Only a machine in Tencent Cloud can have an instance role. The server option \"metadata_endpoint\" sets the address of its metadata service.")));
}

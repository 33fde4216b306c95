/*-------------------------------------------------------------------------
 *
 * sts.c
 *	  Credentials of roles, from the vendor's Security Token Service
 *
 * A pod on the vendor's Kubernetes has no key, but a token of its cluster, in a
 * file, which STS takes for proof of who it is (AssumeRoleWithWebIdentity).  And
 * whoever has credentials may assume a role that trusts them (AssumeRole).
 * Either answer has a set of temporary credentials, and when they end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "api/body.h"
#include "api/error_class.h"
#include "api/sign.h"
#include "api/task.h"
#include "config/role_credentials.h"
#include "config/secret_file.h"
#include "util/text.h"

#define SERVICE			"sts"
#define VERSION			"2018-08-13"
#define REGION			"ap-guangzhou"

/* In seconds */
#define POD_DURATION	7200

#define REGION_VARIABLE		"TKE_REGION"
#define PROVIDER_VARIABLE	"TKE_PROVIDER_ID"
#define TOKEN_VARIABLE		"TKE_WEB_IDENTITY_TOKEN_FILE"
#define ROLE_VARIABLE		"TKE_ROLE_ARN"

#define TOKEN_FILE		"web identity token file"
#define MAX_TOKEN_FILE	(16 * 1024) /* bytes */

static const char pod_hint[] =
"Only a pod on TKE whose service account has a role can use these credentials.  Check that the role trusts the identity provider of the cluster, and the server option \"sts_endpoint\".";
static const char assumed_hint[] =
"Check the server options \"role_arn\" and \"sts_endpoint\", that the role trusts the account, and that the account may call AssumeRole.";

static const char *require_variable(const char *name);
static char *read_token(const char *path);
static RoleRequest *make_request(const LiveServer *server, const char *action,
								 const char *region,
								 const Credentials *credentials, char *body);

/*
 * Wish for the credentials of the pod's role.  Raises an error if the environment
 * does not say what that is.
 */
void
pod_role_wish(RoleWish *wish, const LiveServer *server)
{
	const char *arn = require_variable(ROLE_VARIABLE);

	if (strlen(arn) > MAX_ROLE_ARN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("invalid value for environment variable %s",
						ROLE_VARIABLE)));
	wish->kind = ROLE_OF_POD;
	strlcpy(wish->name, arn, sizeof(wish->name));
	role_key(wish, psprintf("%s %s %s %s %s", server->sts.url, arn,
							require_variable(PROVIDER_VARIABLE),
							require_variable(TOKEN_VARIABLE),
							server->role_session_name));
}

/*
 * The value of a variable of the environment.
 */
static const char *
require_variable(const char *name)
{
	const char *value = getenv(name);

	if (value == NULL || value[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("environment variable %s is not set", name),
				 errdetail("TKE sets it in pods whose service account has a role.  It is read from the environment in which the PostgreSQL server was started."),
				 errhint("Give the pod's service account a role, or pass the variable on to the PostgreSQL server.")));
	return value;
}

/*
 * The request for the credentials of the pod's role.  The token is read anew: the
 * cluster replaces it from time to time.  Raises an error if it cannot be read.
 */
RoleRequest *
pod_role_request(const LiveServer *server)
{
	char	   *token = read_token(require_variable(TOKEN_VARIABLE));
	char	   *body = sts_web_identity_body(require_variable(PROVIDER_VARIABLE),
											 token, require_variable(ROLE_VARIABLE),
											 server->role_session_name,
											 POD_DURATION);
	RoleRequest *request;

	wipe_text(token);
	request = make_request(server, "AssumeRoleWithWebIdentity",
						   require_variable(REGION_VARIABLE), NULL, body);
	wipe_text(body);
	request->hint = pod_hint;
	return request;
}

/*
 * The token in a file, palloc'd, for the caller to wipe.
 */
static char *
read_token(const char *path)
{
	size_t		len;
	char	   *text = secret_file_read(path, TOKEN_FILE, MAX_TOKEN_FILE, NULL, &len);
	bool		is_token = true;

	while (len > 0 && isspace((unsigned char) text[len - 1]))
		text[--len] = '\0';
	for (size_t i = 0; i < len; i++)
		is_token = is_token && text[i] > ' ' && text[i] < 0x7f;
	if (len > 0 && is_token)
		return text;
	explicit_bzero(text, len);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			 len == 0 ?
			 errmsg("%s \"%s\" is empty", TOKEN_FILE, path) :
			 errmsg("%s \"%s\" does not contain a token", TOKEN_FILE, path),
			 errhint("Check the volume that environment variable %s points to.",
					 TOKEN_VARIABLE)));
}

/*
 * Wish for the credentials of the role that a server's option "role_arn" names,
 * assumed by what the text identifies.
 */
void
assumed_role_wish(RoleWish *wish, const LiveServer *server,
				  const char *signed_by)
{
	wish->kind = ROLE_ASSUMED;
	strlcpy(wish->name, server->role_arn, sizeof(wish->name));
	role_key(wish, psprintf("%s %s %s %d %s", server->sts.url, server->role_arn,
							server->role_session_name, server->role_duration,
							signed_by));
}

/*
 * The request for them, signed with credentials.
 */
RoleRequest *
assumed_role_request(const LiveServer *server, const Credentials *credentials)
{
	RoleRequest *request =
		make_request(server, "AssumeRole", REGION, credentials,
					 sts_assume_role_body(server->role_arn,
										  server->role_session_name,
										  server->role_duration / 1000));

	request->hint = assumed_hint;
	return request;
}

static RoleRequest *
make_request(const LiveServer *server, const char *action, const char *region,
			 const Credentials *credentials, char *body)
{
	RoleRequest *request = role_request_new();
	MemoryContext old = MemoryContextSwitchTo(request->context);
	LiveRequest *signed_request = palloc(sizeof(LiveRequest));
	ApiAction	sts = {
		.service = SERVICE,
		.version = VERSION,
		.action = action,
		.host = server->sts.authority,
		.region = region
	};

	PG_TRY();
	{
		api_sign(signed_request, &sts, credentials,
				 live_seconds(GetCurrentTimestamp()), pstrdup(body));
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old);
		MemoryContextDelete(request->context);
		PG_RE_THROW();
	}
	PG_END_TRY();
	request->http.server = server->oid;
	request->http.url = pstrdup(server->sts.url);
	request->http.host = pstrdup(server->sts.authority);
	request->http.headers = signed_request->headers;
	request->http.body = signed_request->body;
	request->http.body_len = signed_request->body_len;
	request->http.request_timeout = Min(server->request_timeout,
										ROLE_FETCH_TIMEOUT);
	request->http.ca_file = server->ca_file ? pstrdup(server->ca_file) : NULL;
	request->http.proxy = server->proxy ? pstrdup(server->proxy) : NULL;
	MemoryContextSwitchTo(old);
	return request;
}

/*
 * Read a reply of STS.  *answer is set; or *failure, if something is wrong.
 *
 * A refusal is known by its code and RequestId; its message could have in it
 * what was asked.
 */
void
sts_read(const RoleFetch *fetch, const HttpReply *reply, RoleAnswer *answer,
		 RoleFailure *failure)
{
	const char *host = fetch->request->http.host;
	const char *problem;

	if (reply->status != 200)
	{
		failure->problem = psprintf("\"%s\" returned HTTP status %ld", host,
									reply->status);
		return;
	}
	problem = sts_read_set(reply->body, reply->body_len, answer);
	if (answer->code == NULL)
	{
		failure->problem = problem == NULL ? NULL :
			psprintf("\"%s\" %s", host, problem);
		return;
	}
	failure->problem = answer->request_id == NULL ?
		psprintf("\"%s\" refused it: %s", host, answer->code) :
		psprintf("\"%s\" refused it: %s (RequestId %s)", host, answer->code,
				 answer->request_id);
	if (live_error_hint(answer->code) != NULL)
		failure->hint = live_error_hint(answer->code);
	/* The set that it was signed with may have been revoked. */
	if (fetch->request->has_signed_by &&
		strcmp(answer->code, LIVE_TOKEN_FAILURE) == 0)
		role_forget(fetch->request->signed_by);
}

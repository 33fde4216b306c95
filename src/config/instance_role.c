/*-------------------------------------------------------------------------
 *
 * instance_role.c
 *	  Credentials of this machine's role, from the vendor's metadata service
 *
 * A machine of the vendor's cloud may have a role.  Its metadata service gives
 * the role's name, and under that name a set of temporary credentials with the
 * time at which they end: two requests.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "config/role_credentials.h"

#define METADATA_PATH	"latest/meta-data/cam/security-credentials/"

/* In milliseconds.  The service is near; where there is none, its name leads to
 * a host that does not answer. */
#define TIMEOUT			2000

static const char hint[] =
"Only a machine in Tencent Cloud can have an instance role.  The server option \"metadata_endpoint\" sets the address of its metadata service.";

/*
 * Wish for the credentials of the machine's role, by a server's metadata service.
 */
void
instance_role_wish(RoleWish *wish, const LiveServer *server)
{
	wish->kind = ROLE_OF_INSTANCE;
	wish->name[0] = '\0';
	role_key(wish, server->metadata.url);
}

/*
 * The request for the role's name.
 */
RoleRequest *
instance_role_request(const LiveServer *server)
{
	static char *const no_headers[] = {NULL};
	RoleRequest *request = role_request_new();
	MemoryContext old = MemoryContextSwitchTo(request->context);

	/* So that no connection is shared with another server's requests. */
	request->http.server = server->oid;
	/* The name is empty at first: the folder alone lists the role. */
	request->http.url = psprintf("%s" METADATA_PATH, server->metadata.url);
	request->http.host = pstrdup(server->metadata.authority);
	request->http.headers = no_headers;
	request->http.request_timeout = TIMEOUT;
	request->hint = hint;
	request->http.ca_file = server->ca_file ? pstrdup(server->ca_file) : NULL;
	MemoryContextSwitchTo(old);
	return request;
}

/*
 * Read a reply of the service.
 *
 * Returns true if another request is to be made, which is the fetch's by then.
 * Else *answer is set; or *failure, if something is wrong.
 */
bool
instance_role_read(RoleFetch *fetch, const HttpReply *reply,
				   RoleAnswer *answer, RoleFailure *failure)
{
	HttpRequest *http = &fetch->request->http;
	const char *problem;
	MemoryContext old;

	if (reply->status != 200)
	{
		failure->problem = psprintf("\"%s\" returned HTTP status %ld%s",
									http->host, reply->status,
									reply->status == 404 ?
									": the machine has no instance role" : "");
		return false;
	}
	problem = fetch->instance_role[0] == '\0' ?
		role_read_name(reply->body, reply->body_len, fetch->instance_role) :
		role_read_set(reply->body, reply->body_len, answer);
	if (problem != NULL)
	{
		failure->problem = psprintf("\"%s\" %s", http->host, problem);
		return false;
	}
	if (answer->secret_id != NULL)
		return false;
	old = MemoryContextSwitchTo(fetch->request->context);
	http->url = psprintf("%s%s", http->url, fetch->instance_role);
	MemoryContextSwitchTo(old);
	return true;
}

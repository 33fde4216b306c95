/*-------------------------------------------------------------------------
 *
 * trust.c
 *	  Which options a server may have while no superuser owns it
 *
 * Whoever has USAGE on the wrapper can create servers.  From there they must
 * reach the vendor and nobody else: no host of their choice, in the network
 * that the database server stands in; no file of the database server's; no
 * credentials of its machine.  Options that do more are for superusers.
 *
 * The validator is told the options that a server will have, but not which
 * server it is.  So it asks who sets them; and who owns the server is asked
 * again at each use, since ALTER SERVER ... OWNER TO and ALTER ROLE change that
 * without the validator.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "config/trust.h"

/* The vendor's domain, and those that its SDKs fall back to */
static const char *const vendor_domains[] = {
	"tencentcloudapi.com", "tencentcloudapi.com.cn", "tencentcloudapi.cn"
};

#define VENDOR_DOMAINS	"tencentcloudapi.com, tencentcloudapi.com.cn and tencentcloudapi.cn"

static char *describe_privileged_option(const LiveServer *server);
static bool is_vendor_endpoint(const HttpEndpoint *endpoint);

/*
 * Check that the current role may give a server the options that it has here.
 *
 * Raises an error if only a superuser may.
 */
void
check_trust_in_setter(const LiveServer *server)
{
	char	   *option;

	if (superuser())
		return;
	option = describe_privileged_option(server);
	if (option != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set options of a server with %s",
						option),
				 errdetail("Only superusers may set the options of a server that has \"proxy\", \"ca_file\", \"metadata_endpoint\", \"credentials\" other than \"user_mapping\", or an \"endpoint\", \"fallback_endpoint\" or \"sts_endpoint\" that is not https, on its default port, in one of the domains %s.",
						   VENDOR_DOMAINS),
				 errhint("Remove the option, or have a superuser create and own the server.")));
}

/*
 * Check that a server's owner may have it used with its options.
 *
 * Raises an error if only a superuser may.
 */
void
check_trust_in_owner(const LiveServer *server)
{
	char	   *option = describe_privileged_option(server);

	if (option == NULL || superuser_arg(server->owner))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("server \"%s\" cannot be used with %s because its owner is not a superuser",
					server->name, option),
			 errdetail("Its owner is %s.",
					   quote_identifier(GetUserNameFromId(server->owner, false))),
			 errhint("Have a superuser run ALTER SERVER %s OWNER TO a superuser, or drop the option.",
					 quote_identifier(server->name))));
}

/*
 * The option of a server that only a superuser's may have, palloc'd, for a
 * message; NULL if there is none.
 */
static char *
describe_privileged_option(const LiveServer *server)
{
	if (server->credentials != FROM_USER_MAPPING)
		return psprintf("option \"credentials\" set to \"%s\"",
						credentials_source_name(server->credentials));
	if (server->has_metadata)
		return pstrdup("option \"metadata_endpoint\"");
	if (server->proxy != NULL)
		return pstrdup("option \"proxy\"");
	if (server->ca_file != NULL)
		return pstrdup("option \"ca_file\"");
	if (!is_vendor_endpoint(&server->endpoint))
		return psprintf("endpoint \"%s\"", server->endpoint.url);
	if (server->has_fallback && !is_vendor_endpoint(&server->fallback))
		return psprintf("fallback_endpoint \"%s\"", server->fallback.url);
	if (!is_vendor_endpoint(&server->sts))
		return psprintf("sts_endpoint \"%s\"", server->sts.url);
	return NULL;
}

/*
 * Is an endpoint the vendor's: over TLS, at the default port, in one of its
 * domains?
 */
static bool
is_vendor_endpoint(const HttpEndpoint *endpoint)
{
	size_t		host_len = strlen(endpoint->host);

	/* With a port other than the default the authority has it as well. */
	if (strcmp(endpoint->scheme, "https") != 0 ||
		strcmp(endpoint->authority, endpoint->host) != 0)
		return false;

	/*
	 * No name has an empty label.  What a resolver makes of one, perhaps with
	 * its search list, need not be the vendor's.
	 */
	if (endpoint->host[0] == '.' || strstr(endpoint->host, "..") != NULL)
		return false;
	for (int i = 0; i < (int) lengthof(vendor_domains); i++)
	{
		size_t		len = strlen(vendor_domains[i]);
		const char *end = endpoint->host + host_len - len;

		if (host_len < len || pg_strcasecmp(end, vendor_domains[i]) != 0)
			continue;
		/* The domain itself, or a name within it, but not "livetencentcloudapi.com". */
		if (host_len == len || end[-1] == '.')
			return true;
	}
	return false;
}

/*-------------------------------------------------------------------------
 *
 * server.c
 *	  Foreign servers of the wrapper tencent_cloud
 *
 * The validator runs the checks of options.c; reading a server runs them again,
 * since an option may have been stored before a rule was made.
 *
 * Some options are for superusers alone; see trust.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "compat.h"
#include "config/server.h"
#include "config/trust.h"
#include "config/wrapper.h"
#include "util/text.h"

/* The most names in a HINT */
#define MAX_NAMES			10

static void check_ca_file(const LiveServer *server);
static void check_proxy(const LiveServer *server);
static void check_complete(const Credentials *credentials);
static void warn_of_ca_file(const LiveServer *server);
static ForeignServer *find_server(const char *name, Oid role);
static char *list_servers(Oid role);

PG_FUNCTION_INFO_V1(screenshot_task_fdw_validator);

/*
 * Check the options of a foreign server or user mapping.
 *
 * Raises an error that names the option, the value unless it is a secret,
 * and what is allowed; or that the option is for superusers to set.
 */
Datum
screenshot_task_fdw_validator(PG_FUNCTION_ARGS)
{
	Oid			catalog = PG_GETARG_OID(1);
	LiveServer	server;
	Credentials credentials;

	/*
	 * The rules below are about all options together, so that absent ones
	 * count with their defaults.
	 */
	set_server_defaults(&server);
	memset(&credentials, 0, sizeof(credentials));
	apply_options(catalog == UserMappingRelationId ?
				  (void *) &credentials : (void *) &server,
				  catalog, PG_GETARG_ARRAYTYPE_P(0));
	if (catalog == ForeignServerRelationId)
	{
		/*
		 * First, so that whoever may not set the options learns nothing about
		 * files by the other checks.
		 */
		check_trust_in_setter(&server);
		check_ca_file(&server);
		check_proxy(&server);
		warn_of_ca_file(&server);
	}
	if (catalog == UserMappingRelationId)
		check_complete(&credentials);

	/* palloc'd memory is not cleared when it is freed. */
	wipe_text(credentials.secret_id);
	wipe_text(credentials.secret_key);
	wipe_text(credentials.token);
	PG_RETURN_VOID();
}

/*
 * Check that a ca_file that exists is a file of reasonable size: libcurl would
 * read a pipe, a device or a huge file for long, or for ever.  One that does
 * not exist may be put there later.
 */
static void
check_ca_file(const LiveServer *server)
{
	struct stat file;

	/*
	 * Checked at each use as well, for the file may have been replaced since.
	 */
	if (server->ca_file == NULL || stat(server->ca_file, &file) != 0 ||
		(S_ISREG(file.st_mode) && file.st_size <= MAX_CA_FILE))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"ca_file\": \"%s\"",
					server->ca_file),
			 errdetail_internal("%s", CA_FILE_ALLOWED)));
}

/*
 * Refuse a proxy for an http endpoint: a request without TLS must not leave
 * this machine.
 */
static void
check_proxy(const LiveServer *server)
{
	const struct
	{
		const char *option;
		const HttpEndpoint *endpoint;
	}			endpoints[] = {
		{"endpoint", &server->endpoint},
		{"sts_endpoint", &server->sts},
		{"fallback_endpoint", server->has_fallback ? &server->fallback : NULL}
	};

	for (int i = 0; server->proxy != NULL && i < (int) lengthof(endpoints); i++)
	{
		const HttpEndpoint *endpoint = endpoints[i].endpoint;

		if (endpoint != NULL && strcmp(endpoint->scheme, "https") != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"proxy\" is not allowed with an http endpoint: \"%s\"",
							endpoint->url),
					 errdetail("An http endpoint is on this machine; a proxy would carry its requests elsewhere without TLS."),
					 errhint("Remove the option, or set \"%s\" to an https URL.",
							 endpoints[i].option)));
	}
}

/*
 * Warn of a ca_file that does not exist.  It may be put there later, so that
 * this is no error.
 */
static void
warn_of_ca_file(const LiveServer *server)
{
	if (server->ca_file != NULL && access(server->ca_file, R_OK) != 0)
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\" of option \"ca_file\": %m",
						server->ca_file),
				 errhint("The user that the PostgreSQL server runs as must be able to read it before a request is sent.")));
}

/*
 * Check that a user mapping has what signing takes.  A token is optional.
 */
static void
check_complete(const Credentials *credentials)
{
	if (credentials->secret_id != NULL && credentials->secret_key != NULL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
			 errmsg("user mapping has no option \"%s\"",
					credentials->secret_id == NULL ? "secret_id" : "secret_key"),
			 errdetail("A user mapping needs \"secret_id\" and \"secret_key\"."),
			 errhint("Set both with OPTIONS (secret_id '...', secret_key '...').  For a server whose option \"credentials\" is not \"user_mapping\", no user mapping is needed.")));
}

/*
 * Check that a role may send to the server of a name.
 *
 * Raises an error if there is no such server, if it is not one of this
 * wrapper, or if the role has no USAGE on it.
 */
void
check_live_server(const char *name, Oid role)
{
	(void) find_server(name, role);
}

/*
 * The server of a name, palloc'd.  Raises an error unless the role may send to
 * it, as for check_live_server().
 */
static ForeignServer *
find_server(const char *name, Oid role)
{
	ForeignServer *foreign = GetForeignServerByName(name, true);
	ForeignDataWrapper *wrapper;

	if (foreign == NULL)
	{
		/*
		 * Only those that the role may use: the names of others are not its
		 * concern.
		 */
		const char *usable = list_servers(role);

		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" does not exist", name),
				 usable[0] != '\0' ?
				 errhint("Available servers are: %s.", usable) :
				 errhint("Create it with CREATE SERVER %s FOREIGN DATA WRAPPER "
						 FDW_NAME ".", quote_identifier(name))));
	}

	wrapper = GetForeignDataWrapper(foreign->fdwid);

	/*
	 * Another wrapper's options mean something else, and its user mappings
	 * hold other secrets.
	 */
	if (strcmp(wrapper->fdwname, FDW_NAME) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" does not belong to the foreign-data wrapper \"%s\"",
						name, FDW_NAME),
				 errdetail("Its wrapper is \"%s\".", wrapper->fdwname)));

	/*
	 * Last, as PostgreSQL does it for tables: who lacks a privilege may still
	 * know that the object exists.
	 */
	if (foreign_server_aclcheck(foreign->serverid, role, ACL_USAGE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for foreign server %s", name),
				 errhint("Have its owner GRANT USAGE ON FOREIGN SERVER %s TO %s.",
						 quote_identifier(name),
						 quote_identifier(GetUserNameFromId(role, false)))));
	return foreign;
}

/*
 * The names of the servers that a role may use, as a text for a HINT: MAX_NAMES
 * of them at the most, and an ellipsis for the others.
 */
static char *
list_servers(Oid role)
{
	StringInfoData names;
	ListCell   *cell;
	int			n = 0;

	initStringInfo(&names);
	foreach(cell, live_server_names(role))
	{
		appendStringInfo(&names, "%s%s", n > 0 ? ", " : "",
						 n == MAX_NAMES ? "..." : quote_identifier(lfirst(cell)));
		if (n++ == MAX_NAMES)
			break;
	}
	return names.data;
}

/*
 * The server of a name, for a role that wants to send to it.
 *
 * Raises the errors of check_live_server(), and one if an option is not
 * valid, or not one that the server's owner may have.
 */
LiveServer *
get_live_server(const char *name, Oid role)
{
	ForeignServer *foreign = find_server(name, role);
	LiveServer *server;
	ListCell   *cell;

	server = palloc(sizeof(LiveServer));
	set_server_defaults(server);
	server->oid = foreign->serverid;
	server->owner = foreign->owner;
	server->name = foreign->servername;
	foreach(cell, foreign->options)
	{
		DefElem    *element = lfirst(cell);

		apply_option(server, ForeignServerRelationId, element->defname,
					 defGetString(element));
	}

	/*
	 * The owner, not who set the options: ALTER SERVER ... OWNER TO does not
	 * call the validator.
	 */
	server->account_url = server->endpoint.url;
	check_trust_in_owner(server);
	check_ca_file(server);
	return server;
}

/*
 * Have the requests to a server go to its fallback endpoint, which it has.  The
 * account, and with it the rate limit, is the same.
 */
void
server_use_fallback(LiveServer *server)
{
	server->account_url = pstrdup(server->account_url);
	server->endpoint = server->fallback;
}

/*
 * Raise an error if a server is disabled.
 */
void
require_enabled_server(const LiveServer *server)
{
	if (!server->enabled)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server \"%s\" is disabled by its option \"enabled\"",
						server->name),
				 errhint("Have its owner run ALTER SERVER %s OPTIONS (SET enabled 'true').",
						 quote_identifier(server->name))));
}

/*
 * Describe a signed request to a server.
 *
 * Everything in *http is palloc'd anew in the current memory context, but for
 * headers and body, which are the signed request's.  What is left to the
 * caller, such as deadline, is zero.
 */
void
server_http_request(const LiveServer *server, const LiveRequest *request,
					HttpRequest *http)
{
	memset(http, 0, sizeof(*http));
	/* Connections are shared within a server only, see http_pool.c. */
	http->server = server->oid;
	http->url = pstrdup(server->endpoint.url);
	http->host = pstrdup(server->endpoint.authority);
	http->headers = request->headers;
	http->body = request->body;
	http->body_len = request->body_len;
	http->connect_timeout = server->connect_timeout;
	http->request_timeout = server->request_timeout;
	http->ca_file = server->ca_file ? pstrdup(server->ca_file) : NULL;
	http->proxy = server->proxy ? pstrdup(server->proxy) : NULL;
}

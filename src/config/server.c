/*-------------------------------------------------------------------------
 *
 * server.c
 *	  Foreign servers of the wrapper tencent_cloud, and the options of theirs
 *	  and of their user mappings
 *
 * Every option is a row of one table, with the function that checks its
 * value.  The validator runs the checks; reading a server runs them again,
 * since an option may have been stored before a rule was made.
 *
 * Some options are for superusers alone; see trust.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "compat.h"
#include "config/server.h"
#include "config/trust.h"
#include "config/wrapper.h"
#include "net/rate_limit.h"
#include "util/legible.h"

#define DEFAULT_ENDPOINT	"https://live.tencentcloudapi.com"
#define DEFAULT_REGION		"ap-guangzhou"
#define DEFAULT_LANGUAGE	"en-US"
#define DEFAULT_METADATA	"http://metadata.tencentyun.com"

#define MAX_CONNECT_TIMEOUT	(60 * 1000)		/* ms */
#define MAX_REQUEST_TIMEOUT	(5 * 60 * 1000)	/* ms */
#define MAX_PERMIT_TIMEOUT	(60 * 60 * 1000)	/* ms */

/* libcurl reads all of a file before it connects, and nothing else goes on
 * meanwhile. */
#define MAX_CA_FILE			(16 * 1024 * 1024)
#define CA_FILE_ALLOWED		"It must be the absolute path of a regular file of certificates in PEM format, of at most 16 MB."

/* Half of what a worker can have under way: a server that does not answer
 * leaves room for others. */
#define MAX_IN_FLIGHT		125

/* The most names in a HINT */
#define MAX_NAMES			10

/*
 * Checks a value, and puts it into a LiveServer or Credentials.  Returns
 * what is allowed if the value is not, as a sentence; else NULL.
 */
typedef const char *(*OptionSetter) (void *object, const char *value);

typedef struct Option
{
	const char *name;
	Oid			catalog;		/* of the objects that have it */
	bool		is_secret;		/* not to be shown */
	OptionSetter set;
} Option;

static const char *set_endpoint(void *object, const char *value);
static const char *set_region(void *object, const char *value);
static const char *set_language(void *object, const char *value);
static const char *set_requests_per_second(void *object, const char *value);
static const char *set_connect_timeout(void *object, const char *value);
static const char *set_request_timeout(void *object, const char *value);
static const char *set_permit_timeout(void *object, const char *value);
static const char *set_ca_file(void *object, const char *value);
static const char *set_proxy(void *object, const char *value);
static const char *set_max_in_flight(void *object, const char *value);
static const char *set_in_doubt(void *object, const char *value);
static const char *set_credentials(void *object, const char *value);
static const char *set_metadata_endpoint(void *object, const char *value);
static const char *set_secret_id(void *object, const char *value);
static const char *set_secret_key(void *object, const char *value);
static const char *set_token(void *object, const char *value);

static const Option options[] = {
	{"endpoint", ForeignServerRelationId, false, set_endpoint},
	{"region", ForeignServerRelationId, false, set_region},
	{"language", ForeignServerRelationId, false, set_language},
	{"requests_per_second", ForeignServerRelationId, false, set_requests_per_second},
	{"connect_timeout", ForeignServerRelationId, false, set_connect_timeout},
	{"request_timeout", ForeignServerRelationId, false, set_request_timeout},
	{"permit_timeout", ForeignServerRelationId, false, set_permit_timeout},
	{"ca_file", ForeignServerRelationId, false, set_ca_file},
	{"proxy", ForeignServerRelationId, false, set_proxy},
	{"max_in_flight", ForeignServerRelationId, false, set_max_in_flight},
	{"in_doubt", ForeignServerRelationId, false, set_in_doubt},
	{"credentials", ForeignServerRelationId, false, set_credentials},
	{"metadata_endpoint", ForeignServerRelationId, false, set_metadata_endpoint},
	/* what is wrong may be that the key stands behind it */
	{"secret_id", UserMappingRelationId, true, set_secret_id},
	{"secret_key", UserMappingRelationId, true, set_secret_key},
	{"token", UserMappingRelationId, true, set_token},
};

/* The longest value of an option, in bytes: a token */
#define MAX_VALUE		8192
#define MAX_REGION		63

#define IN_QUOTES	"It is in quotes, which would be part of it."

/* by CredentialsSource */
static const char *const credentials_sources[] = {
	"user_mapping", "environment", "file", "role"
};

static void check_ca_file(const LiveServer *server);
static void check_proxy(const LiveServer *server);
static void apply_options(void *object, Oid catalog, ArrayType *array);
static void apply_option(void *object, Oid catalog, const char *name,
						 const char *value);
static const Option *find_option(const char *name, Oid catalog);
pg_noreturn static void raise_unknown_option(const char *name, Oid catalog);
static int	list_options(Oid catalog, const char **names);
static void check_complete(const Credentials *credentials);
static void warn_of_ca_file(const LiveServer *server);
static ForeignServer *find_server(const char *name, Oid role);
static char *list_servers(Oid role);
static void set_server_defaults(LiveServer *server);
static bool is_loopback(const char *host);
static bool is_visible_ascii(const char *value);
static bool set_time(int *milliseconds, const char *value, int most);
static const char *set_count(int *count, const char *value, int most);

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

	set_server_defaults(&server);
	memset(&credentials, 0, sizeof(credentials));
	apply_options(catalog == UserMappingRelationId ?
				  (void *) &credentials : (void *) &server,
				  catalog, PG_GETARG_ARRAYTYPE_P(0));
	if (catalog == ForeignServerRelationId)
	{
		check_trust_in_setter(&server);
		check_ca_file(&server);
		check_proxy(&server);
		warn_of_ca_file(&server);
	}
	if (catalog == UserMappingRelationId)
		check_complete(&credentials);

	wipe_text(credentials.secret_id);
	wipe_text(credentials.secret_key);
	wipe_text(credentials.token);
	PG_RETURN_VOID();
}

/*
 * libcurl must not be given what it would read for long, or for ever: a pipe,
 * a device, a huge file.  What is not there yet may come.
 */
static void
check_ca_file(const LiveServer *server)
{
	struct stat file;

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
 * A request without TLS must not leave this machine.
 */
static void
check_proxy(const LiveServer *server)
{
	if (server->proxy != NULL && strcmp(server->endpoint.scheme, "https") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"proxy\" is not allowed with an endpoint of scheme http: \"%s\"",
						server->endpoint.url),
				 errdetail("Such an endpoint is on this machine, and what is sent to a proxy leaves it, without TLS."),
				 errhint("Leave the option out, or set an \"endpoint\" of scheme https.")));
}

/*
 * A file may be put there later, so that this is no error.
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
			 errhint("Set both with OPTIONS (secret_id '...', secret_key '...'). For a server whose option \"credentials\" is not \"user_mapping\", no user mapping is needed.")));
}

/*
 * Apply options as catalogs and validators have them, an array of "name=value".
 *
 * PostgreSQL's untransformRelOptions() makes copies that nobody can wipe.
 */
static void
apply_options(void *object, Oid catalog, ArrayType *array)
{
	Datum	   *texts;
	int			n;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		char	   *name = TextDatumGetCString(texts[i]);
		size_t		len = strlen(name);
		char	   *value = strchr(name, '=');

		PG_TRY();
		{
			if (value != NULL)
				*value++ = '\0';
			apply_option(object, catalog, name, value != NULL ? value : "");
		}
		PG_FINALLY();
		{
			explicit_bzero(name, len);
		}
		PG_END_TRY();
		pfree(name);
	}
	pfree(texts);
}

static void
apply_option(void *object, Oid catalog, const char *name, const char *value)
{
	const Option *option = find_option(name, catalog);
	const char *allowed;

	if (option == NULL)
		raise_unknown_option(name, catalog);

	if (strlen(value) > MAX_VALUE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("value of option \"%s\" must be at most %d bytes",
						option->name, MAX_VALUE),
				 errdetail("It has %zu bytes.", strlen(value))));

	allowed = option->set(object, value);
	if (allowed != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 /* an "@" may follow a password */
				 option->is_secret || strchr(value, '@') != NULL ?
				 errmsg("invalid value for option \"%s\"", option->name) :
				 errmsg("invalid value for option \"%s\": \"%s\"",
						option->name, value),
				 errdetail_internal("%s", allowed),
				 catalog == UserMappingRelationId && is_in_quotes(value) ?
				 errhint(QUOTES_HINT) : 0));
}

static const Option *
find_option(const char *name, Oid catalog)
{
	for (int i = 0; i < (int) lengthof(options); i++)
	{
		if (options[i].catalog == catalog && strcmp(options[i].name, name) == 0)
			return &options[i];
	}
	return NULL;
}

/*
 * Raise an error for an option that objects of a catalog do not have.
 */
static void
raise_unknown_option(const char *name, Oid catalog)
{
	const char *names[lengthof(options)];
	int			n = list_options(catalog, names);
	const char *closest = closest_name(name, names, n);
	StringInfoData valid;

	initStringInfo(&valid);
	for (int i = 0; i < n; i++)
		appendStringInfo(&valid, "%s%s", i > 0 ? ", " : "", names[i]);
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("invalid option \"%s\"", name),
			 find_option(name, UserMappingRelationId) != NULL ?
			 errhint("It is an option of user mappings: CREATE USER MAPPING FOR role SERVER server OPTIONS (secret_id '...', secret_key '...').") :
			 find_option(name, ForeignServerRelationId) != NULL ?
			 errhint("It is an option of servers: ALTER SERVER server OPTIONS (%s '...').", name) :
			 closest != NULL ?
			 errhint("Perhaps you meant the option \"%s\".", closest) :
			 n > 0 ?
			 errhint("Valid options in this context are: %s", valid.data) :
			 errhint("There are no valid options in this context.")));
}

/*
 * Get the names of the options that objects of a catalog have.  Returns how
 * many there are.
 */
static int
list_options(Oid catalog, const char **names)
{
	int			n = 0;

	for (int i = 0; i < (int) lengthof(options); i++)
	{
		if (options[i].catalog == catalog)
			names[n++] = options[i].name;
	}
	return n;
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

static ForeignServer *
find_server(const char *name, Oid role)
{
	ForeignServer *foreign = GetForeignServerByName(name, true);
	ForeignDataWrapper *wrapper;

	if (foreign == NULL)
	{
		const char *usable = list_servers(role);

		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" does not exist", name),
				 usable[0] != '\0' ?
				 errhint("These servers may be used: %s.", usable) :
				 errhint("Create it with CREATE SERVER %s FOREIGN DATA WRAPPER "
						 FDW_NAME ".", quote_identifier(name))));
	}

	wrapper = GetForeignDataWrapper(foreign->fdwid);
	if (strcmp(wrapper->fdwname, FDW_NAME) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" does not belong to the foreign-data wrapper \"%s\"",
						name, FDW_NAME),
				 errdetail("Its wrapper is \"%s\".", wrapper->fdwname)));

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
 * The same as a text for a HINT: MAX_NAMES of them at the most, and an
 * ellipsis for the others.
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
	check_trust_in_owner(server);
	check_ca_file(server);
	return server;
}

/*
 * Describe a signed request to a server.
 *
 * Everything in *http is palloc'd anew in the current memory context, but for
 * headers and body, which are the signed request's.  What is left to the
 * caller, such as leave_by, is zero.
 */
void
server_http_request(const LiveServer *server, const LiveRequest *request,
					HttpRequest *http)
{
	memset(http, 0, sizeof(*http));
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

/*
 * The options of a server that has none.  URLs are taken apart once.
 */
static void
set_server_defaults(LiveServer *server)
{
	static LiveServer defaults;
	static bool are_set = false;

	if (!are_set)
	{
		memset(&defaults, 0, sizeof(defaults));
		(void) set_endpoint(&defaults, DEFAULT_ENDPOINT);
		defaults.region = DEFAULT_REGION;
		defaults.language = DEFAULT_LANGUAGE;
		defaults.requests_per_second = 20;
		defaults.connect_timeout = 5 * 1000;
		defaults.request_timeout = 30 * 1000;
		defaults.max_in_flight = 32;
		defaults.in_doubt = IN_DOUBT_RECONCILE;
		defaults.credentials = FROM_USER_MAPPING;
		(void) set_metadata_endpoint(&defaults, DEFAULT_METADATA);
		defaults.has_metadata = false;
		are_set = true;
	}
	*server = defaults;
}

/*
 * A source of credentials, as the option has it.
 */
const char *
credentials_source_name(CredentialsSource source)
{
	return credentials_sources[source];
}

/*
 * Take over a user mapping's credentials, which are palloc'd, from its options.
 *
 * Raises an error if one is not known, or its value not valid.
 */
void
apply_user_mapping_options(Credentials *credentials, ArrayType *array)
{
	apply_options(credentials, UserMappingRelationId, array);
}

/*
 * Take over a part of credentials that come from elsewhere, by the rules for
 * a user mapping's option of that name.
 *
 * Returns NULL, with the part palloc'd; or what is allowed, as a sentence.
 */
const char *
set_credential(Credentials *credentials, const char *name, const char *value)
{
	return find_option(name, UserMappingRelationId)->set(credentials, value);
}

/*
 * Is a value that should be an id, key or token in quotes?  The programs that
 * read these from files and the environment do not agree on whether the quotes
 * belong to it, and no real one has any.
 */
bool
is_in_quotes(const char *value)
{
	size_t		len = strlen(value);

	return len >= 2 && (value[0] == '"' || value[0] == '\'') &&
		value[len - 1] == value[0];
}

/*
 * Wipe a secret from memory.  NULL is allowed.
 */
void
wipe_text(char *secret)
{
	if (secret != NULL)
		explicit_bzero(secret, strlen(secret));
}

/* ------------------------------------------------------------------ options
 * of a server
 */

static const char *
set_endpoint(void *object, const char *value)
{
	LiveServer *server = object;
	const char *problem = http_parse_endpoint(value, &server->endpoint);

	if (problem != NULL)
		return psprintf("It %s. An endpoint is a URL of a scheme and a host, such as \"%s\".",
						problem, DEFAULT_ENDPOINT);
	if (strcmp(server->endpoint.scheme, "https") == 0 ||
		(strcmp(server->endpoint.scheme, "http") == 0 &&
		 is_loopback(server->endpoint.host)))
		return NULL;
	return "Its scheme must be https; http is accepted for loopback addresses alone.";
}

/*
 * Is a host, as it stands in a URL, this machine?  Names other than
 * "localhost" may be anywhere.
 */
static bool
is_loopback(const char *host)
{
	struct in_addr address;

	return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
		(strncmp(host, "127.", 4) == 0 &&
		 inet_pton(AF_INET, host, &address) == 1);
}

static const char *
set_region(void *object, const char *value)
{
	if (value[0] == '\0' || strlen(value) > MAX_REGION ||
		strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(value))
		return "A region consists of 1 to 63 lower-case letters, digits and hyphens, such as \"ap-guangzhou\".";
	((LiveServer *) object)->region = pstrdup(value);
	return NULL;
}

static const char *
set_language(void *object, const char *value)
{
	if (strcmp(value, "en-US") != 0 && strcmp(value, "zh-CN") != 0)
		return "Valid values are \"en-US\" and \"zh-CN\".";
	((LiveServer *) object)->language = pstrdup(value);
	return NULL;
}

static const char *
set_requests_per_second(void *object, const char *value)
{
	return set_count(&((LiveServer *) object)->requests_per_second, value,
					 RATE_MAX);
}

static const char *
set_connect_timeout(void *object, const char *value)
{
	if (set_time(&((LiveServer *) object)->connect_timeout, value,
				 MAX_CONNECT_TIMEOUT))
		return NULL;
	return "It must be a time from 1ms to 60s, with one of the units \"ms\", \"s\", \"min\" and \"h\"; milliseconds without one.";
}

static const char *
set_request_timeout(void *object, const char *value)
{
	if (set_time(&((LiveServer *) object)->request_timeout, value,
				 MAX_REQUEST_TIMEOUT))
		return NULL;
	return "It must be a time from 1ms to 5min, with one of the units \"ms\", \"s\", \"min\" and \"h\"; milliseconds without one.";
}

static const char *
set_permit_timeout(void *object, const char *value)
{
	if (set_time(&((LiveServer *) object)->permit_timeout, value,
				 MAX_PERMIT_TIMEOUT))
		return NULL;
	return "It must be a time from 1ms to 1h, with one of the units \"ms\", \"s\", \"min\" and \"h\"; milliseconds without one.";
}

static const char *
set_ca_file(void *object, const char *value)
{
	if (!is_absolute_path(value) || strlen(value) >= MAXPGPATH)
		return CA_FILE_ALLOWED;
	((LiveServer *) object)->ca_file = pstrdup(value);
	return NULL;
}

static const char *
set_proxy(void *object, const char *value)
{
	HttpEndpoint endpoint;
	const char *problem = http_parse_endpoint(value, &endpoint);

	if (problem != NULL)
		return psprintf("It %s. A proxy is a URL of a scheme, a host and a port.",
						problem);
	if (strcmp(endpoint.scheme, "http") != 0 &&
		strcmp(endpoint.scheme, "https") != 0)
		return "Its scheme must be http or https.";
	((LiveServer *) object)->proxy = pstrdup(value);
	return NULL;
}

static const char *
set_max_in_flight(void *object, const char *value)
{
	return set_count(&((LiveServer *) object)->max_in_flight, value, MAX_IN_FLIGHT);
}

static const char *
set_in_doubt(void *object, const char *value)
{
	LiveServer *server = object;

	if (strcmp(value, "reconcile") == 0)
		server->in_doubt = IN_DOUBT_RECONCILE;
	else if (strcmp(value, "hold") == 0)
		server->in_doubt = IN_DOUBT_HOLD;
	else if (strcmp(value, "resend") == 0)
		server->in_doubt = IN_DOUBT_RESEND;
	else
		return "Valid values are \"reconcile\", \"hold\" and \"resend\".";
	return NULL;
}

static const char *
set_credentials(void *object, const char *value)
{
	for (int i = 0; i < (int) lengthof(credentials_sources); i++)
	{
		if (strcmp(value, credentials_sources[i]) == 0)
		{
			((LiveServer *) object)->credentials = (CredentialsSource) i;
			return NULL;
		}
	}
	return "Valid values are \"user_mapping\", \"environment\", \"file\" and \"role\".";
}

static const char *
set_metadata_endpoint(void *object, const char *value)
{
	LiveServer *server = object;
	const char *problem = http_parse_endpoint(value, &server->metadata);

	if (problem != NULL)
		return psprintf("It %s. An endpoint is a URL of a scheme and a host, such as \"%s\".",
						problem, DEFAULT_METADATA);
	/* The service has no TLS.  It is near, and superusers say where. */
	if (strcmp(server->metadata.scheme, "http") != 0 &&
		strcmp(server->metadata.scheme, "https") != 0)
		return "Its scheme must be http or https.";
	server->has_metadata = true;
	return NULL;
}

/* of a user mapping */

static const char *
set_secret_id(void *object, const char *value)
{
	if (is_in_quotes(value))
		return IN_QUOTES;
	/* It stands in a header, between an equals sign and a slash. */
	if (!is_visible_ascii(value) || strpbrk(value, ",/") != NULL)
		return "It must consist of 1 to 255 visible ASCII characters other than comma and slash.";
	((Credentials *) object)->secret_id = pstrdup(value);
	return NULL;
}

static const char *
set_secret_key(void *object, const char *value)
{
	if (is_in_quotes(value))
		return IN_QUOTES;
	if (!is_visible_ascii(value))
		return "It must consist of 1 to 255 visible ASCII characters.";
	((Credentials *) object)->secret_key = pstrdup(value);
	return NULL;
}

static const char *
set_token(void *object, const char *value)
{
	if (is_in_quotes(value))
		return IN_QUOTES;
	/* Tokens are long, but a header has its limits too. */
	if (value[0] == '\0' || strlen(value) > 8192 ||
		strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~+/=:%") != strlen(value))
		return "A token consists of 1 to 8192 letters, digits and the characters -_.~+/=:%.";
	((Credentials *) object)->token = pstrdup(value);
	return NULL;
}

static bool
is_visible_ascii(const char *value)
{
	size_t		len = strlen(value);

	for (const char *c = value; *c != '\0'; c++)
	{
		if (*c <= ' ' || *c >= 0x7f)
			return false;
	}
	return len >= 1 && len <= 255;
}

/*
 * Read a time of at most so many milliseconds.  Returns false if it is none.
 */
static bool
set_time(int *milliseconds, const char *value, int most)
{
	int			parsed;
	const char *hint = NULL;

	if (!parse_int(value, &parsed, GUC_UNIT_MS, &hint) ||
		parsed <= 0 || parsed > most)
		return false;
	*milliseconds = parsed;
	return true;
}

static const char *
set_count(int *count, const char *value, int most)
{
	size_t		len = strlen(value);
	int			parsed;

	/* parse_int() takes a leading zero for octal. */
	if (len > 0 && len < 10 && strspn(value, "0123456789") == len)
	{
		parsed = (int) strtol(value, NULL, 10);
		if (parsed >= 1 && parsed <= most)
		{
			*count = parsed;
			return NULL;
		}
	}
	return psprintf("It must be a whole number from 1 to %d.", most);
}

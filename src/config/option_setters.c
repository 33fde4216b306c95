/*-------------------------------------------------------------------------
 *
 * option_setters.c
 *	  The values that options may have
 *
 * A function for each option of the table in options.c: it checks a value, and
 * puts it where it belongs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>

#include "utils/builtins.h"
#include "utils/guc.h"

#include "config/options.h"
#include "net/rate_limit.h"

#define DEFAULT_ENDPOINT	"https://live.tencentcloudapi.com"
#define DEFAULT_REGION		"ap-guangzhou"
#define DEFAULT_LANGUAGE	"en-US"
#define DEFAULT_METADATA	"http://metadata.tencentyun.com"
#define DEFAULT_STS			"https://sts.tencentcloudapi.com"
#define DEFAULT_SESSION		"screenshot_task"

#define MAX_CONNECT_TIMEOUT	(60 * 1000)		/* ms */
#define MAX_REQUEST_TIMEOUT	(5 * 60 * 1000)	/* ms */
#define MAX_PERMIT_TIMEOUT	(60 * 60 * 1000)	/* ms */

/* In milliseconds.  What lives for less is renewed all the time; STS gives no
 * more. */
#define MIN_ROLE_DURATION	(10 * 60 * 1000)
#define MAX_ROLE_DURATION	(12 * 60 * 60 * 1000)

/* Half of what a worker can have under way: a server that does not answer
 * leaves room for others. */
#define MAX_IN_FLIGHT		125

#define MAX_REGION		63

#define IN_QUOTES	"The value is in quotes, which would become part of it."

/* by CredentialsSource */
static const char *const credentials_sources[] = {
	"user_mapping", "environment", "file", "role", "tke"
};

static bool is_loopback(const char *host);
static bool is_visible_ascii(const char *value);
static bool set_time(int *milliseconds, const char *value, int most);
static const char *set_vendor_endpoint(HttpEndpoint *endpoint,
									   const char *value, const char *example);
static const char *set_count(int *count, const char *value, int most);

/*
 * Set the options of a server to their defaults.
 */
void
set_server_defaults(LiveServer *server)
{
	static LiveServer defaults;
	static bool are_set = false;

	/*
	 * Done once: every read of a server begins with these, and two URLs are
	 * parsed for them.
	 */
	if (!are_set)
	{
		memset(&defaults, 0, sizeof(defaults));
		defaults.enabled = true;
		(void) set_endpoint(&defaults, DEFAULT_ENDPOINT);
		defaults.region = DEFAULT_REGION;
		defaults.language = DEFAULT_LANGUAGE;
		defaults.requests_per_second = 20;
		defaults.connect_timeout = 5 * 1000;
		defaults.request_timeout = 30 * 1000;
		defaults.max_in_flight = 32;
		defaults.in_doubt = IN_DOUBT_RECONCILE;
		defaults.check_template = CHECK_WARN;
		defaults.credentials = FROM_USER_MAPPING;
		(void) set_metadata_endpoint(&defaults, DEFAULT_METADATA);
		defaults.has_metadata = false;
		defaults.role_session_name = DEFAULT_SESSION;
		defaults.role_duration = 2 * 60 * 60 * 1000;
		(void) set_sts_endpoint(&defaults, DEFAULT_STS);
		are_set = true;
	}
	*server = defaults;
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
 * The name of a source of credentials, as a value of the option.
 */
const char *
credentials_source_name(CredentialsSource source)
{
	return credentials_sources[source];
}

/* ------------------------------------------------------------------ options
 * of a server
 */

const char *
set_enabled(void *object, const char *value)
{
	if (parse_bool(value, &((LiveServer *) object)->enabled))
		return NULL;
	return "It must be a Boolean value, such as \"true\" or \"false\".";
}

const char *
set_endpoint(void *object, const char *value)
{
	return set_vendor_endpoint(&((LiveServer *) object)->endpoint, value,
							   DEFAULT_ENDPOINT);
}

const char *
set_fallback_endpoint(void *object, const char *value)
{
	LiveServer *server = object;

	server->has_fallback = true;
	return set_vendor_endpoint(&server->fallback, value,
							   "https://live.tencentcloudapi.com.cn");
}

/*
 * Read an endpoint of the vendor's, where requests go that are signed.
 */
static const char *
set_vendor_endpoint(HttpEndpoint *endpoint, const char *value,
					const char *example)
{
	const char *problem = http_parse_endpoint(value, endpoint);

	if (problem != NULL)
		return psprintf("%s An endpoint is a URL with a scheme and a host, such as \"%s\".",
						problem, example);
	/*
	 * Without TLS only to this machine: an http endpoint elsewhere would show
	 * keys' signatures, tokens and stream names to the network.
	 */
	if (strcmp(endpoint->scheme, "https") == 0 ||
		(strcmp(endpoint->scheme, "http") == 0 && is_loopback(endpoint->host)))
		return NULL;
	return "The scheme must be https; http is accepted only for loopback addresses.";
}

/*
 * Is a host, as it stands in a URL, this machine?  Names other than
 * "localhost" may be anywhere.
 */
static bool
is_loopback(const char *host)
{
	struct in_addr address;

	/* inet_pton(), since "127.example.com" begins the same. */
	return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
		(strncmp(host, "127.", 4) == 0 &&
		 inet_pton(AF_INET, host, &address) == 1);
}

const char *
set_region(void *object, const char *value)
{
	/* It goes into a header, unescaped. */
	if (value[0] == '\0' || strlen(value) > MAX_REGION ||
		strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(value))
		return "A region consists of 1 to 63 lower-case letters, digits and hyphens, such as \"ap-guangzhou\".";
	((LiveServer *) object)->region = pstrdup(value);
	return NULL;
}

const char *
set_language(void *object, const char *value)
{
	if (strcmp(value, "en-US") != 0 && strcmp(value, "zh-CN") != 0)
		return "Valid values are \"en-US\" and \"zh-CN\".";
	((LiveServer *) object)->language = pstrdup(value);
	return NULL;
}

const char *
set_requests_per_second(void *object, const char *value)
{
	return set_count(&((LiveServer *) object)->requests_per_second, value,
					 RATE_MAX);
}

const char *
set_connect_timeout(void *object, const char *value)
{
	if (set_time(&((LiveServer *) object)->connect_timeout, value,
				 MAX_CONNECT_TIMEOUT))
		return NULL;
	return "It must be a time from 1ms to 60s, in units of \"ms\", \"s\", \"min\" or \"h\"; the default unit is \"ms\".";
}

const char *
set_request_timeout(void *object, const char *value)
{
	if (set_time(&((LiveServer *) object)->request_timeout, value,
				 MAX_REQUEST_TIMEOUT))
		return NULL;
	return "It must be a time from 1ms to 5min, in units of \"ms\", \"s\", \"min\" or \"h\"; the default unit is \"ms\".";
}

const char *
set_permit_timeout(void *object, const char *value)
{
	if (set_time(&((LiveServer *) object)->permit_timeout, value,
				 MAX_PERMIT_TIMEOUT))
		return NULL;
	return "It must be a time from 1ms to 1h, in units of \"ms\", \"s\", \"min\" or \"h\"; the default unit is \"ms\".";
}

const char *
set_ca_file(void *object, const char *value)
{
	/*
	 * Relative to what would differ between the validator, a session and a
	 * worker.  MAXPGPATH is what the buffers for it have.
	 */
	if (!is_absolute_path(value) || strlen(value) >= MAXPGPATH)
		return CA_FILE_ALLOWED;
	((LiveServer *) object)->ca_file = pstrdup(value);
	return NULL;
}

const char *
set_proxy(void *object, const char *value)
{
	HttpEndpoint endpoint;
	const char *problem = http_parse_endpoint(value, &endpoint);

	if (problem != NULL)
		return psprintf("%s A proxy is a URL with a scheme, a host and a port.",
						problem);
	if (strcmp(endpoint.scheme, "http") != 0 &&
		strcmp(endpoint.scheme, "https") != 0)
		return "The scheme must be http or https.";
	((LiveServer *) object)->proxy = pstrdup(value);
	return NULL;
}

const char *
set_max_in_flight(void *object, const char *value)
{
	return set_count(&((LiveServer *) object)->max_in_flight, value, MAX_IN_FLIGHT);
}

const char *
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

const char *
set_check_template(void *object, const char *value)
{
	LiveServer *server = object;

	if (strcmp(value, "off") == 0)
		server->check_template = CHECK_OFF;
	else if (strcmp(value, "warn") == 0)
		server->check_template = CHECK_WARN;
	else if (strcmp(value, "refuse") == 0)
		server->check_template = CHECK_REFUSE;
	else
		return "Valid values are \"off\", \"warn\" and \"refuse\".";
	return NULL;
}

const char *
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
	return "Valid values are \"user_mapping\", \"environment\", \"file\", \"role\" and \"tke\".";
}

const char *
set_metadata_endpoint(void *object, const char *value)
{
	LiveServer *server = object;
	const char *problem = http_parse_endpoint(value, &server->metadata);

	if (problem != NULL)
		return psprintf("%s An endpoint is a URL with a scheme and a host, such as \"%s\".",
						problem, DEFAULT_METADATA);
	/* The service has no TLS.  It is near, and superusers say where. */
	if (strcmp(server->metadata.scheme, "http") != 0 &&
		strcmp(server->metadata.scheme, "https") != 0)
		return "The scheme must be http or https.";
	server->has_metadata = true;
	return NULL;
}

const char *
set_role_arn(void *object, const char *value)
{
	if (strncmp(value, "qcs::cam::", 10) != 0 || strlen(value) > MAX_ROLE_ARN ||
		!is_visible_ascii(value))
		return "A role is named by its RoleArn, such as \"qcs::cam::uin/100000000001:roleName/screenshots\".";
	((LiveServer *) object)->role_arn = pstrdup(value);
	return NULL;
}

const char *
set_role_session_name(void *object, const char *value)
{
	if (strlen(value) < 2 || strlen(value) > 128 ||
		strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_=,.@-") != strlen(value))
		return "A session name consists of 2 to 128 letters, digits and the characters _=,.@-.";
	((LiveServer *) object)->role_session_name = pstrdup(value);
	return NULL;
}

const char *
set_role_duration(void *object, const char *value)
{
	int			parsed;

	/* STS counts in whole seconds. */
	if (!set_time(&parsed, value, MAX_ROLE_DURATION) ||
		parsed < MIN_ROLE_DURATION || parsed % 1000 != 0)
		return "It must be a time from 10min to 12h, in whole seconds, in units of \"ms\", \"s\", \"min\" or \"h\"; the default unit is \"ms\".";
	((LiveServer *) object)->role_duration = parsed;
	return NULL;
}

const char *
set_sts_endpoint(void *object, const char *value)
{
	return set_vendor_endpoint(&((LiveServer *) object)->sts, value, DEFAULT_STS);
}

/* of a user mapping */

const char *
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

const char *
set_secret_key(void *object, const char *value)
{
	if (is_in_quotes(value))
		return IN_QUOTES;
	if (!is_visible_ascii(value))
		return "It must consist of 1 to 255 visible ASCII characters.";
	((Credentials *) object)->secret_key = pstrdup(value);
	return NULL;
}

const char *
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

/*
 * Does a value consist of 1 to 255 visible ASCII characters?  Anything else
 * could end the header that it becomes a part of.
 */
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

	/* The parser of settings, so that options take the same units. */
	if (!parse_int(value, &parsed, GUC_UNIT_MS, &hint) ||
		parsed <= 0 || parsed > most)
		return false;
	*milliseconds = parsed;
	return true;
}

/*
 * Read a whole number from 1 to "most".  Returns NULL, or what is allowed.
 */
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

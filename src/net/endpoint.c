/*-------------------------------------------------------------------------
 *
 * endpoint.c
 *	  The URL of an endpoint, taken apart
 *
 * libcurl reads it, so that what is checked here is what it will connect to.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <curl/curl.h>

#include "net/endpoint.h"

static const char *check_endpoint(CURLU *parts, HttpEndpoint *endpoint);
static bool url_part(CURLU *parts, CURLUPart part, char *out, size_t size);

/*
 * Take the URL of an endpoint apart.
 *
 * Fills *endpoint and returns NULL, or returns what is wrong with the URL, in
 * a whole sentence.
 */
const char *
http_parse_endpoint(const char *url, HttpEndpoint *endpoint)
{
	CURLU	   *parts;
	const char *problem;

	/*
	 * Seen here, since versions of libcurl differ in what they say of a URL
	 * without a scheme.
	 */
	if (strstr(url, "://") == NULL)
		return "The URL has no scheme.";

	parts = curl_url();
	if (parts == NULL)
		return "The URL could not be parsed: out of memory.";

	/*
	 * NON_SUPPORT_SCHEME, because whether the scheme is allowed is the
	 * caller's to say, in the words of its option.
	 */
	if (curl_url_set(parts, CURLUPART_URL, url,
					 CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK)
		problem = check_endpoint(parts, endpoint);
	else
		problem = "It is not a valid URL.";
	curl_url_cleanup(parts);
	return problem;
}

static const char *
check_endpoint(CURLU *parts, HttpEndpoint *endpoint)
{
	char		path[8];
	char		any[2];
	char		port[8];

	if (!url_part(parts, CURLUPART_SCHEME, endpoint->scheme,
				  sizeof(endpoint->scheme)))
		return "The URL has no scheme.";

	/*
	 * A password in an option would be visible to all, in pg_foreign_server.
	 */
	if (url_part(parts, CURLUPART_USER, any, sizeof(any)) ||
		url_part(parts, CURLUPART_PASSWORD, any, sizeof(any)))
		return "The URL must not contain a user name or password.";
	if (url_part(parts, CURLUPART_QUERY, any, sizeof(any)) ||
		url_part(parts, CURLUPART_FRAGMENT, any, sizeof(any)))
		return "The URL must not contain a query or a fragment.";

	/*
	 * libcurl gives "/" for a URL without a path.  The signature covers "/",
	 * which is all that the API serves.
	 */
	if (url_part(parts, CURLUPART_PATH, path, sizeof(path)) &&
		strcmp(path, "/") != 0)
		return "The URL must not contain a path.";
	if (!url_part(parts, CURLUPART_HOST, endpoint->host,
				  sizeof(endpoint->host)) ||
		endpoint->host[0] == '\0')
		return "The URL has no host.";

	/*
	 * url_part() has cut it if it was longer, so that a full buffer means too
	 * long.  A cut host would be another host.
	 */
	if (strlen(endpoint->host) >= sizeof(endpoint->host) - 1)
		return "The host name is too long.";

	/*
	 * What libcurl takes is wider than what may stand in a Host header that is
	 * signed: names in other scripts would be converted by IDN only in some
	 * builds.
	 */
	for (const char *c = endpoint->host; *c != '\0'; c++)
	{
		if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
			  (*c >= '0' && *c <= '9') || strchr(".-_:[]", *c) != NULL))
			return "The host name must consist of ASCII letters, digits, periods, hyphens and underscores.";
	}

	/* The Host header has a port only where it is not the scheme's own. */
	if (url_part(parts, CURLUPART_PORT, port, sizeof(port)) &&
		strcmp(port, strcmp(endpoint->scheme, "https") == 0 ? "443" : "80") != 0)
		snprintf(endpoint->authority, sizeof(endpoint->authority), "%s:%s",
				 endpoint->host, port);
	else
		snprintf(endpoint->authority, sizeof(endpoint->authority), "%s",
				 endpoint->host);
	snprintf(endpoint->url, sizeof(endpoint->url), "%s://%s/",
			 endpoint->scheme, endpoint->authority);
	return NULL;
}

/*
 * Copy a part of a URL, cut to the size.  Returns whether there is one.
 */
static bool
url_part(CURLU *parts, CURLUPart part, char *out, size_t size)
{
	char	   *text;

	if (curl_url_get(parts, part, &text, 0) != CURLUE_OK)
		return false;
	strlcpy(out, text, size);
	curl_free(text);
	return true;
}

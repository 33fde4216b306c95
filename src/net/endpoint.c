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
 * words that follow its name.
 */
const char *
http_parse_endpoint(const char *url, HttpEndpoint *endpoint)
{
	CURLU	   *parts;
	const char *problem;

	/* Versions of libcurl differ in what they say of this. */
	if (strstr(url, "://") == NULL)
		return "has no scheme";

	parts = curl_url();
	if (parts == NULL)
		return "could not be read: out of memory";
	if (curl_url_set(parts, CURLUPART_URL, url,
					 CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK)
		problem = check_endpoint(parts, endpoint);
	else
		problem = "is not a URL";
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
		return "has no scheme";
	if (url_part(parts, CURLUPART_USER, any, sizeof(any)) ||
		url_part(parts, CURLUPART_PASSWORD, any, sizeof(any)))
		return "holds a user name or password";
	if (url_part(parts, CURLUPART_QUERY, any, sizeof(any)) ||
		url_part(parts, CURLUPART_FRAGMENT, any, sizeof(any)))
		return "has a query or a fragment";
	if (url_part(parts, CURLUPART_PATH, path, sizeof(path)) &&
		strcmp(path, "/") != 0)
		return "has a path";
	if (!url_part(parts, CURLUPART_HOST, endpoint->host,
				  sizeof(endpoint->host)) ||
		endpoint->host[0] == '\0')
		return "has no host";
	if (strlen(endpoint->host) >= sizeof(endpoint->host) - 1)
		return "has too long a host";
	for (const char *c = endpoint->host; *c != '\0'; c++)
	{
		if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
			  (*c >= '0' && *c <= '9') || strchr(".-_:[]", *c) != NULL))
			return "has a host that is not plain ASCII";
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

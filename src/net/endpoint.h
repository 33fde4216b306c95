/*-------------------------------------------------------------------------
 *
 * endpoint.h
 *	  The URL of an endpoint, taken apart
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_ENDPOINT_H
#define SCREENSHOT_TASK_ENDPOINT_H

/* Each part NUL-terminated, and as libcurl has read it */
typedef struct HttpEndpoint
{
	char		scheme[16];
	char		host[256];		/* an IPv6 address in its brackets */
	char		authority[264]; /* as the Host header has it */
	char		url[296];		/* scheme://authority/ */
} HttpEndpoint;

extern const char *http_parse_endpoint(const char *url,
									   HttpEndpoint *endpoint);

#endif							/* SCREENSHOT_TASK_ENDPOINT_H */

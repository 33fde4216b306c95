/*-------------------------------------------------------------------------
 *
 * sign.h
 *	  Signed requests, ready to be sent
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_SIGN_H
#define SCREENSHOT_TASK_SIGN_H

#include "api/keys.h"
#include "api/tc3.h"

/* An action of a service of the vendor's, and where it is asked for */
typedef struct ApiAction
{
	const char *service;		/* as signed */
	const char *version;		/* X-TC-Version */
	const char *action;			/* X-TC-Action */
	const char *host;			/* the Host header */
	const char *region;			/* X-TC-Region */
	const char *language;		/* X-TC-Language; NULL: not sent */
	const char *trace_id;		/* X-TC-TraceId; NULL: not sent */
} ApiAction;

/* A signed request, ready for http_start() */
#define LIVE_MAX_HEADERS	12
typedef struct LiveRequest
{
	char	   *headers[LIVE_MAX_HEADERS];	/* the last one is NULL */
	int			token_header;	/* which of them has the token; -1: none */
	char	   *body;			/* UTF-8 */
	size_t		body_len;
	Tc3Signature signature;
} LiveRequest;

extern void api_sign(LiveRequest *request, const ApiAction *action,
					 const Credentials *credentials, int64 timestamp,
					 char *body);
extern void live_sign(LiveRequest *request, const char *action,
					  const char *host, const char *region,
					  const char *language, const char *trace_id,
					  const Credentials *credentials, int64 timestamp,
					  char *body);
extern char *live_new_trace_id(void);
extern void live_forget_key(void);
extern void live_wipe_token(char *const *headers);

#endif							/* SCREENSHOT_TASK_SIGN_H */

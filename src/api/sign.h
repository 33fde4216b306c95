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

#define LIVE_API_VERSION	"2018-08-01"
#define LIVE_API_SERVICE	"live"

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

extern void live_sign(LiveRequest *request, const char *action,
					  const char *host, const char *region,
					  const char *language, const char *trace_id,
					  const Credentials *credentials, int64 timestamp,
					  char *body);
extern char *live_new_trace_id(void);
extern void live_forget_key(void);
extern void live_wipe_token(char *const *headers);

#endif							/* SCREENSHOT_TASK_SIGN_H */

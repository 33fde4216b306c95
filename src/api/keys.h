/*-------------------------------------------------------------------------
 *
 * keys.h
 *	  With what requests are signed
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_KEYS_H
#define SCREENSHOT_TASK_KEYS_H

/* With what a request is sent; a token is NULL where there is none */
typedef struct Credentials
{
	char	   *secret_id;		/* shown in the Authorization header */
	char	   *secret_key;		/* never sent, and never shown */
	char	   *token;			/* X-TC-Token */
	char	   *source_name;	/* of those that are renewed, which change; else
								 * NULL */
	uint64		account;		/* digest of the endpoint and of these: what a
								 * rate limit is kept for */
} Credentials;

#endif							/* SCREENSHOT_TASK_KEYS_H */

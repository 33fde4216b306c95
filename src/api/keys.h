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
	char	   *secret_id;
	char	   *secret_key;
	char	   *token;
	char	   *source_name;	/* of those that are renewed; else NULL */
	uint64		account;		/* digest of the endpoint and of these */
} Credentials;

#endif							/* SCREENSHOT_TASK_KEYS_H */

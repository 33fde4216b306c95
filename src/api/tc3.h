/*-------------------------------------------------------------------------
 *
 * tc3.h
 *	  Signing of requests to Tencent Cloud API 3.0 (TC3-HMAC-SHA256)
 *
 * Nothing here knows of PostgreSQL: no elog, no palloc, no longjmp.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TC3_H
#define TC3_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TC3_DIGEST_LEN		32	/* SHA-256, in bytes */
#define TC3_HEX_LEN			65	/* the same in hexadecimal, with its NUL */
#define TC3_MAX_HOST		320 /* a name of 253 bytes and a port, with room */
#define TC3_MAX_KEY			512 /* secret id or secret key, in bytes */
#define TC3_MAX_QUERY		512 /* query string of a GET, in bytes */

/* What is signed.  The strings stay the caller's. */
typedef struct Tc3Request
{
	const char *method;			/* "POST" or "GET" */
	const char *query;			/* query string without its "?", or "" */
	const char *content_type;	/* exactly as sent */
	const char *host;			/* exactly as sent, with a port if one is sent */
	const char *action;			/* exactly as sent; NULL leaves it unsigned */
	const char *service;		/* "live": never derived from the host */
	const char *body;			/* the exact bytes sent; ignored for a GET */
	size_t		body_len;		/* in bytes */
	int64_t		timestamp;		/* Unix seconds, the X-TC-Timestamp sent */
} Tc3Request;

/* What signing gives.  Holds no secret key. */
typedef struct Tc3Signature
{
	char		canonical_request[1536];
	char		canonical_hash[TC3_HEX_LEN];	/* of the former */
	char		string_to_sign[256];
	char		signature[TC3_HEX_LEN]; /* of the former */
	char		authorization[TC3_MAX_KEY + 256];	/* the header's value */
} Tc3Signature;

/* Contexts of OpenSSL, and the signing key of one day and one key pair. */
typedef struct Tc3Signer Tc3Signer;

extern Tc3Signer *tc3_signer_new(void);
extern void tc3_signer_free(Tc3Signer *signer);
extern const char *tc3_sign(Tc3Signer *signer, const Tc3Request *request,
							const char *secret_id, const char *secret_key,
							Tc3Signature *signature);

#endif							/* TC3_H */

/*-------------------------------------------------------------------------
 *
 * tc3.c
 *	  Signing of requests to Tencent Cloud API 3.0 (TC3-HMAC-SHA256)
 *
 * The signature is an HMAC over a digest of the request, with a key derived
 * from the secret key, the UTC day and the service.  The derived key serves
 * every request of that day, so a signer keeps it, primed in an OpenSSL
 * context, and forgets it when the day, the service or the key pair changes.
 * Which key pair it belongs to is remembered as a digest, so that the secret
 * key itself need not be kept.
 *
 * The order of what is signed, and the names of the intermediate values, are
 * those of the vendor's documentation, "Signature v3".
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "api/tc3.h"

#define ALGORITHM		"TC3-HMAC-SHA256"
#define TERMINATOR		"tc3_request"
#define DAY_LEN			11		/* YYYY-MM-DD, with its NUL */

struct Tc3Signer
{
	EVP_MD	   *sha256;
	EVP_MD_CTX *digest;			/* used anew for each digest */
	EVP_MAC_CTX *unkeyed;		/* of which each derivation has a copy */
	EVP_MAC_CTX *sign;			/* keyed with the derived key below */

	bool		keyed;			/* does "sign" hold the key of: */
	char		day[DAY_LEN];	/* UTC */
	char		service[32];
	unsigned char key_pair[TC3_DIGEST_LEN]; /* digest of id and secret key */
};

static const char *make_canonical_request(Tc3Signer *signer,
										  const Tc3Request *request,
										  const char **signed_headers,
										  Tc3Signature *signature);
static const char *derive_key(Tc3Signer *signer, const char *day,
							  const char *service, const char *secret_id,
							  const char *secret_key);
static bool key_pair_digest(Tc3Signer *signer, const char *secret_id,
							const char *secret_key,
							unsigned char digest[TC3_DIGEST_LEN]);
static bool sha256_hex(Tc3Signer *signer, const void *data, size_t len,
					   char hex[TC3_HEX_LEN]);
static bool hmac(EVP_MAC_CTX *mac, const void *key, size_t key_len,
				 const void *data, size_t len,
				 unsigned char digest[TC3_DIGEST_LEN]);
static void to_hex(const unsigned char digest[TC3_DIGEST_LEN],
				   char hex[TC3_HEX_LEN]);
static bool canonical_value(char *out, size_t size, const char *value);
static bool utc_day(int64_t timestamp, char day[DAY_LEN]);

/*
 * Make a signer.
 *
 * Returns NULL if OpenSSL has no memory, or no SHA-256 or HMAC to offer.
 * Free it with tc3_signer_free().
 */
Tc3Signer *
tc3_signer_new(void)
{
	/*
	 * calloc(), as nothing in this file knows PostgreSQL: the signer outlives
	 * transactions, and its file is tested by itself.
	 */
	Tc3Signer  *signer = calloc(1, sizeof(Tc3Signer));
	EVP_MAC    *mac;
	char		digest_name[] = "SHA256";
	OSSL_PARAM	params[2];

	if (signer == NULL)
		return NULL;

	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
												 digest_name, 0);
	params[1] = OSSL_PARAM_construct_end();

	/*
	 * Fetched once, since a fetch by name walks OpenSSL's providers each time.
	 * The contexts hold references of their own.
	 */
	mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	signer->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	signer->digest = EVP_MD_CTX_new();
	if (mac != NULL)
	{
		signer->unkeyed = EVP_MAC_CTX_new(mac);
		signer->sign = EVP_MAC_CTX_new(mac);
	}
	EVP_MAC_free(mac);

	/* Checked together: tc3_signer_free() takes what is half made. */
	if (signer->sha256 == NULL || signer->digest == NULL ||
		signer->unkeyed == NULL || signer->sign == NULL ||
		!EVP_MAC_CTX_set_params(signer->unkeyed, params) ||
		!EVP_MAC_CTX_set_params(signer->sign, params))
	{
		tc3_signer_free(signer);
		return NULL;
	}
	return signer;
}

/*
 * Free a signer and wipe its key.  NULL is allowed.
 */
void
tc3_signer_free(Tc3Signer *signer)
{
	if (signer == NULL)
		return;

	/* OpenSSL cleanses the keys within its contexts as it frees them. */
	EVP_MAC_CTX_free(signer->sign);
	EVP_MAC_CTX_free(signer->unkeyed);
	EVP_MD_CTX_free(signer->digest);
	EVP_MD_free(signer->sha256);
	/* Holds a digest of the key pair, by which a guess could be checked. */
	OPENSSL_cleanse(signer, sizeof(*signer));
	free(signer);
}

/*
 * Sign a request with a key pair.
 *
 * Fills *signature and returns NULL; or returns what is wrong, in static
 * words that hold nothing of the arguments, and leaves *signature undefined.
 */
const char *
tc3_sign(Tc3Signer *signer, const Tc3Request *request,
		 const char *secret_id, const char *secret_key,
		 Tc3Signature *signature)
{
	const char *signed_headers;
	char		day[DAY_LEN];
	unsigned char digest[TC3_DIGEST_LEN];
	const char *problem;
	int			len;

	if (secret_id[0] == '\0' || secret_key[0] == '\0')
		return "the key pair is empty";
	if (strlen(secret_id) >= TC3_MAX_KEY || strlen(secret_key) >= TC3_MAX_KEY)
		return "the key pair is too long";
	if (!utc_day(request->timestamp, day))
		return "the timestamp has no calendar day";

	problem = make_canonical_request(signer, request, &signed_headers,
									 signature);
	if (problem != NULL)
		return problem;

	/* The day is that of the very timestamp which is sent, never another. */
	len = snprintf(signature->string_to_sign,
				   sizeof(signature->string_to_sign),
				   ALGORITHM "\n%lld\n%s/%s/" TERMINATOR "\n%s",
				   (long long) request->timestamp, day, request->service,
				   signature->canonical_hash);
	if (len < 0 || (size_t) len >= sizeof(signature->string_to_sign))
		return "the service is too long";

	problem = derive_key(signer, day, request->service, secret_id, secret_key);
	if (problem != NULL)
		return problem;
	if (!hmac(signer->sign, NULL, 0, signature->string_to_sign, (size_t) len,
			  digest))
		return "OpenSSL could not compute an HMAC";
	to_hex(digest, signature->signature);

	len = snprintf(signature->authorization,
				   sizeof(signature->authorization),
				   ALGORITHM " Credential=%s/%s/%s/" TERMINATOR
				   ", SignedHeaders=%s, Signature=%s",
				   secret_id, day, request->service, signed_headers,
				   signature->signature);
	if (len < 0 || (size_t) len >= sizeof(signature->authorization))
		return "the secret id is too long";
	return NULL;
}

/*
 * Set the canonical request and its hash in *signature, and *signed_headers to
 * the names of the headers that it covers, in static memory.
 *
 * Returns NULL, or what is wrong.
 */
static const char *
make_canonical_request(Tc3Signer *signer, const Tc3Request *request,
					   const char **signed_headers, Tc3Signature *signature)
{
	bool		is_get = strcmp(request->method, "GET") == 0;
	char		content_type[128];
	char		host[TC3_MAX_HOST];
	char		action[128];
	char		action_line[160] = "";
	char		body_hash[TC3_HEX_LEN];
	int			len;

	if (strlen(request->query) >= TC3_MAX_QUERY)
		return "the query string is too long";
	if (!canonical_value(content_type, sizeof(content_type),
						 request->content_type))
		return "the content type is too long";
	if (!canonical_value(host, sizeof(host), request->host))
		return "the host is too long";

	/*
	 * content-type and host must be signed.  The action may be: then nobody can
	 * turn a signed request into one for another action.
	 */
	*signed_headers = "content-type;host";
	if (request->action != NULL)
	{
		if (!canonical_value(action, sizeof(action), request->action))
			return "the action is too long";
		snprintf(action_line, sizeof(action_line), "x-tc-action:%s\n", action);
		*signed_headers = "content-type;host;x-tc-action";
	}

	/* A GET is signed with the hash of nothing, whatever its body. */
	if (!sha256_hex(signer, is_get ? "" : request->body,
					is_get ? 0 : request->body_len, body_hash))
		return "OpenSSL could not compute a digest";

	/*
	 * Headers in the order of their names.  The empty line after them is the
	 * newline that ends the last header, and the one that ends their list.
	 */
	len = snprintf(signature->canonical_request,
				   sizeof(signature->canonical_request),
				   "%s\n/\n%s\ncontent-type:%s\nhost:%s\n%s\n%s\n%s",
				   request->method, request->query, content_type, host,
				   action_line, *signed_headers, body_hash);
	if (len < 0 || (size_t) len >= sizeof(signature->canonical_request))
		return "the request is too long to be signed";
	if (!sha256_hex(signer, signature->canonical_request, (size_t) len,
					signature->canonical_hash))
		return "OpenSSL could not compute a digest";
	return NULL;
}

/*
 * Give signer->sign the key of the day, the service and the key pair.
 *
 * Returns NULL, or what is wrong.
 */
static const char *
derive_key(Tc3Signer *signer, const char *day, const char *service,
		   const char *secret_id, const char *secret_key)
{
	unsigned char key_pair[TC3_DIGEST_LEN];
	unsigned char step[TC3_DIGEST_LEN];
	char		first[TC3_MAX_KEY + 4];
	int			first_len;
	EVP_MAC_CTX *derive;
	bool		ok;

	/*
	 * Refused rather than cut: two services that share a prefix must not share
	 * a key.
	 */
	if (strlen(service) >= sizeof(signer->service))
		return "the service is too long";
	if (!key_pair_digest(signer, secret_id, secret_key, key_pair))
		return "OpenSSL could not compute a digest";
	/* The usual case: the same key pair on the same day. */
	if (signer->keyed &&
		strcmp(signer->day, day) == 0 &&
		strcmp(signer->service, service) == 0 &&
		CRYPTO_memcmp(signer->key_pair, key_pair, sizeof(key_pair)) == 0)
		return NULL;

	/*
	 * kDate, kService and kSigning of the documentation.  A context keeps the
	 * key that it had last, here one that signs for the whole service, until it
	 * is freed.
	 */
	signer->keyed = false;
	derive = EVP_MAC_CTX_dup(signer->unkeyed);
	first_len = snprintf(first, sizeof(first), "TC3%s", secret_key);
	ok = derive != NULL &&
		hmac(derive, first, (size_t) first_len, day, strlen(day), step) &&
		hmac(derive, step, sizeof(step), service, strlen(service), step) &&
		hmac(derive, step, sizeof(step),
			 TERMINATOR, strlen(TERMINATOR), step) &&
		EVP_MAC_init(signer->sign, step, sizeof(step), NULL);
	EVP_MAC_CTX_free(derive);
	/* Each of these is as good as the secret key, for a day or for ever. */
	OPENSSL_cleanse(first, sizeof(first));
	OPENSSL_cleanse(step, sizeof(step));
	if (!ok)
		return "OpenSSL could not compute an HMAC";

	/*
	 * Only now: a derivation that has failed must not leave the names of a key
	 * that it did not make.
	 */
	memcpy(signer->day, day, DAY_LEN);
	snprintf(signer->service, sizeof(signer->service), "%s", service);
	memcpy(signer->key_pair, key_pair, sizeof(key_pair));
	signer->keyed = true;
	return NULL;
}

/*
 * A digest of a key pair, to see whether the key was derived from the same
 * pair.
 */
static bool
key_pair_digest(Tc3Signer *signer, const char *secret_id,
				const char *secret_key, unsigned char digest[TC3_DIGEST_LEN])
{
	/* The NUL between the two keeps "ab","c" apart from "a","bc". */
	return EVP_DigestInit_ex2(signer->digest, signer->sha256, NULL) &&
		EVP_DigestUpdate(signer->digest, secret_id, strlen(secret_id) + 1) &&
		EVP_DigestUpdate(signer->digest, secret_key, strlen(secret_key)) &&
		EVP_DigestFinal_ex(signer->digest, digest, NULL);
}

/*
 * SHA-256 in lower-case hexadecimal.
 */
static bool
sha256_hex(Tc3Signer *signer, const void *data, size_t len,
		   char hex[TC3_HEX_LEN])
{
	unsigned char digest[TC3_DIGEST_LEN];

	if (!EVP_DigestInit_ex2(signer->digest, signer->sha256, NULL) ||
		!EVP_DigestUpdate(signer->digest, data, len) ||
		!EVP_DigestFinal_ex(signer->digest, digest, NULL))
		return false;
	to_hex(digest, hex);
	return true;
}

/*
 * HMAC-SHA-256.  A NULL key means the one that the context has.  "digest"
 * may be the key.
 */
static bool
hmac(EVP_MAC_CTX *mac, const void *key, size_t key_len,
	 const void *data, size_t len, unsigned char digest[TC3_DIGEST_LEN])
{
	size_t		digest_len;

	/*
	 * With a NULL key OpenSSL starts anew with the one that the context has.
	 */
	return EVP_MAC_init(mac, key, key_len, NULL) &&
		EVP_MAC_update(mac, data, len) &&
		EVP_MAC_final(mac, digest, &digest_len, TC3_DIGEST_LEN);
}

/*
 * A digest in lower-case hexadecimal.
 */
static void
to_hex(const unsigned char digest[TC3_DIGEST_LEN], char hex[TC3_HEX_LEN])
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < TC3_DIGEST_LEN; i++)
	{
		hex[2 * i] = digits[digest[i] >> 4];
		hex[2 * i + 1] = digits[digest[i] & 0x0f];
	}
	hex[TC3_HEX_LEN - 1] = '\0';
}

/*
 * A header's value as it is signed: trimmed, in lower case.
 *
 * Returns false if it does not fit.
 */
static bool
canonical_value(char *out, size_t size, const char *value)
{
	size_t		len;

	while (*value == ' ' || *value == '\t')
		value++;
	len = strlen(value);
	while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'))
		len--;
	if (len >= size)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		/* not tolower(): the locale must have no say */
		char		c = value[i];

		out[i] = (c >= 'A' && c <= 'Z') ? (char) (c - 'A' + 'a') : c;
	}
	out[len] = '\0';
	return true;
}

/*
 * The UTC day of a timestamp, as YYYY-MM-DD.
 */
static bool
utc_day(int64_t timestamp, char day[DAY_LEN])
{
	time_t		seconds = (time_t) timestamp;
	struct tm	tm;

	/*
	 * time_t may have 32 bits; and strftime() would write a year of five
	 * digits beyond DAY_LEN, or cut it.
	 */
	if (seconds != timestamp || gmtime_r(&seconds, &tm) == NULL ||
		tm.tm_year + 1900 < 0 || tm.tm_year + 1900 > 9999)
		return false;
	return strftime(day, DAY_LEN, "%Y-%m-%d", &tm) == DAY_LEN - 1;
}

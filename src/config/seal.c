/*-------------------------------------------------------------------------
 *
 * seal.c
 *	  Sealing of secrets that are kept where others may look
 *
 * What is sealed, by AES-256-GCM, can be opened by this process and those
 * that it forks, and is noise to whoever sees no more than the memory it lies
 * in.  The key is random, made once, and never leaves private memory.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include <openssl/evp.h>
#include <openssl/rand.h>

#include "config/seal.h"

#define KEY_LEN			32
#define NONCE_LEN		12
#define TAG_LEN			16

static unsigned char key[KEY_LEN];
static bool has_key = false;

static bool set_up(EVP_CIPHER_CTX *context, const unsigned char *nonce,
				   const char *label, bool to_seal);

/*
 * Make the key, if this process has none: those that it forks have the same.
 *
 * Returns false if OpenSSL has no randomness to offer.
 */
bool
seal_make_key(void)
{
	if (!has_key)
		has_key = RAND_priv_bytes(key, KEY_LEN) == 1;
	return has_key;
}

/*
 * Seal len bytes into len + SEAL_OVERHEAD bytes: nonce, tag, and the rest.
 *
 * The label is not kept; it must be the same when the seal is opened.  Returns
 * false if there is no key, or OpenSSL fails.
 */
bool
seal(const void *plain, size_t len, const char *label, unsigned char *sealed)
{
	unsigned char *nonce = sealed;
	unsigned char *tag = sealed + NONCE_LEN;
	unsigned char *text = tag + TAG_LEN;
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	int			n;
	bool		done;

	done = context != NULL && has_key &&
		RAND_bytes(nonce, NONCE_LEN) == 1 &&
		set_up(context, nonce, label, true) &&
		EVP_EncryptUpdate(context, text, &n, plain, (int) len) == 1 &&
		EVP_EncryptFinal_ex(context, text + n, &n) == 1 &&
		EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, tag) == 1;
	EVP_CIPHER_CTX_free(context);
	return done;
}

/*
 * Open what seal() made, into sealed_len - SEAL_OVERHEAD bytes.
 *
 * Returns false if it was sealed with another key or label, or was changed;
 * nothing of it is left in "plain" then.
 */
bool
seal_open(const unsigned char *sealed, size_t sealed_len, const char *label,
		  void *plain)
{
	const unsigned char *nonce = sealed;
	const unsigned char *tag = sealed + NONCE_LEN;
	const unsigned char *text = tag + TAG_LEN;
	unsigned char expected[TAG_LEN];
	EVP_CIPHER_CTX *context;
	size_t		len;
	int			n;
	bool		done;

	if (!has_key || sealed_len < SEAL_OVERHEAD)
		return false;
	len = sealed_len - SEAL_OVERHEAD;
	memcpy(expected, tag, TAG_LEN);
	context = EVP_CIPHER_CTX_new();
	done = context != NULL && set_up(context, nonce, label, false) &&
		EVP_DecryptUpdate(context, plain, &n, text, (int) len) == 1 &&
		EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG_LEN,
							expected) == 1 &&
		EVP_DecryptFinal_ex(context, (unsigned char *) plain + n, &n) == 1;
	EVP_CIPHER_CTX_free(context);
	if (!done)
		OPENSSL_cleanse(plain, len);
	return done;
}

static bool
set_up(EVP_CIPHER_CTX *context, const unsigned char *nonce, const char *label,
	   bool to_seal)
{
	int			n;

	return EVP_CipherInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce,
							 to_seal ? 1 : 0) == 1 &&
		EVP_CipherUpdate(context, NULL, &n, (const unsigned char *) label,
						 (int) strlen(label)) == 1;
}

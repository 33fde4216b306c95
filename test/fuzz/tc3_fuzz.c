/*-------------------------------------------------------------------------
 *
 * tc3_fuzz.c
 *	  libFuzzer harness for the signer
 *
 * An input is a list of fields, each a length of two bytes and that many
 * bytes; see read_input().  Beside what the sanitizers see, these hold for
 * every input:
 *
 *	- A refusal is one of the signer's known texts.
 *	- What is signed has the format of the vendor's documentation.
 *	- The same input gives the same output: from a new signer, from the one
 *	  that signed before, and from one that kept the key.
 *	- The signature is the one that OpenSSL's HMAC() gives.
 *	- With another secret key only the signature is another, to the last
 *	  unused byte of the output: nothing else tells of the key.
 *
 *	  clang -g -O1 -fsanitize=fuzzer,address,undefined -I../../src \
 *		  tc3_fuzz.c ../../src/api/tc3.c -lcrypto
 *
 *-------------------------------------------------------------------------
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include "api/tc3.h"

#define CHECK(condition) \
	do { \
		if (!(condition)) \
		{ \
			fprintf(stderr, "invariant broken, line %d: %s\n", \
					__LINE__, #condition); \
			abort(); \
		} \
	} while (0)

#define UNUSED_BYTE		0xa5

typedef struct Input
{
	Tc3Request	request;
	char	   *secret_id;
	char	   *secret_key;
	void	   *pieces[10];		/* all that was allocated */
	int			n_pieces;
} Input;

static const char *const refusals[] = {
	"the key pair is empty",
	"the key pair is too long",
	"the query string is too long",
	"the content type is too long",
	"the host is too long",
	"the timestamp has no calendar day",
	"the action is too long",
	"the request is too long to be signed",
	"the service is too long",
	"the secret id is too long",
};

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static Tc3Signer *kept = NULL;	/* signs every input */

/*
 * The next field, in memory of its own size, so that reading past it shows.
 * A text ends at its first NUL.
 */
static char *
read_field(Input *input, const uint8_t **data, size_t *size, size_t *len)
{
	size_t		n = 0;
	char	   *field;

	if (*size >= 2)
	{
		n = (size_t) (*data)[0] << 8 | (*data)[1];
		*data += 2;
		*size -= 2;
	}
	if (n > *size)
		n = *size;
	if (len == NULL)
		n = strnlen((const char *) *data, n);
	field = malloc(n + (len == NULL ? 1 : 0));
	CHECK(field != NULL || n == 0);
	if (n > 0)
		memcpy(field, *data, n);
	if (len == NULL)
		field[n] = '\0';
	else
		*len = n;
	*data += n;
	*size -= n;
	input->pieces[input->n_pieces++] = field;
	return field;
}

static void
read_input(Input *input, const uint8_t *data, size_t size)
{
	uint8_t		flags = 0;

	memset(input, 0, sizeof(*input));
	if (size > 0)
	{
		flags = *data++;
		size--;
	}
	if (size >= 8)
	{
		memcpy(&input->request.timestamp, data, 8);
		data += 8;
		size -= 8;
	}
	/* Most times should have a day. */
	if ((flags & 0x0c) != 0)
		input->request.timestamp &= INT64_C(0x3fffffffff);

	input->secret_id = read_field(input, &data, &size, NULL);
	input->secret_key = read_field(input, &data, &size, NULL);
	input->request.query = read_field(input, &data, &size, NULL);
	input->request.content_type = read_field(input, &data, &size, NULL);
	input->request.host = read_field(input, &data, &size, NULL);
	input->request.action = read_field(input, &data, &size, NULL);
	input->request.service = read_field(input, &data, &size, NULL);
	input->request.body = read_field(input, &data, &size,
									 &input->request.body_len);
	input->request.method = flags & 1 ? "GET" : "POST";
	if (flags & 2)
		input->request.action = NULL;
}

static void
free_input(Input *input)
{
	for (int i = 0; i < input->n_pieces; i++)
		free(input->pieces[i]);
}

static const char *
sign(Tc3Signer *signer, const Input *input, const char *secret_key,
	 Tc3Signature *signature)
{
	memset(signature, UNUSED_BYTE, sizeof(*signature));
	return tc3_sign(signer, &input->request, input->secret_id, secret_key,
					signature);
}

/*
 * Are all bytes after a text's NUL as they were?
 */
static void
check_unused(const char *text, size_t size)
{
	size_t		len = strnlen(text, size);

	CHECK(len < size);
	for (size_t i = len + 1; i < size; i++)
		CHECK((unsigned char) text[i] == UNUSED_BYTE);
}

static void
check_hex(const char *text)
{
	CHECK(strlen(text) == 64);
	CHECK(strspn(text, "0123456789abcdef") == 64);
}

static void
hex(const unsigned char *bytes, char *out)
{
	for (int i = 0; i < 32; i++)
		sprintf(out + 2 * i, "%02x", bytes[i]);
}

/*
 * The signature once more, from the string to sign, by OpenSSL's one-shot
 * functions.
 */
static void
check_signature(const Input *input, const Tc3Signature *signature,
				const char *day)
{
	char		first[3 + TC3_MAX_KEY + 1];
	unsigned char step[3][32];
	unsigned char digest[32];
	unsigned int len;
	char		expected[65];
	const char *service = input->request.service;

	SHA256((const unsigned char *) signature->canonical_request,
		   strlen(signature->canonical_request), digest);
	hex(digest, expected);
	CHECK(strcmp(expected, signature->canonical_hash) == 0);

	snprintf(first, sizeof(first), "TC3%s", input->secret_key);
	CHECK(HMAC(EVP_sha256(), first, (int) strlen(first),
			   (const unsigned char *) day, 10, step[0], &len) != NULL);
	CHECK(HMAC(EVP_sha256(), step[0], 32, (const unsigned char *) service,
			   strlen(service), step[1], &len) != NULL);
	CHECK(HMAC(EVP_sha256(), step[1], 32,
			   (const unsigned char *) "tc3_request", 11, step[2],
			   &len) != NULL);
	CHECK(HMAC(EVP_sha256(), step[2], 32,
			   (const unsigned char *) signature->string_to_sign,
			   strlen(signature->string_to_sign), digest, &len) != NULL);
	hex(digest, expected);
	CHECK(strcmp(expected, signature->signature) == 0);
}

/*
 * The canonical request, from the input alone.
 */
static void
append_canonical(char *out, const char *value)
{
	size_t		len;

	value += strspn(value, " \t");
	len = strlen(value);
	while (len > 0 && strchr(" \t", value[len - 1]) != NULL)
		len--;
	out += strlen(out);
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) value[i];

		*out++ = (char) (c >= 'A' && c <= 'Z' ? c | 0x20 : c);
	}
	*out = '\0';
}

static void
check_format(const Input *input, const Tc3Signature *signature, char *day)
{
	const Tc3Request *request = &input->request;
	const char *signed_headers = request->action == NULL ?
		"content-type;host" : "content-type;host;x-tc-action";
	bool		is_get = request->method[0] == 'G';
	unsigned char digest[32];
	char		body_hash[65];
	char		expected[4096];
	long long	timestamp;

	check_hex(signature->canonical_hash);
	check_hex(signature->signature);
	check_unused(signature->canonical_request,
				 sizeof(signature->canonical_request));
	check_unused(signature->string_to_sign,
				 sizeof(signature->string_to_sign));
	check_unused(signature->authorization, sizeof(signature->authorization));

	SHA256((const unsigned char *) (is_get ? "" : request->body),
		   is_get ? 0 : request->body_len, digest);
	hex(digest, body_hash);
	snprintf(expected, sizeof(expected), "%s\n/\n%s\ncontent-type:",
			 request->method, request->query);
	append_canonical(expected, request->content_type);
	strcat(expected, "\nhost:");
	append_canonical(expected, request->host);
	strcat(expected, "\n");
	if (request->action != NULL)
	{
		strcat(expected, "x-tc-action:");
		append_canonical(expected, request->action);
		strcat(expected, "\n");
	}
	strcat(expected, "\n");
	strcat(expected, signed_headers);
	strcat(expected, "\n");
	strcat(expected, body_hash);
	CHECK(strcmp(expected, signature->canonical_request) == 0);

	CHECK(sscanf(signature->string_to_sign, "TC3-HMAC-SHA256\n%lld\n%10[0-9-]",
				 &timestamp, day) == 2);
	CHECK(timestamp == request->timestamp && strlen(day) == 10);
	CHECK(day[4] == '-' && day[7] == '-');
	snprintf(expected, sizeof(expected),
			 "TC3-HMAC-SHA256\n%lld\n%s/%s/tc3_request\n%s",
			 timestamp, day, request->service, signature->canonical_hash);
	CHECK(strcmp(expected, signature->string_to_sign) == 0);

	snprintf(expected, sizeof(expected),
			 "TC3-HMAC-SHA256 Credential=%s/%s/%s/tc3_request, SignedHeaders=%s, Signature=%s",
			 input->secret_id, day, request->service, signed_headers,
			 signature->signature);
	CHECK(strcmp(expected, signature->authorization) == 0);
}

/*
 * With another secret key only the signature differs.
 */
static void
check_no_secret(const Input *input, const Tc3Signature *signature)
{
	size_t		len = strlen(input->secret_key);
	char	   *other_key = strdup(input->secret_key);
	Tc3Signature other;
	size_t		before;

	other_key[len / 2] = (char) (other_key[len / 2] == 'x' ? 'y' : 'x');
	CHECK(sign(kept, input, other_key, &other) == NULL);
	free(other_key);
	CHECK(strcmp(other.signature, signature->signature) != 0);
	before = strlen(signature->authorization) - 64;
	CHECK(memcmp(other.authorization, signature->authorization, before) == 0);
	memcpy(other.signature, signature->signature, sizeof(other.signature));
	memcpy(other.authorization + before, signature->signature, 64);
	CHECK(memcmp(&other, signature, sizeof(other)) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Input		input;
	Tc3Signature signature;
	Tc3Signature again;
	Tc3Signer  *new_signer = tc3_signer_new();
	const char *problem;
	char		day[11] = "";

	CHECK(new_signer != NULL);
	if (kept == NULL)
		kept = tc3_signer_new();
	CHECK(kept != NULL);
	read_input(&input, data, size);

	problem = sign(kept, &input, input.secret_key, &signature);
	if (problem != NULL)
	{
		bool		known = false;

		for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
			known = known || strcmp(problem, refusals[i]) == 0;
		CHECK(known);
		CHECK(sign(new_signer, &input, input.secret_key, &again) == problem);
	}
	else
	{
		check_format(&input, &signature, day);
		check_signature(&input, &signature, day);

		CHECK(sign(kept, &input, input.secret_key, &again) == NULL);
		CHECK(memcmp(&again, &signature, sizeof(again)) == 0);
		CHECK(sign(new_signer, &input, input.secret_key, &again) == NULL);
		CHECK(memcmp(&again, &signature, sizeof(again)) == 0);
		check_no_secret(&input, &signature);
		/* "kept" has another key now. */
		CHECK(sign(kept, &input, input.secret_key, &again) == NULL);
		CHECK(memcmp(&again, &signature, sizeof(again)) == 0);
	}

	tc3_signer_free(new_signer);
	free_input(&input);
	return 0;
}

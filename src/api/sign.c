/*-------------------------------------------------------------------------
 *
 * sign.c
 *	  Signed requests, ready to be sent
 *
 * A body, the name of its action and what is signed with become the headers of
 * a request.  The signer keeps the key that it has derived, for as long as the
 * process runs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/ipc.h"
#include "utils/fmgrprotos.h"

#include "api/sign.h"

#define CONTENT_TYPE		"application/json; charset=utf-8"
#define REQUEST_CLIENT		"screenshot_task"
#define TOKEN_HEADER		"X-TC-Token: "

static Tc3Signer *signer = NULL;

static const char *authorize(LiveRequest *request, const ApiAction *action,
							 const Credentials *credentials, int64 timestamp);
static void make_signer(void);
static void wipe_signer(int code, Datum arg);

/*
 * Make a signed request of a body, to the Live service.
 *
 * "host" is the Host header; trace_id may be NULL, for a request that is only
 * shown; timestamp is in Unix seconds, and the signature is valid for five
 * minutes before and after it.  The headers are palloc'd; the body is not
 * copied.  Raises an error if the request cannot be signed with these
 * credentials.
 */
void
live_sign(LiveRequest *request, const char *action, const char *host,
		  const char *region, const char *language, const char *trace_id,
		  const Credentials *credentials, int64 timestamp, char *body)
{
	ApiAction	live = {
		.service = "live",
		.version = "2018-08-01",
		.action = action,
		.host = host,
		.region = region,
		.language = language,
		.trace_id = trace_id
	};

	api_sign(request, &live, credentials, timestamp, body);
}

/*
 * The same of any service.  Without credentials, which are NULL then, the request
 * says that it is not signed.
 */
void
api_sign(LiveRequest *request, const ApiAction *action,
		 const Credentials *credentials, int64 timestamp, char *body)
{
	const char *authorization = "SKIP";
	int			n = 0;

	request->body = body;
	request->body_len = strlen(body);
	if (credentials != NULL)
		authorization = authorize(request, action, credentials, timestamp);

	/*
	 * Host is set explicitly, for the signature covers it: it must be what
	 * libcurl sends, to the byte.
	 */
	request->headers[n++] = psprintf("Host: %s", action->host);
	request->headers[n++] = "Content-Type: " CONTENT_TYPE;
	request->headers[n++] = psprintf("X-TC-Action: %s", action->action);
	request->headers[n++] = psprintf("X-TC-Version: %s", action->version);
	request->headers[n++] = psprintf("X-TC-Timestamp: %lld",
									 (long long) timestamp);

	/*
	 * Always sent: one edition of the API requires it, and for the other it
	 * has no effect.
	 */
	request->headers[n++] = psprintf("X-TC-Region: %s", action->region);
	if (action->language != NULL)
		request->headers[n++] = psprintf("X-TC-Language: %s", action->language);
	request->headers[n++] = "X-TC-RequestClient: " REQUEST_CLIENT;
	if (action->trace_id != NULL)
		request->headers[n++] = psprintf("X-TC-TraceId: %s", action->trace_id);
	request->headers[n++] = psprintf("Authorization: %s", authorization);

	/*
	 * Its position is known to the caller, who must not show it, nor log it.
	 */
	request->token_header = -1;
	if (credentials != NULL && credentials->token != NULL)
	{
		request->token_header = n;
		request->headers[n++] = psprintf(TOKEN_HEADER "%s",
										   credentials->token);
	}
	request->headers[n] = NULL;
	Assert(n < LIVE_MAX_HEADERS);
}

/*
 * Sign the body of a request.  Returns the value of its Authorization header,
 * which is the request's.
 */
static const char *
authorize(LiveRequest *request, const ApiAction *action,
		  const Credentials *credentials, int64 timestamp)
{
	Tc3Request	to_sign = {
		.method = "POST",
		.query = "",
		.content_type = CONTENT_TYPE,
		.host = action->host,
		.action = action->action,
		.service = action->service,
		.body = request->body,
		.body_len = request->body_len,
		.timestamp = timestamp
	};
	const char *problem;

	make_signer();
	problem = tc3_sign(signer, &to_sign, credentials->secret_id,
					   credentials->secret_key, &request->signature);
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("could not sign the request: %s", problem)));
	return request->signature.authorization;
}

/*
 * Make the signer of this process, unless there is one.
 *
 * It is kept for the life of the process: to derive the key takes four HMACs,
 * and to make the contexts more than all else of a signature.
 */
static void
make_signer(void)
{
	static bool is_wiped_at_exit = false;

	if (signer != NULL)
		return;
	signer = tc3_signer_new();
	if (signer == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("OpenSSL does not provide HMAC with SHA-256")));

	/*
	 * live_forget_key() lets a signer be made again, but the callback must be
	 * registered once.
	 */
	if (!is_wiped_at_exit)
		on_proc_exit(wipe_signer, (Datum) 0);
	is_wiped_at_exit = true;
}

/*
 * A new TraceId, palloc'd: by this the vendor's support can find a request
 * whose answer, and so its RequestId, was lost.  For one request only.
 */
char *
live_new_trace_id(void)
{
	Datum		uuid = DirectFunctionCall1(gen_random_uuid, (Datum) 0);

	return DatumGetCString(DirectFunctionCall1(uuid_out, uuid));
}

/*
 * Wipe the token from the headers that live_sign() made, if they have one.
 * They cannot be sent any more.
 */
void
live_wipe_token(char *const *headers)
{
	for (; *headers != NULL; headers++)
	{
		if (strncmp(*headers, TOKEN_HEADER, strlen(TOKEN_HEADER)) == 0)
			explicit_bzero(*headers, strlen(*headers));
	}
}

/*
 * Wipe the key that live_sign() has derived, which may be that of another day.
 */
void
live_forget_key(void)
{
	tc3_signer_free(signer);
	signer = NULL;
}

/*
 * on_proc_exit callback: forget the derived key.
 */
static void
wipe_signer(int code, Datum arg)
{
	(void) code;
	(void) arg;
	live_forget_key();
}

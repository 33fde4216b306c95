/*-------------------------------------------------------------------------
 *
 * http_transfer.c
 *	  A transfer's options and its callbacks
 *
 * Callbacks run with libcurl on the stack.  They touch only memory that is
 * there already, and report by return value; nothing in them can throw.
 *
 * libcurl repeats a POST by itself when a reused connection dies unanswered.
 * The callback that runs before a request is written refuses to run twice, and
 * so forbids it.  It is also the only truth about whether a request was sent,
 * since the error of a repeat that fails to connect reads as if nothing had
 * been.
 *
 * libcurl's resolver starts threads, which have the signal mask of whoever
 * starts them.  All signals are blocked from before a look-up until libcurl
 * returns, so that no thread ever runs a handler of PostgreSQL's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <pthread.h>

#include <openssl/ssl.h>

#include "utils/memutils.h"

#include "net/http_private.h"
#include "util/crash_point.h"

/*
 * The server closes a connection that was idle for 60 s; one that is nearly
 * as old is not worth the risk of a request that meets the close.
 */
#define MAX_IDLE_SECONDS	45L

/*
 * What libcurl takes an answer in: all of the longest one, with its headers.
 * libcurl 7.88 pauses an HTTP/2 stream whose data does not fit, and does not
 * notice that the stream has ended when it goes on with the rest: the transfer
 * waits for its time-out.
 */
#define ANSWER_BUFFER		(HTTP_MAX_ANSWER + 16384L)

/* What libcurl gives a request from: 64 kB, its own size, cost more. */
#define REQUEST_BUFFER		16384L

static void set_common_options(HttpTransfer *transfer);
static void set_trust(CURL *easy, const HttpRequest *request);
static void append_header(HttpTransfer *transfer, const char *header);
static bool uses_openssl(void);

static int	before_look_up(void *resolver, void *reserved, void *arg);
static int	before_writing(void *arg, char *remote_ip, char *local_ip,
						   int remote_port, int local_port);
static CURLcode on_ssl_context(CURL *easy, void *context, void *arg);
static void on_tls_message(int is_write, int version, int content_type,
						   const void *data, size_t len, SSL *ssl, void *arg);
static int	on_progress(void *arg, curl_off_t to_read, curl_off_t read,
						curl_off_t to_write, curl_off_t written);
static size_t on_header(char *data, size_t size, size_t nitems, void *arg);
static size_t on_answer(char *data, size_t size, size_t nitems, void *arg);

/*
 * Set an option, or raise an error.  The transfer is half-made then, and still
 * the caller's to release.
 */
#define SETOPT(easy, option, value) \
	do { \
		CURLcode	setopt_result = curl_easy_setopt(easy, option, value); \
		if (setopt_result != CURLE_OK) \
			ereport(ERROR, \
					(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION), \
					 errmsg("could not set the libcurl option %s: %s", \
							#option, curl_easy_strerror(setopt_result)))); \
	} while (0)

/*
 * Make a transfer that has no request yet.
 *
 * Its memory may have been another's: it is large, and to have it from malloc
 * each time costs more than all else that is allocated for a request.
 *
 * An easy handle is for one transfer alone: libcurl 7.88 goes on using what
 * it has freed, of the headers of the answer before, if it is used again and
 * the first header line of an answer is folded.
 */
HttpTransfer *
transfer_make(HttpClient *client)
{
	HttpTransfer *transfer;

	/*
	 * Made before the memory is taken from the list of unused transfers, so
	 * that a failure has nothing to put back.
	 */
	CURL	   *easy = curl_easy_init();

	if (easy == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not create a libcurl handle")));
	if (dlist_is_empty(&client->unused))
		transfer = MemoryContextAllocExtended(TopMemoryContext,
											  sizeof(HttpTransfer),
											  MCXT_ALLOC_NO_OOM);
	else
		transfer = dlist_container(HttpTransfer, node,
								   dlist_pop_head_node(&client->unused));
	if (transfer == NULL)
	{
		curl_easy_cleanup(easy);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	}

	/*
	 * The answer is left out: it is most of the struct, and answer_len says
	 * what of it is valid.  transfer_free() has wiped what an earlier transfer
	 * left there.
	 */
	memset(transfer, 0, offsetof(HttpTransfer, answer));
	transfer->client = client;
	transfer->easy = easy;
	transfer->socket = -1;
	return transfer;
}

/*
 * Give a transfer its request.  Raises an error if that fails.
 */
void
transfer_set_options(HttpTransfer *transfer, const HttpRequest *request)
{
	CURL	   *easy = transfer->easy;
	MemoryContext old;

	transfer->owner = request->owner;
	transfer->deadline = request->deadline;
	transfer->connect_timeout = request->connect_timeout;
	transfer->request_timeout = request->request_timeout;
	transfer->body_len = request->body_len;

	/*
	 * Transfers outlive the transaction that starts them.  Each copy is stored
	 * at once, so that transfer_free() finds it after an error.
	 */
	old = MemoryContextSwitchTo(TopMemoryContext);
	transfer->host = pstrdup(request->host);
	if (request->proxy != NULL)
		transfer->proxy = pstrdup(request->proxy);
	if (request->ca_file != NULL)
		transfer->ca_file = pstrdup(request->ca_file);

	/*
	 * libcurl does not copy CURLOPT_POSTFIELDS: the body must stay until the
	 * handle is cleaned up.
	 */
	transfer->body = palloc(Max(request->body_len, 1));
	MemoryContextSwitchTo(old);
	if (request->body != NULL)
		memcpy(transfer->body, request->body, request->body_len);

	/* No "100-continue": the answer to it would be waited for. */
	append_header(transfer, "Expect:");
	for (char *const *header = request->headers; *header != NULL; header++)
		append_header(transfer, *header);

	set_common_options(transfer);
	set_trust(easy, request);
	SETOPT(easy, CURLOPT_URL, request->url);

	/*
	 * An empty string, not NULL: NULL would have libcurl look for http_proxy
	 * and its like in the environment.
	 */
	SETOPT(easy, CURLOPT_PROXY, request->proxy ? request->proxy : "");
	SETOPT(easy, CURLOPT_HTTPHEADER, transfer->headers);
	if (request->body != NULL)
	{
		/* As a whole, so that it goes with the headers where it may. */
		SETOPT(easy, CURLOPT_POSTFIELDS, transfer->body);
		SETOPT(easy, CURLOPT_POSTFIELDSIZE_LARGE,
			   (curl_off_t) request->body_len);
	}
	else
	{
		SETOPT(easy, CURLOPT_HTTPGET, 1L);
		/* What is asked by GET is not asked again soon. */
		SETOPT(easy, CURLOPT_FORBID_REUSE, 1L);
	}
}

/*
 * Set what is the same for every request.  Nothing comes from the
 * environment: no proxy, no .netrc; and nothing is followed.
 */
static void
set_common_options(HttpTransfer *transfer)
{
	HttpClient *client = transfer->client;
	CURL	   *easy = transfer->easy;

	SETOPT(easy, CURLOPT_PRIVATE, transfer);

	/*
	 * libcurl must not touch signals: SIGALRM is PostgreSQL's
	 * (statement_timeout), and SIGPIPE is ignored already.
	 */
	SETOPT(easy, CURLOPT_NOSIGNAL, 1L);

	/*
	 * A redirect could lead anywhere, with a signed request and a token in its
	 * headers.  The API sends none.
	 */
	SETOPT(easy, CURLOPT_FOLLOWLOCATION, 0L);
	SETOPT(easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);

	/*
	 * Otherwise the environment's no_proxy would overrule the server option
	 * "proxy".
	 */
	SETOPT(easy, CURLOPT_NOPROXY, "");

	/*
	 * HTTP/2 if TLS negotiates it: many requests share a connection then.
	 * PIPEWAIT has a transfer wait for a connection that may multiplex, rather
	 * than open another.
	 */
	SETOPT(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_2TLS);
	SETOPT(easy, CURLOPT_PIPEWAIT, 1L);
	SETOPT(easy, CURLOPT_MAXAGE_CONN, MAX_IDLE_SECONDS);
#if LIBCURL_VERSION_NUM >= 0x075500
	SETOPT(easy, CURLOPT_PROTOCOLS_STR, "https,http");
#else
	/*
	 * CURLOPT_PROTOCOLS is deprecated since 7.85, where PROTOCOLS_STR replaces
	 * it.
	 */
	SETOPT(easy, CURLOPT_PROTOCOLS, (long) (CURLPROTO_HTTPS | CURLPROTO_HTTP));
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
	/* Do not wait for a resolver's thread when a transfer is given up. */
	SETOPT(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
	SETOPT(easy, CURLOPT_ERRORBUFFER, transfer->curl_error);
	SETOPT(easy, CURLOPT_SOCKOPTFUNCTION, on_new_socket);
	SETOPT(easy, CURLOPT_SOCKOPTDATA, transfer);
	SETOPT(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
	SETOPT(easy, CURLOPT_CLOSESOCKETDATA, client);
	SETOPT(easy, CURLOPT_RESOLVER_START_FUNCTION, before_look_up);
	SETOPT(easy, CURLOPT_RESOLVER_START_DATA, client);

	/*
	 * Runs after the connection is ready, TLS included, and just before the
	 * request is written: the moment that decides whether it counts as sent.
	 */
	SETOPT(easy, CURLOPT_PREREQFUNCTION, before_writing);
	SETOPT(easy, CURLOPT_PREREQDATA, transfer);
	SETOPT(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
	SETOPT(easy, CURLOPT_XFERINFODATA, transfer);
	/* Without this libcurl calls no progress callback. */
	SETOPT(easy, CURLOPT_NOPROGRESS, 0L);
	if (uses_openssl())
	{
		SETOPT(easy, CURLOPT_SSL_CTX_FUNCTION, on_ssl_context);
		SETOPT(easy, CURLOPT_SSL_CTX_DATA, transfer);
	}
	SETOPT(easy, CURLOPT_BUFFERSIZE, ANSWER_BUFFER);
	SETOPT(easy, CURLOPT_UPLOAD_BUFFERSIZE, REQUEST_BUFFER);
	SETOPT(easy, CURLOPT_HEADERFUNCTION, on_header);
	/* Those of a proxy's answer to CONNECT are not the API's. */
	SETOPT(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SETOPT(easy, CURLOPT_HEADERDATA, transfer);
	SETOPT(easy, CURLOPT_WRITEFUNCTION, on_answer);
	SETOPT(easy, CURLOPT_WRITEDATA, transfer);
}

/*
 * Set whose certificates are trusted, the endpoint's and an HTTPS proxy's.
 */
static void
set_trust(CURL *easy, const HttpRequest *request)
{
	const char *ca_file = request->ca_file ? request->ca_file :
		curl_version_info(CURLVERSION_NOW)->cainfo;

	SETOPT(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SETOPT(easy, CURLOPT_SSL_VERIFYPEER, 1L);

	/*
	 * libcurl's defaults, set all the same: what is trusted must not depend on
	 * how a distribution builds it.
	 */
	SETOPT(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	SETOPT(easy, CURLOPT_CAINFO, ca_file);
	/* A directory of certificates costs 20 ms of CPU a connection. */
	SETOPT(easy, CURLOPT_CAPATH, NULL);

	/*
	 * The proxy's TLS has options of its own in libcurl.  Without these an
	 * HTTPS proxy would be checked against the system's certificates instead
	 * of ca_file.
	 */
	if (request->proxy == NULL || pg_strncasecmp(request->proxy, "https:", 6) != 0)
		return;
	SETOPT(easy, CURLOPT_PROXY_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SETOPT(easy, CURLOPT_PROXY_SSL_VERIFYPEER, 1L);
	SETOPT(easy, CURLOPT_PROXY_SSL_VERIFYHOST, 2L);
	SETOPT(easy, CURLOPT_PROXY_CAINFO, ca_file);
	SETOPT(easy, CURLOPT_PROXY_CAPATH, NULL);
}

/*
 * Have libcurl keep a transfer's connect_timeout too, which it divides between
 * the addresses of a host: a quarter later than the client, which knows better
 * how much of it has passed, and then says so.  Raises nothing.
 */
void
transfer_set_connect_timeout(HttpTransfer *transfer)
{
	const HttpPool *pool = transfer->pool;
	MonotonicUs loss = pool->client->lost - pool->own_loss - transfer->loss_at_start;
	int64		timeout = transfer->connect_timeout +
		transfer->connect_timeout / 4 + 20 + loss / US_PER_MS;

	(void) curl_easy_setopt(transfer->easy, CURLOPT_CONNECTTIMEOUT_MS,
							(long) Min(timeout, INT_MAX));
}

/*
 * Add a header to a request.  Raises an error when out of memory.
 */
static void
append_header(HttpTransfer *transfer, const char *header)
{
	struct curl_slist *longer = curl_slist_append(transfer->headers, header);

	if (longer == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	transfer->headers = longer;
}

/*
 * Does libcurl use OpenSSL, for whose connections on_ssl_context() is made?
 */
static bool
uses_openssl(void)
{
	const char *name = curl_version_info(CURLVERSION_NOW)->ssl_version;

	return name != NULL && strncmp(name, "OpenSSL/", 8) == 0;
}

/*
 * Free a transfer that is not under way, for the next one to use its memory.
 */
void
transfer_free(HttpTransfer *transfer)
{
	/*
	 * Before the header list and the body, which libcurl may still refer to.
	 * The connection is the multi handle's, and stays.
	 */
	curl_easy_cleanup(transfer->easy);
	/* A header may be a token of temporary credentials, */
	for (struct curl_slist *header = transfer->headers; header != NULL;
		 header = header->next)
		explicit_bzero(header->data, strlen(header->data));
	curl_slist_free_all(transfer->headers);
	/* and an answer may be all of them. */
	explicit_bzero(transfer->answer, transfer->answer_len);
	if (transfer->body != NULL)
		pfree(transfer->body);
	if (transfer->host != NULL)
		pfree(transfer->host);
	if (transfer->proxy != NULL)
		pfree(transfer->proxy);
	if (transfer->ca_file != NULL)
		pfree(transfer->ca_file);

	/*
	 * At the head: the memory used last is the likeliest to be in the CPU's
	 * cache.
	 */
	dlist_push_head(&transfer->client->unused, &transfer->node);
}

/* ---------------------------------------------------------------- callbacks
 * libcurl is on the stack below here: no ereport, no palloc.
 */

/*
 * CURLOPT_RESOLVER_START_FUNCTION: libcurl is about to look up a name, perhaps
 * in a new thread.
 */
static int
before_look_up(void *resolver, void *reserved, void *arg)
{
	HttpClient *client = arg;
	sigset_t	all;

	(void) resolver;
	(void) reserved;

	/*
	 * Several look-ups may begin in one turn; only the first saves the mask,
	 * which later ones would overwrite with "all".
	 */
	if (!client->signals_blocked)
	{
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &client->saved_signals);
		client->signals_blocked = true;
	}
	return 0;
}

/*
 * CURLOPT_PREREQFUNCTION: the connection is ready, and the request is about to
 * be written.
 */
static int
before_writing(void *arg, char *remote_ip, char *local_ip, int remote_port,
			   int local_port)
{
	HttpTransfer *transfer = arg;
	ClientSocket *socket;

	(void) remote_ip;
	(void) local_ip;
	(void) remote_port;

	/*
	 * Second time for this request: libcurl has lost a reused connection and
	 * tries a new one.  The peer may have acted on the first copy, and the API
	 * has no idempotency key.
	 */
	if (transfer->sent && !MUTANT("repeated-by-libcurl"))
	{
		transfer->repeated = true;
		return CURL_PREREQFUNC_ABORT;
	}

	/*
	 * The permit is void: by now another process may have been given it, and
	 * two requests would arrive under one permit.
	 */
	if (monotonic_now() > transfer->deadline)
	{
		transfer->missed_deadline = true;
		return CURL_PREREQFUNC_ABORT;
	}

	/*
	 * Set before a byte is written, and never reset: from here on the request
	 * may have reached the peer.
	 */
	transfer->sent = true;
	socket = note_writing(transfer, local_port);
	if (socket != NULL)
		transfer->socket = socket->fd;

	/*
	 * Only requests with a permit need to know when they have left, and these
	 * are POSTs.
	 */
	if (transfer->body_len > 0 && !transfer->in_left)
	{
		dlist_push_tail(&transfer->client->left, &transfer->left_node);
		transfer->in_left = true;
	}
	return CURL_PREREQFUNC_OK;
}

/*
 * CURLOPT_SSL_CTX_FUNCTION: libcurl has made the TLS settings of a connection,
 * to the endpoint or to a proxy.
 */
static CURLcode
on_ssl_context(CURL *easy, void *context, void *arg)
{
	HttpTransfer *transfer = arg;

	(void) easy;
	/* The connection may outlive the transfer, but not the pool. */
	SSL_CTX_set_msg_callback((SSL_CTX *) context, on_tls_message);
	SSL_CTX_set_msg_callback_arg((SSL_CTX *) context, transfer->pool);
	return CURLE_OK;
}

/*
 * OpenSSL has read or written something: the header of a record has the
 * record's length in its last two bytes.
 */
static void
on_tls_message(int is_write, int version, int content_type, const void *data,
			   size_t len, SSL *ssl, void *arg)
{
	const unsigned char *header = data;

	(void) version;
	(void) ssl;
	if (!is_write && content_type == SSL3_RT_HEADER && len >= 5)
		pool_note_read(arg, (header[3] << 8) | header[4]);
}

/*
 * CURLOPT_XFERINFOFUNCTION: libcurl reports progress, at least once in each
 * call for the transfer.
 */
static int
on_progress(void *arg, curl_off_t to_read, curl_off_t read,
			curl_off_t to_write, curl_off_t written)
{
	HttpTransfer *transfer = arg;

	(void) to_read;
	(void) read;
	(void) to_write;
	(void) written;
	/* It does so a last time when a transfer is taken from it. */
	if (transfer->pool == NULL)
		return 0;

	/*
	 * Counted because CONNECT's reply is parsed byte by byte without TLS
	 * records that on_tls_message() could count.
	 */
	pool_note_progress(transfer->pool);
	if (!transfer->pool->flooded)
		return 0;
	transfer->flooded = true;
	return 1;
}

/*
 * CURLOPT_HEADERFUNCTION: a header of the answer.  Its length is counted; only
 * a Date is kept.
 */
static size_t
on_header(char *data, size_t size, size_t nitems, void *arg)
{
	HttpTransfer *transfer = arg;
	size_t		len = size * nitems;

	/*
	 * The peer's clock tells a wrong clock here from wrong keys, since both
	 * are refused.  The line is not NUL-terminated.
	 */
	if (len > 5 && pg_strncasecmp(data, "date:", 5) == 0)
	{
		size_t		date_len = Min(len - 5, sizeof(transfer->date) - 1);

		memcpy(transfer->date, data + 5, date_len);
		transfer->date[date_len] = '\0';
	}

	transfer->header_len += len;
	if (transfer->header_len > HTTP_MAX_ANSWER)
	{
		transfer->too_long = true;
		return 0;
	}
	return len;
}

/*
 * CURLOPT_WRITEFUNCTION: a piece of the answer's body.
 */
static size_t
on_answer(char *data, size_t size, size_t nitems, void *arg)
{
	HttpTransfer *transfer = arg;
	size_t		len = size * nitems;

	/*
	 * A subtraction cannot overflow here, since answer_len never exceeds the
	 * maximum.  Any return value but len ends the transfer.
	 */
	if (len > HTTP_MAX_ANSWER - transfer->answer_len)
	{
		transfer->too_long = true;
		return 0;
	}
	memcpy(transfer->answer + transfer->answer_len, data, len);
	transfer->answer_len += len;
	return len;
}

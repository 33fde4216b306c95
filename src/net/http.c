/*-------------------------------------------------------------------------
 *
 * http.c
 *	  HTTP requests that wait on a latch: libcurl's multi interface on a
 *	  WaitEventSet
 *
 * The only file that knows libcurl.  A client belongs to a process for its
 * whole life and keeps its connections.  libcurl's sockets live in an epoll
 * descriptor, which is one member of the client's WaitEventSet beside the
 * latch and the postmaster's death: libcurl adds and drops sockets all the
 * time, and a WaitEventSet cannot drop any.  What libcurl wants of them is
 * brought to the descriptor before each wait, since most of it has changed
 * back by then.  A socket that carries no transfer is not in it, so that idle
 * connections wake nobody.
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

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <curl/curl.h>

#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"

#include "compat.h"
#include "net/http.h"
#include "util/crash_point.h"

#if LIBCURL_VERSION_NUM < 0x075000
#error "libcurl 7.80 or later is needed, for CURLOPT_PREREQFUNCTION"
#endif

/*
 * The server closes a connection that was idle for 60 s; one that is nearly
 * as old is not worth the risk of a request that meets the close.
 */
#define MAX_IDLE_SECONDS	45L

/* Descriptors of a client beside those of its connections: epoll, the
 * WaitEventSet, and the pair by which a resolver's thread reports. */
#define OTHER_DESCRIPTORS	4

/* Sockets for each transfer: addresses are tried side by side, and a resolver
 * has some of its own. */
#define SOCKETS_PER_TRANSFER	8

/* How often to look whether a socket's queue has been sent */
#define UNSENT_CHECK		US_PER_MS

/* When to try again to watch a socket, for want of memory in the kernel */
#define WATCH_RETRY			(10 * US_PER_MS)

/*
 * What libcurl takes an answer in: all of the longest one, with its headers.
 * libcurl 7.88 pauses an HTTP/2 stream whose data does not fit, and does not
 * notice that the stream has ended when it goes on with the rest: the transfer
 * waits for its time-out.
 */
#define ANSWER_BUFFER		(HTTP_MAX_ANSWER + 16384L)

/* What libcurl gives a request from: 64 kB, its own size, cost more. */
#define REQUEST_BUFFER		16384L

#define DATE_SIZE			40

/* As many requests to one socket leave together */
#define GATHERED			16

typedef struct ClientSocket
{
	int			fd;
	bool		ours;			/* opened by on_new_socket()? */
	bool		connected;
	int			local_port;		/* 0: not looked up, or not bound */
	int			repeats_for;	/* ms, that the kernel repeats what it has sent */
	uint32		wanted;			/* events; 0: there is no transfer on it */
	uint32		watched;		/* those it is in the epoll set for; 0: it
								 * is not */
	bool		is_http2;		/* as an answer has told */
	int			n_written;		/* requests, in this turn of libcurl's, if so */
} ClientSocket;

struct HttpClient
{
	CURLM	   *multi;
	int			epoll_fd;
	WaitEventSet *wait_set;
	MonotonicUs timer_at;		/* when libcurl wants to be called */
	ClientSocket *sockets;		/* that are open */
	int			n_sockets;
	int			max_sockets;
	struct epoll_event *events; /* of as many, when they are asked for */
	struct pollfd *polls;		/* for as many */
	int			max_transfers;
	int			n_transfers;	/* transfers that are under way */
	dlist_head	unused;			/* of HttpTransfer.node: to be used again */
	dlist_head	left;			/* written, not yet known to have left */
	dlist_head	done;			/* ended, not yet handed out */
	bool		signals_blocked;	/* for a look-up, until libcurl returns */
	sigset_t	saved_signals;
	char		date[DATE_SIZE];	/* the last Date header that was read */
	int64		date_seconds;	/* and what it says; 0: nothing */
};

struct HttpTransfer
{
	dlist_node	node;			/* in done, if in_done; in unused */
	dlist_node	left_node;		/* in left, if in_left */
	bool		in_left;
	bool		under_way;		/* known to the multi handle? */
	bool		in_done;
	HttpClient *client;
	void	   *owner;
	CURL	   *easy;
	struct curl_slist *headers;
	char	   *host;			/* for messages */
	char	   *ca_file;		/* likewise; NULL: none */

	char	   *body;
	size_t		body_len;
	int			request_timeout;	/* ms */
	int			socket;			/* that it is written to; -1: not known */

	MonotonicUs leave_by;
	bool		connected;		/* was there a connection, TLS aside? */
	bool		sent;			/* was libcurl let through to write? */
	bool		repeated;		/* did libcurl try to write once more? */
	bool		lapsed;

	CURLcode	result;			/* when done */
	size_t		header_len;		/* of the answer, so far */
	char		date[DATE_SIZE];	/* its Date header, clipped */
	bool		too_long;
	size_t		answer_len;
	char		curl_error[CURL_ERROR_SIZE];
	char		error[CURL_ERROR_SIZE + MAXPGPATH + 512];
	char		answer[HTTP_MAX_ANSWER + 1];
};

static void initialize_libcurl(void);
static const char *check_endpoint(CURLU *parts, HttpEndpoint *endpoint);
static bool url_part(CURLU *parts, CURLUPart part, char *out, size_t size);
static void give_up_closed_sockets(HttpClient *client);
static void give_up(int fd);
static HttpTransfer *make_transfer(HttpClient *client);
static void set_options(HttpTransfer *transfer);
static void set_request(HttpTransfer *transfer, const HttpRequest *request);
static void append_header(HttpTransfer *transfer, const char *header);
static bool watch_sockets(HttpClient *client);
static void act_on_sockets(HttpClient *client, int n_events);
static void act_on_timer(HttpClient *client);
static void let_go(HttpClient *client);
static void unblock_signals(HttpClient *client);
static void collect_done(HttpClient *client);
static void note_version(const HttpTransfer *transfer);
static bool has_unsent(HttpTransfer *transfer);
static int64 read_date(HttpTransfer *transfer);
static bool is_tls_failure(CURLcode result);
static void describe_failure(HttpTransfer *transfer);

static int	on_socket(CURL *easy, curl_socket_t fd, int what, void *arg,
					  void *socket_arg);
static int	on_new_socket(void *arg, curl_socket_t fd, curlsocktype purpose);
static int	on_close_socket(void *arg, curl_socket_t fd);
static ClientSocket *add_socket(HttpClient *client, int fd, bool ours);
static ClientSocket *find_socket(HttpClient *client, int fd);
static ClientSocket *find_socket_of_port(HttpClient *client, int local_port);
static void bound_repeats(ClientSocket *socket, int request_timeout);
static void gather(ClientSocket *socket);
static void set_cork(const ClientSocket *socket, int value);
static int	find_local_port(int fd);
static int	on_timer(CURLM *multi, long timeout_ms, void *arg);
static int	before_look_up(void *resolver, void *reserved, void *arg);
static int	before_writing(void *arg, char *remote_ip, char *local_ip,
						   int remote_port, int local_port);
static size_t on_header(char *data, size_t size, size_t nitems, void *arg);
static size_t on_answer(char *data, size_t size, size_t nitems, void *arg);

/*
 * setopt that cannot go on without its option.  The transfer that it fails for
 * is half-made, and still the caller's to release.
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
 * Make the client of this process.
 *
 * max_transfers is how many transfers may be under way, and so how many
 * connections there may be.  Their descriptors are reserved from PostgreSQL's
 * budget here; if it does not have as many, http_max_transfers() is less.
 *
 * Raises an error when there are not enough for one, or no memory.
 */
HttpClient *
http_client_create(int max_transfers)
{
	HttpClient *client;
	int			reserved = 0;
	int			wanted = max_transfers + OTHER_DESCRIPTORS;

	initialize_libcurl();

	while (reserved < wanted && AcquireExternalFD())
		reserved++;
	max_transfers = reserved - OTHER_DESCRIPTORS;
	if (max_transfers < 1)
	{
		while (reserved-- > 0)
			ReleaseExternalFD();
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("not enough file descriptors for a connection"),
				 errhint("Raise \"max_files_per_process\".")));
	}

	client = MemoryContextAllocZero(TopMemoryContext, sizeof(HttpClient));
	client->timer_at = MONOTONIC_NEVER;
	client->max_transfers = max_transfers;
	client->max_sockets = SOCKETS_PER_TRANSFER * max_transfers;
	client->sockets = MemoryContextAlloc(TopMemoryContext,
										 client->max_sockets * sizeof(ClientSocket));
	client->events = MemoryContextAlloc(TopMemoryContext,
										client->max_sockets * sizeof(struct epoll_event));
	client->polls = MemoryContextAlloc(TopMemoryContext,
									   client->max_sockets * sizeof(struct pollfd));
	dlist_init(&client->unused);
	dlist_init(&client->left);
	dlist_init(&client->done);

	client->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (client->epoll_fd < 0)
	{
		while (reserved-- > 0)
			ReleaseExternalFD();
		ereport(ERROR,
				(errcode_for_socket_access(),
				 errmsg("could not create an epoll descriptor: %m")));
	}
	/* It takes its descriptor from the budget by itself. */
	ReleaseExternalFD();
	client->wait_set = create_process_wait_event_set(3);
	AddWaitEventToSet(client->wait_set, WL_LATCH_SET, PGINVALID_SOCKET,
					  MyLatch, NULL);
	AddWaitEventToSet(client->wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET,
					  NULL, NULL);
	AddWaitEventToSet(client->wait_set, WL_SOCKET_READABLE, client->epoll_fd,
					  NULL, NULL);

	client->multi = curl_multi_init();
	if (client->multi == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not create a libcurl multi handle")));
	curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
	curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
	curl_multi_setopt(client->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS,
					  (long) max_transfers);
	curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS,
					  (long) max_transfers);
	return client;
}

/*
 * How many transfers of a client may be under way.
 */
int
http_max_transfers(const HttpClient *client)
{
	return client->max_transfers;
}

/*
 * Initialize libcurl in this process, and check what it can do.
 */
static void
initialize_libcurl(void)
{
	curl_version_info_data *info;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not initialize libcurl")));

	/* Without its own threads, look-ups would block, or use SIGALRM. */
	info = curl_version_info(CURLVERSION_NOW);
	if ((info->features & CURL_VERSION_ASYNCHDNS) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("libcurl %s was built without an asynchronous resolver",
						info->version)));
	if ((info->features & CURL_VERSION_SSL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("libcurl %s was built without TLS", info->version)));
}

/*
 * Take the URL of an endpoint apart.
 *
 * Fills *endpoint and returns NULL, or returns what is wrong with the URL, in
 * words that follow its name.
 */
const char *
http_parse_endpoint(const char *url, HttpEndpoint *endpoint)
{
	CURLU	   *parts;
	const char *problem;

	/* Versions of libcurl differ in what they say of this. */
	if (strstr(url, "://") == NULL)
		return "has no scheme";

	parts = curl_url();
	if (parts == NULL)
		return "could not be read: out of memory";
	if (curl_url_set(parts, CURLUPART_URL, url,
					 CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK)
		problem = check_endpoint(parts, endpoint);
	else
		problem = "is not a URL";
	curl_url_cleanup(parts);
	return problem;
}

static const char *
check_endpoint(CURLU *parts, HttpEndpoint *endpoint)
{
	char		path[8];
	char		any[2];
	char		port[8];

	if (!url_part(parts, CURLUPART_SCHEME, endpoint->scheme,
				  sizeof(endpoint->scheme)))
		return "has no scheme";
	if (url_part(parts, CURLUPART_USER, any, sizeof(any)) ||
		url_part(parts, CURLUPART_PASSWORD, any, sizeof(any)))
		return "holds a user name or password";
	if (url_part(parts, CURLUPART_QUERY, any, sizeof(any)) ||
		url_part(parts, CURLUPART_FRAGMENT, any, sizeof(any)))
		return "has a query or a fragment";
	if (url_part(parts, CURLUPART_PATH, path, sizeof(path)) &&
		strcmp(path, "/") != 0)
		return "has a path";
	if (!url_part(parts, CURLUPART_HOST, endpoint->host,
				  sizeof(endpoint->host)) ||
		endpoint->host[0] == '\0')
		return "has no host";
	if (strlen(endpoint->host) >= sizeof(endpoint->host) - 1)
		return "has too long a host";
	for (const char *c = endpoint->host; *c != '\0'; c++)
	{
		if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
			  (*c >= '0' && *c <= '9') || strchr(".-_:[]", *c) != NULL))
			return "has a host that is not plain ASCII";
	}

	/* The Host header has a port only where it is not the scheme's own. */
	if (url_part(parts, CURLUPART_PORT, port, sizeof(port)) &&
		strcmp(port, strcmp(endpoint->scheme, "https") == 0 ? "443" : "80") != 0)
		snprintf(endpoint->authority, sizeof(endpoint->authority), "%s:%s",
				 endpoint->host, port);
	else
		snprintf(endpoint->authority, sizeof(endpoint->authority), "%s",
				 endpoint->host);
	snprintf(endpoint->url, sizeof(endpoint->url), "%s://%s/",
			 endpoint->scheme, endpoint->authority);
	return NULL;
}

/*
 * Copy a part of a URL, cut to the size.  Returns whether there is one.
 */
static bool
url_part(CURLU *parts, CURLUPart part, char *out, size_t size)
{
	char	   *text;

	if (curl_url_get(parts, part, &text, 0) != CURLUE_OK)
		return false;
	strlcpy(out, text, size);
	curl_free(text);
	return true;
}

/*
 * Start a request.  It is on its way with http_begin().
 *
 * *transfer is the caller's until http_release(), and is set before anything
 * can raise an error, so that a caller who releases it on every path leaks
 * nothing.  Raises an error when max_transfers are under way already, or out
 * of memory; the request was not sent then.
 */
void
http_start(HttpClient *client, const HttpRequest *request,
		   HttpTransfer **transfer)
{
	CURLMcode	result;

	if (client->n_transfers >= client->max_transfers)
		elog(ERROR, "too many transfers are under way");

	*transfer = make_transfer(client);
	set_options(*transfer);
	set_request(*transfer, request);

	/* It is only noted there: a look-up begins with http_begin(). */
	result = curl_multi_add_handle(client->multi, (*transfer)->easy);
	if (result != CURLM_OK)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not start a transfer: %s",
						curl_multi_strerror(result))));
	(*transfer)->under_way = true;
	client->n_transfers++;
}

/*
 * See which idle connections the peer has closed.
 *
 * libcurl takes a connection for alive on which there is something to read,
 * be it the peer's farewell (TLS close_notify).  A request written there is
 * lost, and then in doubt.  Without that farewell libcurl sees the end.
 */
static void
give_up_closed_sockets(HttpClient *client)
{
	nfds_t		n = 0;

	for (int i = 0; i < client->n_sockets; i++)
	{
		const ClientSocket *socket = &client->sockets[i];

		if (!socket->ours || socket->wanted != 0)
			continue;
		client->polls[n].fd = socket->fd;
		client->polls[n++].events = POLLRDHUP;
	}
	if (n == 0 || poll(client->polls, n, 0) <= 0)
		return;
	for (nfds_t i = 0; i < n; i++)
	{
		if (client->polls[i].revents != 0)
			give_up(client->polls[i].fd);
	}
}

static void
give_up(int fd)
{
	char		farewell[256];

	while (recv(fd, farewell, sizeof(farewell), MSG_DONTWAIT) > 0)
		;
	(void) shutdown(fd, SHUT_RDWR);
}

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
static HttpTransfer *
make_transfer(HttpClient *client)
{
	HttpTransfer *transfer;
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
	memset(transfer, 0, offsetof(HttpTransfer, answer));
	transfer->client = client;
	transfer->easy = easy;
	transfer->socket = -1;
	return transfer;
}

/*
 * Set what is the same for every request.  Nothing comes from the
 * environment: no proxy, no .netrc; and nothing is followed.
 */
static void
set_options(HttpTransfer *transfer)
{
	HttpClient *client = transfer->client;
	CURL	   *easy = transfer->easy;

	SETOPT(easy, CURLOPT_PRIVATE, transfer);
	SETOPT(easy, CURLOPT_NOSIGNAL, 1L);
	SETOPT(easy, CURLOPT_FOLLOWLOCATION, 0L);
	SETOPT(easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SETOPT(easy, CURLOPT_NOPROXY, "");
	SETOPT(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_2TLS);
	SETOPT(easy, CURLOPT_PIPEWAIT, 1L);
	SETOPT(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SETOPT(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	SETOPT(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	/* A directory of certificates costs 20 ms of CPU a connection. */
	SETOPT(easy, CURLOPT_CAPATH, NULL);
	SETOPT(easy, CURLOPT_MAXAGE_CONN, MAX_IDLE_SECONDS);
	/* on_header() allows it */
	SETOPT(easy, CURLOPT_FORBID_REUSE, 1L);
#if LIBCURL_VERSION_NUM >= 0x075500
	SETOPT(easy, CURLOPT_PROTOCOLS_STR, "https,http");
#else
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
	SETOPT(easy, CURLOPT_PREREQFUNCTION, before_writing);
	SETOPT(easy, CURLOPT_PREREQDATA, transfer);
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
 * Give a transfer its request.
 */
static void
set_request(HttpTransfer *transfer, const HttpRequest *request)
{
	CURL	   *easy = transfer->easy;
	MemoryContext old;

	transfer->owner = request->owner;
	transfer->leave_by = request->leave_by;
	transfer->request_timeout = request->request_timeout;
	transfer->body_len = request->body_len;

	old = MemoryContextSwitchTo(TopMemoryContext);
	transfer->host = pstrdup(request->host);
	if (request->ca_file != NULL)
		transfer->ca_file = pstrdup(request->ca_file);
	transfer->body = palloc(Max(request->body_len, 1));
	MemoryContextSwitchTo(old);
	if (request->body != NULL)
		memcpy(transfer->body, request->body, request->body_len);

	/* No "100-continue": the answer to it would be waited for. */
	append_header(transfer, "Expect:");
	for (char *const *header = request->headers; *header != NULL; header++)
		append_header(transfer, *header);

	SETOPT(easy, CURLOPT_URL, request->url);
	SETOPT(easy, CURLOPT_HTTPHEADER, transfer->headers);
	if (request->body != NULL)
	{
		/* As a whole, so that it goes with the headers where it may. */
		SETOPT(easy, CURLOPT_POSTFIELDS, transfer->body);
		SETOPT(easy, CURLOPT_POSTFIELDSIZE_LARGE,
			   (curl_off_t) request->body_len);
	}
	else
		SETOPT(easy, CURLOPT_HTTPGET, 1L);
	SETOPT(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) request->connect_timeout);
	SETOPT(easy, CURLOPT_TIMEOUT_MS, (long) request->request_timeout);
	SETOPT(easy, CURLOPT_PROXY, request->proxy ? request->proxy : "");
	SETOPT(easy, CURLOPT_CAINFO,
		   request->ca_file ? request->ca_file :
		   curl_version_info(CURLVERSION_NOW)->cainfo);
}

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
 * Have the transfers that were started leave, as far as they can without
 * being waited for.  Raises nothing.
 *
 * Some may have ended by then, as where there is no route: no event will tell
 * of those.
 *
 * Sockets that are ready have to wait: a transfer that begins as an answer is
 * read on its connection would have its headers written, and not its body.
 */
void
http_begin(HttpClient *client)
{
	give_up_closed_sockets(client);
	act_on_timer(client);
	let_go(client);
	unblock_signals(client);
	collect_done(client);
}

/*
 * Wait until the latch is set, a socket is ready, libcurl's timer is due, or
 * the given time has come, and let libcurl do what there is to do.
 *
 * Resets the latch if it was set.  The process exits if the postmaster dies.
 * Raises nothing: interrupts are the caller's to check.
 */
void
http_wait(HttpClient *client, MonotonicUs until, uint32 wait_event_info)
{
	WaitEvent	events[3];
	MonotonicUs now = monotonic_now();
	int			n_events = 0;
	int			n;

	until = Min(until, client->timer_at);
	/* No event tells that a queue has been sent. */
	if (!dlist_is_empty(&client->left))
		until = Min(until, now + UNSENT_CHECK);
	if (!watch_sockets(client))
		until = Min(until, now + WATCH_RETRY);
	n = WaitEventSetWait(client->wait_set, monotonic_wait_ms(now, until),
						 events, lengthof(events), wait_event_info);
	for (int i = 0; i < n; i++)
	{
		if (events[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
	}
	/* When the latch was set, PostgreSQL 15 has looked at no socket. */
	if (n > 0)
		n_events = epoll_wait(client->epoll_fd, client->events,
							  client->max_sockets, 0);

	act_on_sockets(client, n_events);
	act_on_timer(client);
	let_go(client);
	unblock_signals(client);
	collect_done(client);
}

/*
 * Have the epoll descriptor watch what libcurl wants to be watched.  Returns
 * whether it could be done.
 */
static bool
watch_sockets(HttpClient *client)
{
	bool		done = true;

	for (int i = 0; i < client->n_sockets; i++)
	{
		ClientSocket *socket = &client->sockets[i];
		struct epoll_event event = {
			.events = socket->wanted,
			.data.fd = socket->fd
		};

		if (socket->wanted == socket->watched)
			continue;
		if (epoll_ctl(client->epoll_fd,
					  socket->wanted == 0 ? EPOLL_CTL_DEL :
					  socket->watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD,
					  socket->fd, &event) == 0)
			socket->watched = socket->wanted;
		else
		{
			if (errno == ENOENT || errno == EBADF)
				socket->watched = 0;
			done = false;
		}
	}
	return done;
}

/*
 * Let libcurl act on the sockets that are ready.
 */
static void
act_on_sockets(HttpClient *client, int n_events)
{
	int			running;

	for (int i = 0; i < n_events; i++)
	{
		const struct epoll_event *event = &client->events[i];
		int			what = 0;

		if (event->events & (EPOLLIN | EPOLLHUP))
			what |= CURL_CSELECT_IN;
		if (event->events & EPOLLOUT)
			what |= CURL_CSELECT_OUT;
		if (event->events & EPOLLERR)
			what |= CURL_CSELECT_ERR;
		curl_multi_socket_action(client->multi, event->data.fd, what,
								 &running);
	}
}

/*
 * Let libcurl act on its timer, if that is due.
 */
static void
act_on_timer(HttpClient *client)
{
	int			running;

	if (client->timer_at > monotonic_now())
		return;
	/* libcurl sets it anew from within, if it wants one. */
	client->timer_at = MONOTONIC_NEVER;
	curl_multi_socket_action(client->multi, CURL_SOCKET_TIMEOUT, 0, &running);
}

/*
 * Let the requests leave that gather() holds.
 */
static void
let_go(HttpClient *client)
{
	for (int i = 0; i < client->n_sockets; i++)
	{
		if (client->sockets[i].n_written > 1)
			set_cork(&client->sockets[i], 0);
		client->sockets[i].n_written = 0;
	}
}

/*
 * Let signals in again that before_look_up() keeps out.
 */
static void
unblock_signals(HttpClient *client)
{
	if (!client->signals_blocked)
		return;
	client->signals_blocked = false;
	pthread_sigmask(SIG_SETMASK, &client->saved_signals, NULL);
}

/*
 * Move the transfers that have ended to the list of them.
 */
static void
collect_done(HttpClient *client)
{
	CURLMsg    *message;
	int			remaining;

	while ((message = curl_multi_info_read(client->multi, &remaining)) != NULL)
	{
		CURLcode	result = message->data.result;
		CURL	   *easy = message->easy_handle;
		HttpTransfer *transfer = NULL;

		curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &transfer);
		/* From here on "message" is gone. */
		curl_multi_remove_handle(client->multi, easy);
		transfer->under_way = false;
		transfer->result = result;
		note_version(transfer);
		client->n_transfers--;
		dlist_push_tail(&client->done, &transfer->node);
		transfer->in_done = true;
	}
}

/*
 * Note for a connection whether it is one of HTTP/2.
 */
static void
note_version(const HttpTransfer *transfer)
{
	ClientSocket *socket = find_socket(transfer->client, transfer->socket);
	long		version = CURL_HTTP_VERSION_NONE;

	if (socket == NULL || socket->is_http2 || transfer->result != CURLE_OK)
		return;
	curl_easy_getinfo(transfer->easy, CURLINFO_HTTP_VERSION, &version);
	socket->is_http2 = version == CURL_HTTP_VERSION_2_0;
}

/*
 * The next transfer whose request has left this machine since this was last
 * asked, or NULL.  It is still under way, or done.
 *
 * What libcurl has written may wait in the socket's queue, for the peer to
 * acknowledge what went before.  It has left when nothing of that queue is
 * unsent: now, at the latest.
 */
HttpTransfer *
http_next_left(HttpClient *client)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &client->left)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, left_node,
												 iter.cur);

		if (has_unsent(transfer))
			continue;
		dlist_delete(&transfer->left_node);
		transfer->in_left = false;
		return transfer;
	}
	return NULL;
}

/*
 * Is some of a request still with libcurl, or in the queue of its socket?
 */
static bool
has_unsent(HttpTransfer *transfer)
{
	curl_off_t	written = 0;
	int			unsent = 0;

	if (!transfer->under_way)
		return false;
	curl_easy_getinfo(transfer->easy, CURLINFO_SIZE_UPLOAD_T, &written);
	if (written < (curl_off_t) transfer->body_len)
		return true;
	return transfer->socket >= 0 &&
		ioctl(transfer->socket, SIOCOUTQNSD, &unsent) == 0 && unsent > 0;
}

/*
 * The next transfer that has ended, or NULL.  Release it after use.
 */
HttpTransfer *
http_next_done(HttpClient *client)
{
	HttpTransfer *transfer;

	if (dlist_is_empty(&client->done))
		return NULL;
	transfer = dlist_container(HttpTransfer, node,
							   dlist_pop_head_node(&client->done));
	transfer->in_done = false;
	return transfer;
}

/*
 * The owner that a transfer was started for.
 */
void *
http_owner(const HttpTransfer *transfer)
{
	return transfer->owner;
}

/*
 * May a byte of the request have reached the peer?
 *
 * Known at any time; false means that it certainly has not, so far.
 */
bool
http_sent(const HttpTransfer *transfer)
{
	return transfer->sent;
}

/*
 * What became of a transfer that http_next_done() gave.
 */
void
http_reply(HttpTransfer *transfer, HttpReply *reply)
{
	memset(reply, 0, sizeof(*reply));
	reply->sent = transfer->sent;
	reply->lapsed = transfer->lapsed;
	reply->complete = transfer->result == CURLE_OK;
	curl_easy_getinfo(transfer->easy, CURLINFO_NUM_CONNECTS,
					  &reply->connections);
	if (reply->complete)
	{
		curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE,
						  &reply->status);
		transfer->answer[transfer->answer_len] = '\0';
		reply->body = transfer->answer;
		reply->body_len = transfer->answer_len;
		reply->date = read_date(transfer);
	}
	else
	{
		describe_failure(transfer);
		reply->error = transfer->error;
	}
}

/*
 * What the Date header of an answer says, in Unix seconds; 0: nothing.  Many
 * answers say the same, and to read it takes long.
 */
static int64
read_date(HttpTransfer *transfer)
{
	HttpClient *client = transfer->client;

	if (strcmp(client->date, transfer->date) != 0)
	{
		client->date_seconds = Max((int64) curl_getdate(transfer->date, NULL),
								   0);
		strlcpy(client->date, transfer->date, sizeof(client->date));
	}
	return client->date_seconds;
}

/*
 * Is it by libcurl's code TLS that failed?  Of a connection that was made and
 * given up at one go nothing else tells.
 */
static bool
is_tls_failure(CURLcode result)
{
	return result == CURLE_SSL_CONNECT_ERROR ||
		result == CURLE_PEER_FAILED_VERIFICATION ||
		result == CURLE_SSL_CACERT_BADFILE ||
		result == CURLE_SSL_ISSUER_ERROR;
}

/*
 * Put into words what went wrong: the phase, the peer, libcurl's own words,
 * which may quote the peer's certificate, in any encoding or none.
 */
static void
describe_failure(HttpTransfer *transfer)
{
	const char *words = transfer->curl_error[0] != '\0' ?
		transfer->curl_error : curl_easy_strerror(transfer->result);
	const char *trusted = NULL;
	curl_off_t	looked_up = 0;
	const char *phase;

	curl_easy_getinfo(transfer->easy, CURLINFO_NAMELOOKUP_TIME_T, &looked_up);

	if (transfer->lapsed)
	{
		phase = "took too long to connect to";
		words = "the slot for the request had passed";
	}
	else if (transfer->too_long)
	{
		phase = "gave up an answer of";
		words = "it is longer than 64 kB";
	}
	else if (transfer->repeated)
	{
		phase = "lost the connection after the request was sent to";
		words = "no answer had arrived";
	}
	else if (transfer->sent)
		phase = "got no complete answer from";
	else if (is_tls_failure(transfer->result) ||
			 strncmp(words, "SSL ", 4) == 0)
	{
		phase = "could not negotiate TLS with";
		if (transfer->result != CURLE_SSL_CONNECT_ERROR)
			trusted = transfer->ca_file;
	}
	else if (looked_up == 0)
		phase = "could not look up";
	else if (!transfer->connected)
		phase = "could not connect to";
	else
		phase = "could not negotiate TLS with";

	snprintf(transfer->error, sizeof(transfer->error), "%s \"%s\": %s%s%s%s",
			 phase, transfer->host, words,
			 trusted ? " (option \"ca_file\" is \"" : "",
			 trusted ? trusted : "", trusted ? "\")" : "");
	for (char *c = transfer->error; *c != '\0'; c++)
	{
		if (*c < ' ' || *c > '~')
			*c = '?';
	}
}

/*
 * Give a transfer back, and end it if it is under way.  NULL is allowed.
 *
 * Of what was sent nothing is recalled: http_sent() tells, before.
 */
void
http_release(HttpTransfer *transfer)
{
	HttpClient *client;

	if (transfer == NULL)
		return;
	client = transfer->client;

	if (transfer->under_way)
	{
		curl_multi_remove_handle(client->multi, transfer->easy);
		client->n_transfers--;
	}
	/* Its connection is the multi handle's, and stays. */
	curl_easy_cleanup(transfer->easy);
	if (transfer->in_left)
		dlist_delete(&transfer->left_node);
	if (transfer->in_done)
		dlist_delete(&transfer->node);
	/* A header may be a token of temporary credentials. */
	for (struct curl_slist *header = transfer->headers; header != NULL;
		 header = header->next)
		explicit_bzero(header->data, strlen(header->data));
	curl_slist_free_all(transfer->headers);
	/* and an answer may be all of them */
	explicit_bzero(transfer->answer, transfer->answer_len);
	if (transfer->body != NULL)
		pfree(transfer->body);
	if (transfer->host != NULL)
		pfree(transfer->host);
	if (transfer->ca_file != NULL)
		pfree(transfer->ca_file);
	dlist_push_head(&client->unused, &transfer->node);
}

/* ---------------------------------------------------------------- callbacks
 * libcurl is on the stack below here: no ereport, no palloc.
 */

/*
 * libcurl wants a socket watched, or no longer.
 *
 * On a socket that is connected, what a transfer waits for first is the peer's
 * part of TLS.  libcurl's own times do not tell in all of its versions whether
 * a connection that TLS failed on had been made.
 */
static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	HttpClient *client = arg;
	ClientSocket *socket = find_socket(client, fd);
	HttpTransfer *transfer = NULL;
	struct sockaddr_storage peer;
	socklen_t	peer_len = sizeof(peer);

	(void) socket_arg;
	if (what == CURL_POLL_REMOVE)
	{
		if (socket != NULL && socket->ours)
			socket->wanted = 0;
		else if (socket != NULL)
		{
			/* Nobody tells when it is closed, which may be now. */
			(void) epoll_ctl(client->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
			*socket = client->sockets[--client->n_sockets];
		}
		return 0;
	}

	if (socket == NULL)
		socket = add_socket(client, fd, false);
	if (socket == NULL)
		return -1;
	socket->wanted = 0;
	if (what & CURL_POLL_IN)
		socket->wanted |= EPOLLIN | EPOLLRDHUP;
	if (what & CURL_POLL_OUT)
		socket->wanted |= EPOLLOUT;

	if (socket->ours && !socket->connected)
		socket->connected =
			getpeername(fd, (struct sockaddr *) &peer, &peer_len) == 0;
	(void) curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &transfer);
	if (transfer != NULL && socket->connected)
		transfer->connected = true;
	return 0;
}

/*
 * A socket is about to be connected.
 */
static int
on_new_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	HttpTransfer *transfer = arg;
	ClientSocket *socket = add_socket(transfer->client, fd, true);

	(void) purpose;
	if (socket == NULL)
		return CURL_SOCKOPT_ERROR;
	/* It would stay open, and in the epoll set, in what is run from here. */
	(void) fcntl(fd, F_SETFD, FD_CLOEXEC);
	bound_repeats(socket, transfer->request_timeout);
	return CURL_SOCKOPT_OK;
}

/*
 * The kernel goes on repeating what was written, for minutes, even after the
 * process is gone.  Beyond a request's time-out it must not: the request may be
 * taken for lost by then, and sent again.  Of the requests of a connection, the
 * one with the shortest time-out says for how long.
 */
static void
bound_repeats(ClientSocket *socket, int request_timeout)
{
	unsigned int timeout = (unsigned int) request_timeout;

	if (socket->repeats_for != 0 && socket->repeats_for <= request_timeout)
		return;
	socket->repeats_for = request_timeout;
	(void) setsockopt(socket->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout,
					  sizeof(timeout));
}

static int
on_close_socket(void *arg, curl_socket_t fd)
{
	HttpClient *client = arg;
	ClientSocket *socket = find_socket(client, fd);

	if (socket != NULL)
	{
		/* To be closed is not enough, if a child has it as well. */
		if (socket->watched != 0)
			(void) epoll_ctl(client->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		*socket = client->sockets[--client->n_sockets];
	}
	return close(fd);
}

/*
 * Note a socket that is new.  Returns NULL if there are too many.
 */
static ClientSocket *
add_socket(HttpClient *client, int fd, bool ours)
{
	ClientSocket *socket = find_socket(client, fd);

	/* One that is there was closed, and nobody has told. */
	if (socket == NULL)
	{
		if (client->n_sockets == client->max_sockets)
			return NULL;
		socket = &client->sockets[client->n_sockets++];
	}
	memset(socket, 0, sizeof(*socket));
	socket->fd = fd;
	socket->ours = ours;
	return socket;
}

/*
 * The socket of a client with a certain descriptor; NULL if there is none.
 */
static ClientSocket *
find_socket(HttpClient *client, int fd)
{
	for (int i = 0; i < client->n_sockets; i++)
	{
		if (client->sockets[i].fd == fd)
			return &client->sockets[i];
	}
	return NULL;
}

/*
 * The socket of a client that is bound to a local port; NULL if there is none.
 */
static ClientSocket *
find_socket_of_port(HttpClient *client, int local_port)
{
	if (local_port <= 0)
		return NULL;
	for (int i = 0; i < client->n_sockets; i++)
	{
		ClientSocket *socket = &client->sockets[i];

		if (socket->ours && socket->local_port == 0)
			socket->local_port = find_local_port(socket->fd);
		if (socket->local_port == local_port)
			return socket;
	}
	return NULL;
}

/*
 * A request is about to be written to a socket.
 *
 * Over HTTP/2 libcurl writes its headers and its body by a system call each,
 * and the kernel would send them one by one.  From the second request of this
 * turn on, have several go together.
 */
static void
gather(ClientSocket *socket)
{
	int			n;

	if (!socket->is_http2)
		return;
	n = socket->n_written++;
	if (n % GATHERED != 1)
		return;
	if (n > 1)
		set_cork(socket, 0);
	set_cork(socket, 1);
}

static void
set_cork(const ClientSocket *socket, int value)
{
	(void) setsockopt(socket->fd, IPPROTO_TCP, TCP_CORK, &value,
					  sizeof(value));
}

/*
 * The local port that a socket is bound to; 0 if it is to none.
 */
static int
find_local_port(int fd)
{
	union
	{
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	}			address;
	socklen_t	len = sizeof(address);

	if (getsockname(fd, &address.any, &len) != 0)
		return 0;
	if (address.any.sa_family == AF_INET)
		return ntohs(address.v4.sin_port);
	if (address.any.sa_family == AF_INET6)
		return ntohs(address.v6.sin6_port);
	return 0;
}

/*
 * libcurl wants to be called after a while, or no longer.
 */
static int
on_timer(CURLM *multi, long timeout_ms, void *arg)
{
	HttpClient *client = arg;

	(void) multi;
	client->timer_at = timeout_ms < 0 ? MONOTONIC_NEVER :
		monotonic_now() + timeout_ms * US_PER_MS;
	return 0;
}

/*
 * libcurl is about to look up a name, perhaps in a new thread.
 */
static int
before_look_up(void *resolver, void *reserved, void *arg)
{
	HttpClient *client = arg;
	sigset_t	all;

	(void) resolver;
	(void) reserved;
	if (!client->signals_blocked)
	{
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &client->saved_signals);
		client->signals_blocked = true;
	}
	return 0;
}

/*
 * The connection is ready, and the request is about to be written.
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
	if (transfer->sent && !MUTANT("repeated-by-libcurl"))
	{
		transfer->repeated = true;
		return CURL_PREREQFUNC_ABORT;
	}
	if (monotonic_now() > transfer->leave_by)
	{
		transfer->lapsed = true;
		return CURL_PREREQFUNC_ABORT;
	}
	transfer->sent = true;
	socket = find_socket_of_port(transfer->client, local_port);
	if (socket != NULL)
	{
		transfer->socket = socket->fd;
		bound_repeats(socket, transfer->request_timeout);
		gather(socket);
	}
	if (transfer->body_len > 0 && !transfer->in_left)
	{
		dlist_push_tail(&transfer->client->left, &transfer->left_node);
		transfer->in_left = true;
	}
	return CURL_PREREQFUNC_OK;
}

/*
 * A header of the answer: counted, and no more, unless it says what time it
 * is.
 *
 * A connection is kept for the next request only if an answer's headers, with
 * the empty line at their end, have come on it.  Over HTTP/2 a time-out ends
 * the stream alone, and a connection on which nothing comes any more would be
 * kept for ever; so would be, by libcurl 8.14, one that nghttp2 has given up.
 */
static size_t
on_header(char *data, size_t size, size_t nitems, void *arg)
{
	HttpTransfer *transfer = arg;
	size_t		len = size * nitems;

	if (len > 5 && pg_strncasecmp(data, "date:", 5) == 0)
	{
		size_t		date_len = Min(len - 5, sizeof(transfer->date) - 1);

		memcpy(transfer->date, data + 5, date_len);
		transfer->date[date_len] = '\0';
	}

	/* What is asked by GET is not asked again soon. */
	if (len == 2 && memcmp(data, "\r\n", 2) == 0 && transfer->body_len > 0)
		(void) curl_easy_setopt(transfer->easy, CURLOPT_FORBID_REUSE, 0L);
	transfer->header_len += len;
	if (transfer->header_len > HTTP_MAX_ANSWER)
	{
		transfer->too_long = true;
		return 0;
	}
	return len;
}

/*
 * A piece of the answer.
 */
static size_t
on_answer(char *data, size_t size, size_t nitems, void *arg)
{
	HttpTransfer *transfer = arg;
	size_t		len = size * nitems;

	if (len > HTTP_MAX_ANSWER - transfer->answer_len)
	{
		transfer->too_long = true;
		return 0;
	}
	memcpy(transfer->answer + transfer->answer_len, data, len);
	transfer->answer_len += len;
	return len;
}

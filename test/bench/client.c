/*-------------------------------------------------------------------------
 *
 * client.c
 *	  What libcurl can do: clients that sign and send, and nothing else
 *
 *	  client many URL CA_FILE PROTOCOL IN_FLIGHT COUNT
 *	  client gather URL CA_FILE PROTOCOL IN_FLIGHT COUNT
 *	  client one URL CA_FILE COUNT PAUSE_US
 *
 * "many" has IN_FLIGHT requests under way at a time, over one connection with
 * PROTOCOL 2, over as many as that with PROTOCOL 1.1.  So has "gather", which
 * has those on one connection leave together, as the worker does.  "one" sends
 * the next request after the answer to the last one, and a pause.  All keep
 * their easy handles.
 *
 * COUNT is counted from when there are connections: after WARM_UP requests of
 * "many" and "gather", and one of "one".
 *
 * Prints COUNT, seconds of time, seconds of CPU, and for "one" the median and
 * the 99th percentile of the requests' seconds.
 *
 *-------------------------------------------------------------------------
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

#include "api/tc3.h"

#define SECRET_ID	"AKIDEXAMPLE"
#define SECRET_KEY	"Gu5t9xGARNpq86cd98joQYCN3EXAMPLE"
#define ACTION		"CreateScreenshotTask"

#define WARM_UP		1000

typedef struct Transfer
{
	CURL	   *easy;
	struct curl_slist *headers;
	char		body[512];
	size_t		answer_len;
} Transfer;

static const char *url;
static const char *ca_file;
static char host[128];
static long protocol = CURL_HTTP_VERSION_2TLS;
static Tc3Signer *signer;

static int	epoll_fd;
static long timer_ms = -1;

static bool gathers;
static int	last_socket = -1;
static int	n_written;			/* requests, in this turn of libcurl's */

static void
fail(const char *what)
{
	fprintf(stderr, "client: %s\n", what);
	exit(1);
}

static double
seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static double began;			/* seconds: when counting began */
static double cpu_began;

static double
cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
		(double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void
begin_counting(void)
{
	began = seconds_now();
	cpu_began = cpu_seconds();
}

static void
set_cork(int value)
{
	if (last_socket >= 0)
		(void) setsockopt(last_socket, IPPROTO_TCP, TCP_CORK, &value,
						  sizeof(value));
}

/*
 * Have the requests of a turn leave together, up to 16 at a time.
 */
static int
before_writing(void *arg, char *remote_ip, char *local_ip, int remote_port,
			   int local_port)
{
	(void) arg;
	(void) remote_ip;
	(void) local_ip;
	(void) remote_port;
	(void) local_port;
	if (n_written > 0 && n_written % 16 == 0)
		set_cork(0);
	if (n_written++ % 16 == 0)
		set_cork(1);
	return CURL_PREREQFUNC_OK;
}

static size_t
on_answer(char *data, size_t size, size_t nitems, void *arg)
{
	Transfer   *transfer = arg;

	(void) data;
	transfer->answer_len += size * nitems;
	return size * nitems;
}

static Transfer *
make_transfer(void)
{
	Transfer   *transfer = calloc(1, sizeof(Transfer));
	CURL	   *easy = curl_easy_init();

	if (transfer == NULL || easy == NULL)
		fail("out of memory");
	transfer->easy = easy;
	curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, protocol);
	curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L);
	curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file);
	curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	/* With its own sizes malloc tidies up each time. */
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 4096L);
	curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, 16384L);
	if (gathers)
		curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, before_writing);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_answer);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	return transfer;
}

/*
 * Give a transfer its n-th request, signed just now.
 */
static void
prepare(Transfer *transfer, long n)
{
	Tc3Request	request = {
		.method = "POST",
		.query = "",
		.content_type = "application/json",
		.host = host,
		.action = ACTION,
		.service = "live",
		.body = transfer->body,
		.timestamp = time(NULL)
	};
	Tc3Signature signature;
	const char *problem;
	char		line[1024];

	request.body_len = (size_t)
		snprintf(transfer->body, sizeof(transfer->body),
				 "{\"AppName\":\"live\",\"DomainName\":\"5000.livepush.example.com\","
				 "\"StreamName\":\"stream%ld\",\"StartTime\":%lld,\"EndTime\":%lld,"
				 "\"TemplateId\":20001}",
				 n, (long long) request.timestamp + 60,
				 (long long) request.timestamp + 3600);
	problem = tc3_sign(signer, &request, SECRET_ID, SECRET_KEY, &signature);
	if (problem != NULL)
		fail(problem);

	curl_slist_free_all(transfer->headers);
	transfer->headers = curl_slist_append(NULL, "Expect:");
	transfer->headers = curl_slist_append(transfer->headers,
										  "Content-Type: application/json");
	transfer->headers = curl_slist_append(transfer->headers,
										  "X-TC-Action: " ACTION);
	transfer->headers = curl_slist_append(transfer->headers,
										  "X-TC-Version: 2018-08-01");
	transfer->headers = curl_slist_append(transfer->headers,
										  "X-TC-Region: ap-guangzhou");
	snprintf(line, sizeof(line), "X-TC-Timestamp: %lld",
			 (long long) request.timestamp);
	transfer->headers = curl_slist_append(transfer->headers, line);
	snprintf(line, sizeof(line), "Authorization: %s", signature.authorization);
	transfer->headers = curl_slist_append(transfer->headers, line);
	curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, transfer->headers);
	curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDSIZE,
					 (long) request.body_len);
	curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDS, transfer->body);
	transfer->answer_len = 0;
}

static void
check(const Transfer *transfer, CURLcode result)
{
	long		status = 0;

	if (result != CURLE_OK)
		fail(curl_easy_strerror(result));
	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200 || transfer->answer_len == 0)
		fail("not the answer that was expected");
}

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct epoll_event event = {.data.fd = fd};

	(void) easy;
	last_socket = fd;
	if (what == CURL_POLL_REMOVE)
		return epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL) * 0;
	event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) |
		(what & CURL_POLL_OUT ? EPOLLOUT : 0);
	if (epoll_ctl(epoll_fd, socket_arg == NULL ? EPOLL_CTL_ADD : EPOLL_CTL_MOD,
				  fd, &event) < 0)
		fail("epoll_ctl failed");
	curl_multi_assign(arg, fd, arg);
	return 0;
}

static int
on_timer(CURLM *multi, long timeout_ms, void *arg)
{
	(void) multi;
	(void) arg;
	timer_ms = timeout_ms;
	return 0;
}

static void
send_many(int in_flight, long count)
{
	CURLM	   *multi = curl_multi_init();
	long		n_started = 0;
	long		n_done = 0;
	int			running;

	count += WARM_UP;
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, multi);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) in_flight);
	curl_multi_setopt(multi, CURLMOPT_MAX_CONCURRENT_STREAMS, (long) in_flight);
	while (n_started < in_flight && n_started < count)
	{
		Transfer   *transfer = make_transfer();

		prepare(transfer, n_started++);
		curl_multi_add_handle(multi, transfer->easy);
	}
	while (n_done < count)
	{
		struct epoll_event events[64];
		CURLMsg    *message;
		int			remaining;
		int			n = epoll_wait(epoll_fd, events, 64, (int) timer_ms);

		for (int i = 0; i < n; i++)
			curl_multi_socket_action(multi, events[i].data.fd,
									 (events[i].events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0) |
									 (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
									 (events[i].events & EPOLLERR ? CURL_CSELECT_ERR : 0),
									 &running);
		if (n == 0 || timer_ms == 0)
		{
			/* libcurl sets it anew from within, if it wants one. */
			timer_ms = -1;
			curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
		}
		if (n_written > 0)
			set_cork(0);
		n_written = 0;
		while ((message = curl_multi_info_read(multi, &remaining)) != NULL)
		{
			CURL	   *easy = message->easy_handle;
			Transfer   *transfer;

			curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &transfer);
			check(transfer, message->data.result);
			curl_multi_remove_handle(multi, easy);
			if (++n_done == WARM_UP)
				begin_counting();
			if (n_started == count)
				continue;
			prepare(transfer, n_started++);
			curl_multi_add_handle(multi, easy);
		}
	}
}

static int
compare(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return (x > y) - (x < y);
}

static void
send_one_by_one(long count, long pause_us, double *median, double *p99)
{
	double	   *times = calloc((size_t) count, sizeof(double));
	Transfer   *transfer = make_transfer();

	prepare(transfer, 0);
	check(transfer, curl_easy_perform(transfer->easy));
	begin_counting();
	for (long i = 0; i < count; i++)
	{
		double		sent_at = seconds_now();

		prepare(transfer, i);
		check(transfer, curl_easy_perform(transfer->easy));
		times[i] = seconds_now() - sent_at;
		if (pause_us > 0)
			usleep((useconds_t) pause_us);
	}
	qsort(times, (size_t) count, sizeof(double), compare);
	*median = times[count / 2];
	*p99 = times[count * 99 / 100];
}

int
main(int argc, char **argv)
{
	bool		gather = argc == 7 && strcmp(argv[1], "gather") == 0;
	bool		many = gather || (argc == 7 && strcmp(argv[1], "many") == 0);
	bool		one = argc == 6 && strcmp(argv[1], "one") == 0;
	double		median = 0;
	double		p99 = 0;
	long		count;

	if (!many && !one)
		fail("usage: client many|gather URL CA_FILE PROTOCOL IN_FLIGHT COUNT | one URL CA_FILE COUNT PAUSE_US");
	gathers = gather;
	url = argv[2];
	ca_file = argv[3];
	if (sscanf(url, "https://%127[^/]", host) != 1)
		fail("not an https URL");
	if (many && strcmp(argv[4], "1.1") == 0)
		protocol = CURL_HTTP_VERSION_1_1;
	count = atol(argv[many ? 6 : 4]);
	signer = tc3_signer_new();
	if (count < 1 || signer == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
		fail("cannot begin");

	if (many)
		send_many(atoi(argv[5]), count);
	else
		send_one_by_one(count, atol(argv[5]), &median, &p99);
	printf("%ld %.6f %.6f %.6f %.6f\n", count, seconds_now() - began,
		   cpu_seconds() - cpu_began, median, p99);
	return 0;
}

/*-------------------------------------------------------------------------
 *
 * http.h
 *	  HTTP requests that wait on a latch: libcurl's multi interface on a
 *	  WaitEventSet
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_HTTP_H
#define SCREENSHOT_TASK_HTTP_H

#include "util/monotonic.h"

/* The longest body of an answer, and of all its headers, in bytes */
#define HTTP_MAX_ANSWER		(64 * 1024)

typedef struct HttpClient HttpClient;
typedef struct HttpTransfer HttpTransfer;

/* A POST to be made, or a GET.  http_start() copies all of it. */
typedef struct HttpRequest
{
	Oid			server;			/* only its requests share connections */
	const char *url;
	const char *host;			/* for messages */
	char *const *headers;		/* "Name: value" each; the last is NULL */
	const char *body;			/* of a POST; NULL: a GET */
	size_t		body_len;		/* in bytes */
	int			connect_timeout;	/* ms, until it is written: name look-up, TLS,
									 * and the wait for a connection included */
	int			request_timeout;	/* ms, for everything */
	const char *ca_file;		/* NULL: libcurl's own */
	const char *proxy;			/* its URL; NULL: none */
	bool		fresh;			/* on a new connection? */
	MonotonicUs deadline;		/* a request not written by then is not sent */
	void	   *owner;			/* the caller's, for http_owner() */
} HttpRequest;

/*
 * What became of it.  The strings belong to the transfer.
 *
 * Without "sent" nothing has left, whatever else is said: the request may be
 * made again.  It was then ended by deadline ("missed_deadline"), by connect_timeout
 * ("timed_out"), or because the connection failed.  "connections" is 0 if it
 * only waited for a connection that another request of its server was making.
 */
typedef struct HttpReply
{
	bool		sent;			/* may a byte of it have reached the peer? */
	bool		missed_deadline;	/* not sent: its deadline had passed */
	bool		delayed;		/* was the process busy elsewhere meanwhile? */
	bool		timed_out;		/* ended by connect_timeout or, if it was sent,
								 * by request_timeout */
	bool		complete;		/* is there an answer, in full? */
	MonotonicUs answered_at;	/* when it was here, at the latest */
	long		status;			/* HTTP status, when complete */
	const char *body;			/* NUL-terminated, and may hold other NULs */
	size_t		body_len;
	const char *error;			/* when not complete: what failed, and how */
	long		connections;	/* that were begun for it */
	int64		date;			/* the peer's clock, Unix seconds; 0: not said */
} HttpReply;

extern HttpClient *http_client_create(int max_transfers);
extern int	http_max_transfers(const HttpClient *client);
extern void http_start(HttpClient *client, const HttpRequest *request,
					   HttpTransfer **transfer);
extern void http_begin(HttpClient *client);
extern void http_wait(HttpClient *client, MonotonicUs until,
					  uint32 wait_event_info);
extern HttpTransfer *http_next_left(HttpClient *client);
extern HttpTransfer *http_next_done(HttpClient *client);
extern void *http_owner(const HttpTransfer *transfer);
extern bool http_sent(const HttpTransfer *transfer);
extern void http_reply(HttpTransfer *transfer, HttpReply *reply);
extern void http_release(HttpTransfer *transfer);

#endif							/* SCREENSHOT_TASK_HTTP_H */

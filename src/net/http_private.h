/*-------------------------------------------------------------------------
 *
 * http_private.h
 *	  What the files of the HTTP client know of each other
 *
 * http_client.c	a client, and the descriptors that it takes
 * http_pool.c		the connections of a server: a libcurl multi handle each
 * http_reply.c		how a transfer fares: has it left, has it ended, and how
 * http_run.c		transfers from their start to their end: waiting, time-outs
 * http_socket.c	sockets, and the epoll descriptor that watches them
 * http_transfer.c	a transfer's options and callbacks
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_HTTP_PRIVATE_H
#define SCREENSHOT_TASK_HTTP_PRIVATE_H

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>

#include <curl/curl.h>

#include "lib/ilist.h"
#include "storage/latch.h"

#include "net/http.h"

#if LIBCURL_VERSION_NUM < 0x075000
#error "libcurl 7.80 or later is needed, for CURLOPT_PREREQFUNCTION"
#endif

#define DATE_SIZE			40

typedef struct HttpPool HttpPool;

/* A socket that libcurl has opened */
typedef struct ClientSocket
{
	int			fd;				/* libcurl's to close */
	HttpPool   *pool;
	bool		ours;			/* of a connection, as on_new_socket() was told;
								 * else the resolver's */
	bool		connected;		/* was its TCP handshake seen to be done? */
	int			local_port;		/* 0: not looked up, or not bound */
	int			repeats_for;	/* ms, that the kernel repeats what it has sent */
	uint32		wanted;			/* events; 0: there is no transfer on it */
	uint32		watched;		/* those it is in the epoll set for; 0: it
								 * is not */
	bool		is_http2;		/* as an answer has told */
	int			n_written;		/* requests, in this turn of libcurl's, if so */
} ClientSocket;

/* The connections of a server, with one set of options */
struct HttpPool
{
	dlist_node	node;			/* in HttpClient.pools */
	HttpClient *client;
	CURLM	   *multi;
	char	   *key;			/* server and options, as make_key() has them */
	MonotonicUs made_at;		/* a pool that is too old is retired */
	MonotonicUs idle_since;		/* when its last transfer ended */
	bool		retired;		/* takes no further transfer */
	int			n_transfers;
	MonotonicUs timer_at;		/* when libcurl wants to be called */

	/* the call of libcurl that is under way, or was last */
	size_t		n_read;			/* bytes by TLS, and a constant for each record */
	int			n_progress;		/* calls of on_progress() */
	bool		flooded;		/* has one of these passed its bound? */

	MonotonicUs own_loss;		/* its part of HttpClient.lost */
	MonotonicUs told_loss;		/* what its transfers' libcurl knows of */
};

/* The client of a process.  In TopMemoryContext, as all that belongs to it. */
struct HttpClient
{
	int			epoll_fd;		/* of the sockets; a member of wait_set */
	WaitEventSet *wait_set;		/* the latch, epoll_fd, postmaster death */
	dlist_head	pools;			/* of HttpPool.node */
	ClientSocket *sockets;		/* that are open */
	int			n_sockets;
	int			max_sockets;
	struct epoll_event *events; /* of as many, when they are asked for */
	struct pollfd *polls;		/* for as many */
	int			max_transfers;
	int			n_transfers;	/* transfers that are under way */
	dlist_head	active;			/* of HttpTransfer.node: those */
	dlist_head	unused;			/* of HttpTransfer.node: to be used again */
	dlist_head	left;			/* written, not yet known to have left */
	dlist_head	done;			/* ended, not yet handed out */
	bool		signals_blocked;	/* for a look-up, until libcurl returns */
	sigset_t	saved_signals;
	MonotonicUs served_at;		/* when the sockets were last seen to */
	MonotonicUs lost;			/* time in which they were not, in all */
	char		date[DATE_SIZE];	/* the last Date header that was read */
	int64		date_seconds;	/* and what it says; 0: nothing */
};

/*
 * A request, from http_start() to http_release().  In TopMemoryContext, since
 * libcurl writes to it whenever it is called.
 */
struct HttpTransfer
{
	dlist_node	node;			/* in active, done or unused */
	dlist_node	left_node;		/* in left, if in_left */
	bool		in_left;
	bool		in_done;
	HttpClient *client;
	HttpPool   *pool;			/* NULL: not in flight */
	void	   *owner;			/* HttpRequest.owner */
	CURL	   *easy;
	struct curl_slist *headers;
	char	   *host;			/* for messages */
	char	   *proxy;			/* likewise; NULL: none */
	char	   *ca_file;		/* likewise; NULL: none */

	char	   *body;			/* a copy, which libcurl refers to */
	size_t		body_len;		/* in bytes */
	int			socket;			/* that it is written to; -1: not known */
	int			connect_timeout;	/* ms */
	int			request_timeout;	/* ms */
	MonotonicUs connect_by;		/* by pool_clock() */
	MonotonicUs end_by;			/* likewise */
	MonotonicUs lost_before;	/* HttpClient.lost, when it was started */
	MonotonicUs loss_at_start;	/* of time, that others have caused its pool */

	MonotonicUs deadline;		/* of its permit */
	bool		connected;		/* was there a connection, TLS aside? */
	bool		sent;			/* was libcurl let through to write? */
	bool		repeated;		/* did libcurl try to write once more? */
	bool		missed_deadline;	/* not written, for that reason */
	bool		timed_out;		/* by connect_by or end_by */

	CURLcode	result;			/* when done */
	size_t		header_len;		/* of the answer, so far, in bytes */
	char		date[DATE_SIZE];	/* its Date header, clipped */
	bool		too_long;		/* was the answer longer than it may be? */
	bool		flooded;		/* ended because its pool was */
	size_t		answer_len;		/* so far, in bytes */
	char		curl_error[CURL_ERROR_SIZE];	/* libcurl's own words */
	char		error[CURL_ERROR_SIZE + MAXPGPATH + 1024];
	char		answer[HTTP_MAX_ANSWER + 1];
};

/* http_pool.c */
extern HttpPool *pool_find(HttpClient *client, const HttpRequest *request);
extern HttpPool *pool_renew(HttpPool *pool);
extern MonotonicUs pool_clock(const HttpPool *pool, MonotonicUs at);
extern void pool_begin_call(HttpPool *pool);
extern void pool_act(HttpPool *pool, int fd, int what);
extern void pool_note_read(HttpPool *pool, size_t len);
extern void pool_note_progress(HttpPool *pool);
extern void pools_free_unused(HttpClient *client, const HttpPool *except);

/* http_socket.c */
extern int	on_socket(CURL *easy, curl_socket_t fd, int what, void *arg,
					  void *socket_arg);
extern int	on_new_socket(void *arg, curl_socket_t fd, curlsocktype purpose);
extern int	on_close_socket(void *arg, curl_socket_t fd);
extern bool watch_sockets(HttpClient *client);
extern void give_up_closed_sockets(HttpClient *client);
extern void shut_sockets(const HttpPool *pool);
extern int	count_connections(const HttpClient *client);
extern void forget_sockets(const HttpPool *pool);
extern ClientSocket *find_socket(HttpClient *client, int fd);
extern ClientSocket *note_writing(HttpTransfer *transfer, int local_port);
extern void uncork_sockets(HttpClient *client);

/* http_transfer.c */
extern HttpTransfer *transfer_make(HttpClient *client);
extern void transfer_set_options(HttpTransfer *transfer,
								 const HttpRequest *request);
extern void transfer_set_connect_timeout(HttpTransfer *transfer);
extern void transfer_free(HttpTransfer *transfer);

#endif							/* SCREENSHOT_TASK_HTTP_PRIVATE_H */

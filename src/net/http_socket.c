/*-------------------------------------------------------------------------
 *
 * http_socket.c
 *	  Sockets, and the epoll descriptor that watches them
 *
 * libcurl's sockets live in an epoll descriptor, which is one member of the
 * client's WaitEventSet: libcurl adds and drops sockets all the time, and a
 * WaitEventSet cannot drop any.  What libcurl wants of them is brought to the
 * descriptor before each wait, since most of it has changed back by then.  A
 * socket that carries no transfer is not in it, so that idle connections wake
 * nobody.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/http_private.h"

/* As many requests to one socket leave together */
#define CORKED			16

/* What the kernel may keep of what has arrived, in bytes: answers are short,
 * and what a peer sends without end is read up to here before its end is met. */
#define RECEIVE_BUFFER		(256 * 1024)

static void give_up(int fd);
static void bound_repeats(ClientSocket *socket, int request_timeout);
static void cork(ClientSocket *socket);
static void set_cork(const ClientSocket *socket, int value);
static ClientSocket *add_socket(HttpPool *pool, int fd, bool ours);
static ClientSocket *find_socket_of_port(HttpClient *client, int local_port);
static int	find_local_port(int fd);

/*
 * Have the epoll descriptor watch what libcurl wants to be watched.  Returns
 * whether it could be done.
 */
bool
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

		/*
		 * Most sockets: libcurl asks for writing, writes, and is back to
		 * reading within one turn.  Comparing first saves both system calls.
		 */
		if (socket->wanted == socket->watched)
			continue;
		if (epoll_ctl(client->epoll_fd,
					  socket->wanted == 0 ? EPOLL_CTL_DEL :
					  socket->watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD,
					  socket->fd, &event) == 0)
			socket->watched = socket->wanted;
		else
		{
			/*
			 * Closed behind our back, and with it gone from the set.  Adding
			 * it anew is right if the number is a new socket by now, and fails
			 * again if not.
			 */
			if (errno == ENOENT || errno == EBADF)
				socket->watched = 0;
			done = false;
		}
	}
	return done;
}

/*
 * See which idle connections the peer has closed.
 *
 * libcurl takes a connection for alive if there is something to read on it,
 * even if that is the peer's farewell (TLS close_notify).  A request written
 * there is lost, and then in doubt.  Without that farewell libcurl sees the
 * end.
 */
void
give_up_closed_sockets(HttpClient *client)
{
	nfds_t		n = 0;

	for (int i = 0; i < client->n_sockets; i++)
	{
		const ClientSocket *socket = &client->sockets[i];

		/*
		 * A socket that carries a transfer is in the epoll set, and libcurl
		 * itself meets its end.
		 */
		if (!socket->ours || socket->wanted != 0)
			continue;
		client->polls[n].fd = socket->fd;

		/*
		 * POLLERR and POLLHUP are reported without being asked for (poll(2)).
		 */
		client->polls[n++].events = POLLRDHUP;
	}

	/*
	 * One system call for all of them, and none where no connection is idle.
	 */
	if (n == 0 || poll(client->polls, n, 0) <= 0)
		return;
	for (nfds_t i = 0; i < n; i++)
	{
		/*
		 * The socket is shut, not closed: it is libcurl's to close, when it
		 * finds the connection dead.
		 */
		if (client->polls[i].revents != 0)
			give_up(client->polls[i].fd);
	}
}

/*
 * Shut a connection that the peer has closed, so that libcurl sees its end.
 */
static void
give_up(int fd)
{
	char		farewell[256];

	/*
	 * Emptied first.  libcurl checks a connection with a peek, and takes any
	 * byte that it finds for a sign of life.
	 */
	while (recv(fd, farewell, sizeof(farewell), MSG_DONTWAIT) > 0)
		;
	(void) shutdown(fd, SHUT_RDWR);
}

/*
 * How many connections there are, or are being made.
 */
int
count_connections(const HttpClient *client)
{
	int			n = 0;

	for (int i = 0; i < client->n_sockets; i++)
	{
		/* Others belong to resolvers, and use no connection. */
		if (client->sockets[i].ours)
			n++;
	}
	return n;
}

/*
 * Forget the sockets of a pool whose end libcurl has not told of.
 */
void
forget_sockets(const HttpPool *pool)
{
	HttpClient *client = pool->client;
	int			i = 0;

	while (i < client->n_sockets)
	{
		/* The order has no meaning, so that the last one fills the gap. */
		if (client->sockets[i].pool == pool)
			client->sockets[i] = client->sockets[--client->n_sockets];
		else
			i++;
	}
}

/*
 * Send the requests that cork() holds back.
 */
void
uncork_sockets(HttpClient *client)
{
	for (int i = 0; i < client->n_sockets; i++)
	{
		/* The first request of a turn is not corked, see cork(). */
		if (client->sockets[i].n_written > 1)
			set_cork(&client->sockets[i], 0);
		client->sockets[i].n_written = 0;
	}
}

/* ---------------------------------------------------------------- callbacks
 * libcurl is on the stack below here: no ereport, no palloc.
 */

/*
 * CURLMOPT_SOCKETFUNCTION: libcurl wants a socket watched, or no longer.
 *
 * On a socket that is connected, what a transfer waits for first is the peer's
 * part of TLS.  libcurl's own times do not tell in all of its versions whether
 * a connection that TLS failed on had been made.
 */
int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	HttpPool   *pool = arg;
	HttpClient *client = pool->client;
	ClientSocket *socket = find_socket(client, fd);
	HttpTransfer *transfer = NULL;
	struct sockaddr_storage peer;
	socklen_t	peer_len = sizeof(peer);

	(void) socket_arg;
	if (what == CURL_POLL_REMOVE)
	{
		/*
		 * It stays known while libcurl keeps the connection for later;
		 * on_close_socket() removes it.
		 */
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

	/*
	 * A descriptor that on_new_socket() has not announced, such as the pair by
	 * which a resolver's thread reports.
	 */
	if (socket == NULL)
		socket = add_socket(pool, fd, false);

	/*
	 * All transfers of the multi handle fail by this
	 * (CURLMOPT_SOCKETFUNCTION); add_socket() has room for what they can need.
	 */
	if (socket == NULL)
		return -1;
	socket->wanted = 0;

	/*
	 * RDHUP, so that a peer that closes after its answer is noticed without a
	 * read.
	 */
	if (what & CURL_POLL_IN)
		socket->wanted |= EPOLLIN | EPOLLRDHUP;
	if (what & CURL_POLL_OUT)
		socket->wanted |= EPOLLOUT;

	/* getpeername() fails with ENOTCONN until the TCP handshake is done. */
	if (socket->ours && !socket->connected)
		socket->connected =
			getpeername(fd, (struct sockaddr *) &peer, &peer_len) == 0;
	(void) curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &transfer);
	if (transfer != NULL && socket->connected)
		transfer->connected = true;
	return 0;
}

/*
 * CURLOPT_SOCKOPTFUNCTION: a socket is about to be connected.
 */
int
on_new_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	HttpTransfer *transfer = arg;
	const int	buffer = RECEIVE_BUFFER;
	ClientSocket *socket = add_socket(transfer->pool, fd, true);

	(void) purpose;
	if (socket == NULL)
		return CURL_SOCKOPT_ERROR;
	/*
	 * Otherwise a program that this process runs would inherit the socket, and
	 * keep it open and in the epoll set.
	 */
	(void) fcntl(fd, F_SETFD, FD_CLOEXEC);

	/*
	 * Set before the socket connects, which is when TCP negotiates how large a
	 * window can be.
	 */
	(void) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));

	/*
	 * A connection is made for this transfer first; each later request on it
	 * may shorten the time, see note_writing().
	 */
	bound_repeats(socket, transfer->request_timeout);
	return CURL_SOCKOPT_OK;
}

/*
 * Limit how long the kernel repeats what was written, which may be minutes,
 * even after the process is gone.  Beyond a request's time-out it must not:
 * the request may be taken for lost by then, and sent again.  On a connection
 * the request with the shortest time-out decides.
 */
static void
bound_repeats(ClientSocket *socket, int request_timeout)
{
	unsigned int timeout = (unsigned int) request_timeout;

	/*
	 * Never extended: an earlier request with the shorter time-out may still
	 * be unacknowledged.
	 */
	if (socket->repeats_for != 0 && socket->repeats_for <= request_timeout)
		return;
	socket->repeats_for = request_timeout;
	(void) setsockopt(socket->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout,
					  sizeof(timeout));
}

/*
 * CURLOPT_CLOSESOCKETFUNCTION: libcurl wants a socket closed.
 */
int
on_close_socket(void *arg, curl_socket_t fd)
{
	HttpClient *client = arg;
	ClientSocket *socket = find_socket(client, fd);

	if (socket != NULL)
	{
		/*
		 * Removed explicitly, as closing does not suffice if a child has
		 * inherited the descriptor.
		 */
		if (socket->watched != 0)
			(void) epoll_ctl(client->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		*socket = client->sockets[--client->n_sockets];
	}
	/* libcurl leaves closing to whoever sets CURLOPT_CLOSESOCKETFUNCTION. */
	return close(fd);
}

/*
 * Make an entry for a new socket.  Returns NULL if there are too many.
 */
static ClientSocket *
add_socket(HttpPool *pool, int fd, bool ours)
{
	HttpClient *client = pool->client;
	ClientSocket *socket = find_socket(client, fd);

	/*
	 * An entry of the same number is of a socket that was closed without a
	 * call of on_close_socket(), and is used again.
	 */
	if (socket == NULL)
	{
		/*
		 * The array was sized for all transfers at once.  It cannot grow here,
		 * where nothing may be allocated.
		 */
		if (client->n_sockets == client->max_sockets)
			return NULL;
		socket = &client->sockets[client->n_sockets++];
	}

	/*
	 * Also an entry that is used again: what was known of the old socket must
	 * not be believed of the new one.
	 */
	memset(socket, 0, sizeof(*socket));
	socket->fd = fd;
	socket->pool = pool;
	socket->ours = ours;
	return socket;
}

/*
 * The socket of a client with a certain descriptor; NULL if there is none.
 */
ClientSocket *
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

		/*
		 * Looked up late and once.  The port is known when the socket has
		 * connected, of which there is no callback.
		 */
		if (socket->ours && socket->local_port == 0)
			socket->local_port = find_local_port(socket->fd);
		if (socket->local_port == local_port)
			return socket;
	}
	return NULL;
}

/*
 * A request is about to be written to the connection of a local port.  Returns
 * its socket, NULL if that is not known.
 */
ClientSocket *
note_writing(HttpTransfer *transfer, int local_port)
{
	ClientSocket *socket = find_socket_of_port(transfer->client, local_port);

	if (socket != NULL)
	{
		bound_repeats(socket, transfer->request_timeout);
		cork(socket);
	}
	return socket;
}

/*
 * End all connections of a pool at once, in libcurl's eyes and the peer's.
 */
void
shut_sockets(const HttpPool *pool)
{
	const HttpClient *client = pool->client;

	for (int i = 0; i < client->n_sockets; i++)
	{
		/*
		 * shutdown(), because the descriptors stay libcurl's: it would go on
		 * using numbers that were closed here, and might be another file's by
		 * then.
		 */
		if (client->sockets[i].pool == pool && client->sockets[i].ours)
			(void) shutdown(client->sockets[i].fd, SHUT_RDWR);
	}
}

/*
 * A request is about to be written to a socket.
 *
 * Over HTTP/2 libcurl writes its headers and its body by a system call each,
 * and the kernel would send them one by one.  From the second request of this
 * turn on, have several go together.
 */
static void
cork(ClientSocket *socket)
{
	int			n;

	/*
	 * Over HTTP/1.1 there is one request at a time on a connection, written by
	 * one call.
	 */
	if (!socket->is_http2)
		return;
	n = socket->n_written++;

	/*
	 * n = 0 is the first request, which leaves at once: alone it gains nothing
	 * by waiting.  Of those after it, each CORKED share a cork.
	 */
	if (n % CORKED != 1)
		return;
	/* To remove a cork sends what it has held. */
	if (n > 1)
		set_cork(socket, 0);
	set_cork(socket, 1);
}

/*
 * Cork a socket (1), or let what was held leave (0).
 */
static void
set_cork(const ClientSocket *socket, int value)
{
	(void) setsockopt(socket->fd, IPPROTO_TCP, TCP_CORK, &value,
					  sizeof(value));
}

/*
 * The local port of a socket; 0 if it is not bound.
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

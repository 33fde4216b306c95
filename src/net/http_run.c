/*-------------------------------------------------------------------------
 *
 * http_run.c
 *	  HTTP requests that wait on a latch: libcurl's multi interface on a
 *	  WaitEventSet
 *
 * No other part of the program knows libcurl; http_private.h says which file
 * does what.  A client belongs to a process for its whole life.  It has one
 * WaitEventSet, of the latch, the postmaster's death and an epoll descriptor
 * with the sockets of all its pools of connections.
 *
 * The client keeps the time-outs: libcurl has none for a transfer that waits
 * for a connection of another.  They do not run while the process does not
 * serve its sockets, be it stopped, busy, or in a call that another server's
 * peer makes long; and a transfer is ended by one only after its socket was
 * looked at once more.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "compat.h"
#include "net/http_private.h"

/* How often to look whether a socket's queue has been sent */
#define UNSENT_CHECK		US_PER_MS

/* When to try again to watch a socket, for want of memory in the kernel */
#define WATCH_RETRY			(10 * US_PER_MS)

/* A time in which sockets were not served is lost from this length on. */
#define MIN_LOSS			(100 * US_PER_MS)

/* A wait is no longer while there are transfers, so that it is noticed if the
 * process was stopped meanwhile. */
#define MAX_WAIT			US_PER_SECOND

static CURLMcode enter_pool(HttpTransfer *transfer, HttpPool *pool,
							MonotonicUs waited);
static void leave_pool(HttpTransfer *transfer);
static MonotonicUs end_of_wait(HttpClient *client, MonotonicUs until,
							   MonotonicUs now);
static MonotonicUs deadline(const HttpTransfer *transfer);
static void note_gap(HttpClient *client, MonotonicUs now);
static void act_on_sockets(HttpClient *client, int n_events);
static void act_on_timers(HttpClient *client);
static void unblock_signals(HttpClient *client);
static void collect_done(HttpClient *client);
static void end_overdue(HttpClient *client, MonotonicUs looked_at);
static HttpTransfer *find_overdue(HttpClient *client,
								  MonotonicUs looked_at);
static void end_transfer(HttpTransfer *transfer, CURLcode result);
static void give_up_connections(HttpPool *pool);
static void note_version(const HttpTransfer *transfer);

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
	HttpPool   *pool;
	CURLMcode	result;

	if (client->n_transfers >= client->max_transfers)
		elog(ERROR, "too many transfers in flight");

	/*
	 * Assigned before the options are set, which may raise an error: the
	 * caller's cleanup releases a half-made transfer, too.
	 */
	*transfer = transfer_make(client);
	transfer_set_options(*transfer, request);
	pool = pool_find(client, request);
	if (pool == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not create a libcurl multi handle")));

	/*
	 * While there was no transfer nobody served the sockets, and nothing was
	 * lost by it.
	 */
	if (client->n_transfers == 0)
		client->served_at = monotonic_now();
	(*transfer)->lost_before = client->lost;
	result = enter_pool(*transfer, pool, 0);
	if (result != CURLM_OK)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not start a transfer: %s",
						curl_multi_strerror(result))));

	/*
	 * Counted only now: http_release() uncounts what is in a pool, and the
	 * transfer is in none if libcurl has refused it.
	 */
	client->n_transfers++;
	dlist_push_tail(&client->active, &(*transfer)->node);
}

/*
 * Have a pool perform a transfer, which has waited for "waited" microseconds
 * elsewhere.
 */
static CURLMcode
enter_pool(HttpTransfer *transfer, HttpPool *pool, MonotonicUs waited)
{
	MonotonicUs start = pool_clock(pool, monotonic_now()) - waited;
	CURLMcode	result;

	/*
	 * Before the transfer is added: on_socket() and on_new_socket() may be
	 * called from within, and look here.
	 */
	transfer->pool = pool;
	transfer->end_by = start + transfer->request_timeout * US_PER_MS;

	/*
	 * connect_timeout covers the wait for a connection that another transfer
	 * is making, which CURLOPT_CONNECTTIMEOUT_MS does not.
	 */
	transfer->connect_by = Min(transfer->end_by,
							   start + transfer->connect_timeout * US_PER_MS);
	transfer->loss_at_start = pool->client->lost - pool->own_loss;
	transfer_set_connect_timeout(transfer);

	/* It is only noted there: a look-up begins when libcurl's timer is due. */
	result = curl_multi_add_handle(pool->multi, transfer->easy);
	if (result == CURLM_OK)
		pool->n_transfers++;
	else
		transfer->pool = NULL;
	return result;
}

/*
 * Take a transfer from its pool, if it is in one.
 */
static void
leave_pool(HttpTransfer *transfer)
{
	HttpPool   *pool = transfer->pool;

	if (pool == NULL)
		return;

	/*
	 * Before anything of the transfer is freed or changed.  If its request is
	 * not answered yet, libcurl closes an HTTP/1.1 connection here, and resets
	 * the stream of an HTTP/2 one.
	 */
	curl_multi_remove_handle(pool->multi, transfer->easy);
	pool->n_transfers--;

	/*
	 * Read only while the pool has no transfer, so that the last one to leave
	 * decides.
	 */
	pool->idle_since = monotonic_now();
	transfer->pool = NULL;
}

/*
 * Write the requests that were started, as far as this is possible without
 * waiting.  Raises nothing.
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
	/* libcurl has time-outs of its own, which are moved by the time that was lost. */
	note_gap(client, monotonic_now());

	/*
	 * Before libcurl chooses a connection, since it would take one that the
	 * peer has just closed.
	 */
	give_up_closed_sockets(client);
	act_on_timers(client);
	uncork_sockets(client);

	/*
	 * Only after libcurl has returned: threads that it starts inherit the mask
	 * of this one.
	 */
	unblock_signals(client);
	collect_done(client);
}

/*
 * Wait until the latch is set, a socket is ready, libcurl's timer or a time-out
 * is due, or the given time has come, and let libcurl do what there is to do.
 * It may return earlier.
 *
 * Resets the latch if it was set.  The process exits if the postmaster dies.
 * Raises nothing: interrupts are the caller's to check.
 */
void
http_wait(HttpClient *client, MonotonicUs until, uint32 wait_event_info)
{
	WaitEvent	events[3];
	MonotonicUs now = monotonic_now();
	MonotonicUs looked_at;
	long		wait_ms;
	int			n_events = 0;
	int			n;

	/*
	 * Time spent outside of this function counts as lost before any time-out
	 * is computed from it.
	 */
	note_gap(client, now);
	until = end_of_wait(client, until, now);
	if (!watch_sockets(client))
		until = Min(until, now + WATCH_RETRY);
	wait_ms = monotonic_wait_ms(now, until);

	/*
	 * The only place where the process sleeps while requests are in flight.
	 * No transaction, snapshot or lock is held here.
	 */
	n = WaitEventSetWait(client->wait_set, wait_ms, events, lengthof(events),
						 wait_event_info);
	for (int i = 0; i < n; i++)
	{
		if (events[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
	}
	looked_at = monotonic_now();
	/* A wait that was too long is one that the process was stopped in. */
	if (wait_ms >= 0 && looked_at - now > wait_ms * US_PER_MS + MIN_LOSS)
		client->lost += looked_at - now - wait_ms * US_PER_MS;
	/* When the latch was set, PostgreSQL 15 has looked at no socket. */
	if (n > 0)
		n_events = epoll_wait(client->epoll_fd, client->events,
							  client->max_sockets, 0);

	/*
	 * Sockets first, so that an answer that is here is read before a timer of
	 * libcurl's could end its transfer.
	 */
	act_on_sockets(client, n_events);
	act_on_timers(client);
	uncork_sockets(client);
	unblock_signals(client);
	collect_done(client);

	/*
	 * Last, and by the time at which the sockets were looked at: an answer
	 * that came in time is taken, however late it is read.
	 */
	end_overdue(client, looked_at);
	client->served_at = monotonic_now();
}

/*
 * When to stop waiting, if nothing happens before.
 */
static MonotonicUs
end_of_wait(HttpClient *client, MonotonicUs until, MonotonicUs now)
{
	dlist_iter	iter;

	if (client->n_transfers > 0)
		until = Min(until, now + MAX_WAIT);
	/* No event tells that a queue has been sent. */
	if (!dlist_is_empty(&client->left))
		until = Min(until, now + UNSENT_CHECK);

	/*
	 * libcurl's own timer for each pool; it sets these from within its calls.
	 */
	dlist_foreach(iter, &client->pools)
		until = Min(until,
					dlist_container(HttpPool, node, iter.cur)->timer_at);
	dlist_foreach(iter, &client->active)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, node, iter.cur);

		/*
		 * A difference, because the pool's clock lags behind the monotonic one
		 * by the time that was lost.
		 */
		MonotonicUs left = deadline(transfer) - pool_clock(transfer->pool, now);

		until = Min(until, now + Max(left, 0));
	}
	return until;
}

/*
 * When to end a transfer, by its pool's clock.
 */
static MonotonicUs
deadline(const HttpTransfer *transfer)
{
	/*
	 * Once its request was written a transfer may not be cut short: the answer
	 * decides between created and in doubt.
	 */
	return transfer->sent ? transfer->end_by : transfer->connect_by;
}

/*
 * Count the time since the last wait as lost if it was long.  Between two waits
 * the process does other work, such as commits, and cannot read answers.
 */
static void
note_gap(HttpClient *client, MonotonicUs now)
{
	if (now - client->served_at <= MIN_LOSS)
		return;
	client->lost += now - client->served_at;
	client->served_at = now;
}

/*
 * Let libcurl act on the sockets that are ready.
 */
static void
act_on_sockets(HttpClient *client, int n_events)
{
	for (int i = 0; i < n_events; i++)
	{
		const struct epoll_event *event = &client->events[i];
		ClientSocket *socket = find_socket(client, event->data.fd);
		int			what = 0;

		/* One call may close the socket that another event is for. */
		if (socket == NULL)
			continue;

		/*
		 * EPOLLHUP counts as readable, so that libcurl reads the end of the
		 * stream.  EPOLLRDHUP needs no case: EPOLLIN comes with it.
		 */
		if (event->events & (EPOLLIN | EPOLLHUP))
			what |= CURL_CSELECT_IN;
		if (event->events & EPOLLOUT)
			what |= CURL_CSELECT_OUT;
		if (event->events & EPOLLERR)
			what |= CURL_CSELECT_ERR;
		pool_act(socket->pool, event->data.fd, what);
	}
}

/*
 * Let libcurl act on its timers that are due.
 */
static void
act_on_timers(HttpClient *client)
{
	MonotonicUs now = monotonic_now();
	dlist_iter	iter;

	dlist_foreach(iter, &client->pools)
	{
		HttpPool   *pool = dlist_container(HttpPool, node, iter.cur);

		/*
		 * "now" is not read anew: a peer that keeps libcurl's timer at 0 ms
		 * could hold this loop for ever.
		 */
		if (pool->timer_at <= now)
			pool_act(pool, CURL_SOCKET_TIMEOUT, 0);
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
	dlist_iter	iter;
	bool		any = false;

	dlist_foreach(iter, &client->pools)
	{
		HttpPool   *pool = dlist_container(HttpPool, node, iter.cur);
		CURLMsg    *message;
		int			remaining;
		/*
		 * A flooded pool's connections were shut, whatever its transfers say.
		 */
		bool		unanswered = pool->flooded;

		while ((message = curl_multi_info_read(pool->multi, &remaining)) != NULL)
		{
			HttpTransfer *transfer = NULL;
			CURLcode	result = message->data.result;

			/*
			 * The message lies in the easy handle, and is invalid once the
			 * handle is removed (curl_multi_info_read).
			 */
			curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE,
							  (char **) &transfer);
			/* From here on "message" is gone. */
			end_transfer(transfer, result);

			/*
			 * A request that was not sent says nothing about the connection
			 * that it did not use.
			 */
			unanswered |= transfer->sent && result != CURLE_OK;
			any = true;
		}
		if (unanswered)
			give_up_connections(pool);
	}
	/* Not in the loop: it frees pools, over which the loop iterates. */
	if (any)
		pools_free_unused(client, NULL);
}

/*
 * End the transfers whose time was over when the sockets were last looked at.
 */
static void
end_overdue(HttpClient *client, MonotonicUs looked_at)
{
	HttpTransfer *transfer;
	bool		any = false;

	/*
	 * Searched anew each time, since giving up connections moves other
	 * transfers, or ends them.
	 */
	while ((transfer = find_overdue(client, looked_at)) != NULL)
	{
		HttpPool   *pool = transfer->pool;

		transfer->timed_out = true;
		end_transfer(transfer, CURLE_OPERATION_TIMEDOUT);
		if (transfer->sent)
			give_up_connections(pool);
		any = true;
	}
	if (any)
		pools_free_unused(client, NULL);
}

/*
 * A transfer whose time was over at the given point in time, or NULL.
 */
static HttpTransfer *
find_overdue(HttpClient *client, MonotonicUs looked_at)
{
	dlist_iter	iter;

	dlist_foreach(iter, &client->active)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, node, iter.cur);

		if (deadline(transfer) <= pool_clock(transfer->pool, looked_at))
			return transfer;
	}
	return NULL;
}

/*
 * End a transfer that is under way, with libcurl's result or one of our own.
 * http_next_done() will give it.
 */
static void
end_transfer(HttpTransfer *transfer, CURLcode result)
{
	HttpClient *client = transfer->client;

	/*
	 * The better of two reasons: one that is overdue was so without the flood.
	 */
	if (transfer->pool != NULL && transfer->pool->flooded)
		transfer->flooded = !transfer->timed_out;
	leave_pool(transfer);
	client->n_transfers--;
	dlist_delete(&transfer->node);
	transfer->result = result;

	/*
	 * While libcurl still knows the protocol; the handle is cleaned up with
	 * the transfer.
	 */
	note_version(transfer);
	dlist_push_tail(&client->done, &transfer->node);
	transfer->in_done = true;
}

/*
 * A request was sent on a connection, and not answered.  Have nobody else use
 * it, not even those who wait for it already.  libcurl does not say which one
 * of a pool it is: all of them are given up.
 *
 * Those who make a connection of their own go on with it.
 */
static void
give_up_connections(HttpPool *pool)
{
	HttpClient *client = pool->client;
	HttpPool   *next = NULL;
	dlist_mutable_iter iter;

	pool->retired = true;
	dlist_foreach_modify(iter, &client->active)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, node, iter.cur);
		long		connections = 0;
		MonotonicUs waited;

		curl_easy_getinfo(transfer->easy, CURLINFO_NUM_CONNECTS, &connections);

		/*
		 * Those that were sent have to wait for their answers where they are,
		 * and those with a connection of their own lose nothing by staying.
		 */
		if (transfer->pool != pool || transfer->sent || connections > 0)
			continue;
		if (next == NULL)
			next = pool_renew(pool);
		/* It stays where it is, if there is no memory for another. */
		if (next == NULL)
			break;

		/*
		 * What has passed of its time-outs counts in the new pool: to be moved
		 * again and again must not make a request wait for ever.
		 */
		waited = pool_clock(pool, monotonic_now()) - transfer->end_by +
			transfer->request_timeout * US_PER_MS;
		leave_pool(transfer);
		if (enter_pool(transfer, next, waited) != CURLM_OK)
			end_transfer(transfer, CURLE_OUT_OF_MEMORY);
	}
}

/*
 * Note whether a transfer's connection is one of HTTP/2.
 */
static void
note_version(const HttpTransfer *transfer)
{
	ClientSocket *socket = find_socket(transfer->client, transfer->socket);
	long		version = CURL_HTTP_VERSION_NONE;

	/*
	 * The version of a connection does not change; a failed transfer may
	 * report one that was never negotiated.
	 */
	if (socket == NULL || socket->is_http2 || transfer->result != CURLE_OK)
		return;
	curl_easy_getinfo(transfer->easy, CURLINFO_HTTP_VERSION, &version);
	socket->is_http2 = version == CURL_HTTP_VERSION_2_0;
}

/*
 * Give a transfer back, and end it if it is under way.  NULL is allowed.
 *
 * A request that was sent is not recalled; see http_sent() before.
 */
void
http_release(HttpTransfer *transfer)
{
	HttpClient *client;
	HttpPool   *pool;

	if (transfer == NULL)
		return;
	client = transfer->client;
	pool = transfer->pool;

	if (transfer->in_left)
		dlist_delete(&transfer->left_node);

	/*
	 * A transfer that http_next_done() gave is in no list any more, and has no
	 * pool.
	 */
	if (transfer->in_done || pool != NULL)
		dlist_delete(&transfer->node);
	if (pool != NULL)
	{
		leave_pool(transfer);
		client->n_transfers--;

		/*
		 * What the peer will write on that connection is unknown; with
		 * HTTP/1.1 the next request would be given this one's answer.
		 */
		if (transfer->sent)
			give_up_connections(pool);
	}
	transfer_free(transfer);
	pools_free_unused(client, NULL);
}

/*-------------------------------------------------------------------------
 *
 * http_pool.c
 *	  The connections of a server: a libcurl multi handle each
 *
 * libcurl lets a transfer wait for the connection that another one is making,
 * and judges by host and port alone whether it may.  With a multi handle for
 * each server, and each set of its options, nobody waits for what another
 * server's proxy, time-outs or peer are like.
 *
 * A pool is also how connections are given up.  One that is retired takes no
 * further transfer, and is freed with all its connections when the last one
 * that it has is over.  It is retired
 *
 * - when a request was sent and got no answer: what became of the connection is
 *	 unknown, and over HTTP/2 libcurl would go on using it;
 * - after a while, however busy it is, since the endpoint's address may have
 *	 changed;
 * - when its CA file was replaced, which libcurl would not notice: the file's
 *	 identity is part of what a pool is found by.
 *
 * One call of libcurl reads for as long as there is something to read.  What
 * the callbacks count of it is bounded here: beyond that the pool's sockets are
 * shut, and libcurl meets their end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>

#include "storage/fd.h"
#include "utils/memutils.h"

#include "net/http_private.h"

/* How long connections are used at most, for those who are still to come */
#define MAX_POOL_AGE		(600 * US_PER_SECOND)

/* How long a pool is kept without a transfer; its connections are not used any
 * more by then. */
#define MAX_POOL_IDLE		(60 * US_PER_SECOND)

/* A multi handle has a pair by which it could be woken. */
#define POOL_DESCRIPTORS	2

/* What libcurl may read in one call, many of the longest answers: a tenth of a
 * second, if it is frames that cost most and bring nothing.  To take a record
 * apart costs as much as so many bytes. */
#define MAX_READ_IN_CALL	(4 * 1024 * 1024)
#define RECORD_COST			512

/* libcurl reports progress for each byte that a proxy says to CONNECT. */
#define MAX_PROGRESS_IN_CALL	50000

/* A call that takes longer is time in which others were not served. */
#define SLOW_CALL			(100 * US_PER_MS)

static char *make_key(const HttpRequest *request);
static HttpPool *find_usable(HttpClient *client, const char *key);
static HttpPool *make_pool(HttpClient *client, const char *key);
static void free_pool(HttpPool *pool);
static HttpPool *longest_idle(HttpClient *client, const HttpPool *except);
static int	on_timer(CURLM *multi, long timeout_ms, void *arg);

/*
 * The pool for a request, made if there is none, or if the request wants a fresh
 * connection.  Returns NULL if there is no memory for one.
 */
HttpPool *
pool_find(HttpClient *client, const HttpRequest *request)
{
	char	   *key = make_key(request);
	HttpPool   *pool = find_usable(client, key);

	if (pool != NULL && request->fresh)
		pool->retired = true;
	if (pool == NULL || pool->retired)
		pool = make_pool(client, key);
	pfree(key);

	/*
	 * After the new pool is known: its own idle connections must not be freed
	 * to make room for it.
	 */
	if (pool != NULL)
		pools_free_unused(client, pool);
	return pool;
}

/*
 * The key of the pool for a request: its server and all options that hold for
 * a connection. palloc'd.
 */
static char *
make_key(const HttpRequest *request)
{
	/*
	 * libcurl's default is resolved here, so that a pool is also renewed when
	 * the distribution's bundle is updated.
	 */
	const char *ca_file = request->ca_file ? request->ca_file :
		curl_version_info(CURLVERSION_NOW)->cainfo;
	struct stat file;

	/*
	 * A file that cannot be read is libcurl's to complain about, when it makes
	 * a connection.  Until then it has an identity of its own.
	 */
	if (ca_file == NULL || stat(ca_file, &file) != 0)
		memset(&file, 0, sizeof(file));

	/*
	 * Inode and ctime tell a file that was renamed into place from the old one
	 * even if size and mtime were preserved (cp -p, package managers).
	 */
	return psprintf("%u\n%s\n%s\n%s\n%llu %llu %lld %lld.%09ld %lld.%09ld",
					request->server, request->url,
					request->proxy ? request->proxy : "",
					ca_file ? ca_file : "",
					(unsigned long long) file.st_dev,
					(unsigned long long) file.st_ino,
					(long long) file.st_size,
					(long long) file.st_mtim.tv_sec, file.st_mtim.tv_nsec,
					(long long) file.st_ctim.tv_sec, file.st_ctim.tv_nsec);
}

static HttpPool *
find_usable(HttpClient *client, const char *key)
{
	MonotonicUs now = monotonic_now();
	dlist_iter	iter;

	dlist_foreach(iter, &client->pools)
	{
		HttpPool   *pool = dlist_container(HttpPool, node, iter.cur);

		if (pool->retired || strcmp(pool->key, key) != 0)
			continue;
		if (now - pool->made_at <= MAX_POOL_AGE)
			return pool;

		/*
		 * Too old, but not freed here: it may have transfers, and the caller
		 * of pools_free_unused() frees it when it has none.
		 */
		pool->retired = true;
	}
	return NULL;
}

static HttpPool *
make_pool(HttpClient *client, const char *key)
{
	size_t		key_size = strlen(key) + 1;
	HttpPool   *pool = MemoryContextAllocExtended(TopMemoryContext,
												  sizeof(HttpPool) + key_size,
												  MCXT_ALLOC_NO_OOM | MCXT_ALLOC_ZERO);
	/* Both are made before either is checked, so that one place cleans up. */
	CURLM	   *multi = curl_multi_init();

	if (pool == NULL || multi == NULL)
	{
		if (pool != NULL)
			pfree(pool);
		if (multi != NULL)
			curl_multi_cleanup(multi);
		return NULL;
	}

	/*
	 * Reserve, rather than acquire: the pair is open already, and few pools
	 * exist at a time, so that refusing one would only lose a request.
	 */
	for (int i = 0; i < POOL_DESCRIPTORS; i++)
		ReserveExternalFD();

	pool->client = client;
	pool->multi = multi;

	/*
	 * The key lives behind the struct: one allocation, and none that can fail
	 * later.
	 */
	pool->key = (char *) (pool + 1);
	memcpy(pool->key, key, key_size);
	pool->made_at = monotonic_now();
	pool->idle_since = pool->made_at;
	pool->timer_at = MONOTONIC_NEVER;
	/* Transfers that begin in this pool have not lost any time yet. */
	pool->told_loss = client->lost;
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, pool);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(multi, CURLMOPT_TIMERDATA, pool);

	/*
	 * The reserved descriptors allow no more.  MAXCONNECTS, of idle ones, is
	 * as large: by default it follows the number of transfers, so that a burst
	 * would find most connections closed.
	 */
	curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS,
					  (long) client->max_transfers);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS,
					  (long) client->max_transfers);
	dlist_push_tail(&client->pools, &pool->node);
	return pool;
}

/*
 * Retire a pool, and return that which takes its place.  Returns NULL if there
 * is no memory for one.
 */
HttpPool *
pool_renew(HttpPool *pool)
{
	HttpPool   *next;

	pool->retired = true;

	/*
	 * Another transfer of the same pool may have had it renewed already; a
	 * second successor would double the connections.
	 */
	next = find_usable(pool->client, pool->key);
	return next != NULL ? next : make_pool(pool->client, pool->key);
}

/*
 * Free the pools that have no transfer and will have none; and of the others
 * as many as there are too many connections.
 */
void
pools_free_unused(HttpClient *client, const HttpPool *except)
{
	MonotonicUs now = monotonic_now();
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &client->pools)
	{
		HttpPool   *pool = dlist_container(HttpPool, node, iter.cur);

		if (pool != except && pool->n_transfers == 0 &&
			(pool->retired || now - pool->idle_since > MAX_POOL_IDLE))
			free_pool(pool);
	}

	/*
	 * libcurl's limit on connections is for each multi handle.  That of all
	 * pools together is kept here, by closing the connections that were idle
	 * for longest.
	 */
	while (except != NULL && count_connections(client) >= client->max_transfers)
	{
		HttpPool   *pool = longest_idle(client, except);

		/*
		 * All others have transfers.  The limit is passed by a few connections
		 * then, which is less harm than a transfer that cannot start.
		 */
		if (pool == NULL)
			break;
		free_pool(pool);
	}
}

static HttpPool *
longest_idle(HttpClient *client, const HttpPool *except)
{
	HttpPool   *found = NULL;
	dlist_iter	iter;

	dlist_foreach(iter, &client->pools)
	{
		HttpPool   *pool = dlist_container(HttpPool, node, iter.cur);

		if (pool != except && pool->n_transfers == 0 &&
			(found == NULL || pool->idle_since < found->idle_since))
			found = pool;
	}
	return found;
}

static void
free_pool(HttpPool *pool)
{
	/*
	 * Closes the pool's connections, and calls on_close_socket() for most of
	 * them.  forget_sockets() comes second, for those that libcurl closes
	 * without telling.
	 */
	curl_multi_cleanup(pool->multi);
	forget_sockets(pool);
	for (int i = 0; i < POOL_DESCRIPTORS; i++)
		ReleaseExternalFD();
	dlist_delete(&pool->node);
	pfree(pool);
}

/*
 * A point in time by the clock of a pool's time-outs, which stands still while
 * the process does not serve its sockets.  What the pool's own calls take
 * counts.
 */
MonotonicUs
pool_clock(const HttpPool *pool, MonotonicUs at)
{
	return at - (pool->client->lost - pool->own_loss);
}

/*
 * Note that libcurl is about to be called for a pool, and tell it of lost time.
 *
 * It keeps connect_timeout as well, for each address of a host its part, and
 * by another clock.
 */
void
pool_begin_call(HttpPool *pool)
{
	MonotonicUs loss = pool->client->lost - pool->own_loss;
	dlist_iter	iter;

	/*
	 * The bounds on reading hold for one call of libcurl, and this is the only
	 * place where one begins.
	 */
	pool->n_read = 0;
	pool->n_progress = 0;
	/* The common case, where no time was lost, must not walk all transfers. */
	if (pool->told_loss == loss)
		return;
	pool->told_loss = loss;
	dlist_foreach(iter, &pool->client->active)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, node, iter.cur);

		if (transfer->pool == pool && !transfer->sent)
			transfer_set_connect_timeout(transfer);
	}
}

/*
 * Let libcurl act on a socket of a pool, or on its timer.
 */
void
pool_act(HttpPool *pool, int fd, int what)
{
	MonotonicUs began = monotonic_now();
	MonotonicUs took;
	int			running;

	pool_begin_call(pool);
	/* libcurl sets it anew from within, if it wants one. */
	if (fd == CURL_SOCKET_TIMEOUT)
		pool->timer_at = MONOTONIC_NEVER;
	curl_multi_socket_action(pool->multi, fd, what, &running);

	/*
	 * A peer that makes one call long steals time from all other pools, whose
	 * time-outs must not run meanwhile.  For this pool the time counts: it is
	 * its own peer's doing (own_loss).
	 */
	took = monotonic_now() - began;
	if (took > SLOW_CALL)
	{
		pool->client->lost += took;
		pool->client->served_at += took;
		pool->own_loss += took;
	}
}

/* ---------------------------------------------------------------- callbacks
 * libcurl is on the stack below here: no ereport, no palloc.
 */

/*
 * Count a TLS record that libcurl has read, and shut the pool's connections if
 * there are too many in one call.
 */
void
pool_note_read(HttpPool *pool, size_t len)
{
	pool->n_read += len + RECORD_COST;
	if (pool->n_read <= MAX_READ_IN_CALL || pool->flooded)
		return;

	/*
	 * It cannot be ended by this callback's return value, which OpenSSL
	 * ignores.  Shutting the sockets makes the next read end, and with it the
	 * loop in libcurl.
	 */
	pool->flooded = true;
	pool->retired = true;
	shut_sockets(pool);
}

/*
 * Count a call of on_progress(), to the same end.
 */
void
pool_note_progress(HttpPool *pool)
{
	if (++pool->n_progress <= MAX_PROGRESS_IN_CALL)
		return;
	pool->flooded = true;
	pool->retired = true;
}

/*
 * CURLMOPT_TIMERFUNCTION: libcurl wants to be called after a while, or no
 * longer.
 */
static int
on_timer(CURLM *multi, long timeout_ms, void *arg)
{
	HttpPool   *pool = arg;

	(void) multi;

	/*
	 * Must not call libcurl from here, even for 0 ms (CURLMOPT_TIMERFUNCTION):
	 * that would recurse.  act_on_timers() does it.
	 */
	pool->timer_at = timeout_ms < 0 ? MONOTONIC_NEVER :
		monotonic_now() + timeout_ms * US_PER_MS;
	return 0;
}

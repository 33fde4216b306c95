/*-------------------------------------------------------------------------
 *
 * http_reply.c
 *	  How a transfer fares: whether its request has left this machine,
 *	  whether it has ended, and how
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "net/http_private.h"

/* How far the kernel's own time of what it received may be off */
#define KERNEL_TICK			(4 * US_PER_MS)

static bool has_unsent(HttpTransfer *transfer);
static MonotonicUs find_answered_at(const HttpTransfer *transfer);
static int64 read_date(HttpTransfer *transfer);
static void describe_failure(HttpTransfer *transfer);
static const char *failed_phase(const HttpTransfer *transfer, bool at_proxy,
								const char *words);
static bool is_tls_failure(const HttpTransfer *transfer, const char *words);

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

	/*
	 * No order is assumed: streams of one connection may be delayed by flow
	 * control while later ones pass.
	 */
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

	/*
	 * It is over, so that it has left, or never will; either way the permit is
	 * not kept waiting.
	 */
	if (transfer->pool == NULL)
		return false;
	curl_easy_getinfo(transfer->easy, CURLINFO_SIZE_UPLOAD_T, &written);

	/*
	 * Over HTTP/2 the peer's flow control may hold back a part of the body in
	 * libcurl.
	 */
	if (written < (curl_off_t) transfer->body_len)
		return true;

	/*
	 * SIOCOUTQNSD counts what was never sent.  SIOCOUTQ would include what was
	 * sent and is not acknowledged yet, a round trip more.
	 */
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
 * Describe in *reply how a transfer that http_next_done() gave has ended.
 * Texts are the transfer's.
 */
void
http_reply(HttpTransfer *transfer, HttpReply *reply)
{
	memset(reply, 0, sizeof(*reply));
	reply->sent = transfer->sent;
	reply->missed_deadline = transfer->missed_deadline;
	reply->timed_out = transfer->timed_out;
	reply->delayed = transfer->client->lost > transfer->lost_before;
	reply->complete = transfer->result == CURLE_OK;
	curl_easy_getinfo(transfer->easy, CURLINFO_NUM_CONNECTS,
					  &reply->connections);
	if (reply->complete)
	{
		curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE,
						  &reply->status);
		/* The array has a byte more than an answer may have, for this. */
		transfer->answer[transfer->answer_len] = '\0';
		reply->body = transfer->answer;
		reply->body_len = transfer->answer_len;
		reply->date = read_date(transfer);
		reply->answered_at = find_answered_at(transfer);
	}
	else
	{
		describe_failure(transfer);
		reply->error = transfer->error;
	}
}

/*
 * When an answer arrived, which may be a while before this process has read
 * it.  The kernel knows the time to a tick.
 */
static MonotonicUs
find_answered_at(const HttpTransfer *transfer)
{
	struct tcp_info info;
	socklen_t	len = sizeof(info);
	MonotonicUs waited = 0;

	/*
	 * Rounded towards now: a permit that came back too early would let one
	 * request too many arrive.
	 */
	if (transfer->socket >= 0 &&
		getsockopt(transfer->socket, IPPROTO_TCP, TCP_INFO, &info, &len) == 0)
		waited = info.tcpi_last_data_recv * US_PER_MS - KERNEL_TICK;
	return monotonic_now() - Max(waited, 0);
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
		/* curl_getdate() returns -1 for what is no date. */
		client->date_seconds = Max((int64) curl_getdate(transfer->date, NULL),
								   0);
		strlcpy(client->date, transfer->date, sizeof(client->date));
	}
	return client->date_seconds;
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
	char		own_words[100];
	const char *trusted = NULL;
	long		connect_status = 0;
	bool		at_proxy = transfer->proxy != NULL && !transfer->sent;

	if (at_proxy)
	{
		curl_easy_getinfo(transfer->easy, CURLINFO_HTTP_CONNECTCODE,
						  &connect_status);

		/*
		 * With a successful CONNECT what failed next is the endpoint's doing,
		 * seen through the proxy.
		 */
		at_proxy = connect_status / 100 != 2;
	}

	/*
	 * Our own reasons come first: libcurl reports all of these as "aborted by
	 * callback" or a write error.
	 */
	if (transfer->missed_deadline)
		words = "the deadline of its permit had passed";
	else if (transfer->too_long)
		words = "it is longer than 64 kB";
	else if (transfer->flooded)
		words = "it sent too much data";
	else if (transfer->repeated)
		words = "no answer had arrived";
	else if (transfer->timed_out)
	{
		snprintf(own_words, sizeof(own_words), "timed out after %d ms",
				 transfer->sent ? transfer->request_timeout :
				 Min(transfer->connect_timeout, transfer->request_timeout));
		words = own_words;
	}
	else if (!transfer->sent && is_tls_failure(transfer, words) &&
			 transfer->result != CURLE_SSL_CONNECT_ERROR)
		trusted = transfer->ca_file;

	if (at_proxy && connect_status != 0)
		snprintf(transfer->error, sizeof(transfer->error),
				 "proxy \"%s\" refused to connect to \"%s\": HTTP status %ld",
				 transfer->proxy, transfer->host, connect_status);
	else
		snprintf(transfer->error, sizeof(transfer->error), "%s %s\"%s\": %s%s%s%s",
				 failed_phase(transfer, at_proxy, words),
				 at_proxy ? "proxy " : "",
				 at_proxy ? transfer->proxy : transfer->host, words,
				 trusted ? " (option \"ca_file\" is \"" : "",
				 trusted ? trusted : "", trusted ? "\")" : "");

	/*
	 * Certificates and proxies can put anything in here, and it goes to rows,
	 * the log, and other databases' views.
	 */
	for (char *c = transfer->error; *c != '\0'; c++)
	{
		if (*c < ' ' || *c > '~')
			*c = '?';
	}
}

/*
 * What could not be done, in words that go before the peer's name.
 */
static const char *
failed_phase(const HttpTransfer *transfer, bool at_proxy, const char *words)
{
	curl_off_t	looked_up = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_NAMELOOKUP_TIME_T, &looked_up);
	if (transfer->missed_deadline)
		return "took too long to connect to";
	if (transfer->too_long)
		return "gave up an answer from";
	if (transfer->flooded)
		return "gave up the connection to";
	if (transfer->repeated)
		return "lost the connection after the request was sent to";
	if (transfer->sent)
		return "got no complete answer from";
	if (is_tls_failure(transfer, words))
		return "could not negotiate TLS with";

	/*
	 * 0 until the host's name was resolved; a literal address counts as
	 * resolved.
	 */
	if (looked_up == 0)
		return "could not look up";
	if (!transfer->connected)
		return "could not connect to";
	if (at_proxy)
		return "got no answer from";
	return "could not negotiate TLS with";
}

/*
 * Did TLS fail, by libcurl's code or words?  Nothing else tells if a
 * connection was made and given up in one call.
 */
static bool
is_tls_failure(const HttpTransfer *transfer, const char *words)
{
	return transfer->result == CURLE_SSL_CONNECT_ERROR ||
		transfer->result == CURLE_PEER_FAILED_VERIFICATION ||
		transfer->result == CURLE_SSL_CACERT_BADFILE ||
		transfer->result == CURLE_SSL_ISSUER_ERROR ||
		strncmp(words, "SSL ", 4) == 0;
}

/*-------------------------------------------------------------------------
 *
 * http_client.c
 *	  The HTTP client of a process, and the descriptors that it takes
 *
 * PostgreSQL has a budget of descriptors for each process.  Those of a client
 * are reserved from it when it is made, since they must be there when a request
 * is sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#include "compat.h"
#include "net/http_private.h"

/* Descriptors of a client beside those of its pools and their connections:
 * epoll, the WaitEventSet, and the pair by which a resolver's thread reports */
#define OTHER_DESCRIPTORS	4

/* Sockets for each transfer: addresses are tried side by side, and a resolver
 * has some of its own. */
#define SOCKETS_PER_TRANSFER	8

static void initialize_libcurl(void);
static int	reserve_descriptors(int n);
static void release_descriptors(int n);
static void fill_client(HttpClient *client);
static void destroy_client(HttpClient *client);

/*
 * Make the client of this process.
 *
 * max_transfers is how many transfers may be under way, and so about how many
 * connections there may be.  Their descriptors are reserved from PostgreSQL's
 * budget here; if it does not have as many, http_max_transfers() is less.
 *
 * Raises an error when there are not enough for one, or no memory; nothing is
 * left reserved then.
 */
HttpClient *
http_client_create(int max_transfers)
{
	HttpClient *client;
	int			reserved;

	/*
	 * Before any descriptor is reserved: this raises errors, and would leave
	 * them reserved.
	 */
	initialize_libcurl();

	reserved = reserve_descriptors(max_transfers + OTHER_DESCRIPTORS);

	/*
	 * What is left of the budget may be less than was asked for.  A client
	 * with fewer transfers is slower, but one with none could never send.
	 */
	if (reserved <= OTHER_DESCRIPTORS)
	{
		release_descriptors(reserved);
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("not enough file descriptors for a connection"),
				 errhint("Raise \"max_files_per_process\".")));
	}

	/*
	 * NO_OOM, because an error raised here would leak the reservation, which
	 * belongs to no resource owner.
	 */
	client = MemoryContextAllocExtended(TopMemoryContext, sizeof(HttpClient),
										MCXT_ALLOC_NO_OOM | MCXT_ALLOC_ZERO);
	if (client == NULL)
	{
		release_descriptors(reserved);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	}
	client->max_transfers = reserved - OTHER_DESCRIPTORS;
	/* destroy_client() must be able to tell that there is none yet. */
	client->epoll_fd = -1;
	/* The WaitEventSet takes its descriptor from the budget by itself. */
	ReleaseExternalFD();
	PG_TRY();
	{
		fill_client(client);
	}
	PG_CATCH();
	{
		release_descriptors(client->max_transfers + OTHER_DESCRIPTORS - 1);
		destroy_client(client);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return client;
}

/*
 * Make what a client consists of.  Raises an error when half of it is made.
 */
static void
fill_client(HttpClient *client)
{
	/*
	 * All memory that callbacks will need is allocated now, since nothing may
	 * be palloc'd while libcurl is on the stack.
	 */
	client->max_sockets = SOCKETS_PER_TRANSFER * client->max_transfers;
	client->sockets = MemoryContextAlloc(TopMemoryContext,
										 client->max_sockets * sizeof(ClientSocket));
	client->events = MemoryContextAlloc(TopMemoryContext,
										client->max_sockets * sizeof(struct epoll_event));
	client->polls = MemoryContextAlloc(TopMemoryContext,
									   client->max_sockets * sizeof(struct pollfd));
	dlist_init(&client->pools);
	dlist_init(&client->active);
	dlist_init(&client->unused);
	dlist_init(&client->left);
	dlist_init(&client->done);

	/*
	 * Close-on-exec, as for all descriptors of a backend: COPY ... PROGRAM and
	 * archive commands must not inherit the connections.
	 */
	client->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (client->epoll_fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create an epoll descriptor: %m")));

	/*
	 * One set for the life of the process.  WaitLatchOrSocket() would build
	 * and free an epoll set for each wait.
	 */
	client->wait_set = create_process_wait_event_set(3);
	AddWaitEventToSet(client->wait_set, WL_LATCH_SET, PGINVALID_SOCKET,
					  MyLatch, NULL);
	AddWaitEventToSet(client->wait_set, WL_SOCKET_READABLE, client->epoll_fd,
					  NULL, NULL);
	/* In single-user mode there is none. */
	if (IsUnderPostmaster)
		AddWaitEventToSet(client->wait_set, WL_EXIT_ON_PM_DEATH,
						  PGINVALID_SOCKET, NULL, NULL);
}

/*
 * Undo what fill_client() has done so far, and free the client.  The caller
 * gives back the descriptors that it reserved; FreeWaitEventSet() gives back
 * that of the set.
 */
static void
destroy_client(HttpClient *client)
{
	if (client->wait_set != NULL)
		FreeWaitEventSet(client->wait_set);
	if (client->epoll_fd >= 0)
		(void) close(client->epoll_fd);
	if (client->sockets != NULL)
		pfree(client->sockets);
	if (client->events != NULL)
		pfree(client->events);
	if (client->polls != NULL)
		pfree(client->polls);
	pfree(client);
}

/*
 * Reserve so many descriptors, or as many as there are.  Returns how many.
 */
static int
reserve_descriptors(int n)
{
	int			reserved = 0;

	/*
	 * AcquireExternalFD() gives out no more than a third of the budget, so
	 * that PostgreSQL's own files keep the rest; ReserveExternalFD() would not
	 * check.
	 */
	while (reserved < n && AcquireExternalFD())
		reserved++;
	return reserved;
}

/*
 * Give back so many descriptors that reserve_descriptors() has reserved.
 */
static void
release_descriptors(int n)
{
	while (n-- > 0)
		ReleaseExternalFD();
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
 *
 * Raises an error if libcurl lacks a feature that is relied upon: which library
 * is found at run time is not known when this one is built.
 */
static void
initialize_libcurl(void)
{
	curl_version_info_data *info;

	/*
	 * It counts its calls, so that a library loaded into the same process that
	 * uses libcurl, too, does no harm.
	 */
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

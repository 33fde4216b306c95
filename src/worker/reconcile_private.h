/*-------------------------------------------------------------------------
 *
 * reconcile_private.h
 *	  What the files share that find out about requests in doubt
 *
 * lookup_order.c has whose turn it is, lookup.c asks the API, and resolution.c says
 * what follows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_RECONCILE_PRIVATE_H
#define SCREENSHOT_TASK_RECONCILE_PRIVATE_H

#include "table/request_queue.h"
#include "worker/channel.h"

typedef enum LookupState
{
	LOOKUP_TO_SEND,				/* for the first or the next page */
	LOOKUP_SENT,				/* is a job */
	LOOKUP_LISTED,				/* all pages are there */
	LOOKUP_FAILED,			/* was not answered: ask later */
	LOOKUP_REFUSED,			/* cannot be asked: a person's turn */
	LOOKUP_ABANDONED,			/* nothing to resolve_doubt */
} LookupState;

/* What is asked about one request */
typedef struct Lookup
{
	ChannelJob	job;			/* while LOOKUP_SENT */
	dlist_node	node;			/* in lookups */
	MemoryContext context;		/* has the lookup and all it points to */
	MemoryContext page_context; /* has what belongs to one page alone */
	TimestampTz asked_at;		/* when it began to ask */
	LookupState state;
	MonotonicUs permit_at;		/* the next permit, if there was none */
	DoubtfulRequest request;
	uint64		account;		/* that is asked; 0: none yet */
	const char *listed_stream_name; /* its names, as a list would have them */
	const char *listed_domain_name;
	const char *listed_app_name;
	int			request_timeout;	/* ms */
	char	   *scroll_token;	/* of the next page; NULL: the first */
	int			n_pages;
	List	   *found;			/* the tasks that match, of FoundTask */
	const char *message;		/* if in vain, or refused; of the page */
	bool		resolved;		/* in the transaction under way */
} Lookup;

/* lookup.c */
extern dlist_head lookups;		/* of Lookup.node: in the order of their turns */
extern int	n_lookups;

extern void lookup_start(const DoubtfulRequest *request, Channel *channel);
extern void lookup_ask(Lookup *lookup);
extern void lookup_end(Lookup *lookup);
extern bool is_asked_about(const DoubtfulRequest *request);
extern int	lookups_of_server(const Server *server);

/* resolution.c */
extern bool apply_policy(const DoubtfulRequest *request,
						 const LiveServer *options);
extern bool waits_for_another(const DoubtfulRequest *request, uint64 account,
							  List *alike);
extern void resolve_doubt(Lookup *lookup);
extern void resolutions_committed(void);
extern void resolutions_aborted(void);

#endif							/* SCREENSHOT_TASK_RECONCILE_PRIVATE_H */

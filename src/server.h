/*-------------------------------------------------------------------------
 *
 * server.h
 *	  Foreign servers of the wrapper tencent_cloud: where requests are sent,
 *	  and with which credentials
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_SERVER_H
#define SCREENSHOT_TASK_SERVER_H

#include "http.h"
#include "live_api.h"

#define FDW_NAME			"tencent_cloud"

/* What is done about a request whose fate is unknown */
typedef enum InDoubtPolicy
{
	IN_DOUBT_RECONCILE,			/* find out, and send again if need be */
	IN_DOUBT_HOLD,				/* leave it to a person */
	IN_DOUBT_RESEND				/* send it again */
} InDoubtPolicy;

/* A server with its options; palloc'd with all it points to */
typedef struct LiveServer
{
	Oid			oid;
	char	   *name;
	HttpEndpoint endpoint;
	char	   *region;			/* NULL: none */
	char	   *language;
	char	   *ca_file;		/* NULL: libcurl's */
	char	   *proxy;			/* NULL: none */
	int			requests_per_second;
	int			connect_timeout;	/* ms */
	int			request_timeout;	/* ms */
	int			max_in_flight;
	InDoubtPolicy in_doubt;
} LiveServer;

extern void check_live_server(const char *name, Oid role);
extern LiveServer *get_live_server(const char *name, Oid role);
extern Credentials *get_credentials(const LiveServer *server, Oid role);
extern void wipe_credentials(Credentials *credentials);

#endif							/* SCREENSHOT_TASK_SERVER_H */

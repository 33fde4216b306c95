/*-------------------------------------------------------------------------
 *
 * server.h
 *	  Foreign servers of the wrapper tencent_cloud, and the options of theirs
 *	  and of their user mappings
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_SERVER_H
#define SCREENSHOT_TASK_SERVER_H

#include "utils/array.h"

#include "api/sign.h"
#include "net/endpoint.h"
#include "net/http.h"

/* HINT where is_in_quotes() is the reason */
#define QUOTES_HINT			"Write the value without quotes."

/* What is done about a request whose fate is unknown */
typedef enum InDoubtPolicy
{
	IN_DOUBT_RECONCILE,			/* find out, and send again if need be */
	IN_DOUBT_HOLD,				/* leave it to a person */
	IN_DOUBT_RESEND				/* send it again */
} InDoubtPolicy;

/* Where the credentials are taken from */
typedef enum CredentialsSource
{
	FROM_USER_MAPPING,
	FROM_ENVIRONMENT,			/* of the server */
	FROM_FILE,
	FROM_ROLE					/* of this machine, by its metadata service */
} CredentialsSource;

/* A server with its options; palloc'd with all it points to */
typedef struct LiveServer
{
	Oid			oid;
	Oid			owner;
	char	   *name;
	HttpEndpoint endpoint;
	char	   *region;
	char	   *language;
	char	   *ca_file;		/* NULL: libcurl's */
	char	   *proxy;			/* NULL: none */
	int			requests_per_second;
	int			connect_timeout;	/* ms */
	int			request_timeout;	/* ms */
	int			permit_timeout; /* ms, that a call waits for; 0: without end */
	int			max_in_flight;
	InDoubtPolicy in_doubt;
	CredentialsSource credentials;
	HttpEndpoint metadata;		/* of the metadata service */
	bool		has_metadata;	/* is it by an option? */
} LiveServer;

extern void check_live_server(const char *name, Oid role);
extern LiveServer *get_live_server(const char *name, Oid role);
extern void server_http_request(const LiveServer *server,
								const LiveRequest *request, HttpRequest *http);
extern const char *credentials_source_name(CredentialsSource source);
extern void apply_user_mapping_options(Credentials *credentials,
									   ArrayType *array);
extern const char *set_credential(Credentials *credentials, const char *name,
								  const char *value);
extern bool is_in_quotes(const char *value);
extern void wipe_text(char *secret);

#endif							/* SCREENSHOT_TASK_SERVER_H */

/*-------------------------------------------------------------------------
 *
 * options.h
 *	  The options of servers and user mappings, and what they are read into
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_OPTIONS_H
#define SCREENSHOT_TASK_OPTIONS_H

#include "utils/array.h"

#include "api/keys.h"
#include "net/endpoint.h"

/* HINT where is_in_quotes() is the reason */
#define QUOTES_HINT			"Write the value without quotes."

/* libcurl reads all of a file before it connects, and nothing else goes on
 * meanwhile. */
#define MAX_CA_FILE			(16 * 1024 * 1024)
#define CA_FILE_ALLOWED		"It must be the absolute path of a regular file of certificates in PEM format, of at most 16 MB."

/* What is done about a request whose fate is unknown */
typedef enum InDoubtPolicy
{
	IN_DOUBT_RECONCILE,			/* find out, and send again if need be */
	IN_DOUBT_HOLD,				/* leave it to a person */
	IN_DOUBT_RESEND				/* send it again */
} InDoubtPolicy;

/* What is done about a template that does not exist */
typedef enum TemplateCheck
{
	CHECK_OFF,					/* nothing: it is not checked */
	CHECK_WARN,					/* send it, and say so */
	CHECK_REFUSE				/* refuse the request */
} TemplateCheck;

/* Where the credentials are taken from */
typedef enum CredentialsSource
{
	FROM_USER_MAPPING,
	FROM_ENVIRONMENT,			/* of the server */
	FROM_FILE,
	FROM_ROLE,					/* of this machine, by its metadata service */
	FROM_TKE					/* of this pod, by its cluster's token and STS */
} CredentialsSource;

/* The longest name of a role, in bytes */
#define MAX_ROLE_ARN		255

/* A server with its options; palloc'd with all it points to */
typedef struct LiveServer
{
	Oid			oid;			/* of pg_foreign_server */
	Oid			owner;			/* the role whose trust its options need */
	char	   *name;
	bool		enabled;		/* else nothing is sent to it */
	HttpEndpoint endpoint;		/* where requests go */
	HttpEndpoint fallback;		/* where else; see has_fallback */
	bool		has_fallback;
	char	   *account_url;	/* of the endpoint that is not the fallback: what
								 * accounts are told apart by */
	char	   *region;			/* X-TC-Region */
	char	   *language;		/* X-TC-Language */
	char	   *ca_file;		/* NULL: libcurl's */
	char	   *proxy;			/* NULL: none */
	int			requests_per_second;	/* for each account and action */
	int			connect_timeout;	/* ms */
	int			request_timeout;	/* ms */
	int			permit_timeout; /* ms, that a call waits for; 0: without end */
	int			max_in_flight;	/* requests of a worker at a time */
	InDoubtPolicy in_doubt;
	TemplateCheck check_template;
	CredentialsSource credentials;
	HttpEndpoint metadata;		/* of the metadata service */
	bool		has_metadata;	/* is it by an option? */
	char	   *role_arn;		/* to be assumed with these credentials; NULL:
								 * none */
	char	   *role_session_name;
	int			role_duration;	/* ms, that the credentials of the role live */
	HttpEndpoint sts;			/* of the Security Token Service */
} LiveServer;

extern void set_server_defaults(LiveServer *server);
extern void apply_options(void *object, Oid catalog, ArrayType *array);
extern void apply_option(void *object, Oid catalog, const char *name,
						 const char *value);
extern const char *credentials_source_name(CredentialsSource source);
extern const char *set_credential(Credentials *credentials, const char *name,
								  const char *value);
extern bool is_in_quotes(const char *value);

/* for the table of options alone */
extern const char *set_enabled(void *object, const char *value);
extern const char *set_endpoint(void *object, const char *value);
extern const char *set_fallback_endpoint(void *object, const char *value);
extern const char *set_region(void *object, const char *value);
extern const char *set_language(void *object, const char *value);
extern const char *set_requests_per_second(void *object, const char *value);
extern const char *set_connect_timeout(void *object, const char *value);
extern const char *set_request_timeout(void *object, const char *value);
extern const char *set_permit_timeout(void *object, const char *value);
extern const char *set_ca_file(void *object, const char *value);
extern const char *set_proxy(void *object, const char *value);
extern const char *set_max_in_flight(void *object, const char *value);
extern const char *set_in_doubt(void *object, const char *value);
extern const char *set_check_template(void *object, const char *value);
extern const char *set_credentials(void *object, const char *value);
extern const char *set_metadata_endpoint(void *object, const char *value);
extern const char *set_role_arn(void *object, const char *value);
extern const char *set_role_session_name(void *object, const char *value);
extern const char *set_role_duration(void *object, const char *value);
extern const char *set_sts_endpoint(void *object, const char *value);
extern const char *set_secret_id(void *object, const char *value);
extern const char *set_secret_key(void *object, const char *value);
extern const char *set_token(void *object, const char *value);

#endif							/* SCREENSHOT_TASK_OPTIONS_H */

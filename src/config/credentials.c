/*-------------------------------------------------------------------------
 *
 * credentials.c
 *	  With which credentials a role sends to a server
 *
 * They are those of the role's user mapping; or, if the server's option
 * "credentials" says so, this machine's own: from the environment that the
 * server was started in, from a file, or of the machine's role.  These are lent
 * to whoever has USAGE on the server, which a superuser must own for that: see
 * trust.c.
 *
 * What is read is one set, read anew at each use: id, key and token of two
 * sets make none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_user_mapping.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "config/credentials.h"
#include "util/legible.h"

#define ID_VARIABLE		"TENCENTCLOUD_SECRET_ID"
#define KEY_VARIABLE	"TENCENTCLOUD_SECRET_KEY"
#define FILE_VARIABLE	"TENCENTCLOUD_CREDENTIALS_FILE"

#define HOME_FILE		".tencentcloud/credentials"
#define SYSTEM_FILE		"/etc/tencentcloud/credentials"
#define FILE_SECTION	"default"

/* Which section of a credentials file a line is in */
typedef enum Section
{
	NO_SECTION,					/* none has begun */
	OUR_SECTION,
	OTHER_SECTION				/* of which nothing is read */
} Section;

/* The names that the vendor's SDK for Node.js, its command-line client, and
 * Terraform have for the token.  The first that is set is taken. */
static const char *const token_variables[] = {
	"TENCENTCLOUD_SESSION_TOKEN",
	"TENCENTCLOUD_TOKEN",
	"TENCENTCLOUD_SECURITY_TOKEN"
};

/* The longest credentials file, in bytes */
#define MAX_FILE		(64 * 1024)

/* How often to read a file that is changed meanwhile */
#define MAX_READS		5

static uint64 digest_account(const LiveServer *server,
							 const Credentials *credentials);
static void read_user_mapping(const LiveServer *server, Oid role,
							  Credentials *credentials);
static bool take_user_mapping(Relation catalog, Oid server, Oid role,
							  Credentials *credentials);
static void take_options(Datum datum, Credentials *credentials);
static void read_environment(Credentials *credentials);
static bool take_variable(Credentials *credentials, const char *name,
						  const char *variable);
pg_noreturn static void raise_unset(const char *variable);
static void read_file(Credentials *credentials);
static char *find_file(void);
static bool file_exists(const char *path);
static char *read_whole_file(const char *path, size_t *len);
static void check_file(const char *path, const struct stat *status);
static bool is_same_file(const struct stat *one, const struct stat *other);
static void parse_file(const char *path, char *text, size_t len,
					   Credentials *credentials);
static const char *parse_line(char *line, Section *section,
							  Credentials *credentials, bool *in_quotes);
static char *trim(char *text);
static void fetch_role(const RoleWish *wish);
pg_noreturn static void raise_role_failure(const char *problem);

/*
 * The credentials with which a role sends to a server, for a session.
 *
 * Of the machine's role, only a set that was fetched after newer_than, or any
 * if that is 0; it may have to be fetched first, for ROLE_FETCH_TIMEOUT, in
 * which interrupts are served.
 *
 * palloc'd; wipe_credentials() after use.  Raises an error if there are none.
 */
Credentials *
credentials_get(const LiveServer *server, Oid role, MonotonicUs newer_than)
{
	RoleWish	wish;

	role_wish(&wish, server);
	wish.newer_than = newer_than;

	for (;;)
	{
		RoleState	state;
		Credentials *credentials = credentials_find(server, role, &wish, &state);

		if (state == ROLE_KNOWN)
			return credentials;
		wipe_credentials(credentials);
		fetch_role(&wish);
	}
}

/*
 * The credentials with which a role sends to a server, if they can be had
 * without waiting.
 *
 * *state is ROLE_KNOWN, but of the machine's role it may be another: ROLE_DUE;
 * or ROLE_UNKNOWN or ROLE_AWAITED, and NULL is returned.  wish is what
 * role_wish() made; palloc'd, and errors, as above.
 */
Credentials *
credentials_find(const LiveServer *server, Oid role, const RoleWish *wish,
				 RoleState *state)
{
	Credentials *credentials = palloc0(sizeof(Credentials));
	char	   *problem;

	*state = ROLE_KNOWN;
	PG_TRY();
	{
		switch (server->credentials)
		{
			case FROM_USER_MAPPING:
				read_user_mapping(server, role, credentials);
				break;
			case FROM_ENVIRONMENT:
				read_environment(credentials);
				break;
			case FROM_FILE:
				read_file(credentials);
				break;
			case FROM_ROLE:
				*state = role_look(wish, credentials, &problem);
				if (*state == ROLE_FAILED)
					raise_role_failure(problem);
				break;
		}
		if (*state == ROLE_KNOWN || *state == ROLE_DUE)
			credentials->account = digest_account(server, credentials);
	}
	PG_CATCH();
	{
		wipe_credentials(credentials);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (*state == ROLE_KNOWN || *state == ROLE_DUE)
		return credentials;
	pfree(credentials);
	return NULL;
}

/*
 * By what an account is known, in shared memory as well: a digest of the
 * endpoint and of what is signed with, which only who has the secret key can
 * make, and from which nobody recovers it.  So somebody who knows another's
 * secret id, or whose server answers as it likes, affects nobody else.
 *
 * Credentials that are renewed have a name of their own in place of the keys.
 * Never 0.
 */
static uint64
digest_account(const LiveServer *server, const Credentials *credentials)
{
	const char *name = credentials->source_name;
	const char *key = name != NULL ? "" : credentials->secret_key;
	char	   *text = psprintf("%s %s %s", server->endpoint.url,
								name != NULL ? "of" : "id",
								name != NULL ? name : credentials->secret_id);
	unsigned char digest[EVP_MAX_MD_SIZE];
	uint64		account;

	if (HMAC(EVP_sha256(), key, (int) strlen(key), (unsigned char *) text,
			 strlen(text), digest, NULL) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("OpenSSL offers no HMAC with SHA-256")));
	wipe_text(text);
	memcpy(&account, digest, sizeof(account));
	return account != 0 ? account : 1;
}

/*
 * Wipe credentials from memory, and free them.  NULL is allowed.
 */
void
wipe_credentials(Credentials *credentials)
{
	if (credentials == NULL)
		return;
	wipe_text(credentials->secret_id);
	wipe_text(credentials->secret_key);
	wipe_text(credentials->token);
	pfree(credentials);
}

/* ------------------------------------------------------------- user mapping
 */

/*
 * Not from the system cache, which would keep what it has read.
 */
static void
read_user_mapping(const LiveServer *server, Oid role, Credentials *credentials)
{
	Relation	catalog = table_open(UserMappingRelationId, AccessShareLock);
	const char *missing = NULL;
	bool		found;

	found = take_user_mapping(catalog, server->oid, role, credentials) ||
		take_user_mapping(catalog, server->oid, InvalidOid, credentials);
	table_close(catalog, AccessShareLock);
	if (!found)
	{
		const char *role_name = quote_identifier(GetUserNameFromId(role, false));
		const char *server_name = quote_identifier(server->name);

		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("role %s has no user mapping for server \"%s\"",
						role_name, server->name),
				 errhint("Create one with CREATE USER MAPPING FOR %s SERVER %s OPTIONS (secret_id '...', secret_key '...').",
						 role_name, server_name)));
	}
	if (credentials->secret_id == NULL)
		missing = "secret_id";
	else if (credentials->secret_key == NULL)
		missing = "secret_key";
	if (missing != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("the user mapping of role %s for server \"%s\" has no %s",
						quote_identifier(GetUserNameFromId(role, false)),
						server->name, missing),
				 errhint("Add it with ALTER USER MAPPING ... OPTIONS (ADD %s '...').",
						 missing)));
}

/*
 * Take over the options of a role's user mapping for a server.  Returns false
 * if it has none.
 */
static bool
take_user_mapping(Relation catalog, Oid server, Oid role,
				  Credentials *credentials)
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found;

	ScanKeyInit(&keys[0], Anum_pg_user_mapping_umuser, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(role));
	ScanKeyInit(&keys[1], Anum_pg_user_mapping_umserver, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(server));
	scan = systable_beginscan(catalog, UserMappingUserServerIndexId, true, NULL,
							  lengthof(keys), keys);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
	{
		bool		isnull;
		Datum		datum = heap_getattr(tuple, Anum_pg_user_mapping_umoptions,
										 RelationGetDescr(catalog), &isnull);

		if (!isnull)
			take_options(datum, credentials);
	}
	systable_endscan(scan);
	return found;
}

static void
take_options(Datum datum, Credentials *credentials)
{
	/* of a small array in a page this is a copy that is aligned */
	ArrayType  *array = DatumGetArrayTypePCopy(datum);

	PG_TRY();
	{
		apply_options(credentials, UserMappingRelationId, array);
	}
	PG_FINALLY();
	{
		explicit_bzero(array, VARSIZE(array));
	}
	PG_END_TRY();
	pfree(array);
}

/* -------------------------------------------------------------- environment
 */

static void
read_environment(Credentials *credentials)
{
	if (!take_variable(credentials, "secret_id", ID_VARIABLE))
		raise_unset(ID_VARIABLE);
	if (!take_variable(credentials, "secret_key", KEY_VARIABLE))
		raise_unset(KEY_VARIABLE);
	for (int i = 0; i < (int) lengthof(token_variables); i++)
	{
		if (take_variable(credentials, "token", token_variables[i]))
			break;
	}
}

/*
 * Take a part of credentials from a variable, unless that is not set, or
 * empty.  Returns whether it did.  Raises an error if the value is not valid.
 */
static bool
take_variable(Credentials *credentials, const char *name, const char *variable)
{
	const char *value = getenv(variable);
	const char *allowed;

	if (value == NULL || value[0] == '\0')
		return false;
	allowed = set_credential(credentials, name, value);
	if (allowed != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("the environment variable %s has no valid value",
						variable),
				 errdetail_internal("%s", allowed),
				 is_in_quotes(value) ? errhint(QUOTES_HINT) : 0));
	return true;
}

static void
raise_unset(const char *variable)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			 errmsg("the environment variable %s is not set", variable),
			 errdetail("The credentials are taken from the environment that the PostgreSQL server was started in."),
			 errhint("Set it there, and restart the PostgreSQL server.")));
}

/* --------------------------------------------------------------------- file
 */

static void
read_file(Credentials *credentials)
{
	char	   *path = find_file();
	size_t		len;
	char	   *text = read_whole_file(path, &len);

	PG_TRY();
	{
		parse_file(path, text, len, credentials);
	}
	PG_FINALLY();
	{
		explicit_bzero(text, len);
		pfree(text);
	}
	PG_END_TRY();

	/*
	 * A token is of credentials that end, and are replaced by others of the
	 * same account.
	 */
	if (credentials->token != NULL)
		credentials->source_name = psprintf("file %s", path);
}

/*
 * The path of the credentials file, palloc'd.
 */
static char *
find_file(void)
{
	const char *named = getenv(FILE_VARIABLE);
	char		home[MAXPGPATH];
	char		path[MAXPGPATH + sizeof(HOME_FILE)] = "";

	if (named != NULL && named[0] != '\0')
	{
		if (!is_absolute_path(named))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
					 /* what is no path may be a key */
					 errmsg("the environment variable %s is not an absolute path",
							FILE_VARIABLE),
					 errhint("Set it in the environment that the server is started in, and restart.")));
		return pstrdup(named);
	}

	if (get_home_path(home))
		snprintf(path, sizeof(path), "%s/%s", home, HOME_FILE);
	if (path[0] != '\0' && file_exists(path))
		return pstrdup(path);
	if (file_exists(SYSTEM_FILE))
		return pstrdup(SYSTEM_FILE);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			 errmsg("there is no credentials file"),
			 path[0] != '\0' ?
			 errdetail("Neither \"%s\" nor \"%s\" exists.", path, SYSTEM_FILE) :
			 errdetail("\"%s\" does not exist.", SYSTEM_FILE),
			 errhint("Make one of them, or start the PostgreSQL server with the environment variable %s.",
					 FILE_VARIABLE)));
}

/*
 * Is there a file, be it one that cannot be read?
 */
static bool
file_exists(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

/*
 * Read a file that only its owner can read, as it is at one moment.
 *
 * Returns its text, palloc'd, for the caller to wipe.
 */
static char *
read_whole_file(const char *path, size_t *len)
{
	char	   *text = palloc(MAX_FILE + 1);
	struct stat before;
	struct stat after;
	ssize_t		n_read = 0;
	int			n_reads = 0;
	int			fd;

	/* Opening a pipe must not wait for its other end. */
	fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &before) != 0)
	{
		bool		denied = errno == EACCES;

		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("could not open credentials file \"%s\": %m", path),
				 denied ?
				 errhint("The user that the PostgreSQL server runs as must be able to read it.") : 0));
	}
	check_file(path, &before);
	for (;;)
	{
		n_read = pg_pread(fd, text, MAX_FILE + 1, 0);
		if (n_read < 0 || fstat(fd, &after) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
					 errmsg("could not read credentials file \"%s\": %m",
							path)));
		if (is_same_file(&before, &after) && n_read == after.st_size)
			break;
		explicit_bzero(text, MAX_FILE + 1);
		if (++n_reads == MAX_READS || n_read > MAX_FILE)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
					 errmsg("credentials file \"%s\" changes while it is read",
							path),
					 errhint("Replace it by renaming another file instead of writing to it.")));
		before = after;
		check_file(path, &before);
	}
	CloseTransientFile(fd);
	text[n_read] = '\0';
	*len = n_read;
	return text;
}

/*
 * Check that a file is one that nobody else can read or write.  The rules are
 * those for the server's own private key (ssl_key_file).
 */
static void
check_file(const char *path, const struct stat *status)
{
	if (!S_ISREG(status->st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("credentials file \"%s\" is not a regular file", path)));
	if (status->st_uid != geteuid() && status->st_uid != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("credentials file \"%s\" must be owned by the database user or root",
						path),
				 errhint("Change its owner with chown.")));
	if ((status->st_uid == geteuid() &&
		 (status->st_mode & (S_IRWXG | S_IRWXO)) != 0) ||
		(status->st_uid == 0 &&
		 (status->st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("credentials file \"%s\" can be read or written by others than its owner",
						path),
				 errdetail("It must have permissions u=rw (0600) or less if it is owned by the database user, or permissions u=rw,g=r (0640) or less if it is owned by root."),
				 errhint("Use chmod 0600, and replace the keys if others may have read them.")));
	if (status->st_size > MAX_FILE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("credentials file \"%s\" is too large", path),
				 errdetail("It must not be larger than %d kB.",
						   MAX_FILE / 1024)));
}

/*
 * Is a file unchanged?
 */
static bool
is_same_file(const struct stat *one, const struct stat *other)
{
	return one->st_size == other->st_size &&
		one->st_mtim.tv_sec == other->st_mtim.tv_sec &&
		one->st_mtim.tv_nsec == other->st_mtim.tv_nsec &&
		one->st_ctim.tv_sec == other->st_ctim.tv_sec &&
		one->st_ctim.tv_nsec == other->st_ctim.tv_nsec;
}

/*
 * Take credentials from the text of a file, which is changed.
 */
static void
parse_file(const char *path, char *text, size_t len, Credentials *credentials)
{
	Section		section = NO_SECTION;
	bool		in_quotes = false;
	int			number = 0;
	char	   *line = text;
	const char *problem = NULL;

	if (strlen(text) != len)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("credentials file \"%s\" is not a text file", path)));
	while (line != NULL && problem == NULL)
	{
		char	   *next = strchr(line, '\n');

		if (next != NULL)
			*next++ = '\0';
		number++;
		problem = parse_line(trim(line), &section, credentials, &in_quotes);
		line = next;
	}
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("line %d of credentials file \"%s\" is not valid",
						number, path),
				 errdetail_internal("%s", problem),
				 in_quotes ? errhint(QUOTES_HINT) : 0));

	if (credentials->secret_id == NULL || credentials->secret_key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("credentials file \"%s\" has no %s in its section [%s]",
						path, credentials->secret_id == NULL ?
						"secret_id" : "secret_key", FILE_SECTION)));
}

/*
 * Take over what a line says.  Returns NULL, or what is wrong with it, as a
 * sentence without anything of the line; *in_quotes: is it the quotes around
 * the value?
 *
 * The file is shared with other programs.  What other sections say is theirs,
 * in whatever form.
 */
static const char *
parse_line(char *line, Section *section, Credentials *credentials,
		   bool *in_quotes)
{
	size_t		len = strlen(line);
	char	   *equals;
	char	   *name;
	char	   *value;
	char	  **part;

	if (len == 0 || line[0] == '#' || line[0] == ';')
		return NULL;
	if (line[0] == '[' && line[len - 1] == ']')
	{
		line[len - 1] = '\0';
		*section = strcmp(trim(line + 1), FILE_SECTION) == 0 ?
			OUR_SECTION : OTHER_SECTION;
		return NULL;
	}
	if (*section == OTHER_SECTION)
		return NULL;
	if (line[0] == '[')
		return "A section's name has no closing bracket.";
	equals = strchr(line, '=');
	if (equals == NULL)
		return "It is none of a section in brackets, a key with an equals sign and a value, and a comment.";
	if (*section == NO_SECTION)
		return NULL;

	*equals = '\0';
	name = trim(line);
	value = trim(equals + 1);
	if (strcmp(name, "secret_id") == 0)
		part = &credentials->secret_id;
	else if (strcmp(name, "secret_key") == 0)
		part = &credentials->secret_key;
	else if (strcmp(name, "token") == 0)
		part = &credentials->token;
	else
		return NULL;
	if (*part != NULL)
		return psprintf("It is the second line with %s.", name);
	if (value[0] == '\0' && part == &credentials->token)
		return NULL;
	*in_quotes = is_in_quotes(value);
	return set_credential(credentials, name, value);
}

/*
 * A text without the white space around it, where it lies.
 */
static char *
trim(char *text)
{
	char	   *end = text + strlen(text);

	while (end > text && strchr(" \t\r", end[-1]) != NULL)
		*--end = '\0';
	return text + strspn(text, " \t");
}

/* --------------------------------------------------------------------- role
 */

/*
 * Fetch the credentials of the machine's role, and wait until that has ended,
 * well or not.
 */
static void
fetch_role(const RoleWish *wish)
{
	static HttpClient *client = NULL;
	static uint32 wait_event = 0;
	RoleFetch  *fetch = palloc(sizeof(RoleFetch));
	HttpTransfer **transfer = palloc0(sizeof(HttpTransfer *));
	HttpRequest request;

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("ScreenshotTaskRole");
	if (client == NULL)
		client = http_client_create(1);
	if (!role_fetch_begin(wish, fetch, &request))
		return;
	PG_TRY();
	{
		bool		more = true;

		while (more)
		{
			HttpReply	reply;

			http_start(client, &request, transfer);
			http_begin(client);
			while (http_next_done(client) == NULL)
			{
				CHECK_FOR_INTERRUPTS();
				http_wait(client, MONOTONIC_NEVER, wait_event);
			}
			http_reply(*transfer, &reply);
			more = role_fetch_go_on(fetch, &reply, &request);
			http_release(*transfer);
			*transfer = NULL;
		}
	}
	PG_CATCH();
	{
		http_release(*transfer);
		role_fetch_abandon(fetch);
		PG_RE_THROW();
	}
	PG_END_TRY();
	pfree(transfer);
	pfree(fetch);
}

static void
raise_role_failure(const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			 errmsg("could not get the credentials of this machine's role: %s",
					problem),
			 errhint("This takes a machine of the vendor's cloud that has a role; the server option \"metadata_endpoint\" says where its metadata service is.")));
}

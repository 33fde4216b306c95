/*-------------------------------------------------------------------------
 *
 * credentials_file.c
 *	  Credentials from a file
 *
 * It is the file of the vendor's tools, shared with other programs: one section
 * of it is read, and its owner and permissions are checked first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "config/credentials_source.h"
#include "config/secret_file.h"

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

/* The longest credentials file, in bytes */
#define MAX_FILE		(64 * 1024)

static char *find_file(void);
static bool file_exists(const char *path);
static void check_file(const char *path, const struct stat *status);
static void parse_file(const char *path, char *text, size_t len,
					   Credentials *credentials);
static const char *parse_line(char *line, Section *section,
							  Credentials *credentials, bool *in_quotes);
static char *trim(char *text);

/*
 * Read credentials from the file of the vendor's tools; see
 * credentials_source.h.
 */
void
read_file(Credentials *credentials)
{
	char	   *path = find_file();
	size_t		len;
	char	   *text = secret_file_read(path, "credentials file", MAX_FILE,
										check_file, &len);

	PG_TRY();
	{
		parse_file(path, text, len, credentials);
	}
	PG_FINALLY();
	{
		/* Also after an error: the text holds keys of other programs, too. */
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
					 errmsg("environment variable %s is not an absolute path",
							FILE_VARIABLE),
					 errhint("Correct the variable in the environment in which the PostgreSQL server is started, and restart the server.")));
		return pstrdup(named);
	}

	/*
	 * The home of the user that the server runs as, from the environment or
	 * the password file.
	 */
	if (get_home_path(home))
		snprintf(path, sizeof(path), "%s/%s", home, HOME_FILE);

	/*
	 * A file that exists and cannot be read is an error.  Going on to the next
	 * one would send with another account's keys.
	 */
	if (path[0] != '\0' && file_exists(path))
		return pstrdup(path);
	if (file_exists(SYSTEM_FILE))
		return pstrdup(SYSTEM_FILE);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			 errmsg("could not find a credentials file"),
			 path[0] != '\0' ?
			 errdetail("Neither \"%s\" nor \"%s\" exists.", path, SYSTEM_FILE) :
			 errdetail("\"%s\" does not exist.", SYSTEM_FILE),
			 errhint("Create the file, or start the PostgreSQL server with the environment variable %s.",
					 FILE_VARIABLE)));
}

/*
 * Does a file exist, even one that cannot be read?
 */
static bool
file_exists(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

/*
 * Check that a file is one that nobody else can read or write.  The rules are
 * those for the server's own private key (ssl_key_file).
 */
static void
check_file(const char *path, const struct stat *status)
{
	/* Its owner could put other keys into it at any time. */
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
				 errmsg("credentials file \"%s\" has group or world access",
						path),
				 errdetail("File must have permissions u=rw (0600) or less if owned by the database user, or permissions u=rw,g=r (0640) or less if owned by root."),
				 errhint("Use chmod 0600, and replace the keys if others may have read them.")));
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

	/* A NUL would hide what follows it. */
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
		/* The first problem ends it, so that "number" is its line. */
		problem = parse_line(trim(line), &section, credentials, &in_quotes);
		line = next;
	}
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("invalid line %d in credentials file \"%s\"",
						number, path),
				 errdetail_internal("%s", problem),
				 in_quotes ? errhint(QUOTES_HINT) : 0));

	if (credentials->secret_id == NULL || credentials->secret_key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("credentials file \"%s\" has no %s in section [%s]",
						path, credentials->secret_id == NULL ?
						"secret_id" : "secret_key", FILE_SECTION)));
}

/*
 * Take over what a line says.  Returns NULL, or what is wrong with it, as a
 * sentence without anything of the line; *in_quotes says whether that is the
 * quotes around the value.
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
	/* Before the line is checked, since other sections may be in any form. */
	if (*section == OTHER_SECTION)
		return NULL;
	if (line[0] == '[')
		return "A section name has no closing bracket.";
	/* At the first equals sign: a token in base64 may end with others. */
	equals = strchr(line, '=');
	if (equals == NULL)
		return "A line must be a section name in brackets, a key and a value separated by an equals sign, or a comment.";
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

	/*
	 * Which of two keys is meant cannot be known, and other programs do not
	 * agree on it.
	 */
	if (*part != NULL)
		return psprintf("Key %s appears more than once.", name);

	/*
	 * Tools that write all three keys leave the token empty for long-term
	 * keys.
	 */
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

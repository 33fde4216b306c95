/*-------------------------------------------------------------------------
 *
 * secret_file.c
 *	  Small files that hold secrets
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "storage/fd.h"

#include "config/secret_file.h"

/* How often to read a file that is changed meanwhile */
#define MAX_READS		5

static char *read_version(int fd, const char *path, const char *what,
						  size_t max, FileCheck check, size_t *len);
static void check_size(const char *path, const char *what, size_t max,
					   const struct stat *status);
static bool is_same_file(const struct stat *one, const struct stat *other);

/*
 * Read a file as it is at one moment: a regular one, of at most so many bytes,
 * that passes a check, which may be NULL.  "what" it is stands in messages.
 *
 * Returns its text, palloc'd, for the caller to wipe.
 */
char *
secret_file_read(const char *path, const char *what, size_t max,
				 FileCheck check, size_t *len)
{
	/* Opening a pipe must not wait for its other end. */
	int			fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char	   *volatile text = NULL;

	if (fd < 0)
	{
		bool		denied = errno == EACCES;

		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("could not open %s \"%s\": %m", what, path),
				 denied ?
				 errhint("The user that the PostgreSQL server runs as must be able to read it.") : 0));
	}
	/* Closed at once: a caller may do without the file, and go on. */
	PG_TRY();
	{
		text = read_version(fd, path, what, max, check, len);
	}
	PG_FINALLY();
	{
		CloseTransientFile(fd);
	}
	PG_END_TRY();
	return text;
}

static char *
read_version(int fd, const char *path, const char *what, size_t max,
			 FileCheck check, size_t *len)
{
	char	   *text = palloc(max + 1);
	int			n_reads = 0;

	for (;;)
	{
		struct stat before;
		struct stat after;
		ssize_t		n_read = 0;

		if (fstat(fd, &before) == 0)
		{
			check_size(path, what, max, &before);
			if (check != NULL)
				check(path, &before);

			/*
			 * One byte more than is allowed, so that a file that grows beyond
			 * it is noticed.  One read, from the start: half of one version
			 * and half of another would pair an id with another key.
			 */
			n_read = pg_pread(fd, text, max + 1, 0);
		}
		else
			n_read = -1;
		if (n_read < 0 || fstat(fd, &after) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
					 errmsg("could not read %s \"%s\": %m", what, path)));

		/*
		 * Unchanged from before the read to after it, so that what was read is
		 * one version.
		 */
		if (is_same_file(&before, &after) && n_read == after.st_size)
		{
			text[n_read] = '\0';
			*len = n_read;
			return text;
		}
		explicit_bzero(text, max + 1);
		if (++n_reads == MAX_READS || (size_t) n_read > max)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
					 errmsg("%s \"%s\" changed while it was being read",
							what, path),
					 errhint("Replace the file by renaming a new one over it, instead of writing to it.")));
	}
}

static void
check_size(const char *path, const char *what, size_t max,
		   const struct stat *status)
{
	/*
	 * A pipe or a device could be read for ever, in a process that sends
	 * requests.
	 */
	if (!S_ISREG(status->st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("%s \"%s\" is not a regular file", what, path)));
	if ((size_t) status->st_size > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("%s \"%s\" is too large", what, path),
				 errdetail("It must not be larger than %zu kB.", max / 1024)));
}

/*
 * Is a file unchanged?
 */
static bool
is_same_file(const struct stat *one, const struct stat *other)
{
	/*
	 * ctime as well, since mtime can be set to anything, and a change within
	 * its resolution would go unnoticed.
	 */
	return one->st_size == other->st_size &&
		one->st_mtim.tv_sec == other->st_mtim.tv_sec &&
		one->st_mtim.tv_nsec == other->st_mtim.tv_nsec &&
		one->st_ctim.tv_sec == other->st_ctim.tv_sec &&
		one->st_ctim.tv_nsec == other->st_ctim.tv_nsec;
}

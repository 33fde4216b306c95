/*-------------------------------------------------------------------------
 *
 * text.c
 *	  Texts: for databases of other encodings, clipped, compared, wiped
 *
 * What shared memory has of a database is in that database's encoding, and
 * may be no text at all in another's.  To convert it may fail, for a row that
 * somebody else's names are in: so what is not ASCII is left out instead.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_database.h"
#include "common/string.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "util/text.h"

/* The most changes of a character that make a name another one */
#define MAX_DISTANCE		4

static bool has_our_encoding(Oid database);

/*
 * Replace what this database could not read in a text of another database by
 * question marks.  Looks into the catalog: must not be called with a
 * lightweight lock held.
 */
void
make_readable(char *text, Oid database)
{
	if (pg_is_ascii(text) || has_our_encoding(database))
		return;

	/*
	 * By bytes: how many make a character is not known for an encoding that is
	 * not ours.
	 */
	for (char *c = text; *c != '\0'; c++)
	{
		if (IS_HIGHBIT_SET(*c))
			*c = '?';
	}
}

/*
 * Does a database have the encoding of this one?
 */
static bool
has_our_encoding(Oid database)
{
	HeapTuple	tuple;
	bool		same;

	if (database == MyDatabaseId)
		return true;
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));

	/*
	 * Dropped meanwhile: its encoding is not known, so that it is taken for
	 * another one.
	 */
	if (!HeapTupleIsValid(tuple))
		return false;
	same = ((Form_pg_database) GETSTRUCT(tuple))->encoding ==
		GetDatabaseEncoding();
	ReleaseSysCache(tuple);
	return same;
}

/*
 * Copy a text in this database's encoding to memory of so many bytes, cut
 * between two characters if it is too long, and clear what is left of it.
 */
void
clip_text(char *to, const char *from, Size size)
{
	/* One byte is for the terminating NUL, which memset() has put there. */
	int			len = pg_mbcliplen(from, (int) strlen(from), (int) size - 1);

	/*
	 * All of it, since structs with such texts are compared, and published, as
	 * a whole.
	 */
	memset(to, 0, size);
	memcpy(to, from, len);
}

/*
 * Of some names, the one that a misspelt name probably stands for; NULL if
 * none is near.  The rule is that of PostgreSQL 16's getClosestMatch().
 */
const char *
closest_name(const char *name, const char *const *names, int n)
{
	const int	len = (int) strlen(name);
	const char *closest = NULL;
	int			least = Min(MAX_DISTANCE, len / 2);

	/* longer than what varstr_levenshtein_less_equal() takes */
	if (len > NAMEDATALEN)
		return NULL;
	for (int i = 0; i < n; i++)
	{
		/*
		 * Bounded by the best so far, which lets it give up early on names
		 * that are far off.
		 */
		int			distance = varstr_levenshtein_less_equal(name, len,
															 names[i],
															 (int) strlen(names[i]),
															 1, 1, 1, least,
															 true);

		/*
		 * Of two that are equally near the first one wins, in the order of the
		 * table.
		 */
		if (distance > least || (distance == least && closest != NULL))
			continue;
		least = distance;
		closest = names[i];
	}
	return closest;
}

/*
 * Wipe a secret from memory.  NULL is allowed.
 */
void
wipe_text(char *secret)
{
	/* memset() before free is a dead store, and compilers remove it. */
	if (secret != NULL)
		explicit_bzero(secret, strlen(secret));
}

/*-------------------------------------------------------------------------
 *
 * skip_list.c
 *	  Requests that cannot be changed for now
 *
 * The table's owner may put triggers on it, and one may raise an error for a
 * request, or leave it out of an UPDATE.  And a role may keep a request of its
 * own locked for as long as it likes.  Such a request must not stop the
 * others: it is passed over for a while, and then tried again.  This is only
 * remembered in the worker, as the row cannot be written to.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

#include "table/skip_list.h"

/* How long a request is skipped that a trigger keeps from being changed */
#define REFUSED_FOR			(60 * US_PER_SECOND)

/*
 * With more refused requests than this, nothing is chosen until some have
 * expired; with half as many, only requests to send.  Locked ones do not
 * count: any role can lock its own, and the worker bounds how many they are.
 */
#define MAX_REFUSED		1000

/* There is room for as many results that cannot be written, and those to come */
#define MAX_ENTRIES		2500

typedef struct SkippedRequest
{
	int64		id;
	MonotonicUs end_at;			/* when to try it again */
	bool		is_locked;		/* by another session; else a trigger refuses */
} SkippedRequest;

/* In no order */
static struct
{
	SkippedRequest requests[MAX_ENTRIES];
	int			n;
}			skip_list;
static int	n_refused = 0;		/* those of them that are not locked */

static void note(int64 id, MonotonicUs how_long, bool is_locked);

/*
 * Note that a trigger kept a request from being changed, and log it.
 */
void
skip_list_add(int64 id, const char *reason)
{
	/*
	 * Without room for an entry it is tried again at once, and must not fill
	 * the log.
	 */
	if (skip_list.n == MAX_ENTRIES)
		return;
	ereport(LOG,
			(errmsg("could not update screenshot task request %lld; skipping it for a minute",
					(long long) id),
			 errdetail_internal("%s", reason),
			 errhint("Check the triggers on screenshot_task_request.")));
	note(id, REFUSED_FOR, false);
}

/*
 * Note that a request is locked by somebody, and pass it over for so long, or
 * a little longer: entries that expire at about the same time are tried
 * together, so that hundreds of them take few transactions.
 */
void
skip_list_add_locked(int64 id, MonotonicUs how_long)
{
	MonotonicUs step = Max(how_long / 4, 1);

	note(id, how_long + step - monotonic_now() % step, true);
}

/*
 * Add an entry.
 */
static void
note(int64 id, MonotonicUs how_long, bool is_locked)
{
	/* Choices have stopped long before, see MAX_REFUSED. */
	if (skip_list.n == MAX_ENTRIES)
		return;
	skip_list.requests[skip_list.n].id = id;
	skip_list.requests[skip_list.n].end_at = monotonic_now() + how_long;
	skip_list.requests[skip_list.n].is_locked = is_locked;
	skip_list.n++;
	n_refused += !is_locked;
}

/*
 * Is a request to be passed over?
 */
bool
skip_list_has(int64 id)
{
	for (int i = 0; i < skip_list.n; i++)
	{
		if (skip_list.requests[i].id == id)
			return true;
	}
	return false;
}

/*
 * Is any request refused?  Others may be, too, so that rows are changed one by
 * one.
 */
bool
skip_list_has_failed(void)
{
	return n_refused > 0;
}

/*
 * Is the list so long that only requests to send may be chosen?
 */
bool
skip_list_is_long(void)
{
	return n_refused >= MAX_REFUSED / 2;
}

bool
skip_list_is_full(void)
{
	return n_refused >= MAX_REFUSED || skip_list.n == MAX_ENTRIES;
}

/*
 * The ids of the requests to pass over: a bigint[], palloc'd.
 */
Datum
skip_list_array(void)
{
	Datum		ids[MAX_ENTRIES];

	for (int i = 0; i < skip_list.n; i++)
		ids[i] = Int64GetDatum(skip_list.requests[i].id);
	return PointerGetDatum(construct_array(ids, skip_list.n, INT8OID,
										   sizeof(int64), FLOAT8PASSBYVAL,
										   TYPALIGN_DOUBLE));
}

/*
 * When to try the first of them again; never, if there is none.
 */
MonotonicUs
skip_list_next_event(void)
{
	MonotonicUs first = MONOTONIC_NEVER;

	for (int i = 0; i < skip_list.n; i++)
		first = Min(first, skip_list.requests[i].end_at);
	return first;
}

/*
 * Try those again whose time has come by "now".
 */
void
skip_list_expire(MonotonicUs now)
{
	int			n = 0;

	n_refused = 0;
	for (int i = 0; i < skip_list.n; i++)
	{
		if (skip_list.requests[i].end_at <= now)
			continue;
		n_refused += !skip_list.requests[i].is_locked;
		skip_list.requests[n++] = skip_list.requests[i];
	}
	skip_list.n = n;
}

/*-------------------------------------------------------------------------
 *
 * refusal.c
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

#include "table/refusal.h"

#define REFUSED_FOR			(60 * US_PER_SECOND)

/*
 * With more, nothing is chosen until some have ended; with half as many, nothing
 * but what is to be sent.
 */
#define MAX_REFUSALS		1000

typedef struct Refusal
{
	int64		id;
	MonotonicUs end_at;
} Refusal;

static Refusal refusals[MAX_REFUSALS];
static int	n_refusals = 0;

/*
 * Note that a trigger kept a request from being changed, and say so in the log.
 */
void
refusal_note(int64 id, const char *reason)
{
	if (refusals_are_too_many())
		return;
	ereport(LOG,
			(errmsg("screenshot task request %lld could not be changed, and is passed over for a minute",
					(long long) id),
			 errdetail_internal("%s", reason),
			 errhint("Look at the triggers on screenshot_task_request.")));
	refusal_note_lock(id, REFUSED_FOR);
}

/*
 * Note that a request is locked by somebody, and pass it over for so long.
 */
void
refusal_note_lock(int64 id, MonotonicUs how_long)
{
	if (n_refusals == MAX_REFUSALS)
		return;
	refusals[n_refusals].id = id;
	refusals[n_refusals].end_at = monotonic_now() + how_long;
	n_refusals++;
}

/*
 * Is a request to be passed over?
 */
bool
refusal_holds(int64 id)
{
	for (int i = 0; i < n_refusals; i++)
	{
		if (refusals[i].id == id)
			return true;
	}
	return false;
}

bool
refusals_exist(void)
{
	return n_refusals > 0;
}

bool
refusals_are_many(void)
{
	return n_refusals >= MAX_REFUSALS / 2;
}

bool
refusals_are_too_many(void)
{
	return n_refusals == MAX_REFUSALS;
}

/*
 * The ids of the requests to pass over: a bigint[], palloc'd.
 */
Datum
refusals_array(void)
{
	Datum		ids[MAX_REFUSALS];

	for (int i = 0; i < n_refusals; i++)
		ids[i] = Int64GetDatum(refusals[i].id);
	return PointerGetDatum(construct_array(ids, n_refusals, INT8OID,
										   sizeof(int64), FLOAT8PASSBYVAL,
										   TYPALIGN_DOUBLE));
}

/*
 * When the first of them is to be tried again; never, if there is none.
 */
MonotonicUs
refusals_end_at(void)
{
	MonotonicUs first = MONOTONIC_NEVER;

	for (int i = 0; i < n_refusals; i++)
		first = Min(first, refusals[i].end_at);
	return first;
}

/*
 * Try those again whose time has come by "now".
 */
void
refusals_end(MonotonicUs now)
{
	int			n = 0;

	for (int i = 0; i < n_refusals; i++)
	{
		if (refusals[i].end_at > now)
			refusals[n++] = refusals[i];
	}
	n_refusals = n;
}

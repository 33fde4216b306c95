/*-------------------------------------------------------------------------
 *
 * log_throttling.c
 *	  A line in the log for each request that a person may want to look at
 *
 * Of faults that are equal, in what became of the request, its server, the
 * API's error code and the message but for its digits, the first few have a
 * line each.  If they are a burst, one line at its end, or every ten seconds
 * of it, says how many more there were.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "common/hashfn.h"

#include "shmem/activity.h"
#include "util/text.h"
#include "worker/log_throttling.h"

/* So many equal faults within that time have a line each */
#define MAX_LINES			10
#define BURST_TIME			(10 * US_PER_SECOND)

/* Kinds of faults that are watched for bursts, those that came first */
#define MAX_KINDS			64

/* Faults that are alike */
typedef struct Kind
{
	const Transition *transition;	/* what happened to the requests */
	char		server[NAMEDATALEN];
	char		error_code[64];
	uint64		message;		/* digest of it, without digits */
	MonotonicUs ends_at;		/* when a burst of them is over */
	int			n;				/* so far */
	int64		last_id;		/* the last request */
	char		last_detail[256];	/* its DETAIL, clipped */
} Kind;

/* What there was of late */
static struct
{
	Kind		kinds[MAX_KINDS];
	int			n;
}			faults;

static Kind *find_kind(const Transition *transition, const char *server,
					   const char *error_code, uint64 message);
static uint64 digest(const char *message);
static const char *or_empty(const char *text);

/*
 * Log the outcome of a request.  Texts may be NULL, except for the server.
 */
void
log_fault(const Transition *transition, const char *server, int64 id,
		  const char *error_code, const char *message, const char *request_id)
{
	Kind	   *kind = find_kind(transition, server, or_empty(error_code),
								 digest(or_empty(message)));
	char	   *detail = psprintf("%s%s%s%s%s", or_empty(error_code),
								  error_code != NULL && message != NULL ? ": " : "",
								  or_empty(message),
								  request_id != NULL ? ", RequestId " : "",
								  or_empty(request_id));
	char	   *summary = psprintf("request %lld %s: %s", (long long) id,
								   transition->logged, detail);
	/*
	 * With more kinds than fit each fault has its line: better too many than
	 * none.
	 */
	bool		is_burst = kind != NULL && kind->n >= MAX_LINES;

	/* The view shows the last fault even if the log leaves it out. */
	activity_note_error(summary);
	if (kind != NULL)
	{
		kind->n++;
		kind->last_id = id;
		clip_text(kind->last_detail, detail, sizeof(kind->last_detail));
	}
	if (!is_burst)
		ereport(LOG,
				(errmsg("screenshot task request %lld %s", (long long) id,
						transition->logged),
				 errdetail_internal("%s", detail)));
	pfree(summary);
	pfree(detail);
}

/*
 * The kind of a fault, counted from now on if it is new; NULL if there are too
 * many.
 */
static Kind *
find_kind(const Transition *transition, const char *server,
		  const char *error_code, uint64 message)
{
	Kind	   *kind;

	/* Entries whose burst is over make room first. */
	log_throttling_flush(false);
	for (int i = 0; i < faults.n; i++)
	{
		kind = &faults.kinds[i];
		if (kind->transition == transition && kind->message == message &&
			strcmp(kind->server, server) == 0 &&
			strncmp(kind->error_code, error_code,
					sizeof(kind->error_code) - 1) == 0)
			return kind;
	}
	if (faults.n == MAX_KINDS)
		return NULL;
	kind = &faults.kinds[faults.n++];
	memset(kind, 0, sizeof(Kind));
	kind->transition = transition;
	kind->message = message;
	strlcpy(kind->server, server, sizeof(kind->server));
	strlcpy(kind->error_code, error_code, sizeof(kind->error_code));
	kind->ends_at = monotonic_now() + BURST_TIME;
	return kind;
}

/*
 * Digest of a message without its digits.
 */
static uint64
digest(const char *message)
{
	uint64		digest = 0;

	for (; *message != '\0'; message++)
	{
		/*
		 * Ids, ports and times differ between faults that are otherwise the
		 * same.
		 */
		if (!isdigit((unsigned char) *message))
			digest = hash_combine64(digest, (unsigned char) *message);
	}
	return digest;
}

/*
 * When a burst must next be logged; never, if there is none.
 */
MonotonicUs
log_throttling_next_event(void)
{
	MonotonicUs next = MONOTONIC_NEVER;

	for (int i = 0; i < faults.n; i++)
	{
		if (faults.kinds[i].n > MAX_LINES)
			next = Min(next, faults.kinds[i].ends_at);
	}
	return next;
}

/*
 * Log how many more faults there were of each kind whose burst is over, or of
 * all kinds.
 */
void
log_throttling_flush(bool all)
{
	MonotonicUs now = monotonic_now();
	int			n_left = 0;

	for (int i = 0; i < faults.n; i++)
	{
		Kind	   *kind = &faults.kinds[i];
		int			more = kind->n - MAX_LINES;

		if (kind->ends_at > now && !all)
		{
			faults.kinds[n_left++] = *kind;
			continue;
		}
		if (more <= 0)
			continue;
		ereport(LOG,
				(errmsg_plural("%d more screenshot task request for server \"%s\" %s",
							   "%d more screenshot task requests for server \"%s\" %s",
							   more, more, kind->server,
							   more == 1 ? kind->transition->logged :
							   kind->transition->logged_more),
				 errdetail_internal("The last was request %lld: %s",
									(long long) kind->last_id,
									kind->last_detail)));
		/*
		 * Lines are held back for another interval, since the burst may go on.
		 */
		kind->n = MAX_LINES;
		kind->ends_at = now + BURST_TIME;
		faults.kinds[n_left++] = *kind;
	}
	faults.n = n_left;
}

/*
 * A text, or an empty one in place of NULL.
 */
static const char *
or_empty(const char *text)
{
	return text != NULL ? text : "";
}

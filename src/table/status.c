/*-------------------------------------------------------------------------
 *
 * status.c
 *	  The statuses of a request, and how one follows another
 *
 * Whatever changes a status finds here whether it may, what is counted of it
 * for the request's server, and what the log says.  A request that becomes
 * finished is notified of as well, see notify.c.
 *
 * Another status is a line of the first table here, its name in status.h, and
 * its transitions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "table/status.h"

/* One that is finished has a finished_at, and nothing more is done about it. */
static const struct
{
	const char *name;
	bool		is_finished;
}			statuses[] = {
	[STATUS_PENDING] = {"pending", false},
	[STATUS_SENDING] = {"sending", false},
	[STATUS_CREATED] = {"created", true},
	[STATUS_FAILED] = {"failed", true},
	[STATUS_IN_DOUBT] = {"in_doubt", false},
	[STATUS_EXPIRED] = {"expired", true},
	[STATUS_CANCELLED] = {"cancelled", true},
	[STATUS_WITHDRAWING] = {"withdrawing", false},
	[STATUS_WITHDRAWN] = {"withdrawn", true},
};

StaticAssertDecl(lengthof(statuses) == N_STATUSES,
				 "each status has its entry");

#define UNCOUNTED	N_SERVER_COUNTERS
#define UNLOGGED	NULL, NULL
#define IN_DOUBT	"is in doubt", "are in doubt"
#define EXPIRED		"has expired", "have expired"

static const Transition transitions[] = {
	/* claimed, or too late to be */
	{STATUS_PENDING, STATUS_SENDING, BY_WORKER, false, UNCOUNTED, UNLOGGED},
	{STATUS_PENDING, STATUS_EXPIRED, BY_WORKER, false, COUNT_EXPIRED, EXPIRED},

	/* answered, or not; see submission.c, and orphans.c */
	{STATUS_SENDING, STATUS_CREATED, BY_WORKER, false, COUNT_CREATED, UNLOGGED},
	{STATUS_SENDING, STATUS_FAILED, BY_WORKER, false, COUNT_FAILED,
	"failed", "failed"},
	{STATUS_SENDING, STATUS_IN_DOUBT, BY_WORKER, false, COUNT_IN_DOUBT, IN_DOUBT},
	{STATUS_SENDING, STATUS_PENDING, BY_WORKER, false, COUNT_POSTPONED, UNLOGGED},

	/* the same, withdrawn meanwhile; see result.c */
	{STATUS_SENDING, STATUS_WITHDRAWING, BY_WORKER, false, COUNT_CREATED, UNLOGGED},
	{STATUS_SENDING, STATUS_CANCELLED, BY_WORKER, false, UNCOUNTED, UNLOGGED},

	/* found out about, or not; resolution.c logs what it found */
	{STATUS_IN_DOUBT, STATUS_CREATED, BY_WORKER, false, COUNT_FOUND, UNLOGGED},
	{STATUS_IN_DOUBT, STATUS_PENDING, BY_WORKER, false, COUNT_RESENT, UNLOGGED},
	{STATUS_IN_DOUBT, STATUS_IN_DOUBT, BY_WORKER, false, UNCOUNTED, UNLOGGED},
	{STATUS_IN_DOUBT, STATUS_WITHDRAWING, BY_WORKER, false, COUNT_FOUND, UNLOGGED},
	{STATUS_IN_DOUBT, STATUS_CANCELLED, BY_WORKER, false, UNCOUNTED, UNLOGGED},

	/* stopped and deleted, or not yet, or not before its end; see withdrawal.c */
	{STATUS_WITHDRAWING, STATUS_WITHDRAWN, BY_WORKER, false, COUNT_WITHDRAWN, UNLOGGED},
	{STATUS_WITHDRAWING, STATUS_WITHDRAWING, BY_WORKER, false, UNCOUNTED, UNLOGGED},
	{STATUS_WITHDRAWING, STATUS_CREATED, BY_WORKER, false, UNCOUNTED,
	"could not be withdrawn", "could not be withdrawn"},

	/* What came in a dump while it was being sent is not any more. */
	{STATUS_PENDING, STATUS_CANCELLED, BY_CANCEL, false, UNCOUNTED, UNLOGGED},
	{STATUS_IN_DOUBT, STATUS_CANCELLED, BY_CANCEL, false, UNCOUNTED, UNLOGGED},
	{STATUS_SENDING, STATUS_CANCELLED, BY_CANCEL, true, UNCOUNTED, UNLOGGED},

	/* One that was in doubt when it was cancelled still is. */
	{STATUS_PENDING, STATUS_PENDING, BY_RETRY, false, UNCOUNTED, UNLOGGED},
	{STATUS_FAILED, STATUS_PENDING, BY_RETRY, false, UNCOUNTED, UNLOGGED},
	{STATUS_EXPIRED, STATUS_PENDING, BY_RETRY, false, UNCOUNTED, UNLOGGED},
	{STATUS_CANCELLED, STATUS_PENDING, BY_RETRY, false, UNCOUNTED, UNLOGGED},
	{STATUS_CANCELLED, STATUS_IN_DOUBT, BY_RETRY, false, UNCOUNTED, UNLOGGED},
	{STATUS_IN_DOUBT, STATUS_IN_DOUBT, BY_RETRY, false, UNCOUNTED, UNLOGGED},
	{STATUS_WITHDRAWING, STATUS_WITHDRAWING, BY_RETRY, false, UNCOUNTED, UNLOGGED},

	/* One that is withdrawn is not created or pending any more. */
	{STATUS_IN_DOUBT, STATUS_CREATED, BY_RESOLVE, false, UNCOUNTED, UNLOGGED},
	{STATUS_IN_DOUBT, STATUS_PENDING, BY_RESOLVE, false, UNCOUNTED, UNLOGGED},
	{STATUS_IN_DOUBT, STATUS_WITHDRAWING, BY_RESOLVE, false, UNCOUNTED, UNLOGGED},
	{STATUS_IN_DOUBT, STATUS_CANCELLED, BY_RESOLVE, false, UNCOUNTED, UNLOGGED},
	{STATUS_WITHDRAWING, STATUS_WITHDRAWN, BY_RESOLVE, false, UNCOUNTED, UNLOGGED},

	{STATUS_SENDING, STATUS_IN_DOUBT, BY_ADOPT, true, UNCOUNTED, UNLOGGED},

	/* What is not known yet, or is over, keeps its status.  A created one whose end
	 * has passed is over; one that was in doubt when it was cancelled is not. */
	{STATUS_PENDING, STATUS_CANCELLED, BY_WITHDRAW, false, UNCOUNTED, UNLOGGED},
	{STATUS_SENDING, STATUS_SENDING, BY_WITHDRAW, false, UNCOUNTED, UNLOGGED},
	{STATUS_IN_DOUBT, STATUS_IN_DOUBT, BY_WITHDRAW, false, UNCOUNTED, UNLOGGED},
	{STATUS_CANCELLED, STATUS_IN_DOUBT, BY_WITHDRAW, false, UNCOUNTED, UNLOGGED},
	{STATUS_CREATED, STATUS_WITHDRAWING, BY_WITHDRAW, false, UNCOUNTED, UNLOGGED},
	{STATUS_CREATED, STATUS_CREATED, BY_WITHDRAW, false, UNCOUNTED, UNLOGGED},
	{STATUS_FAILED, STATUS_FAILED, BY_WITHDRAW, false, UNCOUNTED, UNLOGGED},
	{STATUS_EXPIRED, STATUS_EXPIRED, BY_WITHDRAW, false, UNCOUNTED, UNLOGGED},
	{STATUS_CANCELLED, STATUS_CANCELLED, BY_WITHDRAW, false, UNCOUNTED, UNLOGGED},

	/* Each of those, undone before it was committed */
	{STATUS_CANCELLED, STATUS_PENDING, BY_UNDO, false, UNCOUNTED, UNLOGGED},
	{STATUS_SENDING, STATUS_SENDING, BY_UNDO, false, UNCOUNTED, UNLOGGED},
	{STATUS_IN_DOUBT, STATUS_IN_DOUBT, BY_UNDO, false, UNCOUNTED, UNLOGGED},
	{STATUS_IN_DOUBT, STATUS_CANCELLED, BY_UNDO, false, UNCOUNTED, UNLOGGED},
	{STATUS_WITHDRAWING, STATUS_CREATED, BY_UNDO, false, UNCOUNTED, UNLOGGED},
	{STATUS_CREATED, STATUS_CREATED, BY_UNDO, false, UNCOUNTED, UNLOGGED},
	{STATUS_FAILED, STATUS_FAILED, BY_UNDO, false, UNCOUNTED, UNLOGGED},
	{STATUS_EXPIRED, STATUS_EXPIRED, BY_UNDO, false, UNCOUNTED, UNLOGGED},
	{STATUS_CANCELLED, STATUS_CANCELLED, BY_UNDO, false, UNCOUNTED, UNLOGGED},
};

/*
 * The name of a status that is known here.
 */
const char *
status_name(RequestStatus status)
{
	Assert(status < N_STATUSES);
	return statuses[status].name;
}

/*
 * The status of a name, which may be NULL; N_STATUSES if none is known by it.
 */
RequestStatus
status_of_name(const char *name)
{
	int			status = 0;

	while (status < N_STATUSES &&
		   (name == NULL || strcmp(statuses[status].name, name) != 0))
		status++;
	return status;
}

/*
 * Is nothing more to be done?  Neither is true of a status that is not known.
 */
bool
status_is_finished(RequestStatus status)
{
	return status < N_STATUSES && statuses[status].is_finished;
}

bool
status_is_unfinished(RequestStatus status)
{
	return status < N_STATUSES && !statuses[status].is_finished;
}

/*
 * How a status may follow another; NULL if it may not.
 */
const Transition *
find_transition(RequestStatus from, RequestStatus to, StatusChange by)
{
	for (int i = 0; i < (int) lengthof(transitions); i++)
	{
		const Transition *transition = &transitions[i];

		if (transition->from == from && transition->to == to &&
			transition->by == by)
			return transition;
	}
	return NULL;
}

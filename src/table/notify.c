/*-------------------------------------------------------------------------
 *
 * notify.c
 *	  Notifying listeners of finished requests
 *
 * With screenshot_task.notify_channel set, a transaction that finishes a
 * request notifies that channel: the notification comes with the commit, or
 * not at all.
 *
 * A listener that keeps a transaction open lets the NOTIFY queue fill up, and
 * a full queue would fail the commit.  Results are worth more than
 * notifications, so that none are sent from a certain fill on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/async.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"

#include "compat.h"
#include "settings.h"
#include "table/notify.h"
#include "util/monotonic.h"

/* Part of the NOTIFY queue that may be filled; others need the rest. */
#define MAX_QUEUE_USAGE		0.5

/* PostgreSQL's own limit is a page less a name and some bytes */
#define MAX_PAYLOAD			(BLCKSZ - NAMEDATALEN - 128 - 1)

static bool queue_has_room(void);
static char *make_payload(int64 id, const char *reference, RequestStatus status,
						  const char *task_id);
static void append_member(StringInfo json, const char *key,
						  const char *value);

/*
 * Is there a channel to notify, so that texts are worth reading for it?
 */
bool
notifications_are_wanted(void)
{
	return screenshot_task_notify_channel[0] != '\0';
}

/*
 * Notify of a request, if it is finished and this transaction commits.
 * reference and task_id may be NULL.
 */
void
notify_result(int64 id, const char *reference, RequestStatus status,
			  const char *task_id)
{
	char	   *payload;

	/* The cheapest first, as this is called for every row. */
	if (!notifications_are_wanted() || !status_is_finished(status) ||
		!queue_has_room())
		return;
	payload = make_payload(id, reference, status, task_id);
	/* It fits, unless somebody has dropped the constraint on references. */
	if (strlen(payload) > MAX_PAYLOAD)
		payload = make_payload(id, NULL, status, NULL);

	/*
	 * Queued at commit, under a lock that all notifying transactions take; one
	 * transaction of the worker has many results.
	 */
	Async_Notify(screenshot_task_notify_channel, payload);
}

/*
 * Is there room in the NOTIFY queue?  Looked at now and then.
 */
static bool
queue_has_room(void)
{
	static MonotonicUs looked_at = 0;
	static bool has_room = true;
	MonotonicUs now = monotonic_now();
	bool		had_room = has_room;

	if (looked_at != 0 && now < looked_at + US_PER_SECOND)
		return has_room;
	/* Once a second: the usage is found under a lock. */
	looked_at = now;
	has_room = DatumGetFloat8(DirectFunctionCall1(pg_notification_queue_usage,
												  (Datum) 0)) < MAX_QUEUE_USAGE;
	/* Once each time that it fills up. */
	if (had_room && !has_room)
		ereport(WARNING,
				(errmsg("skipping notifications: NOTIFY queue is more than half full"),
				 errhint("A listening session may have an open transaction; see pg_notification_queue_usage().")));
	return has_room;
}

/*
 * The payload of a notification, palloc'd.
 */
static char *
make_payload(int64 id, const char *reference, RequestStatus status,
			 const char *task_id)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfo(&json, "{\"id\": %lld", (long long) id);
	append_member(&json, "reference", reference);
	append_member(&json, "status", status_name(status));
	append_member(&json, "task_id", task_id);
	appendStringInfoChar(&json, '}');
	return json.data;
}

static void
append_member(StringInfo json, const char *key, const char *value)
{
	appendStringInfo(json, ", \"%s\": ", key);
	if (value != NULL)
		escape_json(json, value);
	else
		appendStringInfoString(json, "null");
}

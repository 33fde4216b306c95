/*-------------------------------------------------------------------------
 *
 * body.c
 *	  The bodies of requests
 *
 * Parameters become JSON in UTF-8, which the API takes, whatever the encoding
 * of the database is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/json.h"

#include "api/body.h"

static void append_key(StringInfo body, const char *key);
static void append_text(StringInfo body, const char *key, const char *value);
static void append_number(StringInfo body, const char *key, int64 value);

/*
 * The body of CreateScreenshotTask, in UTF-8, palloc'd.
 *
 * Raises an error if a text has a character that UTF-8 does not have.  Needs
 * a transaction where the database's encoding is not UTF-8.
 */
char *
live_create_body(const ScreenshotTask *task)
{
	StringInfoData body;

	initStringInfo(&body);

	/*
	 * In the order of the vendor's examples, with which people compare what
	 * preview_screenshot_task() shows.
	 */
	append_text(&body, "AppName", task->app_name);
	append_text(&body, "DomainName", task->domain_name);
	append_text(&body, "StreamName", task->stream_name);

	/*
	 * Left out rather than sent as 0: without StartTime the task begins at
	 * once.
	 */
	if (task->has_start)
		append_number(&body, "StartTime", task->start_time);
	append_number(&body, "EndTime", task->end_time);
	append_number(&body, "TemplateId", task->template_id);

	/*
	 * 0 is the default.  Optional keys are left out, which older editions of
	 * the API may not know (UnknownParameter).
	 */
	if (task->stream_type != 0)
		append_number(&body, "StreamType", task->stream_type);
	if (task->extension != NULL)
		append_text(&body, "Extension", task->extension);
	appendStringInfoChar(&body, '}');
	return body.data;
}

/*
 * The body of StopScreenshotTask and DeleteScreenshotTask, as above.
 */
char *
live_task_id_body(const char *task_id)
{
	StringInfoData body;

	initStringInfo(&body);
	append_text(&body, "TaskId", task_id);
	appendStringInfoChar(&body, '}');
	return body.data;
}

/*
 * The body of DescribeScreenshotTask, as above.
 */
char *
live_describe_body(const TaskQuery *lookup)
{
	StringInfoData body;

	initStringInfo(&body);
	append_number(&body, "StartTime", lookup->start_time);
	append_number(&body, "EndTime", lookup->end_time);

	/*
	 * An empty filter is not the same as none, so that absent ones are left
	 * out.
	 */
	if (lookup->stream_name != NULL)
		append_text(&body, "StreamName", lookup->stream_name);
	if (lookup->domain_name != NULL)
		append_text(&body, "DomainName", lookup->domain_name);
	if (lookup->app_name != NULL)
		append_text(&body, "AppName", lookup->app_name);
	if (lookup->scroll_token != NULL)
		append_text(&body, "ScrollToken", lookup->scroll_token);
	appendStringInfoChar(&body, '}');
	return body.data;
}

/*
 * The body of CreateLiveSnapshotTemplate, as above.
 */
char *
live_template_body(const ScreenshotTemplate *template)
{
	StringInfoData body;

	initStringInfo(&body);
	append_text(&body, "TemplateName", template->name);
	append_number(&body, "CosAppId", template->cos_app_id);
	append_text(&body, "CosBucket", template->cos_bucket);
	append_text(&body, "CosRegion", template->cos_region);
	append_number(&body, "SnapshotInterval", template->snapshot_interval);
	append_number(&body, "Width", template->width);
	append_number(&body, "Height", template->height);
	append_number(&body, "PornFlag", template->porn_flag);
	if (template->cos_prefix != NULL)
		append_text(&body, "CosPrefix", template->cos_prefix);
	if (template->cos_file_name != NULL)
		append_text(&body, "CosFileName", template->cos_file_name);
	if (template->description != NULL)
		append_text(&body, "Description", template->description);
	appendStringInfoChar(&body, '}');
	return body.data;
}

/*
 * The body of DeleteLiveSnapshotTemplate, as above.
 */
char *
live_template_id_body(int64 template_id)
{
	StringInfoData body;

	initStringInfo(&body);
	append_number(&body, "TemplateId", template_id);
	appendStringInfoChar(&body, '}');
	return body.data;
}

/*
 * The body of AssumeRole, as above.
 */
char *
sts_assume_role_body(const char *role_arn, const char *session_name,
					 int seconds)
{
	StringInfoData body;

	initStringInfo(&body);
	append_text(&body, "RoleArn", role_arn);
	append_text(&body, "RoleSessionName", session_name);
	append_number(&body, "DurationSeconds", seconds);
	appendStringInfoChar(&body, '}');
	return body.data;
}

/*
 * The body of AssumeRoleWithWebIdentity, as above.  The token is a secret: the
 * body has the only copy of it that is made here.
 */
char *
sts_web_identity_body(const char *provider, const char *token,
					  const char *role_arn, const char *session_name,
					  int seconds)
{
	StringInfoData body;

	initStringInfo(&body);
	/* A buffer that grows leaves copies.  No character has over six bytes. */
	enlargeStringInfo(&body, 6 * (int) (strlen(provider) + strlen(token) +
										strlen(role_arn) + strlen(session_name)) + 256);
	append_text(&body, "ProviderId", provider);
	append_text(&body, "WebIdentityToken", token);
	append_text(&body, "RoleArn", role_arn);
	append_text(&body, "RoleSessionName", session_name);
	append_number(&body, "DurationSeconds", seconds);
	appendStringInfoChar(&body, '}');
	return body.data;
}

/*
 * Begin a member of the object, or the object with it.
 */
static void
append_key(StringInfo body, const char *key)
{
	appendStringInfo(body, "%c\"%s\":", body->len == 0 ? '{' : ',', key);
}

static void
append_text(StringInfo body, const char *key, const char *value)
{
	append_key(body, key);

	/*
	 * UTF-8 first: in some encodings the byte of a quote may be half a
	 * character.
	 */
	escape_json(body, pg_server_to_any(value, (int) strlen(value), PG_UTF8));
}

static void
append_number(StringInfo body, const char *key, int64 value)
{
	append_key(body, key);
	appendStringInfo(body, "%lld", (long long) value);
}

/*-------------------------------------------------------------------------
 *
 * template_call.c
 *	  The functions that call the API about screenshot templates
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "compat.h"
#include "api/template.h"
#include "config/credentials.h"
#include "config/server.h"
#include "config/template_list.h"
#include "sql/api_call.h"
#include "sql/arguments.h"
#include "sql/template_call.h"

static TemplateState find_template(const LiveServer *server, int64 template_id);
static void ask_for_list(const LiveServer *server, uint64 account,
						 int64 template_id);
static void describe_check(void *arg);
static void return_template(ReturnSetInfo *result,
							const ScreenshotTemplate *template);
static Datum text_or_null(const char *text, bool *is_null);
static Datum int32_or_null(int64 number, bool *is_null);

PG_FUNCTION_INFO_V1(describe_screenshot_templates);
PG_FUNCTION_INFO_V1(create_screenshot_template);
PG_FUNCTION_INFO_V1(delete_screenshot_template);

/*
 * describe_screenshot_templates(server) returns the templates of the account
 */
Datum
describe_screenshot_templates(PG_FUNCTION_ARGS)
{
	char	   *server_name = read_server_name(fcinfo, 0);
	LiveAnswer	answer;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	api_call(server_name, LIVE_DESCRIBE_TEMPLATES, NULL, &answer);
	foreach(cell, answer.templates)
		return_template((ReturnSetInfo *) fcinfo->resultinfo, lfirst(cell));
	return (Datum) 0;
}

static void
return_template(ReturnSetInfo *result, const ScreenshotTemplate *template)
{
	Datum		values[12];
	bool		nulls[12] = {false};

	values[0] = Int64GetDatum(template->template_id);
	values[1] = text_or_null(template->name, &nulls[1]);
	values[2] = int32_or_null(template->snapshot_interval, &nulls[2]);
	values[3] = int32_or_null(template->width, &nulls[3]);
	values[4] = int32_or_null(template->height, &nulls[4]);
	values[5] = int32_or_null(template->porn_flag, &nulls[5]);
	values[6] = Int64GetDatum(template->cos_app_id);
	nulls[6] = template->cos_app_id < 0;
	values[7] = text_or_null(template->cos_bucket, &nulls[7]);
	values[8] = text_or_null(template->cos_region, &nulls[8]);
	values[9] = text_or_null(template->cos_prefix, &nulls[9]);
	values[10] = text_or_null(template->cos_file_name, &nulls[10]);
	values[11] = text_or_null(template->description, &nulls[11]);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static Datum
text_or_null(const char *text, bool *is_null)
{
	*is_null = text == NULL;
	return text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

/*
 * An integer as a Datum; null if it is -1.
 */
static Datum
int32_or_null(int64 number, bool *is_null)
{
	*is_null = number < 0;
	return Int32GetDatum((int32) number);
}

/*
 * create_screenshot_template(...) returns (template_id, request_id)
 */
Datum
create_screenshot_template(PG_FUNCTION_ARGS)
{
	ScreenshotTemplate template = {
		.name = require_text(fcinfo, 0, "name"),
		.cos_app_id = require_int64(fcinfo, 1, "cos_app_id"),
		.cos_bucket = require_text(fcinfo, 2, "cos_bucket"),
		.cos_region = require_text(fcinfo, 3, "cos_region"),
		.snapshot_interval = require_int32(fcinfo, 4, "snapshot_interval"),
		.width = require_int32(fcinfo, 5, "width"),
		.height = require_int32(fcinfo, 6, "height"),
		.porn_flag = require_int32(fcinfo, 7, "porn_flag"),
		.cos_prefix = optional_text(fcinfo, 8),
		.cos_file_name = optional_text(fcinfo, 9),
		.description = optional_text(fcinfo, 10)
	};
	char	   *server_name = read_server_name(fcinfo, 11);
	LiveAnswer	answer;
	TupleDesc	row_type;
	Datum		values[2];
	bool		nulls[2] = {false};

	if (get_call_result_type(fcinfo, NULL, &row_type) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	live_check_template(&template);
	api_call(server_name, LIVE_CREATE_TEMPLATE, &template, &answer);

	values[0] = Int64GetDatum(answer.template_id);
	values[1] = text_or_null(answer.request_id, &nulls[1]);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row_type),
													  values, nulls)));
}

/*
 * delete_screenshot_template(template_id, server) returns request_id
 */
Datum
delete_screenshot_template(PG_FUNCTION_ARGS)
{
	int64		template_id = require_int64(fcinfo, 0, "template_id");
	char	   *server_name = read_server_name(fcinfo, 1);
	LiveAnswer	answer;

	live_check_template_id(template_id);
	api_call(server_name, LIVE_DELETE_TEMPLATE, &template_id, &answer);
	PG_RETURN_TEXT_P(cstring_to_text(answer.request_id));
}

/*
 * Check that a template exists before a task with it is created, as the server
 * option "check_template" says.  If it does not, this raises an error or a
 * WARNING.
 *
 * It may ask the API for the templates of the account, once for each that is not
 * known.
 */
void
check_template(const char *server_name, int64 template_id)
{
	LiveServer *server;
	TemplateState state;
	ErrorContextCallback context = {
		.callback = describe_check,
		.arg = unconstify(char *, server_name),
		.previous = error_context_stack
	};

	if (template_id == 0)
		return;
	server = get_live_server(server_name, GetUserId());
	if (server->check_template == CHECK_OFF)
		return;
	/* Errors of credentials are those that the call itself would raise. */
	error_context_stack = &context;
	state = find_template(server, template_id);
	error_context_stack = context.previous;
	if (state != TEMPLATE_MISSING)
		return;
	ereport(server->check_template == CHECK_REFUSE ? ERROR : WARNING,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("template %lld does not exist", (long long) template_id),
			 errdetail("The account of server \"%s\" has no such template. A task with it takes no screenshots.",
					   server->name),
			 errhint("describe_screenshot_templates() lists the templates of the account.")));
}

/*
 * See whether a template exists, asking for the list first if need be.
 */
static TemplateState
find_template(const LiveServer *server, int64 template_id)
{
	Credentials *credentials;
	uint64		account;
	TemplateState state;

	require_enabled_server(server);
	credentials = credentials_get(server, GetUserId(), 0);
	account = credentials->account;
	wipe_credentials(credentials);
	state = template_look(account, template_id);
	if (state == TEMPLATE_UNLISTED || template_list_is_due(account))
	{
		ask_for_list(server, account, template_id);
		state = template_look(account, template_id);
	}
	return state;
}

/*
 * Ask the API for the list of an account.  It is said if that fails, the first time.
 */
static void
ask_for_list(const LiveServer *server, uint64 account, int64 template_id)
{
	LiveAnswer	answer;
	volatile bool has_answer = false;

	template_list_begin(account);
	PG_TRY();
	{
		api_ask(server, LIVE_DESCRIBE_TEMPLATES, NULL, &answer);
		has_answer = true;
	}
	PG_FINALLY();
	{
		if (!has_answer)
			(void) template_list_end(account, NULL);
	}
	PG_END_TRY();
	if (template_list_end(account, &answer))
		ereport(WARNING,
				(errmsg("could not check whether template %lld exists",
						(long long) template_id),
				 errdetail("Server \"%s\" did not list the templates of the account: %s.  This is reported once per session.",
						   server->name,
						   answer.error_code != NULL ? answer.error_code :
						   answer.message != NULL ? answer.message :
						   "the API gave no message")));
}

/*
 * Context of an error that ends a call from outside while its template is checked.
 */
static void
describe_check(void *arg)
{
	errcontext("CreateScreenshotTask on server \"%s\": nothing had been sent",
			   (const char *) arg);
}

/*-------------------------------------------------------------------------
 *
 * template.c
 *	  A screenshot template: its parameters, and the API's rules for them
 *
 * As in task.c, all is checked that can be without asking the API.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "api/task.h"
#include "api/template.h"

/* In bytes of UTF-8 */
#define MAX_NAME			255
#define MAX_DESCRIPTION		1024

#define MAX_REGION			63
#define MAX_BUCKET			60	/* with its "-APPID" */

/* In seconds */
#define MIN_INTERVAL		2
#define MAX_INTERVAL		300

/* In pixels */
#define MAX_WIDTH			3000
#define MAX_HEIGHT			2000

static void check_label(const char *parameter, const char *value, size_t most);
static void check_bucket(const ScreenshotTemplate *template);
static void check_region(const char *region);
static void check_size(const char *parameter, int64 value, int most);

/*
 * Check the parameters of a template to create now.  Raises an error that
 * names the parameter.
 */
void
live_check_template(const ScreenshotTemplate *template)
{
	check_label("name", template->name, MAX_NAME);
	if (template->cos_app_id <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cos_app_id must be greater than zero"),
				 errdetail("It is %lld.", (long long) template->cos_app_id),
				 errhint("Use the APPID of the bucket's account, with which the bucket's full name ends.")));
	check_bucket(template);
	check_region(template->cos_region);
	if (template->snapshot_interval < MIN_INTERVAL ||
		template->snapshot_interval > MAX_INTERVAL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("snapshot_interval must be %d to %d seconds",
						MIN_INTERVAL, MAX_INTERVAL),
				 errdetail("It is %lld.",
						   (long long) template->snapshot_interval)));
	check_size("width", template->width, MAX_WIDTH);
	check_size("height", template->height, MAX_HEIGHT);
	if (template->porn_flag != 0 && template->porn_flag != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("porn_flag must be 0 or 1"),
				 errdetail("It is %lld.", (long long) template->porn_flag),
				 errhint("Use 1 to have the screenshots checked for pornography, or 0 not to.")));
	if (template->cos_prefix != NULL)
		live_check_text("cos_prefix", template->cos_prefix, 1, LIVE_MAX_NAME);
	if (template->cos_file_name != NULL)
		live_check_text("cos_file_name", template->cos_file_name, 1, LIVE_MAX_NAME);
	if (template->description != NULL)
		check_label("description", template->description, MAX_DESCRIPTION);
}

/*
 * Check a TemplateId by which a template is named.  Raises an error.
 */
void
live_check_template_id(int64 template_id)
{
	if (template_id <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("template_id must be greater than zero"),
				 errdetail("It is %lld.", (long long) template_id)));
}

/*
 * Check a text of letters of any script, digits, "_" and "-".  Which characters
 * beyond ASCII the API takes for letters is left to the API.
 */
static void
check_label(const char *parameter, const char *value, size_t most)
{
	char	   *utf8 = pg_server_to_any(value, (int) strlen(value), PG_UTF8);

	live_check_text(parameter, utf8, 1, most);
	for (const char *c = value; *c != '\0'; c++)
	{
		if (!IS_HIGHBIT_SET(*c) && *c != '_' && *c != '-' &&
			!(*c >= '0' && *c <= '9') &&
			!(*c >= 'a' && *c <= 'z') && !(*c >= 'A' && *c <= 'Z'))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s must consist of letters, digits, underscores and hyphens",
							parameter),
					 errdetail("It is \"%s\".", value)));
	}
}

/*
 * Check the name of a bucket.  The APPID is a parameter of its own, although
 * the console shows it as part of the name.
 */
static void
check_bucket(const ScreenshotTemplate *template)
{
	const char *bucket = template->cos_bucket;
	size_t		len = strlen(bucket);
	char	   *suffix = psprintf("-%lld", (long long) template->cos_app_id);

	live_check_text("cos_bucket", bucket, 1, MAX_BUCKET);
	if (strspn(bucket, "abcdefghijklmnopqrstuvwxyz0123456789-") != len ||
		bucket[0] == '-' || bucket[len - 1] == '-')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cos_bucket must consist of lower-case letters, digits and inner hyphens"),
				 errdetail("It is \"%s\".", bucket)));
	if (len > strlen(suffix) &&
		strcmp(bucket + len - strlen(suffix), suffix) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cos_bucket must not include the APPID"),
				 errdetail("It is \"%s\", and cos_app_id is %lld.", bucket,
						   (long long) template->cos_app_id),
				 errhint("Use \"%.*s\".", (int) (len - strlen(suffix)), bucket)));
}

static void
check_region(const char *region)
{
	live_check_text("cos_region", region, 1, MAX_REGION);
	if (strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(region))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cos_region must consist of lower-case letters, digits and hyphens"),
				 errdetail("It is \"%s\".", region),
				 errhint("Use a region such as \"ap-guangzhou\".")));
}

static void
check_size(const char *parameter, int64 value, int most)
{
	if (value < 0 || value > most)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be 0 to %d pixels", parameter, most),
				 errdetail("It is %lld.", (long long) value),
				 errhint("Use 0 for the %s of the stream.", parameter)));
}

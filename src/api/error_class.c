/*-------------------------------------------------------------------------
 *
 * error_class.c
 *	  What the error codes of the API mean
 *
 * One table for all actions: what follows from an outcome is not decided here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/error_class.h"

/*
 * The classes of error codes, for all actions.  A code is looked up by its
 * full name, then by the part before its first dot; one that is not found is
 * LIVE_UNKNOWN, as are those that the API gives when it does not know itself
 * what it did: InternalError, other FailedOperation codes, ServiceUnavailable,
 * ResponseSizeLimitExceeded.
 *
 * MissingParameter and UnknownParameter are not the request's fault: all
 * required keys are always sent, and no others.  What is missing is the
 * region, or what is unknown belongs to another version of the API.
 */
#define MANY_REQUESTS	LIVE_THROTTLED, ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, 0
#define QUOTA			LIVE_QUOTA, ERRCODE_CONFIGURATION_LIMIT_EXCEEDED
#define CREDENTIALS		LIVE_CREDENTIALS, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, 0
#define PERMISSION		LIVE_PERMISSION, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, 0
#define SERVICE_STATE	LIVE_SERVICE_STATE, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, 0
#define NOT_OFFERED		LIVE_ENVIRONMENT, ERRCODE_FEATURE_NOT_SUPPORTED, 0
#define ADDRESS			LIVE_ADDRESS, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, 0
#define PARAMETERS		LIVE_REFUSED, ERRCODE_INVALID_PARAMETER_VALUE, 0
#define OPERATION		LIVE_REFUSED, ERRCODE_FEATURE_NOT_SUPPORTED, 0
#define STATE			LIVE_REFUSED, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, 0

static const ErrorClass error_classes[] = {
	{"RequestLimitExceeded", MANY_REQUESTS},
	{"LimitExceeded.RateLimitExceeded", MANY_REQUESTS},

	{"LimitExceeded.MaximumTask", QUOTA, 900},	/* of a day */
	{"LimitExceeded", QUOTA, 0},
	{"InternalError.ConfOutLimit", QUOTA, 0},	/* of templates */
	{"ResourceInsufficient", QUOTA, 0},
	{"ResourcesSoldOut", QUOTA, 0},
	{"ResourceUnavailable", QUOTA, 0},
	{"ResourceInUse", QUOTA, 0},

	{"AuthFailure.UnauthorizedOperation", PERMISSION},
	{"AuthFailure", CREDENTIALS},
	{"UnauthorizedOperation", PERMISSION},

	{"ResourceNotFound.ForbidService", SERVICE_STATE},
	{"ResourceNotFound.FreezeService", SERVICE_STATE},
	{"ResourceNotFound.InvalidUser", SERVICE_STATE},
	{"ResourceNotFound.StopService", SERVICE_STATE},
	{"ResourceNotFound.UserDisableService", SERVICE_STATE},
	{"ResourceNotFound.UserNotExist", SERVICE_STATE},
	{"UnsupportedOperation.NotLVBCodeMode", SERVICE_STATE},
	{"FailedOperation.AuthError", SERVICE_STATE},
	{"FailedOperation.JiFeiNoEnoughFund", SERVICE_STATE},
	{"FailedOperation.NoRealNameAuth", SERVICE_STATE},
	{"FailedOperation.SdkNoPackage", SERVICE_STATE},
	{"OperationDenied", SERVICE_STATE},

	{"InvalidAction", NOT_OFFERED},
	{"NoSuchProduct", NOT_OFFERED},
	{"NoSuchVersion", NOT_OFFERED},
	{"ActionOffline", NOT_OFFERED},
	{"UnsupportedRegion", NOT_OFFERED},
	{"UnsupportedProtocol", NOT_OFFERED},
	{"MissingParameter", NOT_OFFERED},
	{"UnknownParameter", NOT_OFFERED},
	{"IpInBlacklist", ADDRESS},
	{"IpNotInWhitelist", ADDRESS},

	{"InvalidParameter", PARAMETERS},
	{"InvalidParameterValue", PARAMETERS},
	{"UnsupportedOperation", OPERATION},
	{"InvalidRequest", PARAMETERS},
	{"RequestSizeLimitExceeded", PARAMETERS},
	{"ResourceNotFound", PARAMETERS},
	{"DryRunOperation", PARAMETERS},

	/* templates, and where they store pictures */
	{"FailedOperation.CosBucketNotExist", PARAMETERS},
	{"FailedOperation.CosBucketNotPermission", STATE},
	{"FailedOperation.CosRoleNotExists", STATE},
	{"FailedOperation.NotFound", PARAMETERS},
	{"FailedOperation.ConfInUsed", STATE},
	{"InternalError.ConfInUsed", STATE},
	{"InternalError.ConfNotFound", PARAMETERS},
};

/*
 * Hints about some codes.
 */
static const struct
{
	const char *code;
	const char *hint;
}			error_hints[] = {
	{"AuthFailure.SecretIdNotFound", "The secret_id is wrong, was deleted or disabled in the console, or belongs to an account of the other edition than the server option \"endpoint\"."},
	{"AuthFailure.InvalidSecretId", "The secret_id is not that of an API key."},
	{"AuthFailure.SignatureFailure", "The secret_key probably does not belong to the secret_id."},
	{"AuthFailure.SignatureExpire", "Set this machine's clock, which is off by more than five minutes."},
	{LIVE_TOKEN_FAILURE, "The token has expired, does not belong to the secret_id, or is missing.  Temporary credentials consist of all three."},
	{"AuthFailure.MFAFailure", "The account requires a second factor for this, which a request cannot supply.  Use the key of an account that does not."},
	{"AuthFailure.InvalidAuthorization", "The API could not parse the Authorization header.  Check whether a proxy changes it."},
	{"FailedOperation.CosBucketNotExist", "Check cos_bucket, cos_region and cos_app_id.  The name of a bucket has no \"-APPID\" at its end here."},
	{"FailedOperation.CosBucketNotPermission", "Allow the Live service to write to the bucket, in the console of Cloud Object Storage."},
	{"FailedOperation.CosRoleNotExists", "Authorize the Live service to use Cloud Object Storage, in the Live console under Feature Configuration, Live Screencapture."},
	{"FailedOperation.NotFound", "describe_screenshot_templates() lists the templates of the account."},
	{"InternalError.ConfNotFound", "describe_screenshot_templates() lists the templates of the account."},
	{"FailedOperation.ConfInUsed", "Remove the rules that use the template first, in the Live console."},
	{"InternalError.ConfInUsed", "Remove the rules that use the template first, in the Live console."},
	{"InternalError.ConfOutLimit", "An account can have 50 templates.  Remove an unused one with delete_screenshot_template()."},
};

/*
 * The class of an error code; NULL if it is in none.
 */
const ErrorClass *
find_error_class(const char *code)
{
	size_t		first_part = strcspn(code, ".");

	/*
	 * The full name first: some codes mean something else than others with the
	 * same first part.
	 */
	for (int i = 0; i < (int) lengthof(error_classes); i++)
	{
		if (strcmp(error_classes[i].code, code) == 0)
			return &error_classes[i];
	}
	for (int i = 0; i < (int) lengthof(error_classes); i++)
	{
		/*
		 * The whole first part must match, so that "InvalidParameterValue" is
		 * not taken for "InvalidParameter".
		 */
		if (strlen(error_classes[i].code) == first_part &&
			strncmp(error_classes[i].code, code, first_part) == 0)
			return &error_classes[i];
	}
	return NULL;
}

/*
 * What to do about an error code, as a sentence; NULL: the code does not tell.
 */
const char *
live_error_hint(const char *code)
{
	for (int i = 0; i < (int) lengthof(error_hints); i++)
	{
		if (strcmp(error_hints[i].code, code) == 0)
			return error_hints[i].hint;
	}
	return NULL;
}

/*-------------------------------------------------------------------------
 *
 * error_class.h
 *	  What the error codes of the API mean
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_ERROR_CLASS_H
#define SCREENSHOT_TASK_ERROR_CLASS_H

/* The code for a token that does not, or no longer, belong to the secret_id */
#define LIVE_TOKEN_FAILURE	"AuthFailure.TokenFailure"

/* The code for a signature that was made too long ago, or is yet to be made */
#define LIVE_SIGNATURE_EXPIRED	"AuthFailure.SignatureExpire"

/* What an answer means, by its error code */
typedef enum LiveOutcome
{
	LIVE_DONE,					/* the API did it */
	LIVE_NOT_SENT,				/* never left; nothing was done */
	LIVE_THROTTLED,				/* refused by the rate limit */
	LIVE_QUOTA,					/* refused by another limit */
	LIVE_CREDENTIALS,			/* refused: who asks */
	LIVE_PERMISSION,			/* refused: who asks for this, perhaps of the
								 * domain alone */
	LIVE_SERVICE_STATE,			/* refused: the account's service */
	LIVE_ADDRESS,				/* refused: this machine, by the account */
	LIVE_ENVIRONMENT,			/* refused: where and how it was asked */
	LIVE_REFUSED,				/* refused: the request itself, for good */
	LIVE_UNKNOWN				/* perhaps done, perhaps not */
} LiveOutcome;

/* A class of error codes */
typedef struct ErrorClass
{
	const char *code;
	LiveOutcome outcome;
	int			sqlstate;
	int			retry_after;	/* seconds, at the least; 0: as usual */
} ErrorClass;

extern const ErrorClass *find_error_class(const char *code);
extern const char *live_error_hint(const char *code);

#endif							/* SCREENSHOT_TASK_ERROR_CLASS_H */

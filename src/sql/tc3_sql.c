/*-------------------------------------------------------------------------
 *
 * tc3_sql.c
 *	  Signing, as a test can call it
 *
 * No object of the extension uses this: a test creates a function of its own
 * on it, to hold the signer against the vendor's examples.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "compat.h"
#include "api/tc3.h"

static char *get_text(FunctionCallInfo fcinfo, int arg);

PG_FUNCTION_INFO_V1(screenshot_task_tc3);

/*
 * (method, query, content_type, host, action, service, body, timestamp,
 * secret_id, secret_key) returns (canonical_hash, signature); a null action
 * is not signed.
 *
 * The signer is kept from call to call, as that of a session is.
 */
Datum
screenshot_task_tc3(PG_FUNCTION_ARGS)
{
	static Tc3Signer *signer = NULL;
	Tc3Request	request = {
		.method = get_text(fcinfo, 0),
		.query = get_text(fcinfo, 1),
		.content_type = get_text(fcinfo, 2),
		.host = get_text(fcinfo, 3),
		.action = get_text(fcinfo, 4),
		.service = get_text(fcinfo, 5),
		.body = get_text(fcinfo, 6),
		.body_len = PG_ARGISNULL(6) ? 0 : strlen(get_text(fcinfo, 6)),
		.timestamp = PG_GETARG_INT64(7)
	};
	Tc3Signature signature;
	const char *problem;
	TupleDesc	row_type;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	if (get_call_result_type(fcinfo, NULL, &row_type) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (signer == NULL)
		signer = tc3_signer_new();
	if (signer == NULL)
		elog(ERROR, "could not make a signer");

	problem = tc3_sign(signer, &request, get_text(fcinfo, 8),
					   get_text(fcinfo, 9), &signature);
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("could not sign the request: %s", problem)));

	values[0] = CStringGetTextDatum(signature.canonical_hash);
	values[1] = CStringGetTextDatum(signature.signature);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row_type),
													  values, nulls)));
}

static char *
get_text(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

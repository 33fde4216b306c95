/*-------------------------------------------------------------------------
 *
 * arguments.h
 *	  Reading the arguments of SQL functions that call the API
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_ARGUMENTS_H
#define SCREENSHOT_TASK_ARGUMENTS_H

#include "datatype/timestamp.h"
#include "fmgr.h"

extern char *require_text(FunctionCallInfo fcinfo, int arg, const char *name);
extern char *optional_text(FunctionCallInfo fcinfo, int arg);
extern int32 require_int32(FunctionCallInfo fcinfo, int arg, const char *name);
extern int64 require_int64(FunctionCallInfo fcinfo, int arg, const char *name);
extern TimestampTz require_time(FunctionCallInfo fcinfo, int arg,
								const char *name);
extern char *read_server_name(FunctionCallInfo fcinfo, int arg);

#endif							/* SCREENSHOT_TASK_ARGUMENTS_H */

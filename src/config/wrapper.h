/*-------------------------------------------------------------------------
 *
 * wrapper.h
 *	  The foreign-data wrapper that servers of the API belong to
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_WRAPPER_H
#define SCREENSHOT_TASK_WRAPPER_H

#include "nodes/pg_list.h"

#define FDW_NAME			"tencent_cloud"

extern List *live_server_names(Oid role);

#endif							/* SCREENSHOT_TASK_WRAPPER_H */

/*-------------------------------------------------------------------------
 *
 * server.h
 *	  Foreign servers of the wrapper tencent_cloud
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_SERVER_H
#define SCREENSHOT_TASK_SERVER_H

#include "api/sign.h"
#include "config/options.h"
#include "net/http.h"

extern void check_live_server(const char *name, Oid role);
extern LiveServer *get_live_server(const char *name, Oid role);
extern void require_enabled_server(const LiveServer *server);
extern void server_use_fallback(LiveServer *server);
extern void server_http_request(const LiveServer *server,
								const LiveRequest *request, HttpRequest *http);

#endif							/* SCREENSHOT_TASK_SERVER_H */

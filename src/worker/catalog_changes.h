/*-------------------------------------------------------------------------
 *
 * catalog_changes.h
 *	  What has changed in the catalogs that matters to the worker
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_CATALOG_CHANGES_H
#define SCREENSHOT_TASK_CATALOG_CHANGES_H

#include "util/monotonic.h"

extern void catalog_changes_init(Oid database);
extern void check_catalog_change(void);
extern void check_database_change(void);
extern bool take_server_change(void);
extern bool database_is_served(void);
extern MonotonicUs catalog_changes_next_event(void);

#endif							/* SCREENSHOT_TASK_CATALOG_CHANGES_H */

/*-------------------------------------------------------------------------
 *
 * skip_list.h
 *	  Requests that cannot be changed for now
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_SKIP_LIST_H
#define SCREENSHOT_TASK_SKIP_LIST_H

#include "util/monotonic.h"

extern void skip_list_add(int64 id, const char *reason);
extern void skip_list_add_locked(int64 id, MonotonicUs how_long);
extern bool skip_list_has(int64 id);
extern bool skip_list_has_failed(void);
extern bool skip_list_is_long(void);
extern bool skip_list_is_full(void);
extern Datum skip_list_array(void);
extern MonotonicUs skip_list_next_event(void);
extern void skip_list_expire(MonotonicUs now);

#endif							/* SCREENSHOT_TASK_SKIP_LIST_H */

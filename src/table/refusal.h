/*-------------------------------------------------------------------------
 *
 * refusal.h
 *	  Requests that cannot be changed for now
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_REFUSAL_H
#define SCREENSHOT_TASK_REFUSAL_H

#include "util/monotonic.h"

extern void refusal_note(int64 id, const char *reason);
extern void refusal_note_lock(int64 id, MonotonicUs how_long);
extern bool refusal_holds(int64 id);
extern bool refusals_exist(void);
extern bool refusals_are_many(void);
extern bool refusals_are_too_many(void);
extern Datum refusals_array(void);
extern MonotonicUs refusals_end_at(void);
extern void refusals_end(MonotonicUs now);

#endif							/* SCREENSHOT_TASK_REFUSAL_H */

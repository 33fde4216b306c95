/*-------------------------------------------------------------------------
 *
 * activity.h
 *	  What a worker is doing, for others to see
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_ACTIVITY_H
#define SCREENSHOT_TASK_ACTIVITY_H

#include "datatype/timestamp.h"

#include "util/monotonic.h"

extern void activity_note_error(const char *text);
extern void activity_start(int slot);
extern void activity_set_blocked(bool blocked);
extern bool activity_is_blocked(void);
extern void activity_note_claimed(int n);
extern void activity_note_put_back(bool waits);
extern void activity_note_answered(void);
extern void activity_note_news(void);
extern bool activity_is_uncounted(void);
extern bool activity_count_is_cheap(void);
extern MonotonicUs activity_count_at(void);
extern void activity_set_counts(int64 ready, int64 waiting, int64 in_doubt,
								int64 withdrawing, TimestampTz oldest, int64 took);
extern void activity_set_work(bool has_work);
extern void activity_set_pauses(int n, const char *lines);
extern void activity_publish(int slot, bool busy, int in_flight);

#endif							/* SCREENSHOT_TASK_ACTIVITY_H */

/*-------------------------------------------------------------------------
 *
 * renewal.h
 *	  The worker's fetches of credentials of the machine's role
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_RENEWAL_H
#define SCREENSHOT_TASK_RENEWAL_H

#include "util/monotonic.h"

extern void renew_credentials(void);
extern MonotonicUs renewal_next_event(void);

#endif							/* SCREENSHOT_TASK_RENEWAL_H */

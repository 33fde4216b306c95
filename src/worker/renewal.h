/*-------------------------------------------------------------------------
 *
 * renewal.h
 *	  The worker's fetches of credentials of roles
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_RENEWAL_H
#define SCREENSHOT_TASK_RENEWAL_H

extern void renew_credentials(void);

#endif							/* SCREENSHOT_TASK_RENEWAL_H */

/*-------------------------------------------------------------------------
 *
 * submission_private.h
 *	  What the files of submission know of each other
 *
 * submission.c			claimed requests, until their outcome is written down
 * submission_claim.c	claims, and the permits taken for them
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_SUBMISSION_PRIVATE_H
#define SCREENSHOT_TASK_SUBMISSION_PRIVATE_H

#include "worker/dispatch.h"

/* submission_claim.c */
extern void claim_committed(void);
extern bool claim_take_permit(ChannelJob *job);

#endif							/* SCREENSHOT_TASK_SUBMISSION_PRIVATE_H */

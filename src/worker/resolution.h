/*-------------------------------------------------------------------------
 *
 * resolution.h
 *	  What follows for a request in doubt from what a lookup has found
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_RESOLUTION_H
#define SCREENSHOT_TASK_RESOLUTION_H

#include "worker/lookup.h"

extern bool apply_policy(const DoubtfulRequest *request,
						 const LiveServer *options);
extern bool waits_for_another(const DoubtfulRequest *request, uint64 account,
							  List *alike);
extern void resolve_doubt(Lookup *lookup);
extern void resolutions_committed(void);
extern void resolutions_aborted(void);

#endif							/* SCREENSHOT_TASK_RESOLUTION_H */

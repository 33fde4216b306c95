/*-------------------------------------------------------------------------
 *
 * background_worker.h
 *	  A worker as a background process: starting one, and being one
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_BACKGROUND_WORKER_H
#define SCREENSHOT_TASK_BACKGROUND_WORKER_H

#include "postmaster/bgworker.h"

extern bool worker_start(Oid database, BackgroundWorkerHandle **handle);
extern void worker_begin(void);
extern bool worker_is_me(void);

#endif							/* SCREENSHOT_TASK_BACKGROUND_WORKER_H */

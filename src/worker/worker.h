/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  The process that sends a database's requests
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_WORKER_H
#define SCREENSHOT_TASK_WORKER_H

#include "postmaster/bgworker.h"

extern bool worker_is_me(void);
extern bool worker_start(Oid database, BackgroundWorkerHandle **handle);

#endif							/* SCREENSHOT_TASK_WORKER_H */

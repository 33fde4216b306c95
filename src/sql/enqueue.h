/*-------------------------------------------------------------------------
 *
 * enqueue.h
 *	  A new row of screenshot_task_request
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_ENQUEUE_H
#define SCREENSHOT_TASK_ENQUEUE_H

#include "executor/spi.h"

extern void insert_request(SPIPlanPtr plan, Datum *args, const char *nulls);

#endif							/* SCREENSHOT_TASK_ENQUEUE_H */

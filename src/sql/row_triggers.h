/*-------------------------------------------------------------------------
 *
 * row_triggers.h
 *	  The extension's triggers on screenshot_task_request
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_ROW_TRIGGERS_H
#define SCREENSHOT_TASK_ROW_TRIGGERS_H

#include "executor/spi.h"

extern void insert_request(SPIPlanPtr plan, Datum *args, const char *nulls);

#endif							/* SCREENSHOT_TASK_ROW_TRIGGERS_H */

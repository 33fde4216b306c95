/*-------------------------------------------------------------------------
 *
 * trigger_arguments.h
 *	  What the arguments of screenshot_task_trigger() say
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_TRIGGER_ARGUMENTS_H
#define SCREENSHOT_TASK_TRIGGER_ARGUMENTS_H

#include "access/htup.h"
#include "utils/reltrigger.h"
#include "utils/relcache.h"

#include "sql/request_parameters.h"

/* The argument that is no parameter */
#define AS_OWNER	"as_owner"

typedef struct TriggerArguments TriggerArguments;

extern TriggerArguments *read_trigger_arguments(const Trigger *trigger,
												Relation relation,
												MemoryContext context);
extern bool acts_as_owner(const TriggerArguments *arguments);
extern bool row_has_changed(const TriggerArguments *arguments, HeapTuple old,
							HeapTuple new);
extern void take_row(const TriggerArguments *arguments, HeapTuple row,
					 bool is_old, RequestValues *values);

#endif							/* SCREENSHOT_TASK_TRIGGER_ARGUMENTS_H */

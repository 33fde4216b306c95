/*-------------------------------------------------------------------------
 *
 * database.h
 *	  Which databases may have a worker
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_DATABASE_H
#define SCREENSHOT_TASK_DATABASE_H

#include "catalog/pg_database.h"

extern bool can_be_served(Form_pg_database database);
extern bool database_may_be_served(Oid database);

#endif							/* SCREENSHOT_TASK_DATABASE_H */

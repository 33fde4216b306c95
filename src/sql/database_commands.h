/*-------------------------------------------------------------------------
 *
 * database_commands.h
 *	  Keeping the worker out of the way of commands on its database
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_DATABASE_COMMANDS_H
#define SCREENSHOT_TASK_DATABASE_COMMANDS_H

extern void database_commands_init(void);

#endif							/* SCREENSHOT_TASK_DATABASE_COMMANDS_H */

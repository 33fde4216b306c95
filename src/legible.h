/*-------------------------------------------------------------------------
 *
 * legible.h
 *	  Texts of one database, read in another
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_LEGIBLE_H
#define SCREENSHOT_TASK_LEGIBLE_H

extern void make_legible(char *text, Oid database);

#endif							/* SCREENSHOT_TASK_LEGIBLE_H */

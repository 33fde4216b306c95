/*-------------------------------------------------------------------------
 *
 * crash_point.h
 *	  Places at which a test build can be slowed down, or killed
 *
 * Nothing, unless built with CRASH_POINTS (make CRASH_POINTS=1).
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_CRASH_POINT_H
#define SCREENSHOT_TASK_CRASH_POINT_H

#ifdef CRASH_POINTS
extern void crash_point(const char *name);
#define CRASH_POINT(name) crash_point(name)
#else
#define CRASH_POINT(name) ((void) 0)
#endif

#endif							/* SCREENSHOT_TASK_CRASH_POINT_H */

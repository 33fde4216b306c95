/*-------------------------------------------------------------------------
 *
 * crash_point.h
 *	  Places at which a test build can be slowed down, killed, or made to err
 *
 * CRASH_POINT() is a place to stop or die at.  MUTANT() is whether the code
 * should make a certain mistake, which shows that the tests would notice.
 * Both are nothing, unless built with CRASH_POINTS (make CRASH_POINTS=1).
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_CRASH_POINT_H
#define SCREENSHOT_TASK_CRASH_POINT_H

#ifdef CRASH_POINTS
extern void crash_point(const char *name);
extern bool mutant(const char *name);
#define CRASH_POINT(name) crash_point(name)
#define MUTANT(name) mutant(name)
#else
#define CRASH_POINT(name) ((void) 0)
#define MUTANT(name) false
#endif

#endif							/* SCREENSHOT_TASK_CRASH_POINT_H */

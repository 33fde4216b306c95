/*-------------------------------------------------------------------------
 *
 * segment.h
 *	  The segment of shared memory, and who has which part of it
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_SEGMENT_H
#define SCREENSHOT_TASK_SEGMENT_H

extern void segment_init(void);

#endif							/* SCREENSHOT_TASK_SEGMENT_H */

/*-------------------------------------------------------------------------
 *
 * text.h
 *	  Texts: for databases of other encodings, clipped, compared, wiped
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_TEXT_H
#define SCREENSHOT_TASK_TEXT_H

extern void make_readable(char *text, Oid database);
extern void clip_text(char *to, const char *from, Size size);
extern const char *closest_name(const char *name, const char *const *names,
								int n);
extern void wipe_text(char *secret);

#endif							/* SCREENSHOT_TASK_TEXT_H */

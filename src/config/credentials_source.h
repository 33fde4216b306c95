/*-------------------------------------------------------------------------
 *
 * credentials_source.h
 *	  The sources that credentials are read from, a file each
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_CREDENTIALS_SOURCE_H
#define SCREENSHOT_TASK_CREDENTIALS_SOURCE_H

#include "config/options.h"

/*
 * Each sets what it reads in *credentials, palloc'd.  It raises an error if there
 * is nothing to read, or what it reads is not valid; what is set by then is the
 * caller's to wipe.
 */
extern void read_user_mapping(const LiveServer *server, Oid role,
							  Credentials *credentials);
extern void read_environment(Credentials *credentials);
extern void read_file(Credentials *credentials);

#endif							/* SCREENSHOT_TASK_CREDENTIALS_SOURCE_H */

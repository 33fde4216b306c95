/*-------------------------------------------------------------------------
 *
 * secret_file.h
 *	  Small files that hold secrets
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_SECRET_FILE_H
#define SCREENSHOT_TASK_SECRET_FILE_H

#include <sys/stat.h>

/* Raises an error if a file may not be as it is */
typedef void (*FileCheck) (const char *path, const struct stat *status);

extern char *secret_file_read(const char *path, const char *what, size_t max,
							  FileCheck check, size_t *len);

#endif							/* SCREENSHOT_TASK_SECRET_FILE_H */

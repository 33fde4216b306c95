/*-------------------------------------------------------------------------
 *
 * seal.h
 *	  Sealing of secrets that are kept where others may look
 *
 * Nothing here knows of PostgreSQL: no elog, no palloc, no longjmp.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SEAL_H
#define SEAL_H

#include <stdbool.h>
#include <stddef.h>

/* How much longer what is sealed is than what was: nonce and tag, in bytes */
#define SEAL_OVERHEAD		(12 + 16)

extern bool seal_make_key(void);
extern bool seal(const void *plain, size_t len, const char *label,
				 unsigned char *sealed);
extern bool seal_open(const unsigned char *sealed, size_t sealed_len,
					  const char *label, void *plain);

#endif							/* SEAL_H */

/*-------------------------------------------------------------------------
 *
 * role_answer.h
 *	  What the vendor's metadata service says of a machine's role
 *
 * Nothing here knows of PostgreSQL: no elog, no palloc, no longjmp.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROLE_ANSWER_H
#define ROLE_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The longest name of a role, in bytes */
#define ROLE_MAX_NAME		128

/* A set of temporary credentials.  The strings lie in the answer. */
typedef struct RoleAnswer
{
	const char *secret_id;
	const char *secret_key;
	const char *token;
	int64_t		ends_at;		/* Unix seconds */
} RoleAnswer;

extern const char *role_read_name(const char *body, size_t len,
								  char name[ROLE_MAX_NAME + 1]);
extern const char *role_read_set(char *body, size_t len, RoleAnswer *answer);

#endif							/* ROLE_ANSWER_H */

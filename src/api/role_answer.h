/*-------------------------------------------------------------------------
 *
 * role_answer.h
 *	  What is said of a role, by the vendor's metadata service or by STS
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROLE_ANSWER_H
#define ROLE_ANSWER_H

/* The longest name of a role, in bytes */
#define ROLE_MAX_NAME		128

/* A set of temporary credentials; the strings are palloc'd. */
typedef struct RoleAnswer
{
	char	   *code;			/* "Success", of the metadata service; of STS, the
								 * code of an error */
	char	   *request_id;		/* of an error */
	char	   *secret_id;		/* TmpSecretId */
	char	   *secret_key;		/* TmpSecretKey */
	char	   *token;			/* Token */
	int64		ends_at;		/* ExpiredTime, Unix seconds; 0: not given */
} RoleAnswer;

extern const char *role_read_name(const char *body, size_t len,
								  char name[ROLE_MAX_NAME + 1]);
extern const char *role_read_set(const char *body, size_t len,
								 RoleAnswer *answer);
extern const char *sts_read_set(const char *body, size_t len,
								RoleAnswer *answer);
extern void role_wipe_answer(RoleAnswer *answer);

#endif							/* ROLE_ANSWER_H */

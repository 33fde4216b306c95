/*-------------------------------------------------------------------------
 *
 * role_answer.c
 *	  What the vendor's metadata service says of a machine's role
 *
 * Its answers are small, and the second holds a key.  So that is read where it
 * lies, with a scanner that makes no copy of anything: whoever wipes the
 * answer has wiped all.
 *
 * What the strings may consist of is checked here only for the role's name,
 * which becomes part of a URL.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/role_answer.h"

#define MAX_DEPTH		8

#define NAME_CHARACTERS \
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.@=,+-"

static bool read_object(char *at, RoleAnswer *answer, const char **code);
static char *read_field(char *at, const char *name, RoleAnswer *answer,
						const char **code);
static char *read_string(char *at, const char **value);
static char read_escape(char **at);
static char *read_number(char *at, int64_t *value);
static char *skip_value(char *at, int depth);
static char *skip_space(char *at);

/*
 * Read the name of the machine's role.
 *
 * Returns NULL, or what is wrong with the answer, in words that follow the
 * service's name.
 */
const char *
role_read_name(const char *body, size_t len, char name[ROLE_MAX_NAME + 1])
{
	while (len > 0 && (body[len - 1] == '\n' || body[len - 1] == '\r' ||
					   body[len - 1] == ' '))
		len--;
	if (len == 0)
		return "names no role";
	if (len > ROLE_MAX_NAME || memchr(body, '\0', len) != NULL)
		return "gives no valid name of a role";
	memcpy(name, body, len);
	name[len] = '\0';
	if (strspn(name, NAME_CHARACTERS) != len || name[0] == '.' ||
		strstr(name, "..") != NULL)
	{
		name[0] = '\0';
		return "gives no valid name of a role";
	}
	return NULL;
}

/*
 * Read a set of credentials.  body[len] must be NUL; the body is changed.
 *
 * Returns as above.
 */
const char *
role_read_set(char *body, size_t len, RoleAnswer *answer)
{
	const char *code = NULL;

	memset(answer, 0, sizeof(*answer));
	if (strlen(body) != len || !read_object(body, answer, &code))
		return "does not answer with a JSON object";
	if (code == NULL)
		return "gives no Code";
	if (strcmp(code, "Success") != 0)
		return "gives a Code other than \"Success\"";
	if (answer->secret_id == NULL)
		return "gives no TmpSecretId";
	if (answer->secret_key == NULL)
		return "gives no TmpSecretKey";
	if (answer->token == NULL)
		return "gives no Token";
	if (answer->ends_at <= 0)
		return "gives no ExpiredTime";
	return NULL;
}

/* ------------------------------------------------------------------ scanner
 * A function that reads something returns what is after it, or NULL if there
 * is something else.
 */

static bool
read_object(char *at, RoleAnswer *answer, const char **code)
{
	const char *name;

	at = skip_space(at);
	if (*at++ != '{')
		return false;
	at = skip_space(at);
	if (*at == '}')
		return *skip_space(at + 1) == '\0';
	do
	{
		at = read_string(skip_space(at), &name);
		if (at == NULL)
			return false;
		at = skip_space(at);
		if (*at++ != ':')
			return false;
		at = read_field(skip_space(at), name, answer, code);
		if (at == NULL)
			return false;
		at = skip_space(at);
	} while (*at++ == ',');
	return at[-1] == '}' && *skip_space(at) == '\0';
}

/*
 * Read the value of a field, into where it belongs.
 */
static char *
read_field(char *at, const char *name, RoleAnswer *answer, const char **code)
{
	if (strcmp(name, "ExpiredTime") == 0)
		return read_number(at, &answer->ends_at);
	if (strcmp(name, "Code") == 0)
		return read_string(at, code);
	if (strcmp(name, "TmpSecretId") == 0)
		return read_string(at, &answer->secret_id);
	if (strcmp(name, "TmpSecretKey") == 0)
		return read_string(at, &answer->secret_key);
	if (strcmp(name, "Token") == 0)
		return read_string(at, &answer->token);
	return skip_value(at, 0);
}

/*
 * Read a string, which is decoded and terminated where it lies.
 */
static char *
read_string(char *at, const char **value)
{
	char	   *out;

	if (*at++ != '"')
		return NULL;
	*value = out = at;
	while (*at != '"')
	{
		char		c = *at++;

		if ((unsigned char) c < ' ')
			return NULL;
		if (c == '\\')
		{
			c = read_escape(&at);
			if (c == '\0')
				return NULL;
		}
		*out++ = c;
	}
	*out = '\0';
	return at + 1;
}

/*
 * The character that an escape stands for; NUL if it is not valid.  One that
 * is not ASCII becomes a byte that is none: nothing that is wanted has any.
 */
static char
read_escape(char **at)
{
	static const char escapes[] = "\"\\/bfnrt";
	static const char meanings[] = "\"\\/\b\f\n\r\t";
	char		c = *(*at)++;
	const char *found;
	int			code = 0;

	if (c == 'u')
	{
		for (int i = 0; i < 4; i++)
		{
			static const char digits[] = "0123456789abcdef0123456789ABCDEF";
			const char *digit;

			c = *(*at)++;
			if (c == '\0' || (digit = strchr(digits, c)) == NULL)
				return '\0';
			code = code * 16 + (int) ((digit - digits) % 16);
		}
		return code < 0x80 ? (char) code : (char) 0xff;
	}
	if (c == '\0' || (found = strchr(escapes, c)) == NULL)
		return '\0';
	return meanings[found - escapes];
}

static char *
read_number(char *at, int64_t *value)
{
	char	   *end;

	if (*at < '0' || *at > '9')
		return NULL;
	errno = 0;
	*value = strtoll(at, &end, 10);
	return errno == 0 ? end : NULL;
}

/*
 * Pass over any value.
 */
static char *
skip_value(char *at, int depth)
{
	const char *ignored;
	char		open = *at;
	char		close = open == '{' ? '}' : ']';
	size_t		len;

	if (open == '"')
		return read_string(at, &ignored);
	if (open != '{' && open != '[')
	{
		len = strspn(at, "abcdefghijklmnopqrstuvwxyzE0123456789+-.");
		return len > 0 ? at + len : NULL;
	}
	if (depth == MAX_DEPTH)
		return NULL;
	at = skip_space(at + 1);
	if (*at == close)
		return at + 1;
	for (;;)
	{
		if (open == '{')
		{
			at = read_string(at, &ignored);
			if (at == NULL)
				return NULL;
			at = skip_space(at);
			if (*at++ != ':')
				return NULL;
			at = skip_space(at);
		}
		at = skip_value(at, depth + 1);
		if (at == NULL)
			return NULL;
		at = skip_space(at);
		if (*at == close)
			return at + 1;
		if (*at++ != ',')
			return NULL;
		at = skip_space(at);
	}
}

static char *
skip_space(char *at)
{
	return at + strspn(at, " \t\r\n");
}

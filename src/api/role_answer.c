/*-------------------------------------------------------------------------
 *
 * role_answer.c
 *	  What is said of a role, by the vendor's metadata service or by STS
 *
 * An answer with credentials holds a key.  PostgreSQL's JSON parser hands each
 * value over to its callback, and keeps the last in a buffer that does not
 * grow: both are wiped.
 *
 * What the strings may consist of is checked here only for the role's name,
 * which becomes part of a URL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/jsonapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/elog.h"

#include "compat.h"
#include "api/role_answer.h"

#define MAX_DEPTH		8

#define CODE_CHARACTERS \
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._"
#define REQUEST_ID_CHARACTERS \
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"
#define NAME_CHARACTERS \
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.@=,+-"

/* The longest error code and RequestId, in bytes */
#define MAX_CODE		128
#define MAX_REQUEST_ID	64

/* A member of an answer that is read, by its name after those of the objects
 * that it is in */
typedef struct Member
{
	const char *path[4];		/* the last is NULL */
	size_t		offset;			/* of its value, in a RoleAnswer */
	bool		is_number;		/* else it is a text */
} Member;

#define TEXT(field)		offsetof(RoleAnswer, field), false
#define NUMBER(field)	offsetof(RoleAnswer, field), true

static const Member metadata_members[] = {
	{{"Code"}, TEXT(code)},
	{{"TmpSecretId"}, TEXT(secret_id)},
	{{"TmpSecretKey"}, TEXT(secret_key)},
	{{"Token"}, TEXT(token)},
	{{"ExpiredTime"}, NUMBER(ends_at)},
};

static const Member sts_members[] = {
	{{"Response", "Credentials", "TmpSecretId"}, TEXT(secret_id)},
	{{"Response", "Credentials", "TmpSecretKey"}, TEXT(secret_key)},
	{{"Response", "Credentials", "Token"}, TEXT(token)},
	{{"Response", "ExpiredTime"}, NUMBER(ends_at)},
	{{"Response", "Error", "Code"}, TEXT(code)},
	{{"Response", "RequestId"}, TEXT(request_id)},
};

/* While an answer is parsed */
typedef struct Parser
{
	const Member *members;		/* which may be there */
	int			n_members;
	RoleAnswer *answer;
	int			depth;
	const char *names[MAX_DEPTH + 1];	/* of the member that is parsed, at each
										 * depth from 1; NULL: in an array */
	bool		is_object;
	bool		is_wrong;		/* nested too deeply, or of a wrong type */
} Parser;

static bool parse(char *body, size_t len, Parser *parser);
static JsonActionResult begin_nested(void *arg);
static JsonActionResult begin_object(void *arg);
static JsonActionResult end_nested(void *arg);
static JsonActionResult begin_field(void *arg, char *name, bool isnull);
static JsonActionResult take_value(void *arg, char *token, JsonTokenType type);
static const Member *find_member(const Parser *parser);
static const char *check_complete(const RoleAnswer *answer);
static bool is_made_of(const char *text, size_t max, const char *characters);
static bool read_number(const char *token, int64 *value);
static void wipe(char *text);

/*
 * Read the name of the machine's role.
 *
 * Returns NULL, or what is wrong with the answer, in words that follow the
 * service's name.
 */
const char *
role_read_name(const char *body, size_t len, char name[ROLE_MAX_NAME + 1])
{
	/* The name may end with a newline. */
	while (len > 0 && (body[len - 1] == '\n' || body[len - 1] == '\r' ||
					   body[len - 1] == ' '))
		len--;
	if (len == 0)
		return "returned no role name";
	if (len > ROLE_MAX_NAME || memchr(body, '\0', len) != NULL)
		return "returned an invalid role name";
	memcpy(name, body, len);
	name[len] = '\0';

	/*
	 * The name becomes part of a URL: no slash, and no dots that would lead
	 * out of the folder.
	 */
	if (strspn(name, NAME_CHARACTERS) != len || name[0] == '.' ||
		strstr(name, "..") != NULL)
	{
		name[0] = '\0';
		return "returned an invalid role name";
	}
	return NULL;
}

/*
 * Read a set of credentials of the metadata service, whose texts are palloc'd:
 * role_wipe_answer() after use, whatever is returned.  body[len] must be NUL.
 *
 * Returns as above.
 */
const char *
role_read_set(const char *body, size_t len, RoleAnswer *answer)
{
	Parser		parser = {
		.members = metadata_members,
		.n_members = lengthof(metadata_members),
		.answer = answer
	};

	memset(answer, 0, sizeof(*answer));
	if (!parse(unconstify(char *, body), len, &parser))
		return "did not return a JSON object";
	if (answer->code == NULL)
		return "returned no Code";

	/*
	 * Checked before the fields: a refusal has none of them, and its Code is
	 * the better reason.
	 */
	if (strcmp(answer->code, "Success") != 0)
		return "returned a Code other than \"Success\"";
	return check_complete(answer);
}

/*
 * The same of STS.  If it refused, *answer has the code of the error, and the
 * RequestId if there is one; both can be shown.
 */
const char *
sts_read_set(const char *body, size_t len, RoleAnswer *answer)
{
	Parser		parser = {
		.members = sts_members,
		.n_members = lengthof(sts_members),
		.answer = answer
	};

	memset(answer, 0, sizeof(*answer));
	if (!parse(unconstify(char *, body), len, &parser))
		return "did not return a JSON object";
	/* What is no code is not shown: it may be anything. */
	if (answer->code != NULL && !is_made_of(answer->code, MAX_CODE, CODE_CHARACTERS))
	{
		wipe(answer->code);
		answer->code = NULL;
		return "returned an Error without a valid Code";
	}
	if (answer->request_id != NULL &&
		!is_made_of(answer->request_id, MAX_REQUEST_ID, REQUEST_ID_CHARACTERS))
	{
		wipe(answer->request_id);
		answer->request_id = NULL;
	}
	return answer->code != NULL ? NULL : check_complete(answer);
}

static bool
is_made_of(const char *text, size_t max, const char *characters)
{
	size_t		len = strlen(text);

	return len > 0 && len <= max && strspn(text, characters) == len;
}

static const char *
check_complete(const RoleAnswer *answer)
{
	if (answer->secret_id == NULL)
		return "returned no TmpSecretId";
	if (answer->secret_key == NULL)
		return "returned no TmpSecretKey";
	if (answer->token == NULL)
		return "returned no Token";
	if (answer->ends_at <= 0)
		return "returned no ExpiredTime";
	return NULL;
}

/*
 * Wipe what an answer holds, and free it.
 */
void
role_wipe_answer(RoleAnswer *answer)
{
	wipe(answer->code);
	wipe(answer->request_id);
	wipe(answer->secret_id);
	wipe(answer->secret_key);
	wipe(answer->token);
	memset(answer, 0, sizeof(*answer));
}

/*
 * Parse an answer.  Returns whether it is a JSON object.
 *
 * The parser raises an error where nesting exhausts the stack, or a character
 * is not in the database's encoding.  It touches nothing but memory, so that one
 * may be caught without a subtransaction.
 */
static bool
parse(char *body, size_t len, Parser *parser)
{
	JsonSemAction actions = {
		.semstate = parser,
		.object_start = begin_object,
		.object_end = end_nested,
		.array_start = begin_nested,
		.array_end = end_nested,
		.object_field_start = begin_field,
		.scalar = take_value
	};
	MemoryContext context = CurrentMemoryContext;
	JsonLexContext *lex = makeJsonLexContextCstringLen(NULL, body, len, PG_UTF8,
													   true);
	volatile bool parsed = false;

	/*
	 * As for the API's answers: the parser expects valid text without a NUL.
	 */
	if (strlen(body) != len || !pg_verify_mbstr(PG_UTF8, body, (int) len, true))
		return false;

	/*
	 * Enlarged once, since no text is longer than the whole answer: a buffer
	 * that grows would leave copies of a secret behind.
	 */
	enlargeStringInfo(lex->strval, (int) len + 1);
	PG_TRY();
	{
		/*
		 * What is no JSON is seen first, without a copy of anything: the parser
		 * keeps a value to itself that is followed by a fault.
		 */
		parsed = pg_parse_json(makeJsonLexContextCstringLen(NULL, body, len,
															PG_UTF8, false),
							   &nullSemAction) == JSON_SUCCESS &&
			pg_parse_json(lex, &actions) == JSON_SUCCESS;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
	explicit_bzero(lex->strval->data, lex->strval->maxlen);
	return parsed && parser->is_object && !parser->is_wrong;
}

/*
 * Callbacks of the parser, which must return JSON_ACTION_DONE: what is wrong is
 * noted in Parser.is_wrong.
 */
static JsonActionResult
begin_object(void *arg)
{
	Parser	   *parser = arg;

	/* An array or a number as the whole answer never gets here. */
	if (parser->depth == 0)
		parser->is_object = true;
	return begin_nested(arg);
}

static JsonActionResult
begin_nested(void *arg)
{
	Parser	   *parser = arg;

	/* The value of a member that should be a text or a number */
	if (find_member(parser) != NULL)
		parser->is_wrong = true;

	/*
	 * Only noted, since an error code would make the parser raise one that
	 * quotes the text.  The parser itself checks the stack.
	 */
	if (++parser->depth > MAX_DEPTH)
		parser->is_wrong = true;
	else
		parser->names[parser->depth] = NULL;
	return JSON_ACTION_DONE;
}

static JsonActionResult
end_nested(void *arg)
{
	((Parser *) arg)->depth--;
	return JSON_ACTION_DONE;
}

/*
 * The name is the parser's for as long as the member is parsed.
 */
static JsonActionResult
begin_field(void *arg, char *name, bool isnull)
{
	Parser	   *parser = arg;

	(void) isnull;
	if (parser->depth <= MAX_DEPTH)
		parser->names[parser->depth] = name;
	return JSON_ACTION_DONE;
}

/*
 * The token is the callback's.
 */
static JsonActionResult
take_value(void *arg, char *token, JsonTokenType type)
{
	Parser	   *parser = arg;
	const Member *member = find_member(parser);
	char	   *value = member == NULL ? NULL :
		(char *) parser->answer + member->offset;

	if (member != NULL && !member->is_number && type == JSON_TOKEN_STRING)
	{
		char	  **text = (char **) value;

		/*
		 * A repeated key replaces what was there, which must not be left in
		 * memory.
		 */
		wipe(*text);
		*text = token;
		return JSON_ACTION_DONE;
	}
	if (member != NULL &&
		(!member->is_number || type != JSON_TOKEN_NUMBER ||
		 !read_number(token, (int64 *) value)))
		parser->is_wrong = true;

	/*
	 * Also values of no interest: which of them is a secret is the service's
	 * to say.
	 */
	wipe(token);
	return JSON_ACTION_DONE;
}

/*
 * The member whose value is parsed, if it is one that is read; else NULL.
 */
static const Member *
find_member(const Parser *parser)
{
	for (int i = 0; i < parser->n_members; i++)
	{
		const Member *member = &parser->members[i];
		int			depth = 1;

		while (depth <= parser->depth && depth <= MAX_DEPTH &&
			   parser->names[depth] != NULL && member->path[depth - 1] != NULL &&
			   strcmp(parser->names[depth], member->path[depth - 1]) == 0)
			depth++;
		if (depth == parser->depth + 1 && depth > 1 && member->path[depth - 1] == NULL)
			return member;
	}
	return NULL;
}

/*
 * Read a whole number that is not negative.  Returns whether it is one.
 */
static bool
read_number(const char *token, int64 *value)
{
	char	   *end;

	errno = 0;
	*value = strtoi64(token, &end, 10);

	/*
	 * A fraction or an exponent leaves *end at its first character, and is
	 * refused.
	 */
	return errno == 0 && *end == '\0' && *value >= 0;
}

/*
 * Wipe a text and free it.  NULL is allowed.
 */
static void
wipe(char *text)
{
	if (text == NULL)
		return;
	explicit_bzero(text, strlen(text));
	pfree(text);
}

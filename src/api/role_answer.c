/*-------------------------------------------------------------------------
 *
 * role_answer.c
 *	  What the vendor's metadata service says of a machine's role
 *
 * The second of its answers holds a key.  PostgreSQL's JSON parser hands each
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

#define NAME_CHARACTERS \
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.@=,+-"

/* While an answer is parsed */
typedef struct Parser
{
	RoleAnswer *answer;
	int			depth;
	const char *field;			/* of the outermost object; NULL: none */
	bool		is_object;
	bool		is_wrong;		/* nested too deeply, or of a wrong type */
} Parser;

static bool parse(char *body, size_t len, Parser *parser);
static JsonActionResult begin_nested(void *arg);
static JsonActionResult begin_object(void *arg);
static JsonActionResult end_nested(void *arg);
static JsonActionResult begin_field(void *arg, char *name, bool isnull);
static JsonActionResult take_value(void *arg, char *token, JsonTokenType type);
static char **find_text(RoleAnswer *answer, const char *field);
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
	/* The service ends the name with a newline, or does not. */
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
 * Read a set of credentials, whose texts are palloc'd: role_wipe_answer() after
 * use, whatever is returned.  body[len] must be NUL.
 *
 * Returns as above.
 */
const char *
role_read_set(const char *body, size_t len, RoleAnswer *answer)
{
	Parser		parser = {.answer = answer};

	memset(answer, 0, sizeof(*answer));

	/*
	 * As for the API's answers: the parser expects valid text without a NUL.
	 */
	if (strlen(body) != len || !pg_verify_mbstr(PG_UTF8, body, (int) len, true) ||
		!parse(unconstify(char *, body), len, &parser))
		return "did not return a JSON object";
	if (answer->code == NULL)
		return "returned no Code";

	/*
	 * Checked before the fields: a refusal has none of them, and its Code is
	 * the better reason.
	 */
	if (strcmp(answer->code, "Success") != 0)
		return "returned a Code other than \"Success\"";
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

	/* No text is longer than all of them: a buffer that grows leaves copies. */
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

	/* The value of a field that should be a text or a number */
	if (parser->field != NULL)
		parser->is_wrong = true;
	parser->field = NULL;

	/*
	 * Only noted, since an error code would make the parser raise one that
	 * quotes the text.  The parser itself checks the stack.
	 */
	if (++parser->depth > MAX_DEPTH)
		parser->is_wrong = true;
	return JSON_ACTION_DONE;
}

static JsonActionResult
end_nested(void *arg)
{
	((Parser *) arg)->depth--;
	return JSON_ACTION_DONE;
}

static JsonActionResult
begin_field(void *arg, char *name, bool isnull)
{
	Parser	   *parser = arg;

	(void) isnull;
	parser->field = NULL;
	/* Fields of nested objects may have the same names, and are not ours. */
	if (parser->depth == 1 &&
		(find_text(parser->answer, name) != NULL ||
		 strcmp(name, "ExpiredTime") == 0))
		parser->field = name;
	return JSON_ACTION_DONE;
}

/*
 * The token is the callback's.
 */
static JsonActionResult
take_value(void *arg, char *token, JsonTokenType type)
{
	Parser	   *parser = arg;
	char	  **text = NULL;

	if (parser->field != NULL)
	{
		text = find_text(parser->answer, parser->field);
		if (text != NULL ? type != JSON_TOKEN_STRING :
			type != JSON_TOKEN_NUMBER ||
			!read_number(token, &parser->answer->ends_at))
			parser->is_wrong = true;
	}
	parser->field = NULL;
	if (text != NULL)
	{
		/*
		 * A repeated key replaces what was there, which must not be left in
		 * memory.
		 */
		wipe(*text);
		*text = token;
	}
	else
		wipe(token);			/* it may be a secret, too */
	return JSON_ACTION_DONE;
}

/*
 * Where the text of a field belongs; NULL: it is none of ours.
 */
static char **
find_text(RoleAnswer *answer, const char *field)
{
	if (strcmp(field, "Code") == 0)
		return &answer->code;
	if (strcmp(field, "TmpSecretId") == 0)
		return &answer->secret_id;
	if (strcmp(field, "TmpSecretKey") == 0)
		return &answer->secret_key;
	if (strcmp(field, "Token") == 0)
		return &answer->token;
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

/*-------------------------------------------------------------------------
 *
 * answer_json.c
 *	  Reading the JSON of answers
 *
 * PostgreSQL's own parser and jsonb, on a text that is in UTF-8 even where the
 * database is not: what its encoding lacks, and the parser would refuse, is
 * replaced first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "compat.h"
#include "api/answer_json.h"

#define MAX_MESSAGE			500 /* bytes; longer ones are clipped */

static Jsonb *try_jsonb_in(const char *text);
static char *replace_json_non_ascii(const char *text, size_t len);
static size_t json_escape_len(const char *text, const char *end);
static int	read_json_escape(const char *text, const char *end);

/*
 * Parse JSON in UTF-8.  Returns NULL if it is not that, or if it is nested so
 * deeply that the parser gives up.
 *
 * The parser can only raise errors.  It touches nothing but memory, so that
 * one may be caught without a subtransaction.
 */
Jsonb *
parse_json(const char *text, size_t len)
{
	/* Before the parser sees it, which expects valid text without a NUL. */
	if (strlen(text) != len || !pg_verify_mbstr(PG_UTF8, text, (int) len, true))
		return NULL;
	return try_jsonb_in(GetDatabaseEncoding() == PG_UTF8 ? text :
						replace_json_non_ascii(text, len));
}

static Jsonb *
try_jsonb_in(const char *text)
{
	Jsonb	   *volatile json = NULL;
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		/*
		 * jsonb, because its accessors find the last of equal keys, and give
		 * numbers without overflow.
		 */
		json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
												  CStringGetDatum(text)));
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);

		/*
		 * What is wrong with the text is not reported: it would quote an
		 * answer that may be anything.
		 */
		FlushErrorState();
	}
	PG_END_TRY();
	return json;
}

/*
 * A copy of a text in valid UTF-8 that has "?" for each character beyond
 * ASCII: what any database encoding can hold.
 */
char *
replace_non_ascii(const char *text, size_t len)
{
	char	   *copy = palloc(len + 1);
	char	   *out = copy;
	const char *end = text + len;

	while (text < end)
	{
		/*
		 * The copy is never longer than the text, since a character of several
		 * bytes becomes one.
		 */
		*out++ = IS_HIGHBIT_SET(*text) ? '?' : *text;
		text += pg_utf_mblen((const unsigned char *) text);
	}
	*out = '\0';
	return copy;
}

/*
 * A copy of a JSON text with each character beyond ASCII replaced by "?", be
 * it written as itself or as an escape.
 */
static char *
replace_json_non_ascii(const char *text, size_t len)
{
	char	   *ascii = replace_non_ascii(text, len);
	const char *end = ascii + strlen(ascii);
	char	   *out = ascii;

	for (const char *in = ascii; in < end;)
	{
		size_t		escape_len = json_escape_len(in, end);

		/*
		 * jsonb_in() raises an error for an escape of a character that the
		 * database's encoding does not have.
		 */
		if (escape_len > 0)
		{
			*out++ = '?';
			in += escape_len;
			continue;
		}
		/* A backslash that is itself escaped begins no escape. */
		if (*in == '\\' && in + 1 < end)
			*out++ = *in++;
		*out++ = *in++;
	}
	*out = '\0';
	return ascii;
}

/*
 * The length of the escape of a character beyond ASCII that a JSON text
 * begins with: one, or two of a surrogate pair.  0 if it does not, or if the
 * escape is wrong, which is left for the parser to find.
 */
static size_t
json_escape_len(const char *text, const char *end)
{
	int			code = read_json_escape(text, end);

	/*
	 * An ASCII character is in every encoding.  Half a surrogate pair is
	 * wrong, as the parser will find.
	 */
	if (code < 0x80 || (code >= 0xdc00 && code <= 0xdfff))
		return 0;
	/* Six characters: a backslash, "u", and four digits. */
	if (code < 0xd800 || code > 0xdbff)
		return 6;
	code = read_json_escape(text + 6, end);
	return code >= 0xdc00 && code <= 0xdfff ? 12 : 0;
}

/*
 * The code of the \u escape that a JSON text begins with; -1 if there is none.
 */
static int
read_json_escape(const char *text, const char *end)
{
	int			code = 0;

	if (end - text < 6 || text[0] != '\\' || text[1] != 'u')
		return -1;
	for (int i = 2; i < 6; i++)
	{
		/* Not sscanf(), which would take white space and signs. */
		if (!isxdigit((unsigned char) text[i]))
			return -1;
		code = code * 16 + (isdigit((unsigned char) text[i]) ? text[i] - '0' :
							pg_ascii_tolower(text[i]) - 'a' + 10);
	}
	return code;
}

/*
 * Has an object a member of that name?
 */
bool
has_key(JsonbContainer *object, const char *key)
{
	JsonbValue	value;

	return getKeyJsonValueFromContainer(object, key, (int) strlen(key),
										&value) != NULL;
}

/*
 * A member that is an object, or NULL.
 */
JsonbContainer *
get_object(JsonbContainer *object, const char *key)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(object, key, (int) strlen(key),
									 &value) == NULL ||
		value.type != jbvBinary || !JsonContainerIsObject(value.val.binary.data))
		return NULL;
	return value.val.binary.data;
}

/*
 * A member that is a text of ASCII letters, digits and the given other
 * characters, not empty and of at most max_len bytes; or NULL.
 */
const char *
get_text(JsonbContainer *object, const char *key, size_t max_len,
		 const char *also_allowed)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(object, key, (int) strlen(key),
									 &value) == NULL ||
		value.type != jbvString ||
		value.val.string.len == 0 || (size_t) value.val.string.len > max_len)
		return NULL;
	for (int i = 0; i < value.val.string.len; i++)
	{
		char		c = value.val.string.val[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			  (c >= '0' && c <= '9') || strchr(also_allowed, c) != NULL))
			return NULL;
	}
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/*
 * A member that is any text, or NULL.
 */
const char *
get_any_text(JsonbContainer *object, const char *key)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(object, key, (int) strlen(key),
									 &value) == NULL ||
		value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/*
 * A member that is a whole number from 0 to "most".  Returns whether there is
 * one.
 */
bool
get_number(JsonbContainer *object, const char *key, int64 most, int64 *number)
{
	JsonbValue	value;
	Datum		numeric;

	if (getKeyJsonValueFromContainer(object, key, (int) strlen(key),
									 &value) == NULL ||
		value.type != jbvNumeric)
		return false;

	/*
	 * JSON numbers may have fractions and exponents, for which text and
	 * strtol() would need a parser of their own.
	 */
	numeric = NumericGetDatum(value.val.numeric);
	/* In this order: a number may have 131072 digits, were it written out. */
	if (DatumGetBool(DirectFunctionCall2(numeric_lt, numeric,
										 NumericGetDatum(int64_to_numeric(0)))) ||
		DatumGetBool(DirectFunctionCall2(numeric_gt, numeric,
										 NumericGetDatum(int64_to_numeric(most)))))
		return false;
	*number = DatumGetInt64(DirectFunctionCall1(numeric_int8, numeric));
	return DatumGetBool(DirectFunctionCall2(numeric_eq, numeric,
											NumericGetDatum(int64_to_numeric(*number))));
}

/*
 * A member that is a text for people, clipped, without control characters;
 * or NULL.
 */
const char *
get_message(JsonbContainer *object, const char *key)
{
	JsonbValue	value;
	char	   *message;

	if (getKeyJsonValueFromContainer(object, key, (int) strlen(key),
									 &value) == NULL ||
		value.type != jbvString)
		return NULL;

	/*
	 * The length is bounded, as the message is kept in the row; on a character
	 * boundary, so that it stays valid text.
	 */
	message = pnstrdup(value.val.string.val,
					   pg_mbcliplen(value.val.string.val, value.val.string.len,
									MAX_MESSAGE));
	for (char *c = message; *c != '\0'; c++)
	{
		/*
		 * It is shown in the log, where a newline would let an answer forge
		 * lines.
		 */
		if ((unsigned char) *c < ' ' || *c == 0x7f)
			*c = ' ';
	}
	return message;
}

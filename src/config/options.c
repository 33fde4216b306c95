/*-------------------------------------------------------------------------
 *
 * options.c
 *	  The options of servers and user mappings
 *
 * Every option is a row of one table, with the function that checks its value.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "catalog/pg_user_mapping.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "compat.h"
#include "config/options.h"
#include "util/text.h"

/*
 * Checks a value, and puts it into a LiveServer or Credentials.  Returns
 * what is allowed if the value is not, as a sentence; else NULL.
 */
typedef const char *(*OptionSetter) (void *object, const char *value);

typedef struct Option
{
	const char *name;
	Oid			catalog;		/* of the objects that have it */
	bool		is_secret;		/* not to be shown */
	OptionSetter set;
} Option;

static const Option options[] = {
	{"enabled", ForeignServerRelationId, false, set_enabled},
	{"endpoint", ForeignServerRelationId, false, set_endpoint},
	{"fallback_endpoint", ForeignServerRelationId, false, set_fallback_endpoint},
	{"region", ForeignServerRelationId, false, set_region},
	{"language", ForeignServerRelationId, false, set_language},
	{"requests_per_second", ForeignServerRelationId, false, set_requests_per_second},
	{"connect_timeout", ForeignServerRelationId, false, set_connect_timeout},
	{"request_timeout", ForeignServerRelationId, false, set_request_timeout},
	{"permit_timeout", ForeignServerRelationId, false, set_permit_timeout},
	{"ca_file", ForeignServerRelationId, false, set_ca_file},
	{"proxy", ForeignServerRelationId, false, set_proxy},
	{"max_in_flight", ForeignServerRelationId, false, set_max_in_flight},
	{"in_doubt", ForeignServerRelationId, false, set_in_doubt},
	{"check_template", ForeignServerRelationId, false, set_check_template},
	{"credentials", ForeignServerRelationId, false, set_credentials},
	{"metadata_endpoint", ForeignServerRelationId, false, set_metadata_endpoint},
	{"role_arn", ForeignServerRelationId, false, set_role_arn},
	{"role_session_name", ForeignServerRelationId, false, set_role_session_name},
	{"role_duration", ForeignServerRelationId, false, set_role_duration},
	{"sts_endpoint", ForeignServerRelationId, false, set_sts_endpoint},
	/* what is wrong may be that the key stands behind it */
	{"secret_id", UserMappingRelationId, true, set_secret_id},
	{"secret_key", UserMappingRelationId, true, set_secret_key},
	{"token", UserMappingRelationId, true, set_token},
};

/* The longest value of an option, in bytes: a token */
#define MAX_VALUE		8192

static const Option *find_option(const char *name, Oid catalog);
pg_noreturn static void raise_unknown_option(const char *name, Oid catalog);
static int	list_options(Oid catalog, const char **names);

/*
 * Take over options into a LiveServer or Credentials, whose texts are palloc'd,
 * as catalogs and validators have them: an array of "name=value".
 *
 * Raises an error if one is not known, or its value not valid.
 *
 * PostgreSQL's untransformRelOptions() makes copies that nobody can wipe.
 */
void
apply_options(void *object, Oid catalog, ArrayType *array)
{
	Datum	   *texts;
	int			n;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		char	   *name = TextDatumGetCString(texts[i]);
		size_t		len = strlen(name);
		char	   *value = strchr(name, '=');

		PG_TRY();
		{
			if (value != NULL)
				*value++ = '\0';
			apply_option(object, catalog, name, value != NULL ? value : "");
		}
		PG_FINALLY();
		{
			/* The copy holds the value as well, which may be a secret. */
			explicit_bzero(name, len);
		}
		PG_END_TRY();
		pfree(name);
	}
	pfree(texts);
}

/*
 * Set the field of an option from its text, as the options of an object that
 * is an entry of the given catalog.  Raises an error if there is no such
 * option, or the value is not one of it.
 */
void
apply_option(void *object, Oid catalog, const char *name, const char *value)
{
	const Option *option = find_option(name, catalog);
	const char *allowed;

	if (option == NULL)
		raise_unknown_option(name, catalog);

	/*
	 * Checked before the value is looked at, as patterns and messages would
	 * copy it.
	 */
	if (strlen(value) > MAX_VALUE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("value of option \"%s\" must be at most %d bytes",
						option->name, MAX_VALUE),
				 errdetail("It has %zu bytes.", strlen(value))));

	allowed = option->set(object, value);
	if (allowed != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 /* an "@" may follow a password */
				 option->is_secret || strchr(value, '@') != NULL ?
				 errmsg("invalid value for option \"%s\"", option->name) :
				 errmsg("invalid value for option \"%s\": \"%s\"",
						option->name, value),
				 errdetail_internal("%s", allowed),
				 catalog == UserMappingRelationId && is_in_quotes(value) ?
				 errhint(QUOTES_HINT) : 0));
}

/*
 * The option of a name that objects of a catalog have, or NULL.
 */
static const Option *
find_option(const char *name, Oid catalog)
{
	for (int i = 0; i < (int) lengthof(options); i++)
	{
		if (options[i].catalog == catalog && strcmp(options[i].name, name) == 0)
			return &options[i];
	}
	return NULL;
}

/*
 * Raise an error for an option that objects of a catalog do not have.
 */
static void
raise_unknown_option(const char *name, Oid catalog)
{
	const char *names[lengthof(options)];
	int			n = list_options(catalog, names);
	const char *closest = closest_name(name, names, n);
	StringInfoData valid;

	initStringInfo(&valid);
	for (int i = 0; i < n; i++)
		appendStringInfo(&valid, "%s%s", i > 0 ? ", " : "", names[i]);
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("invalid option \"%s\"", name),
			 find_option(name, UserMappingRelationId) != NULL ?
			 errhint("It is a user mapping option: CREATE USER MAPPING FOR role SERVER server OPTIONS (secret_id '...', secret_key '...').") :
			 find_option(name, ForeignServerRelationId) != NULL ?
			 errhint("It is a server option: ALTER SERVER server OPTIONS (%s '...').", name) :
			 closest != NULL ?
			 errhint("Perhaps you meant the option \"%s\".", closest) :
			 n > 0 ?
			 errhint("Valid options in this context are: %s", valid.data) :
			 errhint("There are no valid options in this context.")));
}

/*
 * Get the names of the options that objects of a catalog have.  Returns how
 * many there are.
 */
static int
list_options(Oid catalog, const char **names)
{
	int			n = 0;

	for (int i = 0; i < (int) lengthof(options); i++)
	{
		if (options[i].catalog == catalog)
			names[n++] = options[i].name;
	}
	return n;
}

/*
 * Take over a part of credentials that come from elsewhere, by the rules for
 * a user mapping's option of that name.
 *
 * Returns NULL, with the part palloc'd; or what is allowed, as a sentence.
 */
const char *
set_credential(Credentials *credentials, const char *name, const char *value)
{
	return find_option(name, UserMappingRelationId)->set(credentials, value);
}

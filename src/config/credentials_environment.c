/*-------------------------------------------------------------------------
 *
 * credentials_environment.c
 *	  Credentials from the environment that the server was started in
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "config/credentials_source.h"

#define ID_VARIABLE		"TENCENTCLOUD_SECRET_ID"
#define KEY_VARIABLE	"TENCENTCLOUD_SECRET_KEY"

/* The names that the vendor's SDK for Node.js, its command-line client, and
 * Terraform have for the token.  The first that is set is taken. */
static const char *const token_variables[] = {
	"TENCENTCLOUD_SESSION_TOKEN",
	"TENCENTCLOUD_TOKEN",
	"TENCENTCLOUD_SECURITY_TOKEN"
};

static bool take_variable(Credentials *credentials, const char *name,
						  const char *variable);
pg_noreturn static void raise_unset(const char *variable);

/*
 * Read credentials from the environment; see credentials_source.h.
 */
void
read_environment(Credentials *credentials)
{
	if (!take_variable(credentials, "secret_id", ID_VARIABLE))
		raise_unset(ID_VARIABLE);
	if (!take_variable(credentials, "secret_key", KEY_VARIABLE))
		raise_unset(KEY_VARIABLE);
	for (int i = 0; i < (int) lengthof(token_variables); i++)
	{
		/* A token is optional: long-term keys have none. */
		if (take_variable(credentials, "token", token_variables[i]))
			break;
	}
}

/*
 * Take a part of credentials from a variable, unless that is not set, or
 * empty.  Returns whether it did.  Raises an error if the value is not valid.
 */
static bool
take_variable(Credentials *credentials, const char *name, const char *variable)
{
	const char *value = getenv(variable);
	const char *allowed;

	/*
	 * Empty counts as unset, as systemd and containers pass on variables that
	 * nobody has set.
	 */
	if (value == NULL || value[0] == '\0')
		return false;
	allowed = set_credential(credentials, name, value);
	if (allowed != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("invalid value for environment variable %s",
						variable),
				 errdetail_internal("%s", allowed),
				 is_in_quotes(value) ? errhint(QUOTES_HINT) : 0));
	return true;
}

/*
 * Raise the error that a variable is not set.
 */
static void
raise_unset(const char *variable)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			 errmsg("environment variable %s is not set", variable),
			 errdetail("Credentials are read from the environment in which the PostgreSQL server was started."),
			 errhint("Set the variable there, and restart the PostgreSQL server.")));
}

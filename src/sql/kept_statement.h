/*-------------------------------------------------------------------------
 *
 * kept_statement.h
 *	  Statements on screenshot_task_request whose plans a session keeps
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_KEPT_STATEMENT_H
#define SCREENSHOT_TASK_KEPT_STATEMENT_H

#include "executor/spi.h"
#include "utils/relcache.h"

/* %1$s in the text is the table, %2$s the type of a status */
typedef struct KeptStatement
{
	const char *text;
	int			nargs;
	Oid			types[10];
	SPIPlanPtr	plan;			/* NULL: not prepared */
	struct KeptStatement *next;	/* of those that are */
} KeptStatement;

extern void kept_statements_use(Relation relation);
extern SPIPlanPtr kept_plan(KeptStatement *statement);
extern SPIPlanPtr kept_plan_once(const KeptStatement *statement);
extern void kept_plan_begins(void);
extern void kept_plan_ends(void);
extern int	kept_statement_run(KeptStatement *statement, Datum *args,
							   const char *nulls);

#endif							/* SCREENSHOT_TASK_KEPT_STATEMENT_H */

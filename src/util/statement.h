/*-------------------------------------------------------------------------
 *
 * statement.h
 *	  Statements of the extension's own, and what they return
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_STATEMENT_H
#define SCREENSHOT_TASK_STATEMENT_H

#include "datatype/timestamp.h"
#include "executor/spi.h"

extern SPIPlanPtr spi_prepare(const char *text, int nargs, Oid *argtypes);
extern void spi_execute(SPIPlanPtr plan, Datum *args, const char *nulls);

extern Datum spi_value(int row, int column, Oid type, bool *isnull);
extern bool spi_bool(int row, int column);
extern int32 spi_int4(int row, int column);
extern int64 spi_int8(int row, int column);
extern Oid	spi_oid(int row, int column);
extern NameData spi_name(int row, int column);
extern TimestampTz spi_timestamptz(int row, int column);
extern char *spi_text(int row, int column);

#endif							/* SCREENSHOT_TASK_STATEMENT_H */

/*-------------------------------------------------------------------------
 *
 * spi_row.c
 *	  Values of the rows that a statement returned, by their types
 *
 * A statement names tables and columns, and whoever owns these decides what
 * they are.  So a value is read as what its row says that it is, or not at all.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "util/spi_row.h"

/*
 * The value in a column, from 1 on, of a row of SPI_tuptable, from 0 on.
 *
 * Raises an error if the column is of another type.
 */
Datum
spi_value(int row, int column, Oid type, bool *isnull)
{
	Oid			real = SPI_gettypeid(SPI_tuptable->tupdesc, column);

	if (real != type)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column %d of a statement's result has type %s instead of %s",
						column, format_type_be(real), format_type_be(type))));
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 column, isnull);
}

/*
 * The same of certain types; false, 0, or an empty name where it is null.
 */
bool
spi_bool(int row, int column)
{
	bool		isnull;
	Datum		value = spi_value(row, column, BOOLOID, &isnull);

	return !isnull && DatumGetBool(value);
}

int32
spi_int4(int row, int column)
{
	bool		isnull;
	Datum		value = spi_value(row, column, INT4OID, &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

int64
spi_int8(int row, int column)
{
	bool		isnull;
	Datum		value = spi_value(row, column, INT8OID, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

Oid
spi_oid(int row, int column)
{
	bool		isnull;
	Datum		value = spi_value(row, column, OIDOID, &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(value);
}

NameData
spi_name(int row, int column)
{
	NameData	name = {{0}};
	bool		isnull;
	Datum		value = spi_value(row, column, NAMEOID, &isnull);

	return isnull ? name : *DatumGetName(value);
}

TimestampTz
spi_timestamptz(int row, int column)
{
	bool		isnull;
	Datum		value = spi_value(row, column, TIMESTAMPTZOID, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(value);
}

/*
 * A value of any type as text, palloc'd; NULL where it is null.
 */
char *
spi_text(int row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						column);
}

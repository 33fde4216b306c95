/*-------------------------------------------------------------------------
 *
 * spi_row.h
 *	  Values of the rows that a statement returned, by their types
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_SPI_ROW_H
#define SCREENSHOT_TASK_SPI_ROW_H

#include "datatype/timestamp.h"

extern Datum spi_value(int row, int column, Oid type, bool *isnull);
extern bool spi_bool(int row, int column);
extern int32 spi_int4(int row, int column);
extern int64 spi_int8(int row, int column);
extern Oid	spi_oid(int row, int column);
extern NameData spi_name(int row, int column);
extern TimestampTz spi_timestamptz(int row, int column);
extern char *spi_text(int row, int column);

#endif							/* SCREENSHOT_TASK_SPI_ROW_H */

/* numbers.h: lists of whole numbers in text, as people and scripts write them; sizes as people
 * read them. */
#ifndef BASE_NUMBERS_H
#define BASE_NUMBERS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Decimal numbers between white space or commas: at most one comma between two numbers, none
 * before the first, one after the last is fine. *at gets mem_take memory that the caller gives back
 * (NULL when there is no number), *count how many. The text need not end in a zero byte.
 * GDN_ERR_INPUT names the number by `what` and its index, with its line (from 1) and byte (from 0),
 * what was found and the range: "id 3 (line 1, byte 9): found \"x\", need a number from 0 to 9". */
enum gdn_status numbers_parse(const char *text, size_t len, int32_t min, int32_t max,
                              const char *what, int32_t **at, size_t *count,
                              struct gdn_error *err);

/* "1.5 GB": a number of bytes in the largest unit (of 1000) that leaves digits before the point.
 * Returns `out`. */
enum { SIZE_TEXT = 24 };
char *size_text(char out[SIZE_TEXT], int64_t bytes);

#endif

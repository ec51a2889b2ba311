/* order.h: sorting an index instead of the things it points to.
 *
 * A merge sort: n log n whatever a hostile file contains, n for input that is in order already
 * (tensor names mostly are), no memory but the caller's. */
#ifndef FORMATS_ORDER_H
#define FORMATS_ORDER_H

#include <stddef.h>
#include <stdint.h>

/* < 0, 0 or > 0 like strcmp, for the things numbered a and b. */
typedef int order_compare(const void *context, uint32_t a, uint32_t b);

/* Fills index [count] with 0 .. count-1 in ascending order, equals in order of their number;
 * spare [count] is overwritten. */
void order_make(uint32_t *index, uint32_t *spare, size_t count, order_compare *compare,
                const void *context);

#endif

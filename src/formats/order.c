#include "formats/order.h"

#include <string.h>

static void merge(uint32_t *out, const uint32_t *a, size_t na, const uint32_t *b, size_t nb,
                  order_compare *compare, const void *context)
{
    while (na && nb) {
        if (compare(context, *a, *b) <= 0) {
            *out++ = *a++;
            na--;
        } else {
            *out++ = *b++;
            nb--;
        }
    }
    memcpy(out, a, na * sizeof *a);
    memcpy(out + na, b, nb * sizeof *b);
}

void order_make(uint32_t *index, uint32_t *spare, size_t count, order_compare *compare,
                const void *context)
{
    for (size_t i = 0; i < count; i++) index[i] = (uint32_t)i;
    for (size_t run = 1; run < count; run *= 2) {
        for (size_t at = 0; count - at > run; at += 2 * run) {
            uint32_t *a = index + at, *b = a + run;
            size_t nb = count - at - run < run ? count - at - run : run;
            if (compare(context, b[-1], b[0]) > 0) {
                merge(spare, a, run, b, nb, compare, context);
                memcpy(a, spare, (run + nb) * sizeof *a);
            }
            if (nb < run) break;
        }
    }
}

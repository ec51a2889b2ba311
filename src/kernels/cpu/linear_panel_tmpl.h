/* linear_panel_tmpl.h: rows of weights of any type as f32, in the words of a vector vocabulary.
 *
 * The one place of the vector product that knows how weights are stored. */
#include "kernels/cpu/linear.h"
#include "kernels/cpu/row_tmpl.h"

/* Sixteen by sixteen, elements k .. k + count - 1 of a row go to `to`, `to + stride`, ..; the last
 * sixteen are filled up with 0. k is a multiple of 16. */
static inline void panel_row(float *to, int64_t stride, enum dtype type, const void *row, int64_t k,
                             int64_t count)
{
    for (int64_t i = 0; i < count; i += 16, to += stride)
        for (int64_t l = 0; l < 16; l += VL) {
            const int64_t left = count - i - l;
            vf_store(to + l, left >= VL ? row_get(type, row, k + i + l, VL)
                                        : left > 0 ? row_get(type, row, k + i + l, left) : vf_zero());
        }
}

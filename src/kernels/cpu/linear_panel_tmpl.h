/* linear_panel_tmpl.h: rows of weights of any type as f32, in the words of a vector vocabulary.
 *
 * The one place of the vector product that knows how weights are stored. */
#include "kernels/cpu/linear.h"
#include "kernels/cpu/row_tmpl.h"

/* Two steps of a row for each block of 32; the last step that is there is filled up with 0. */
static inline void panel_quantised(float *to, int64_t stride, enum dtype type, const void *row,
                                   int64_t K)
{
    for (int64_t k = 0; k < K; k += QUANT_BLOCK, to += 2 * stride) {
        float block[QUANT_BLOCK] = {0};
        quant_load_f32(block, row, type, K, k, K - k < QUANT_BLOCK ? K - k : QUANT_BLOCK);
        memcpy(to, block, 16 * sizeof *to);
        if (K - k > 16) memcpy(to + stride, block + 16, 16 * sizeof *to);
    }
}

/* Sixteen by sixteen, elements k .. k + count - 1 of a row go to `to`, `to + stride`, ..; the last
 * sixteen are filled up with 0. k is a multiple of 16; a quantised row is taken whole. */
static inline void panel_row(float *to, int64_t stride, enum dtype type, const void *row, int64_t k,
                             int64_t count)
{
    if (dtype_quantised(type)) {
        panel_quantised(to, stride, type, row, count);
        return;
    }
    for (int64_t i = 0; i < count; i += 16, to += stride)
        for (int64_t l = 0; l < 16; l += VL) {
            const int64_t left = count - i - l;
            vf_store(to + l, left >= VL ? row_get(type, row, k + i + l, VL)
                                        : left > 0 ? row_get(type, row, k + i + l, left) : vf_zero());
        }
}

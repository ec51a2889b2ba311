/* linear_panel_tmpl.h: rows of weights of any type as f32, in the words of a vector vocabulary.
 *
 * The one place of the vector product that knows how weights are stored. */
#include "kernels/cpu/linear.h"
#include "kernels/cpu/row_tmpl.h"

/* Two steps of a row for each block of 32; the last step that is there is filled up with 0. */
static inline void panel_quantised(float *to, int64_t stride, enum dtype type, const void *row,
                                   int64_t K)
{
    const struct quant_row w = quant_row_at(row, type, K);
    const int64_t steps = (K + 15) / 16;
    for (int64_t s = 0; s < steps; s++, to += stride) {
        const int64_t b = s / 2, half = s % 2;
        const vf scale = vf_set1(quant_f16(w.scale, b));
        if (type == DTYPE_Q8) {
            for (int64_t l = 0; l < 16; l += VL)
                vf_store(to + l, vf_round_bf16(vf_mul(scale, vf_load_i8(w.code + 16 * s + l))));
        } else {
            const vf minimum = vf_set1(quant_f16(w.minimum, b));
            for (int64_t l = 0; l < 16; l += VL) {
                const uint8_t *code = w.code + 16 * b + l;
                const vf x = half ? vf_load_u4(code, 4) : vf_load_u4(code, 0);
                vf_store(to + l, vf_round_bf16(vf_fma(scale, x, minimum)));
            }
        }
    }
    if (K % 16) memset(to - stride + K % 16, 0, (size_t)(16 - K % 16) * sizeof *to);
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

/* delta_backward_avx512.c: the backward of delta for AVX-512. */
#include "kernels/cpu/vec_avx512.h"

/* to[c][r] = from[r][c], 16 x 16: first inside each 4 x 4, then the sixteen of those. */
static void turn(float *to, int64_t to_ld, const float *from, int64_t from_ld)
{
    vf x[16], y[16];
    VF_UNROLL
    for (int r = 0; r < 16; r++) x[r] = vf_load(from + r * from_ld);
    VF_UNROLL
    for (int r = 0; r < 16; r += 4) {
        const vf a = _mm512_unpacklo_ps(x[r], x[r + 1]), b = _mm512_unpackhi_ps(x[r], x[r + 1]);
        const vf c = _mm512_unpacklo_ps(x[r + 2], x[r + 3]);
        const vf d = _mm512_unpackhi_ps(x[r + 2], x[r + 3]);
        y[r] = _mm512_shuffle_ps(a, c, 0x44);
        y[r + 1] = _mm512_shuffle_ps(a, c, 0xee);
        y[r + 2] = _mm512_shuffle_ps(b, d, 0x44);
        y[r + 3] = _mm512_shuffle_ps(b, d, 0xee);
    }
    VF_UNROLL
    for (int c = 0; c < 4; c++) {
        const vf a = _mm512_shuffle_f32x4(y[c], y[c + 4], 0x44);
        const vf b = _mm512_shuffle_f32x4(y[c], y[c + 4], 0xee);
        const vf d = _mm512_shuffle_f32x4(y[c + 8], y[c + 12], 0x44);
        const vf e = _mm512_shuffle_f32x4(y[c + 8], y[c + 12], 0xee);
        vf_store(to + c * to_ld, _mm512_shuffle_f32x4(a, d, 0x88));
        vf_store(to + (c + 4) * to_ld, _mm512_shuffle_f32x4(a, d, 0xdd));
        vf_store(to + (c + 8) * to_ld, _mm512_shuffle_f32x4(b, e, 0x88));
        vf_store(to + (c + 12) * to_ld, _mm512_shuffle_f32x4(b, e, 0xdd));
    }
}

#define CPU_NAME(name) name##_avx512
#include "kernels/cpu/delta_backward_tmpl.h"

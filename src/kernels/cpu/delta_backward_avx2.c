/* delta_backward_avx2.c: the backward of delta for AVX2. */
#include "kernels/cpu/vec_avx2.h"

/* to[c][r] = from[r][c], 8 x 8. */
VF_INLINE void turn8(float *to, int64_t to_ld, const float *from, int64_t from_ld)
{
    vf x[8], y[8];
    VF_UNROLL
    for (int r = 0; r < 8; r++) x[r] = vf_load(from + r * from_ld);
    VF_UNROLL
    for (int r = 0; r < 8; r += 4) {
        const vf a = _mm256_unpacklo_ps(x[r], x[r + 1]), b = _mm256_unpackhi_ps(x[r], x[r + 1]);
        const vf c = _mm256_unpacklo_ps(x[r + 2], x[r + 3]);
        const vf d = _mm256_unpackhi_ps(x[r + 2], x[r + 3]);
        y[r] = _mm256_shuffle_ps(a, c, 0x44);
        y[r + 1] = _mm256_shuffle_ps(a, c, 0xee);
        y[r + 2] = _mm256_shuffle_ps(b, d, 0x44);
        y[r + 3] = _mm256_shuffle_ps(b, d, 0xee);
    }
    VF_UNROLL
    for (int c = 0; c < 4; c++) {
        vf_store(to + c * to_ld, _mm256_permute2f128_ps(y[c], y[c + 4], 0x20));
        vf_store(to + (c + 4) * to_ld, _mm256_permute2f128_ps(y[c], y[c + 4], 0x31));
    }
}

/* to[c][r] = from[r][c], 16 x 16. */
static void turn(float *to, int64_t to_ld, const float *from, int64_t from_ld)
{
    for (int r = 0; r < 16; r += 8)
        for (int c = 0; c < 16; c += 8)
            turn8(to + c * to_ld + r, to_ld, from + r * from_ld + c, from_ld);
}

#define CPU_NAME(name) name##_avx2
#include "kernels/cpu/delta_backward_tmpl.h"

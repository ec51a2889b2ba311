/* vec_rows_tmpl.h: rows of any dtype in and out of f32, in the words of a vec_*.h included before. */
#include "kernels/cpu/cpu.h"

/* n elements to f32: exact. What is missing to a multiple of `pad` becomes 0. */
VF_INLINE void row_load(float *to, const void *from, enum dtype dtype, int n, int pad)
{
    const float *whole = from;
    const uint16_t *half = from;
    int i = 0;
    if (dtype == DTYPE_F32)
        for (; i + VL <= n; i += VL) vf_store(to + i, vf_load(whole + i));
    else if (dtype == DTYPE_BF16)
        for (; i + VL <= n; i += VL) vf_store(to + i, vf_load_bf16(half + i));
    else if (dtype == DTYPE_F16)
        for (; i + VL <= n; i += VL) vf_store(to + i, vf_load_f16(half + i));
    if (i < n)
        cpu_load_row(to + i, (const char *)from + (size_t)i * dtype_size(dtype), dtype, n - i);
    for (i = n; i % pad != 0; i++) to[i] = 0.0f;
}

/* The way back: one rounding. */
VF_INLINE void row_store(void *to, enum dtype dtype, const float *from, int n)
{
    float *whole = to;
    uint16_t *half = to;
    int i = 0;
    if (dtype == DTYPE_F32)
        for (; i + VL <= n; i += VL) vf_store(whole + i, vf_load(from + i));
    else if (dtype == DTYPE_BF16)
        for (; i + VL <= n; i += VL) vf_store_bf16(half + i, vf_load(from + i));
    else if (dtype == DTYPE_F16)
        for (; i + VL <= n; i += VL) vf_store_f16(half + i, vf_load(from + i));
    if (i < n)
        cpu_store_row((char *)to + (size_t)i * dtype_size(dtype), dtype, from + i, n - i);
}

/* `rows` of n elements, `step` bytes apart, to rows `wide` floats apart. A strip of f32 columns is the
 * common row: its width and type are constants. */
VF_INLINE void rows_load(float *to, int wide, const void *from, int64_t step, enum dtype dtype,
                         int rows, int n, int pad)
{
    const char *at = from;
    if (n == STRIP && STRIP % pad == 0 && dtype == DTYPE_F32)
        for (int i = 0; i < rows; i++, to += wide, at += step) row_load(to, at, DTYPE_F32, STRIP, 1);
    else
        for (int i = 0; i < rows; i++, to += wide, at += step) row_load(to, at, dtype, n, pad);
}

/* The way back, from rows `wide` floats apart. */
VF_INLINE void rows_store(void *to, int64_t step, enum dtype dtype, const float *from, int wide,
                          int rows, int n)
{
    char *at = to;
    if (n == STRIP && dtype == DTYPE_F32)
        for (int i = 0; i < rows; i++, at += step, from += wide) row_store(at, DTYPE_F32, from, STRIP);
    else
        for (int i = 0; i < rows; i++, at += step, from += wide) row_store(at, dtype, from, n);
}

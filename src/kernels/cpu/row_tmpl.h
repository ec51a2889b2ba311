/* row_tmpl.h: what the ops that walk along rows share, in the words of a vector vocabulary (one of
 * vec_*.h comes before it): elements of any type as f32 and back, sums over a row, the functions of
 * the gates.
 *
 * `left` is how many elements the row still has: below VL the other lanes are 0, and are not stored.
 * A loop runs its step with left = VL, a constant, and once more for the rest:
 *
 *     int64_t i = 0;
 *     for (; i + VL <= n; i += VL) step(.., i, VL);
 *     if (i < n) step(.., i, n - i);
 *
 * An element's bits do not depend on where in a vector it stands. */
#ifndef KERNELS_CPU_ROW_TMPL_H
#define KERNELS_CPU_ROW_TMPL_H

#include "kernels/cpu/cpu.h"

typedef int32_t vf_word __attribute__((vector_size(VL * 4)));

/* ---- which row ---------------------------------------------------------------------------------- */

/* A row of tensors [rows, D] or [T, H, D] that have the same dims: (t, h), without a division. */
struct row_place {
    int64_t t, h, H;
};

static inline struct row_place row_place(const struct tensor *of, int64_t row)
{
    GDN_CHECK(of->rank <= 3, "rows of a tensor of rank %d", of->rank);
    const int64_t H = of->rank == 3 ? of->dim[1] : 1;
    return (struct row_place){row / H, row % H, H};
}

static inline void row_next(struct row_place *place)
{
    if (++place->h < place->H) return;
    place->h = 0;
    place->t++;
}

static inline void *row_at(const struct tensor *t, const struct row_place *place)
{
    const int64_t head = t->rank == 3 ? place->h * t->stride[1] : 0;
    return tensor_at(t, (t->rank > 1 ? place->t * t->stride[0] : 0) + head);
}

/* A gradient's row; NULL: there is none. */
static inline float *row_of(const struct tensor *grad, const struct row_place *place)
{
    return grad ? row_at(grad, place) : NULL;
}

/* Most calls have one type throughout, for which a row is compiled by itself. `all` is that type;
 * DTYPE_COUNT: each tensor says its own. */
static inline enum dtype row_common(const struct tensor *const *t, int n)
{
    const enum dtype all = t[0]->dtype;
    for (int i = 1; i < n; i++)
        if (t[i] && t[i]->dtype != all) return DTYPE_COUNT;
    return all == DTYPE_F32 || all == DTYPE_BF16 ? all : DTYPE_COUNT;
}

VF_INLINE enum dtype row_type(enum dtype all, const struct tensor *t)
{
    return all == DTYPE_COUNT ? t->dtype : all;
}

/* A vector as f32: where it lies, or brought to the scratch; NULL: that is full. */
static inline const float *row_vector(struct arena *scratch, const struct tensor *t)
{
    const int64_t n = tensor_elements(t);
    if (t->dtype == DTYPE_F32 && tensor_dense(t)) return t->data;
    float *to = arena_take(scratch, (size_t)n * sizeof *to);
    for (int64_t row = 0; to && row < cpu_rows(t); row++)
        cpu_load_row(to + row * tensor_width(t), cpu_row(t, row), t->dtype, tensor_width(t));
    return to;
}

/* ---- loading and storing ------------------------------------------------------------------------ */

union row_some {
    float wide[VL];
    uint16_t half[VL];
};

/* Elements i.. of a row. Where it matters, `type` is a constant at the call. */
VF_INLINE vf row_get(enum dtype type, const void *row, int64_t i, int64_t left)
{
    const char *at = (const char *)row + i * (int64_t)dtype_size(type);
    union row_some some = {{0}};
    const float *wide = left < VL ? some.wide : (const void *)at;
    const uint16_t *half = left < VL ? some.half : (const void *)at;
    if (left < VL) memcpy(&some, at, (size_t)left * dtype_size(type));
    if (type == DTYPE_F32) return vf_load(wide);
    return type == DTYPE_BF16 ? vf_load_bf16(half) : vf_load_f16(half);
}

VF_INLINE void row_put(enum dtype type, void *row, int64_t i, int64_t left, vf x)
{
    char *at = (char *)row + i * (int64_t)dtype_size(type);
    union row_some some;
    float *wide = left < VL ? some.wide : (void *)at;
    uint16_t *half = left < VL ? some.half : (void *)at;
    if (type == DTYPE_F32)
        vf_store(wide, x);
    else if (type == DTYPE_BF16)
        vf_store_bf16(half, x);
    else
        vf_store_f16(half, x);
    if (left < VL) memcpy(at, &some, (size_t)left * dtype_size(type));
}

/* What is left of x after it was stored. */
VF_INLINE vf row_round(enum dtype type, vf x)
{
    union row_some some;
    if (type == DTYPE_F32) return x;
    row_put(type, &some, 0, VL, x);
    return row_get(type, &some, 0, VL);
}

/* Gradients: row += x. NULL swallows it. */
VF_INLINE void row_add(float *row, int64_t i, int64_t left, vf x)
{
    if (!row) return;
    row_put(DTYPE_F32, row, i, left, vf_add(row_get(DTYPE_F32, row, i, left), x));
}

/* ---- functions ---------------------------------------------------------------------------------- */

VF_INLINE vf vf_div(vf a, vf b) { return a / b; }
VF_INLINE vf vf_negative(vf x) { return (vf)((vf_word)x ^ (vf_word)vf_set1(-0.0f)); }
VF_INLINE vf vf_minus_size(vf x) { return (vf)((vf_word)x | (vf_word)vf_set1(-0.0f)); }
/* NaN where x is. */
VF_INLINE vf vf_at_least(vf x, float least)
{
    const vf_word low = x < vf_set1(least);
    return (vf)((low & (vf_word)vf_set1(least)) | (~low & (vf_word)x));
}

/* 1 / (1 + e^-x); 0 below -88.72, where e^-x is infinite. */
VF_INLINE vf vf_sigmoid(vf x)
{
    return vf_div(vf_set1(1.0f), vf_add(vf_set1(1.0f), vf_exp(vf_negative(x))));
}

VF_INLINE vf vf_silu(vf x)
{
    return vf_div(x, vf_add(vf_set1(1.0f), vf_exp(vf_negative(x))));
}

VF_INLINE vf vf_act(enum act act, vf x) { return act == ACT_SILU ? vf_silu(x) : vf_sigmoid(x); }

/* sigmoid(x), and in *rest what is left to 1; each keeps its accuracy where it is small. */
VF_INLINE vf vf_sigmoid_rest(vf x, vf *rest)
{
    const vf e = vf_exp(vf_minus_size(x));
    const vf big = vf_div(vf_set1(1.0f), vf_add(vf_set1(1.0f), e)), small = vf_mul(e, big);
    const vf_word below = (vf_word)x >> 31;
    *rest = (vf)((below & (vf_word)big) | (~below & (vf_word)small));
    return (vf)((below & (vf_word)small) | (~below & (vf_word)big));
}

/* act(x), and in *slope its derivative: s (1 + x (1 - s)), or s (1 - s). */
VF_INLINE vf vf_act_slope(enum act act, vf x, vf *slope)
{
    vf rest, s = vf_sigmoid_rest(x, &rest);
    if (act == ACT_SIGMOID) {
        *slope = vf_mul(s, rest);
        return s;
    }
    *slope = vf_fma(vf_mul(s, rest), x, s);
    return vf_mul(x, s);
}

/* max(x, 0) + log(1 + e^-|x|), which is x itself from 20 on, as the gate's contract asks. The
 * logarithm is 2 atanh(t) with t = e / (2 + e) <= 1/3, within 2e-8: no cases, no cancellation. */
VF_INLINE vf vf_softplus(vf x)
{
    const vf e = vf_exp(vf_minus_size(x)), t = vf_div(e, vf_add(vf_set1(2.0f), e));
    const vf z = vf_mul(t, t);
    vf p = vf_set1(1.3433776651e-1f);
    p = vf_fma(p, z, vf_set1(1.4116977575e-1f));
    p = vf_fma(p, z, vf_set1(2.0003835452e-1f));
    p = vf_fma(p, z, vf_set1(3.3333319833e-1f));
    const vf half = vf_fma(vf_mul(t, z), p, t);
    return vf_fma(vf_set1(2.0f), half, vf_at_least(x, 0.0f));
}

/* ---- sums over a row ---------------------------------------------------------------------------- */

/* Element k goes to lane k mod 64, whatever VL is: enough chains to hide the latency of an add. The
 * lanes l, l+16, l+32, l+48 meet in ascending order, then the tree of sum16. */
enum { ROW_LANES = 64, ROW_PARTS = ROW_LANES / VL };

VF_INLINE float row_sum_end(const vf *part)
{
    struct vf16 sum;
    for (int v = 0; v < VF16; v++) {
        sum.part[v] = part[v];
        for (int q = 1; q < ROW_LANES / 16; q++)
            sum.part[v] = vf_add(sum.part[v], part[q * VF16 + v]);
    }
    return sum16(&sum);
}

/* The sum of x^2. */
VF_INLINE float row_squares(enum dtype type, const void *row, int64_t n)
{
    vf part[ROW_PARTS], x;
    int64_t i = 0;
    VF_UNROLL for (int v = 0; v < ROW_PARTS; v++) part[v] = vf_zero();
    for (; i + ROW_LANES <= n; i += ROW_LANES)
        VF_UNROLL for (int v = 0; v < ROW_PARTS; v++) {
            x = row_get(type, row, i + v * VL, VL);
            part[v] = vf_fma(x, x, part[v]);
        }
    for (int v = 0; i < n; v++, i += VL) {
        x = row_get(type, row, i, n - i);
        part[v] = vf_fma(x, x, part[v]);
    }
    return row_sum_end(part);
}

#endif

/* ref.h: the reference kernels: the truth that every other kernel is held against.
 *
 * They read like the formulas. Whatever a tensor holds is loaded as double, all arithmetic is in
 * double with libm, and a result is rounded once, to the type it is stored in. What passes through
 * a slot (k, u, G, ring, pages, anchor) is rounded before its first use, so the value of a row
 * depends on the tokens before it only. Sums over rows are made in double and added to a gradient
 * once. Nothing here is made fast. */
#ifndef KERNELS_REF_REF_H
#define KERNELS_REF_REF_H

#include <math.h>

#include "tensor/device.h"

/* Fills forward[] and backward[] of all parts; leaves the fused mixes alone. */
void ref_fill(struct device *device);

/* The anchor in the reference layout: [Hv][Dv][Dk], as at the edges. For struct device. */
int64_t ref_anchor_elements(int32_t Hv, int32_t Dv, int32_t Dk);
void ref_anchor_pack(const struct delta_slots *slots, int32_t slot, const double *dense);
void ref_anchor_unpack(const struct delta_slots *slots, int32_t slot, double *dense);

#define REF_OP(name) op_kernel name##_forward_ref, name##_backward_ref
REF_OP(embed);
REF_OP(add_norm);
REF_OP(linear);
op_kernel top_forward_ref;
REF_OP(linear_ce);
REF_OP(conv);
REF_OP(gate);
REF_OP(l2norm);
REF_OP(delta);
REF_OP(norm);
REF_OP(gated_norm);
REF_OP(rope);
REF_OP(attn);
REF_OP(glu);
REF_OP(route);
REF_OP(experts);
REF_OP(head_linear);
REF_OP(join);
#undef REF_OP

/* The part of delta_forward_ref that works on slots (delta_log.c). */
void delta_log_forward_ref(struct arena *scratch, const struct delta_args *a);

/* ---- numbers: element i of an array of some type --------------------------------------------- */

double ref_load(enum dtype type, const void *data, int64_t i);
void ref_store(enum dtype type, void *data, int64_t i, double v);
/* What is left of v after it was stored. */
double ref_round(enum dtype type, double v);

/* n zeroed doubles, or NULL when the arena is full. */
double *ref_take(struct arena *scratch, int64_t n);

/* ---- tensors: offsets honour the strides; NULL reads as 0 and swallows what is added --------- */

static inline double ref_get(const struct tensor *t, int64_t offset)
{
    return t ? ref_load(t->dtype, t->data, offset) : 0.0;
}

static inline void ref_put(const struct tensor *t, int64_t offset, double v)
{
    ref_store(t->dtype, t->data, offset, v);
}

static inline void ref_add(const struct tensor *t, int64_t offset, double v)
{
    if (t) ref_put(t, offset, ref_get(t, offset) + v);
}

/* Element k of a row of a weight, quantised or not. */
double ref_weight(const struct tensor *w, int64_t row, int64_t k);

/* Offset of element (i, j, k); k = 0 for a matrix. */
static inline int64_t ref_at(const struct tensor *t, int64_t i, int64_t j, int64_t k)
{
    if (!t) return 0;
    return i * t->stride[0] + (t->rank > 1 ? j * t->stride[1] : 0) +
           (t->rank > 2 ? k * t->stride[2] : 0);
}

/* Everything before the last axis seen as rows: how many, and the offset of one. */
int64_t ref_rows(const struct tensor *t);
int64_t ref_row(const struct tensor *t, int64_t row);

/* Zeroes the elements whose first index lies in [begin, end). */
void ref_clear(const struct tensor *t, int64_t begin, int64_t end);

static inline struct tensor *ref_grad(const struct tensor *t) { return t ? t->grad : NULL; }

/* ---- sequences ------------------------------------------------------------------------------- */

static inline bool ref_absent(const struct rows *rows, int32_t b)
{
    return rows->slot && rows->slot[b] == -1;
}

/* Rows of a sequence that take part: none of an absent one. */
static inline int32_t ref_length(const struct rows *rows, int32_t b)
{
    return ref_absent(rows, b) ? 0 : rows->start[b + 1] - rows->start[b];
}

int32_t ref_longest(const struct rows *rows);

/* ---- functions ------------------------------------------------------------------------------- */

static inline double ref_sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

static inline double ref_act(enum act act, double x)
{
    return act == ACT_SILU ? x * ref_sigmoid(x) : ref_sigmoid(x);
}

static inline double ref_act_slope(enum act act, double x)
{
    double s = ref_sigmoid(x), rest = ref_sigmoid(-x); /* 1 - s, which would cancel */
    return act == ACT_SILU ? s * (1.0 + x * rest) : s * rest;
}

#endif

/* cpu.h: the portable CPU kernels, and what they share: rows, their loading and storing, the dot
 * product. A kernel loads rows into f32, computes in f32 and rounds once when it stores.
 *
 * Row of a tensor: all axes before the last, counted as one. */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include "base/check.h"
#include "kernels/cpu/math.h"
#include "tensor/device.h"
#include "tensor/quant.h"

op_kernel cpu_embed_forward, cpu_add_norm_forward, cpu_linear_forward, cpu_top_forward;
op_kernel cpu_linear_ce_forward, cpu_conv_forward, cpu_gate_forward, cpu_l2norm_forward;
op_kernel cpu_delta_forward, cpu_norm_forward, cpu_gated_norm_forward, cpu_rope_forward;
op_kernel cpu_attn_forward, cpu_glu_forward, cpu_route_forward, cpu_experts_forward;
op_kernel cpu_head_linear_forward, cpu_join_forward;
op_kernel cpu_add_norm_backward, cpu_conv_backward, cpu_gate_backward, cpu_l2norm_backward;
op_kernel cpu_norm_backward, cpu_gated_norm_backward, cpu_rope_backward, cpu_glu_backward;
op_kernel cpu_embed_backward, cpu_linear_backward, cpu_linear_ce_backward;
op_kernel cpu_route_backward, cpu_experts_backward, cpu_head_linear_backward, cpu_join_backward;
op_kernel cpu_attn_backward, cpu_delta_backward, cpu_delta_backward_avx2, cpu_delta_backward_avx512;
op_kernel cpu_delta_forward_amx, cpu_delta_backward_amx, cpu_linear_forward_amx;
op_kernel cpu_linear_ce_forward_amx, cpu_experts_forward_amx, cpu_attn_forward_amx;
op_kernel cpu_head_linear_forward_amx;
/* The ops on rows (row_tmpl.h), the convolution and attention, compiled for each ISA. */
#define CPU_ISA_KERNELS(isa)                                                                     \
    op_kernel cpu_add_norm_forward##isa, cpu_conv_forward##isa, cpu_gate_forward##isa;           \
    op_kernel cpu_l2norm_forward##isa, cpu_norm_forward##isa, cpu_gated_norm_forward##isa;       \
    op_kernel cpu_rope_forward##isa, cpu_glu_forward##isa, cpu_delta_forward##isa;               \
    op_kernel cpu_add_norm_backward##isa, cpu_conv_backward##isa, cpu_gate_backward##isa;        \
    op_kernel cpu_l2norm_backward##isa, cpu_norm_backward##isa, cpu_gated_norm_backward##isa;    \
    op_kernel cpu_rope_backward##isa, cpu_glu_backward##isa, cpu_linear_backward##isa;           \
    op_kernel cpu_linear_ce_backward##isa, cpu_linear_forward##isa, cpu_experts_forward##isa;    \
    op_kernel cpu_linear_ce_forward##isa, cpu_attn_forward##isa, cpu_attn_backward##isa;         \
    op_kernel cpu_head_linear_forward##isa
CPU_ISA_KERNELS(_avx2);
CPU_ISA_KERNELS(_avx512);

int64_t cpu_anchor_elements(int32_t Hv, int32_t Dv, int32_t Dk);
void cpu_anchor_pack(const struct delta_slots *slots, int32_t slot, const double *dense);
void cpu_anchor_unpack(const struct delta_slots *slots, int32_t slot, double *dense);

/* Puts what runs on any machine into the table. */
void cpu_fill_portable(struct device *device);
/* These, then what the flags (base/cpu.h) allow. */
void cpu_fill(struct device *device, uint32_t flags);

/* The lanes of a sum: element k goes to lane k mod 16, the lanes meet in one fixed tree. */
enum { CPU_LANES = 16, CPU_QUADS = CPU_LANES / 4 };
typedef float cpu_quad __attribute__((vector_size(16)));

/* Four elements from an address aligned to an element only. */
static inline cpu_quad cpu_load_quad(const float *from)
{
    cpu_quad q;
    memcpy(&q, from, sizeof q);
    return q;
}

/* Ends a sum: l + (l+8), then +4, +2, +1. */
static inline float cpu_lanes_sum(const float *lane)
{
    cpu_quad s = (cpu_load_quad(lane) + cpu_load_quad(lane + 8)) +
                 (cpu_load_quad(lane + 4) + cpu_load_quad(lane + 12));
    return (s[0] + s[2]) + (s[1] + s[3]);
}

/* THE dot product: every sum over a row that must not depend on its form is made in this order. */
static inline float cpu_dot(const float *a, const float *b, int64_t n)
{
    cpu_quad sum[CPU_QUADS] = {0};
    int64_t k = 0;
    for (; k + CPU_LANES <= n; k += CPU_LANES)
        for (int q = 0; q < CPU_QUADS; q++)
            sum[q] += cpu_load_quad(a + k + 4 * q) * cpu_load_quad(b + k + 4 * q);
    float lane[CPU_LANES];
    memcpy(lane, sum, sizeof lane);
    for (int l = 0; k + l < n; l++) lane[l] += a[k + l] * b[k + l];
    return cpu_lanes_sum(lane);
}

static inline int64_t cpu_rows(const struct tensor *t)
{
    int64_t rows = 1;
    for (int i = 0; i < t->rank - 1; i++) rows *= t->dim[i];
    return rows;
}

/* Address of the first element of a row. */
static inline void *cpu_row(const struct tensor *t, int64_t row)
{
    int64_t element = 0;
    for (int i = t->rank - 2; i > 0; i--) {
        element += row % t->dim[i] * t->stride[i];
        row /= t->dim[i];
    }
    if (t->rank > 1) element += row * t->stride[0];
    return tensor_at(t, element);
}

/* n elements of f32, bf16 or f16, aligned to an element, or all n of a quantised row, to f32: exact. */
static inline void cpu_load_row(float *to, const void *from, enum dtype dtype, int64_t n)
{
    const uint16_t *half = from;
    switch (dtype) {
    case DTYPE_F32:
        memcpy(to, from, (size_t)n * sizeof *to);
        return;
    case DTYPE_BF16:
        for (int64_t i = 0; i < n; i++) to[i] = bf16_to_f32(half[i]);
        return;
    case DTYPE_F16:
        for (int64_t i = 0; i < n; i++) to[i] = f16_to_f32(half[i]);
        return;
    case DTYPE_Q8:
    case DTYPE_Q4:
        quant_load_row(to, from, dtype, n);
        return;
    default:
        GDN_CHECK(false, "the cpu does not compute with %s", dtype_name(dtype));
    }
}

/* The way back: one rounding. */
static inline void cpu_store_row(void *to, enum dtype dtype, const float *from, int64_t n)
{
    uint16_t *half = to;
    switch (dtype) {
    case DTYPE_F32:
        memcpy(to, from, (size_t)n * sizeof *from);
        return;
    case DTYPE_BF16:
        for (int64_t i = 0; i < n; i++) half[i] = f32_to_bf16(from[i]);
        return;
    case DTYPE_F16:
        for (int64_t i = 0; i < n; i++) half[i] = f32_to_f16(from[i]);
        return;
    default:
        GDN_CHECK(false, "the cpu does not compute with %s", dtype_name(dtype));
    }
}

/* Rows one thread should take at least, so that it has some 4096 elements of work. */
static inline int64_t cpu_grain(int64_t width) { return 1 + 4096 / (width + 1); }

/* A working row for each thread: `width` floats, `stride` apart. NULL: scratch is full. */
struct cpu_work_rows {
    float *data;
    int64_t stride;
};

static inline struct cpu_work_rows cpu_take_rows(struct device *device, struct arena *scratch,
                                                 int64_t width)
{
    int64_t stride = (width + 15) / 16 * 16;
    size_t bytes = (size_t)stride * (size_t)pool_threads(device->pool) * sizeof(float);
    return (struct cpu_work_rows){arena_take(scratch, bytes), stride};
}

/* Sums over rows: a block of rows is summed in f32 by whoever has it, the blocks meet in double, in
 * order. grad [n] (or [n/D, D], f32) += the sum over `blocks` rows of sum [blocks][n]. */
enum { CPU_SUM_ROWS = 64 };
void cpu_add_blocks(struct pool *pool, const struct tensor *grad, const float *sum, int64_t blocks,
                    int64_t n);

/* The logsumexp of a row, taken CPU_LSE_TILE elements at a time (the last tile may be shorter):
 * one order for whoever needs one. Start with {-INFINITY, 0}. In lse.c. */
enum { CPU_LSE_TILE = 512 };
struct cpu_lse {
    float max, sum; /* sum of e^(x - max) */
};
/* Adds a tile, with what a device's isa allows. */
void cpu_lse_add(uint32_t isa, struct cpu_lse *lse, const float *x, int64_t n);
static inline double cpu_lse_value(const struct cpu_lse *lse)
{
    return (double)lse->max + log((double)lse->sum);
}

#endif

/* ops.h: the kernels of a gated-delta layer as plain calls on the caller's arrays.
 *
 *     gdn_ops *ops;
 *     struct gdn_error err = {0};
 *     if (gdn_ops_open("cpu", 0, GDN_ISA_ALL, &ops, &err) != GDN_OK) return puts(err.text), 1;
 *     struct gdn_delta call = {
 *         .rows = {.B = 2, .T = 100}, .Hk = 4, .Hv = 8, .Dk = 128, .Dv = 128, .l2norm = true,
 *         .q.data = q, .k.data = k, .v.data = v, .g.data = g, .beta.data = beta, .o.data = o,
 *         .S1.data = state};
 *     size_t bytes;
 *     gdn_delta_workspace(ops, &call, NULL, &bytes, &err);
 *     gdn_delta_forward(ops, &call, workspace, bytes, &err);
 *     gdn_ops_close(ops);
 *
 * What holds for every call:
 *
 * Memory. Only gdn_ops_open takes memory. Arrays and workspace are the caller's and nothing keeps
 * their addresses after the call. Ask for the size of the workspace with the call as it will be
 * made: it depends on lengths, types and strides, on which arrays are given and on the context, not
 * on what the arrays hold. It may lie at any address, and what it holds before and after does not
 * matter. Arrays are aligned to their element. An output overlaps nothing, but where a comment
 * says that it may be an input.
 *
 * Arrays are row-major, the last axis contiguous; other strides are free, in elements. Inputs are
 * not written. Of an output exactly its elements are, never what lies between them.
 *
 * Types. f32, bf16 and f16 are widened when loaded; all sums are f32 (f64 on "ref"); a result is
 * rounded once, to the type of its array. "ref" also takes f64.
 *
 * Units. g is the natural logarithm of the decay, at most 0; -infinity forgets all. A state is
 * S [Dv, Dk], so that o = S q; it is not transposed anywhere.
 *
 * Rows are exact unless `fast` says otherwise: the bits of a row depend on the rows before it in
 * its sequence, not on other sequences, threads, strides or masked rows.
 *
 * Failure. A call either does everything and returns GDN_OK, or writes nothing but a sentence into
 * *err (zeroed before; may be NULL): what argument, what was found, what is needed.
 *
 * Threads. One call at a time on a context; contexts do not know each other. */
#ifndef GDN_OPS_H
#define GDN_OPS_H

#include "gdn/gdn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A device and its threads. `device`: "cpu" (also NULL) or "ref", the same in double and slow.
 * `threads`: 0 for all cores this process may use. `isa`: which instruction sets may be used, by
 * bit; ~0 for what the machine has, 0 for portable code. *ops is NULL after a failure. */
typedef struct gdn_ops gdn_ops;
enum gdn_isa {
    GDN_ISA_AVX2 = 1,
    GDN_ISA_AVX512 = 2,
    GDN_ISA_AVX512_BF16 = 4,
    GDN_ISA_AVX512_VNNI = 8,
    GDN_ISA_AMX = 16
};
#define GDN_ISA_ALL UINT32_MAX
GDN_API enum gdn_status gdn_ops_open(const char *device, int threads, uint32_t isa, gdn_ops **ops,
                                     struct gdn_error *err);
/* NULL is fine. */
GDN_API void gdn_ops_close(gdn_ops *ops);
/* The instruction sets that its calls may use, bits of enum gdn_isa; 0: portable code, and "ref".
 * What was asked for and is not there is not among them. */
GDN_API uint32_t gdn_ops_isa(const gdn_ops *ops);

/* ---- arrays ---------------------------------------------------------------------------------- */

enum { GDN_F16 = 3 }; /* beside enum gdn_type */

/* In brackets below: the axes. */
struct gdn_array {
    void *data;        /* NULL: not given */
    int type;          /* GDN_F32, GDN_BF16, GDN_F16; on "ref" also GDN_F64 */
    int64_t stride[3]; /* of each axis before the last, in its order; all 0: dense. An input may
                          have single strides of 0: the same row for every index */
};

/* What the first two axes [B, T] of the arrays mean. */
struct gdn_rows {
    int32_t B, T;          /* sequences, rows of each */
    const int32_t *starts; /* [B+1] or NULL. Given, the sequences are of any length, 0 too, one
                              after another: the arrays are [1, T], sequence b has the rows
                              starts[b]..starts[b+1]-1, starts[0] is 0. Rows from starts[B] on
                              belong to nobody */
    const uint8_t *mask;   /* [B, T] dense, or NULL. 0: the row is absent, as if the sequence did
                              not have it */
    const int32_t *slots;  /* [B] or NULL. Given, states are pools of `pool` states, of which
                              sequence b reads and writes number slots[b]; all different. -1: the
                              sequence is absent and has no state */
    int32_t pool;
};
/* Of rows that are absent or nobody's, outputs and gradients are 0; no state changes by them. */

/* ---- the gated delta rule -------------------------------------------------------------------- */

/* For every sequence and value head h, which reads key head h / (Hv / Hk), S from S0:
 *
 *     S = S e^g;   u = beta (v - S k);   S = S + u k^T;   o = scale S q
 *
 * and S1 is S after the last row. Keys are meant to be of length 1 (beta |k|^2 at most 2), which
 * l2norm sees to: q and k become x / sqrt(|x|^2 + 1e-6).
 *
 * States inside a sequence: cut the call there. The rows after a cut have the same bits when the
 * states are f32 and the cut is at a multiple of 16 rows, otherwise the same value but for
 * rounding. A bf16 state is rounded once in a call, at its end. */
struct gdn_delta {
    struct gdn_rows rows;
    int32_t Hk, Hv, Dk, Dv;  /* Hv is a multiple of Hk */
    struct gdn_array q, k;   /* [B, T, Hk, Dk] */
    struct gdn_array v;      /* [B, T, Hv, Dv]; q, k, v of one type */
    struct gdn_array g;      /* [B, T, Hv], with channel_gate [B, T, Hv, Dk]; not given: no decay */
    struct gdn_array beta;   /* [B, T, Hv]; not given: 1. g, beta: f32, or the type of q */
    struct gdn_array S0;     /* [B or pool, Hv, Dv, Dk] f32 or bf16; not given: 0 */
    struct gdn_array o;      /* [B, T, Hv, Dv] of the type of q, or f32 */
    struct gdn_array S1;     /* like S0, of its own type; may be S0; not given: not wanted */
    bool channel_gate, l2norm;
    bool fast;               /* 64 rows and more may use bf16 products: 6e-3 relative error, 1e-2
                                of gradients */
    double scale;            /* 0: 1 / sqrt(Dk) */
};

/* Of a loss: what is known of it (o, S1; not given: 0), and what is wanted (the others). Each is
 * like its namesake, in its type or f32. Slots have no gradient: states are [B]. */
struct gdn_delta_gradient {
    struct gdn_array o, S1;
    struct gdn_array q, k, v, g, beta, S0;
};

/* For forward, or with `gradient` for backward. */
GDN_API enum gdn_status gdn_delta_workspace(const gdn_ops *ops, const struct gdn_delta *call,
                                            const struct gdn_delta_gradient *gradient,
                                            size_t *bytes, struct gdn_error *err);
GDN_API enum gdn_status gdn_delta_forward(const gdn_ops *ops, const struct gdn_delta *call,
                                          void *workspace, size_t bytes, struct gdn_error *err);
/* Reads the inputs of the forward call; it kept nothing, its outputs need not be there. Gradients
 * are written, not added; the same bits every time. Segments of a sequence are chained by handing
 * gradient.S0 of the later one to gradient.S1 of the earlier one. */
GDN_API enum gdn_status gdn_delta_backward(const gdn_ops *ops, const struct gdn_delta *call,
                                           const struct gdn_delta_gradient *gradient,
                                           void *workspace, size_t bytes, struct gdn_error *err);

/* ---- the short convolution ------------------------------------------------------------------- */

/* y[t, c] = silu(sum_j w[c, j] x[t - (W-1) + j, c]), j = 0..W-1. Before the first row stand the
 * rows of tail_in, oldest first; tail_out gets the last W-1 inputs, of tail_in too when there were
 * less. q, k and v may be one call or three. */
struct gdn_conv {
    struct gdn_rows rows;
    int32_t C, W;              /* channels; taps, 1..16 */
    struct gdn_array x;        /* [B, T, C] */
    struct gdn_array w;        /* [C, W] */
    struct gdn_array tail_in;  /* [B or pool, W-1, C] of the type of x; not given: 0 */
    struct gdn_array y;        /* [B, T, C] of the type of x, or f32 */
    struct gdn_array tail_out; /* like tail_in; may be it; not given: not wanted */
    bool plain;                /* without silu */
};
struct gdn_conv_gradient {
    struct gdn_array y, tail_out;
    struct gdn_array x, w, tail_in;
};
GDN_API enum gdn_status gdn_conv_workspace(const gdn_ops *ops, const struct gdn_conv *call,
                                           const struct gdn_conv_gradient *gradient, size_t *bytes,
                                           struct gdn_error *err);
GDN_API enum gdn_status gdn_conv_forward(const gdn_ops *ops, const struct gdn_conv *call,
                                         void *workspace, size_t bytes, struct gdn_error *err);
GDN_API enum gdn_status gdn_conv_backward(const gdn_ops *ops, const struct gdn_conv *call,
                                          const struct gdn_conv_gradient *gradient, void *workspace,
                                          size_t bytes, struct gdn_error *err);

/* ---- decay and write strength ---------------------------------------------------------------- */

/* g = -exp(A_log) softplus(a + dt_bias), softplus linear above 20; with a lower bound below 0
 * g = lower_bound sigmoid(exp(A_log) (a + dt_bias)). beta = beta_scale sigmoid(b). */
struct gdn_gate {
    int32_t B, T, Hv, Dk;     /* Dk 0: one decay a head; a, g and dt_bias lack their last axis */
    struct gdn_array a, b;    /* [B, T, Hv, Dk], [B, T, Hv] of one type */
    struct gdn_array A_log;   /* [Hv]; not given: 0 */
    struct gdn_array dt_bias; /* [Hv, Dk]; not given: 0 */
    struct gdn_array g, beta; /* like a, like b; f32 */
    double lower_bound;       /* 0: none */
    double beta_scale;        /* 0: 1 */
};
struct gdn_gate_gradient {
    struct gdn_array g, beta;
    struct gdn_array a, b, A_log, dt_bias;
};
GDN_API enum gdn_status gdn_gate_workspace(const gdn_ops *ops, const struct gdn_gate *call,
                                           const struct gdn_gate_gradient *gradient, size_t *bytes,
                                           struct gdn_error *err);
GDN_API enum gdn_status gdn_gate_forward(const gdn_ops *ops, const struct gdn_gate *call,
                                         void *workspace, size_t bytes, struct gdn_error *err);
GDN_API enum gdn_status gdn_gate_backward(const gdn_ops *ops, const struct gdn_gate *call,
                                          const struct gdn_gate_gradient *gradient, void *workspace,
                                          size_t bytes, struct gdn_error *err);

/* ---- norms ----------------------------------------------------------------------------------- */

/* y = scale x / sqrt(sum x^2 + eps) over the last axis. A row of zeros has the gradient 0. Backward
 * of both norms needs gradient.y. */
struct gdn_l2norm {
    int32_t B, T, H, D;
    struct gdn_array x, y; /* [B, T, H, D]; y of the type of x, or f32 */
    double eps, scale;     /* 0: 1e-6, 1 */
};
struct gdn_l2norm_gradient {
    struct gdn_array y;
    struct gdn_array x;
};
GDN_API enum gdn_status gdn_l2norm_workspace(const gdn_ops *ops, const struct gdn_l2norm *call,
                                             const struct gdn_l2norm_gradient *gradient,
                                             size_t *bytes, struct gdn_error *err);
GDN_API enum gdn_status gdn_l2norm_forward(const gdn_ops *ops, const struct gdn_l2norm *call,
                                           void *workspace, size_t bytes, struct gdn_error *err);
GDN_API enum gdn_status gdn_l2norm_backward(const gdn_ops *ops, const struct gdn_l2norm *call,
                                            const struct gdn_l2norm_gradient *gradient,
                                            void *workspace, size_t bytes, struct gdn_error *err);

/* y = w x / sqrt(mean x^2 + eps) over the last axis; centred: 1 + w in place of w; gated: times
 * silu(z) or sigmoid(z), and then not centred. */
enum gdn_norm_gate { GDN_UNGATED, GDN_SILU, GDN_SIGMOID };
struct gdn_norm {
    int32_t B, T, H, D;
    struct gdn_array x, z; /* [B, T, H, D] of one type; z with a gate only */
    struct gdn_array w;    /* [D] */
    struct gdn_array y;    /* [B, T, H, D] of the type of x, or f32 */
    double eps;            /* 0: 1e-6 */
    bool centred;
    enum gdn_norm_gate gate;
};
struct gdn_norm_gradient {
    struct gdn_array y;
    struct gdn_array x, z, w;
};
GDN_API enum gdn_status gdn_norm_workspace(const gdn_ops *ops, const struct gdn_norm *call,
                                           const struct gdn_norm_gradient *gradient, size_t *bytes,
                                           struct gdn_error *err);
GDN_API enum gdn_status gdn_norm_forward(const gdn_ops *ops, const struct gdn_norm *call,
                                         void *workspace, size_t bytes, struct gdn_error *err);
GDN_API enum gdn_status gdn_norm_backward(const gdn_ops *ops, const struct gdn_norm *call,
                                          const struct gdn_norm_gradient *gradient, void *workspace,
                                          size_t bytes, struct gdn_error *err);

#ifdef __cplusplus
}
#endif
#endif

/* front.h: the front door of the ops: checks, outputs, the device's slot, the tape.
 *
 * Model code calls these in order; there is no graph. Outputs are taken from the pass's arenas. A
 * resource failure (arena, device) makes every later call of the pass a no-op that still returns a
 * tensor of the right shape; the caller asks pass_status() once, at the end. A wrong shape is the
 * programmer's error and ends in GDN_CHECK. */
#ifndef OPS_FRONT_H
#define OPS_FRONT_H

#include "ops/tape.h"
#include "tensor/device.h"

struct pass {
    struct device *device;
    struct arena *data, *meta; /* device memory; host structs */
    struct tape *tape;         /* NULL: inference */
    const struct rows *rows;
    enum dtype compute;        /* type of activations: f32, bf16 (f64 on the reference) */
    bool fast;                 /* long runs of rows may give up exactness (docs/numerics.md) */
    struct tensor lost;        /* what a pass out of memory returns */
};

enum gdn_status pass_status(const struct pass *pass);

/* A new activation of the pass's compute type (or `dtype`), not initialised. */
struct tensor *pass_tensor(struct pass *pass, enum dtype dtype, int rank, const int64_t *dim);

/* Weights of a mixer; the tensors of small weights are f32. */
struct delta_weight {
    struct tensor *conv, *A_log, *dt_bias, *norm; /* [C, W], [Hv], [Hv] or [Hv, Dk], [Dv] */
    int32_t Hk, Hv, Dk, Dv;
    double eps, beta_scale, lower_bound; /* call.h: struct gate_args */
    enum act act;                        /* of the output's gate */
};

struct attn_weight {
    struct tensor *q_norm, *k_norm; /* call.h: struct attn_mix_args */
    int32_t Hq, Hkv, D, rot;        /* rot 0: no positions */
    double eps, theta;
    bool gated, wide, centred;
};

/* Attention over one latent row a token (MLA): keys are the normed latent and `shared` entries that
 * all heads share, values the latent; each head's own key and value matrix is applied to the query
 * and to the result. A matrix is a window of its tensor: its heads [rows, columns] lie `step` rows
 * apart, from row `from` on. */
struct head_matrix {
    struct tensor *w; /* [.., columns] */
    int64_t from, step;
    bool turned;
};

struct latent_weight {
    struct norm_weight norm;         /* [R] */
    struct head_matrix keys, values; /* [nope, R] turned or [R, nope]; [Dv, R] */
    int32_t Hq, nope, shared, R, Dv;
};

/* A router: call.h, struct route_args. */
struct route_weight {
    struct linear logits;
    struct tensor *bias; /* [E] or NULL */
    int32_t best, groups, groups_used;
    enum score score;
    bool renormalise;
    double scale;
};

/* y[t] = table[ids[t]]; also the gather of wanted rows. */
struct tensor *op_embed(struct pass *pass, struct tensor *table, const int32_t *ids, int64_t n);

/* *x1 = x + d (x itself when d is NULL), returns the norm of it. */
struct tensor *op_add_norm(struct pass *pass, struct tensor *x, struct tensor *d,
                           const struct norm_weight *norm, struct tensor **x1);

struct tensor *op_linear(struct pass *pass, const struct linear *w, struct tensor *x);
/* The same with the type of y chosen (logits are f32 whatever the activations are). */
struct tensor *op_linear_as(struct pass *pass, const struct linear *w, struct tensor *x,
                            enum dtype dtype);
/* The same into a tensor that was taken before x was made. */
void op_linear_into(struct pass *pass, const struct linear *w, struct tensor *x, struct tensor *y);

struct tensor *op_norm(struct pass *pass, const struct norm_weight *norm, struct tensor *x);
/* a + sigmoid(s) b, s [T, 1]; without s: a + b. */
struct tensor *op_join(struct pass *pass, struct tensor *a, struct tensor *b, struct tensor *s);

/* Two norms side by side, [T, Da + Db]. */
struct tensor *op_norm_pair(struct pass *pass, const struct norm_weight *norm_a, struct tensor *a,
                            const struct norm_weight *norm_b, struct tensor *b);
/* The short convolution alone, w [C, W], its inputs kept in `tail`. */
struct tensor *op_plain_conv(struct pass *pass, struct tensor *w, struct tensor *x,
                             struct conv_slots *tail);

/* n columns of a packed row. */
struct tensor *pass_columns(struct pass *pass, struct tensor *x, int64_t column, int64_t n);

/* The mixers, over projections (call.h has the columns). State NULL: dense, from zero. */
struct delta_in {
    struct tensor *qkv, *z, *b, *a;
};
struct tensor *op_delta_mix(struct pass *pass, const struct delta_weight *w,
                            const struct delta_in *in, struct delta_slots *delta,
                            struct conv_slots *tail);
struct tensor *op_attn_mix(struct pass *pass, const struct attn_weight *w, struct tensor *x,
                           struct kv_pages *pages);
/* x: per head nope|shared of q; then latent|shared of the token. */
struct tensor *op_latent_mix(struct pass *pass, const struct latent_weight *w, struct tensor *x,
                             struct kv_pages *pages);

struct tensor *op_ffn_act(struct pass *pass, struct tensor *gate_up);
/* The routed experts' share of a row. */
struct tensor *op_moe(struct pass *pass, const struct route_weight *route,
                      const struct experts *experts, struct tensor *x);

/* Best tokens of each row of logits into caller's device memory; no gradient. */
void op_top(struct pass *pass, struct tensor *logits, int64_t vocab, int32_t best, int32_t *ids,
            float *values, float *lse);

/* Loss of every row, [T]; targets in device memory, negative = ignored. */
struct tensor *op_linear_ce(struct pass *pass, const struct linear *w, struct tensor *x,
                            const int32_t *targets, int64_t vocab);

/* Gives back what was taken since the mark, unless a tape holds it. */
struct pass_mark {
    size_t data, meta;
};
struct pass_mark pass_mark(const struct pass *pass);
void pass_forget(struct pass *pass, struct pass_mark mark);

/* Runs `segment`, keeps its outputs (each like in[0] in shape and type) and gives all its other
 * memory back. Without a tape the outputs replace the inputs, whose memory they take. With one only
 * the inputs are remembered: the inside is computed again when the gradient passes. */
void pass_segment(struct pass *pass, segment_run *segment, void *context,
                  struct tensor *const in[2], struct tensor *out[2]);

#endif

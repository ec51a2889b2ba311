/* call.h: the list of ops, what each is called with, and the structs that kernels read.
 *
 * This is the only meeting point of the front door (ops/) and the kernels (kernels/): the front
 * fills an argument struct and picks a slot of the device's table; a kernel sees nothing else.
 *
 * In every argument struct the tensors stand first, inputs before outputs, as many as the list
 * says: that is how the tape walks them. A tensor may be NULL where the contract says so.
 *
 * Names: B sequences, T rows, D model width, Hk/Hv/Hq heads, Dk/Dv head widths, N x K a weight. */
#ifndef TENSOR_CALL_H
#define TENSOR_CALL_H

#include "tensor/tensor.h"

/* op, argument struct, tensors in, tensors out */
#define GDN_OPS(X)                                                                              \
    /* the ops a layer is made of */                                                            \
    X(EMBED, embed, 1, 1)             /* rows of a table */                                      \
    X(ADD_NORM, add_norm, 3, 2)       /* residual add and the next norm */                       \
    X(LINEAR, linear, 1, 1)           /* packed projections */                                   \
    X(DELTA_MIX, delta_mix, 8, 1)     /* conv, gate, l2norm, delta, gated norm */                \
    X(ATTN_MIX, attn_mix, 3, 1)       /* q/k norm, rope, KV write, attention, output gate */     \
    X(FFN_ACT, ffn_act, 1, 1)         /* silu(gate) * up over gate|up */                         \
    X(ROUTE, route, 2, 1)             /* which experts a row goes to, and their weights */       \
    X(EXPERTS, experts, 2, 1)         /* what they make of it, weighed and summed */             \
    X(TOP, top, 1, 0)                 /* best tokens of a row and its logsumexp */               \
    X(LINEAR_CE, linear_ce, 1, 1)     /* head and cross entropy in chunks */                     \
    /* their parts: the reference, and what a device without the fused slot runs */              \
    X(CONV, conv, 3, 2)               /* short causal convolution, SiLU */                       \
    X(GATE, gate, 4, 2)               /* decay and write strength */                             \
    X(L2NORM, l2norm, 1, 1)                                                                      \
    X(DELTA, delta, 6, 2)             /* the gated delta rule */                                 \
    X(NORM, norm, 2, 1)                                                                          \
    X(GATED_NORM, gated_norm, 3, 1)                                                              \
    X(ROPE, rope, 1, 1)                                                                          \
    X(ATTN, attn, 3, 1)               /* causal attention */                                     \
    X(GLU, glu, 2, 1)                 /* act(a) * b */                                           \
    X(HEAD_LINEAR, head_linear, 2, 1) /* a product for each head */                              \
    X(JOIN, join, 3, 1)               /* a + sigmoid(s) b */

enum op {
#define GDN_OP_ENUM(NAME, name, in, out) OP_##NAME,
    GDN_OPS(GDN_OP_ENUM)
#undef GDN_OP_ENUM
    OP_COUNT
};

struct op_info {
    const char *name;
    int in, out;
    size_t bytes; /* of the argument struct */
};
extern const struct op_info op_info[OP_COUNT];

/* ---- the ragged batch ---------------------------------------------------------------------- */

/* Rows of B sequences, one after another. The arrays lie in device memory, so that a recorded pass
 * stays valid when sequences join and leave; what a kernel is launched with depends on B, T, draft
 * and reach alone. */
struct rows {
    int32_t B, T;
    const int32_t *start; /* [B+1] first row of each sequence; start[B] == T; runs may be empty */
    const int32_t *pos;   /* [B] position, counted in its sequence, of that row */
    const int32_t *slot;  /* [B] slot of its state; -1: absent, its rows are neither read nor
                             written and their outputs are 0. NULL: no slots (dense state) */
    bool draft;           /* verify: the rows may be taken back, so nothing of them is folded;
                             at most 16 a sequence, and the slots have 32 entries */
    int32_t reach;        /* every row's position lies below it; 0: not known. The host's only word
                             about positions: a recorded pass serves all up to there */
};

/* ---- what a sequence remembers, as kernels see it (state.md) --------------------------------- */

enum { BLOCK = 16, PAGE = 64, STRIP = 32 };

/* One gated-delta layer over all slots: anchor and log. Length of a slot = pos - base. */
struct delta_slots {
    int32_t slots, entries; /* entries: 16, or 32 for slots that may speculate */
    int32_t Hk, Hv, Dk, Dv;
    bool channel_gate;      /* KDA: one decay per key channel */
    enum dtype anchor_type; /* f32, bf16; f64 on the reference device */
    enum dtype k_type;      /* compute type */
    enum dtype wide_type;   /* of u and G: f32; f64 on the reference device */
    void *anchor;           /* [slots][anchor_elements], packed the device's way */
    const int32_t *anchor_row; /* [slots] which of them a slot has (forks share one until a fold
                                  writes it); NULL: its own number */
    void *k;                /* [slots][entries][Hk][Dk] normalised keys after base */
    void *u;                /* [slots][entries][Hv][Dv] what each token wrote */
    void *G;                /* [slots][entries][Hv] or [..][Hv][Dk] log-decay summed from base */
    int32_t *base;          /* [slots] position of the anchor: origin + a multiple of 16 */
    int64_t anchor_elements;
};

static inline void *delta_anchor(const struct delta_slots *d, int64_t slot)
{
    const int64_t row = d->anchor_row ? d->anchor_row[slot] : slot;
    return (char *)d->anchor + row * d->anchor_elements * (int64_t)dtype_size(d->anchor_type);
}

/* The inputs of a layer's short convolution: position p stands in ring row p mod ring. */
struct conv_slots {
    int32_t slots, ring; /* ring = W-1 + entries */
    int32_t C;
    enum dtype dtype;
    void *x; /* [slots][ring][C] */
};

/* Keys and values of one attention layer in pages of 64 positions. */
struct kv_pages {
    int32_t pages, Hkv, D, Dv;
    enum dtype dtype;
    void *k, *v;          /* [pages][64][Hkv][D], [..][Dv]; v NULL: the first Dv entries of k */
    const int32_t *table; /* [slots][row_pages] page of each 64 positions */
    int32_t row_pages;
};

/* ---- weights, in the one layout that exists after loading ------------------------------------ */

/* Rows from, from + 1, .. of w (any axes before the last are seen as rows) make columns row, .. */
struct linear_part {
    struct tensor *w; /* [.., K], row-major: f32, bf16, f16, q8, q4 (f64 on the reference device) */
    int64_t from, rows, row;
};

/* y = x W^T, where W is the parts one below another. */
struct linear {
    int64_t N, K;
    int parts;
    const struct linear_part *part;
};

/* The part that makes column n. */
static inline const struct linear_part *linear_part_of(const struct linear *w, int64_t n)
{
    int low = 0, high = w->parts - 1;
    while (low < high) {
        const int mid = (low + high + 1) / 2;
        if (w->part[mid].row <= n)
            low = mid;
        else
            high = mid - 1;
    }
    return &w->part[low];
}

/* Experts, all of one shape: down(silu(gate x) * up x). */
struct experts {
    int32_t count;
    const struct linear *gate_up, *down; /* [count]; K x 2I (gate first), I x K */
    void *placed; /* what the device made of them (device.h), or NULL */
};

struct norm_weight {
    struct tensor *w; /* [D] f32 */
    double eps;
    bool centred; /* y = x r (1 + w): w is kept as stored, adding 1 would lose bits */
    bool late;    /* y = w times x r, which is rounded first */
};

enum act { ACT_SILU, ACT_SIGMOID };

/* ---- argument structs ------------------------------------------------------------------------ */

struct embed_args {
    struct tensor *table; /* [V, D] */
    struct tensor *y;     /* [T, D] */
    const int32_t *ids;   /* [T], each within 0..V-1 */
};

struct add_norm_args {
    struct tensor *x, *d, *w; /* [T, D], [T, D] or NULL, [D] */
    struct tensor *x1, *y;    /* x + d (NULL when d is), norm of that */
    double eps;
    bool centred, late;
};

struct linear_args {
    struct tensor *x; /* [T, K], rows may be strided */
    struct tensor *y; /* [T, N] */
    const struct linear *w;
    bool fast; /* a few rows may meet quantised weights as int8, many a library's order of sums */
};

enum { DELTA_MIX_VALUES = 128 }; /* a fused slot need not know wider heads */
struct delta_mix_args {
    struct tensor *qkv, *z, *b, *a; /* [T, C], [T, Hv*Dv], [T, Hv], [T, Hv] or [T, Hv*Dk] */
    struct tensor *conv, *A_log, *dt_bias, *norm; /* [C, W], [Hv], [Hv] or [Hv, Dk], [Dv] */
    struct tensor *y;                             /* [T, Hv*Dv] */
    const struct rows *rows;
    struct delta_slots *delta;
    struct conv_slots *tail;
    int32_t Hk, Hv, Dk, Dv;
    double eps, beta_scale, lower_bound;
    enum act act; /* of z */
    bool fast;    /* as in delta_args */
};

struct attn_mix_args {
    struct tensor *x;               /* [T, Hq*D + 2*Hkv*D]: q, k, v; gated: a gate behind each q */
    struct tensor *q_norm, *k_norm; /* [D], over each head; wide: [Hq*D], [Hkv*D], over all */
    struct tensor *y;               /* [T, Hq*D] */
    const struct rows *rows;
    struct kv_pages *pages;
    int32_t Hq, Hkv, D, rot;
    double eps, theta;
    bool gated, wide, centred;
};

struct ffn_act_args {
    struct tensor *x; /* [T, 2F] gate|up */
    struct tensor *y; /* [T, F] */
};

/* The `best` experts of each row, best first (ties: lower number first), by score + bias, and their
 * weights: scale times score, over the sum of the chosen when renormalised. With groups, only
 * experts of the groups_used groups whose two best experts sum up highest are chosen from. */
enum score { SCORE_SOFTMAX, SCORE_SIGMOID };
struct route_args {
    struct tensor *logits, *bias; /* [T, E], [E] or NULL; no gradient goes to the bias */
    struct tensor *weight;        /* [T, best], wide type */
    int32_t *ids;                 /* [T, best] */
    enum score score;
    bool renormalise;
    double scale;
    int32_t groups, groups_used; /* 0: none */
};

/* y[t] = sum_j weight[t,j] down(silu(gate x_t) * up x_t) of expert ids[t,j], j ascending. */
struct experts_args {
    struct tensor *x, *weight; /* [T, D], [T, best] */
    struct tensor *y;          /* [T, D] */
    const int32_t *ids;        /* [T, best] */
    const struct experts *experts;
    bool fast; /* as in linear_args */
};

/* Per row of logits, the `best` largest of the first `vocab` entries, largest first (ties: lower
 * id first), and the logsumexp over those vocab entries. */
struct top_args {
    struct tensor *logits; /* [M, V] */
    int64_t vocab;         /* rows beyond are padding and never chosen */
    int32_t best;
    int32_t *ids;  /* [M, best] */
    float *values; /* [M, best] */
    float *lse;    /* [M] */
};

/* loss[t] = logsumexp(W x_t) - (W x_t)[target]; 0 with zero gradient where target < 0. */
struct linear_ce_args {
    struct tensor *x;    /* [T, K] */
    struct tensor *loss; /* [T] f32 (f64 for f64) */
    const struct linear *w;
    const int32_t *targets; /* [T], below vocab */
    int64_t vocab;          /* only the first vocab rows of W take part */
};

/* u[t,c] = silu( sum_j w[c,j] x[t-(W-1)+j, c] ), j ascending; the history comes from the slots,
 * or from tail_in, or is zero. tail_out may be tail_in. */
struct conv_args {
    struct tensor *x, *w, *tail_in;  /* [T, C], [C, W], [B, W-1, C] oldest first, or NULL */
    struct tensor *y, *tail_out;     /* [T, C], [B, W-1, C] or NULL */
    const struct rows *rows;
    struct conv_slots *slots; /* NULL: dense */
    bool plain;               /* u is the sum itself, without silu */
};

/* g = -exp(A_log) softplus(a + dt_bias) (softplus linear above 20); beta = beta_scale sigmoid(b).
 * With a lower bound below 0: g = lower_bound sigmoid(exp(A_log) (a + dt_bias)). */
struct gate_args {
    struct tensor *a, *b, *A_log, *dt_bias; /* [T,Hv] or [T,Hv,Dk]; [T,Hv]; [Hv]; [Hv] or [Hv,Dk] */
    struct tensor *g, *beta;                /* like a, like b; wide type */
    double beta_scale;
    double lower_bound; /* 0: none */
};

/* y = scale * x / sqrt(sum x^2 + eps) over the last axis. */
struct l2norm_args {
    struct tensor *x, *y; /* [T, H, D] */
    double eps, scale;
};

/* The gated delta rule (state.md 1). q is scaled and k normalised already. Slots: state read from
 * and written to the log. Dense: S0 NULL means zero, S1 NULL means not wanted, S1 may be S0. q, k,
 * v may be of different types; rows of g and beta may all be one (stride 0). */
struct delta_args {
    struct tensor *q, *k, *v;     /* [T,Hk,Dk], [T,Hk,Dk], [T,Hv,Dv] */
    struct tensor *g, *beta, *S0; /* [T,Hv] or [T,Hv,Dk]; [T,Hv]; [B,Hv,Dv,Dk] or NULL */
    struct tensor *o, *S1;        /* [T,Hv,Dv]; [B,Hv,Dv,Dk] or NULL */
    const struct rows *rows;
    struct delta_slots *slots; /* NULL: dense */
    bool fast; /* runs of 64 rows or more may give up exactness for speed (bf16 operands) */
};

struct norm_args {
    struct tensor *x, *w, *y; /* [.., D], [D], like x */
    double eps;
    bool centred, late;
};

/* y = x r w act(z), r over the last axis. */
struct gated_norm_args {
    struct tensor *x, *z, *w, *y; /* [T, H, D], like x, [D], like x */
    double eps;
    enum act act;
};

/* Pairs (i, i + rot/2) of the first rot entries turn by pos * theta^(-2i/rot). */
struct rope_args {
    struct tensor *x, *y; /* [T, H, D] */
    const struct rows *rows;
    int32_t rot;
    double theta;
};

/* Softmax over positions 0..p of scale q.k, in pages of 64 at absolute positions, in order. With
 * pages, k and v are first written there. Without, every sequence starts at position 0. */
struct attn_args {
    struct tensor *q, *k, *v, *o; /* [T,Hq,D], [T,Hkv,D], [T,Hkv,Dv], [T,Hq,Dv] */
    const struct rows *rows;
    struct kv_pages *pages; /* NULL: dense */
    double scale;
};

struct glu_args {
    struct tensor *a, *b, *y; /* same dims; rows may be strided; y may be a or b */
    enum act act;
};

/* y[t,h] = W_h x[t,h], with W_h [N, K]; turned: it lies as [K, N]. */
struct head_linear_args {
    struct tensor *x, *w, *y; /* [T, H, K], [H, N, K] or [H, K, N], [T, H, N] */
    bool turned;
};

/* y = a + sigmoid(s) b; without s: a + b. */
struct join_args {
    struct tensor *a, *b, *s, *y; /* [T, D], [T, D], [T, 1] or NULL, [T, D] */
};

/* The tensors of an argument struct, inputs then outputs. */
static inline struct tensor **call_tensors(void *args) { return (struct tensor **)args; }

#endif

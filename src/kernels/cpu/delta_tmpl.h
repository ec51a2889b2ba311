/* delta_tmpl.h: the gated delta rule, in the words of a vec_*.h included before: what the tokens of
 * a block are to each other. Here lanes are key channels; the state comes in delta_strips_tmpl.h.
 *
 * Every number is made by one order of operations that does not know where a call began: the same
 * bits come out whether an entry was read from the log or is new. */
#include "kernels/cpu/delta.h"
#include "kernels/cpu/vec_rows_tmpl.h"

/* Rows of k that meet k_t and q_t at once. Bounded by registers; does not change bits. */
enum { DOTS = VF_REGISTERS / 4 / VF16, DECAYED_DOTS = DOTS > 4 ? 4 : DOTS };

/* Key channels of most models: loops in which they are a constant need fewer addresses. */
enum { USUAL = 128 };

/* Raw k of an entry; its q stands `row` further. */
static inline float *raw_of(const struct delta_head *h, int i)
{
    return h->raw + (int64_t)i * 2 * h->row;
}

/* Sums of 16 lanes in the making: of entry i with k_t at i, with q_t at `half` + i, and what they end
 * as. Both of up to 8 entries share one tree. */
struct dots {
    int half;
    struct vf16 sum[2 * BLOCK];
    float end[2 * BLOCK];
};

static inline void dots_begin(struct dots *dots, int n) { dots->half = n > 8 ? BLOCK : 8; }

/* k_i . k_t and k_i . q_t for i from..from+many-1. Those beyond t mean nothing. */
VF_INLINE void dots_tile(const struct delta_head *h, int t, int from, int many, int row,
                         struct dots *dots)
{
    const float *x = h->raw + t * 2 * row, *k = h->raw + from * 2 * row;
    vf sum_k[DOTS][VF16], sum_q[DOTS][VF16];
    VF_UNROLL
    for (int j = 0; j < many; j++) {
        VF_UNROLL
        for (int p = 0; p < VF16; p++) sum_k[j][p] = sum_q[j][p] = vf_zero();
    }
    for (int d = 0; d < row; d += 16) {
        VF_UNROLL
        for (int p = 0; p < VF16; p++) {
            const vf at_x = vf_load(x + d + p * VL), at_y = vf_load(x + row + d + p * VL);
            VF_UNROLL
            for (int j = 0; j < many; j++) {
                const vf at_k = vf_load(k + j * 2 * row + d + p * VL);
                sum_k[j][p] = vf_fma(at_k, at_x, sum_k[j][p]);
                sum_q[j][p] = vf_fma(at_k, at_y, sum_q[j][p]);
            }
        }
    }
    VF_UNROLL
    for (int j = 0; j < many; j++) {
        VF_UNROLL
        for (int p = 0; p < VF16; p++) {
            dots->sum[from + j].part[p] = sum_k[j][p];
            dots->sum[dots->half + from + j].part[p] = sum_q[j][p];
        }
    }
}

/* The sums of entries 0..n-1 end; the others are 0. */
static inline void dots_end(struct dots *dots, int n)
{
    for (int i = n; i < dots->half; i++)
        for (int p = 0; p < VF16; p++)
            dots->sum[i].part[p] = dots->sum[dots->half + i].part[p] = vf_zero();
    sums16(dots->end, dots->sum);
    if (dots->half == BLOCK)
        sums16(dots->end + BLOCK, dots->sum + BLOCK);
    else
        for (int i = 0; i < BLOCK; i += VL) vf_store(dots->end + BLOCK + i, vf_zero());
}

/* ---- one gate a head ----------------------------------------------------------------------------- */

/* e^(G_t - G_i) of the pairs is in c->ck: their coefficients. */
VF_INLINE void scalar_entry_of(const struct delta_head *h, const struct delta_coefs *c, int t, int row)
{
    struct dots dots;
    int i = 0;
    dots_begin(&dots, t + 1);
    for (; i + DOTS / 2 <= t; i += DOTS) dots_tile(h, t, i, DOTS, row, &dots);
    if (i <= t) {
        dots_tile(h, t, i, DOTS / 2, row, &dots);
        i += DOTS / 2;
    }
    dots_end(&dots, i);
    float *ck = c->ck + t * BLOCK, *cq = c->cq + t * BLOCK;
    for (i = 0; i < BLOCK; i += VL) {
        const vf w = vf_load(ck + i);
        vf_store(ck + i, vf_mul(w, vf_load(dots.end + i)));
        vf_store(cq + i, vf_mul(w, vf_load(dots.end + dots.half + i)));
    }
}

static void scalar_entry(const struct delta_head *h, const struct delta_coefs *c, int t)
{
    if (h->row == USUAL)
        scalar_entry_of(h, c, t, USUAL);
    else
        scalar_entry_of(h, c, t, h->row);
}

static void scalar_block(struct delta_head *h, struct delta_coefs *c, const struct delta_block *b)
{
    const int n = b->have + b->rows;
    for (int i = n; i < BLOCK; i++) h->G[i] = h->G[n - 1];
    for (int i = 0; i < BLOCK; i += VL) vf_store(c->eG + i, vf_decay(vf_load(h->G + i)));
    for (int t = b->have; t < n; t++)
        for (int i = 0; i < BLOCK; i += VL)
            vf_store(c->ck + t * BLOCK + i,
                     vf_decay(vf_sub(vf_set1(h->G[t]), vf_load(h->G + i))));
    for (int t = b->have; t < n; t++) scalar_entry(h, c, t);
    if (!b->fold) return;
    for (int i = 0; i < BLOCK; i += VL)
        vf_store(c->w + i, vf_decay(vf_sub(vf_set1(h->G[n - 1]), vf_load(h->G + i))));
    for (int d = 0; d < h->row; d++) c->keep[d] = c->eG[n - 1];
}

/* ---- a gate for each key channel ------------------------------------------------------------------ */

/* What is left at entry t of entry i is a product, made from t downwards: e^(G_t - G_{t-1}) first.
 * This is one multiplication for each pair where e^(G_t - G_i) would be an exp. */
VF_INLINE void decayed_tile(const struct delta_head *h, int t, int top, int many, int row,
                            struct dots *dots)
{
    const float *x = h->raw + t * 2 * row, *k = h->raw + top * 2 * row, *step = h->step + top * row;
    vf sum_k[DECAYED_DOTS][VF16], sum_q[DECAYED_DOTS][VF16];
    VF_UNROLL
    for (int j = 0; j < many; j++) {
        VF_UNROLL
        for (int p = 0; p < VF16; p++) sum_k[j][p] = sum_q[j][p] = vf_zero();
    }
    for (int d = 0; d < row; d += 16) {
        VF_UNROLL
        for (int p = 0; p < VF16; p++) {
            const int at = d + p * VL;
            const vf at_x = vf_load(x + at), at_y = vf_load(x + row + at);
            vf left = vf_load(h->product + at);
            VF_UNROLL
            for (int j = 0; j < many; j++) {
                const vf at_k = vf_mul(left, vf_load(k - j * 2 * row + at));
                sum_k[j][p] = vf_fma(at_k, at_x, sum_k[j][p]);
                sum_q[j][p] = vf_fma(at_k, at_y, sum_q[j][p]);
                left = vf_mul(left, vf_load(step - j * row + at));
            }
            vf_store(h->product + at, left);
        }
    }
    VF_UNROLL
    for (int j = 0; j < many; j++) {
        VF_UNROLL
        for (int p = 0; p < VF16; p++) {
            dots->sum[top - j].part[p] = sum_k[j][p];
            dots->sum[dots->half + top - j].part[p] = sum_q[j][p];
        }
    }
}

/* Entries top..0 of them, from the last on. */
VF_INLINE void decayed_dots(const struct delta_head *h, int t, int row, struct dots *dots)
{
    int top = t - 1;
    for (; top + 1 >= DECAYED_DOTS; top -= DECAYED_DOTS)
        decayed_tile(h, t, top, DECAYED_DOTS, row, dots);
    if (DECAYED_DOTS > 2 && top >= 1) {
        decayed_tile(h, t, top, 2, row, dots);
        top -= 2;
    }
    if (top >= 0) decayed_tile(h, t, top, 1, row, dots);
}

static void channel_entry(const struct delta_head *h, const struct delta_coefs *c, int t)
{
    const float *k = raw_of(h, t), *q = k + h->row, *G = h->G + (int64_t)t * h->row;
    float *decayed = c->kq + (int64_t)t * 2 * h->row, *cq = c->cq + t * BLOCK;
    struct dots dots;
    struct vf16 own;
    for (int p = 0; p < VF16; p++) own.part[p] = vf_zero();
    for (int d = 0; d < h->row; d += VL) {
        const vf e = vf_decay(vf_load(G + d)), at_k = vf_load(k + d), at_q = vf_load(q + d);
        vf_store(decayed + d, vf_mul(e, at_k));
        vf_store(decayed + h->row + d, vf_mul(e, at_q));
        vf *sum = &own.part[d / VL % VF16];
        *sum = vf_fma(at_k, at_q, *sum);
    }
    memcpy(h->product, h->step + (int64_t)t * h->row, sizeof(float) * (size_t)h->row);
    dots_begin(&dots, t);
    if (h->row == USUAL)
        decayed_dots(h, t, USUAL, &dots);
    else
        decayed_dots(h, t, h->row, &dots);
    dots_end(&dots, t);
    memcpy(c->ck + t * BLOCK, dots.end, sizeof(float) * BLOCK);
    memcpy(cq, dots.end + dots.half, sizeof(float) * BLOCK);
    cq[t] = sum16(&own);
}

/* What the fold multiplies u_i with: k_i, decayed from i to the last entry. */
static void channel_fold(const struct delta_head *h, const struct delta_coefs *c, int n)
{
    const float *G = h->G + (int64_t)(n - 1) * h->row;
    for (int d = 0; d < h->row; d += VL) {
        vf left = vf_set1(1.0f);
        for (int i = n - 1; i >= 0; i--) {
            vf_store(c->fold + i * c->fold_stride + d, vf_mul(left, vf_load(raw_of(h, i) + d)));
            left = vf_mul(left, vf_load(h->step + (int64_t)i * h->row + d));
        }
        vf_store(c->keep + d, vf_decay(vf_load(G + d)));
    }
}

static void channel_block(struct delta_head *h, struct delta_coefs *c, const struct delta_block *b)
{
    const int n = b->have + b->rows;
    for (int d = 0; d < h->row; d += VL) { /* step 0 is never used for a sum */
        vf before = vf_load(h->G + d);
        vf_store(h->step + d, before);
        for (int i = 1; i < n; i++) {
            const vf G = vf_load(h->G + (int64_t)i * h->row + d);
            vf_store(h->step + (int64_t)i * h->row + d, vf_decay(vf_sub(G, before)));
            before = G;
        }
    }
    for (int t = b->have; t < n; t++) channel_entry(h, c, t);
    if (b->fold) channel_fold(h, c, n);
}

/* ---- a block -------------------------------------------------------------------------------------- */

/* k and G of entries that stand in the log. Their q and beta are not needed again. */
static void load_entries(struct delta_head *h, const struct delta_block *b)
{
    const struct delta_slots *d = h->a->slots;
    const int64_t slot = d ? h->a->rows->slot[h->b] : 0;
    for (int i = 0; i < b->have; i++) {
        const int64_t k = delta_log_at(d, slot, b->from + i, d->Hk, h->hk, h->Dk);
        row_load(raw_of(h, i), (char *)d->k + k * (int64_t)dtype_size(d->k_type), d->k_type, h->Dk,
                 16);
        const float *G = d->G;
        if (h->channel)
            row_load(h->G + (int64_t)i * h->row,
                     G + delta_log_at(d, slot, b->from + i, d->Hv, h->hv, h->Dk), DTYPE_F32, h->Dk,
                     16);
        else
            h->G[i] = G[delta_log_at(d, slot, b->from + i, d->Hv, h->hv, 1)];
    }
}

/* e^-104 is 0 in f32. No sum of decays goes further down for one token: it would leave no bits for
 * the mild ones that follow in the block, and -infinity none at all. */
static const float LEAST_DECAY = -104.0f;

/* G of a token from its g, and from the entry before it. */
static inline void add_decay(float *G, const float *before, int gates)
{
    for (int i = 0; i < gates; i++) {
        const float g = G[i] < LEAST_DECAY ? LEAST_DECAY : G[i];
        G[i] = before ? before[i] + g : g;
    }
}

/* New rows of a tensor [T][head][Dk], and where those of an entry go. */
static inline void load_new(const struct delta_head *h, const struct delta_block *b,
                            const struct tensor *t, int64_t head, float *to, int wide)
{
    rows_load(to, wide, tensor_at(t, b->row * t->stride[0] + head * t->stride[1]),
              t->stride[0] * (int64_t)dtype_size(t->dtype), t->dtype, b->rows, h->Dk, 16);
}

/* Element i of a tensor. */
static inline float element(const struct tensor *t, int64_t i)
{
    float x;
    if (t->dtype == DTYPE_F32) return *(const float *)tensor_at(t, i);
    cpu_load_row(&x, tensor_at(t, i), t->dtype, 1);
    return x;
}

static void load_tokens(struct delta_head *h, struct delta_coefs *c, const struct delta_block *b)
{
    const struct delta_args *a = h->a;
    const int gates = h->channel ? h->row : 1;
    float *raw = raw_of(h, b->have), *G = h->G + (int64_t)b->have * gates;
    load_new(h, b, a->k, h->hk, raw, 2 * h->row);
    load_new(h, b, a->q, h->hk, raw + h->row, 2 * h->row);
    if (h->channel) load_new(h, b, a->g, h->hv, G, h->row);
    for (int i = 0; i < b->rows; i++, G += gates) {
        const int64_t row = b->row + i;
        c->beta[b->have + i] = element(a->beta, row * a->beta->stride[0] + h->hv);
        if (!h->channel) *G = element(a->g, row * a->g->stride[0] + h->hv);
        add_decay(G, b->have + i > 0 ? G - gates : NULL, gates);
    }
}

/* G of the entries that stay; those that stay where they stood are there. */
static void keep_G(const struct delta_head *h, const struct delta_block *b)
{
    const struct delta_slots *d = h->a->slots;
    if (b->keep < 0) return;
    float *G = d->G;
    const int width = h->channel ? h->Dk : 1, gates = h->channel ? h->row : 1;
    for (int i = b->keep == b->from ? b->have : 0; i < b->have + b->rows; i++)
        memcpy(G + delta_log_at(d, h->a->rows->slot[h->b], b->keep + i, d->Hv, h->hv, width),
               h->G + (int64_t)i * gates, sizeof(float) * (size_t)width);
}

static void block_coefs(struct delta_head *h, int j)
{
    struct delta_coefs *c = &h->coefs[j];
    const struct delta_block *b = &h->block[j];
    if (!h->channel) h->raw = c->kq;
    load_entries(h, b);
    load_tokens(h, c, b);
    (h->channel ? channel_block : scalar_block)(h, c, b);
    keep_G(h, b);
}

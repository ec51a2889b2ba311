/* delta_tmpl.h: the gated delta rule, in the words of a vec_*.h included before: what the tokens of
 * a block are to each other. Here lanes are key channels; the state comes in delta_strips_tmpl.h.
 *
 * Every number is made by one order of operations that does not know where a call began: the same
 * bits come out whether an entry was read from the log or is new. */
#include "kernels/cpu/delta.h"
#include "kernels/cpu/row_tmpl.h"
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

/* e^-104 is 0 in f32. No sum of decays goes further down for one token: it would leave no bits for
 * the mild ones that follow in the block, and -infinity none at all. */
static const float LEAST_DECAY = -104.0f;

/* Keys of entries: copies, or where the log has them. */
struct keys {
    const void *at;
    int64_t step; /* elements from entry to entry */
    bool half;    /* bf16; a constant wherever they are read */
};

VF_INLINE vf key_load(struct keys k, int64_t i, int d)
{
    return k.half ? vf_load_bf16((const uint16_t *)k.at + i * k.step + d)
                  : vf_load((const float *)k.at + i * k.step + d);
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
VF_INLINE void dots_tile(const struct delta_head *h, struct keys k, int t, int from, int many,
                         int row, struct dots *dots)
{
    const float *x = h->raw + t * 2 * row;
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
                const vf at_k = key_load(k, from + j, d + p * VL);
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

/* Entries 0..n-1 with entry t, by tiles; returns where those end. */
VF_INLINE int dots_all(const struct delta_head *h, struct keys k, int t, int n, int row,
                       struct dots *dots)
{
    int i = 0;
    for (; i + DOTS / 2 < n; i += DOTS) dots_tile(h, k, t, i, DOTS, row, dots);
    if (i >= n) return i;
    dots_tile(h, k, t, i, DOTS / 2, row, dots);
    return i + DOTS / 2;
}

/* k_t . q_t alone: where keys are read from the log, this one is not there yet. */
VF_INLINE struct vf16 dots_own(const struct delta_head *h, int t)
{
    const float *k = raw_of(h, t);
    struct vf16 own;
    for (int p = 0; p < VF16; p++) own.part[p] = vf_zero();
    for (int d = 0; d < h->row; d += VL) {
        vf *sum = &own.part[d / VL % VF16];
        *sum = vf_fma(vf_load(k + d), vf_load(k + h->row + d), *sum);
    }
    return own;
}

/* e^(G_t - G_i) of the pairs is in c->ck: their coefficients. */
VF_INLINE void scalar_coefs(const struct dots *dots, const struct delta_coefs *c, int t)
{
    float *ck = c->ck + t * BLOCK, *cq = c->cq + t * BLOCK;
    for (int i = 0; i < BLOCK; i += VL) {
        const vf w = vf_load(ck + i);
        vf_store(ck + i, vf_mul(w, vf_load(dots->end + i)));
        vf_store(cq + i, vf_mul(w, vf_load(dots->end + dots->half + i)));
    }
}

VF_INLINE void scalar_entry_of(const struct delta_head *h, const struct delta_coefs *c, int t, int row)
{
    struct dots dots;
    dots_begin(&dots, t + 1);
    dots_end(&dots, dots_all(h, (struct keys){h->raw, 2 * row, false}, t, t + 1, row, &dots));
    scalar_coefs(&dots, c, t);
}

/* The same of one token, with keys in the log. */
VF_INLINE void scalar_token_of(const struct delta_head *h, const struct delta_coefs *c, int t,
                               bool half, int row)
{
    struct dots dots;
    dots_begin(&dots, t + 1);
    const int end = dots_all(h, (struct keys){h->past.k, h->past.k_step, half}, t, t, row, &dots);
    dots.sum[t] = dots.sum[dots.half + t] = dots_own(h, t);
    dots_end(&dots, end > t ? end : t + 1);
    scalar_coefs(&dots, c, t);
}

static void scalar_entry(const struct delta_head *h, const struct delta_coefs *c, int t)
{
    const bool half = h->a->slots && h->a->slots->k_type == DTYPE_BF16;
    if (h->past.count > 0 && half)
        scalar_token_of(h, c, t, true, h->row);
    else if (h->past.count > 0)
        scalar_token_of(h, c, t, false, h->row);
    else if (h->row == USUAL)
        scalar_entry_of(h, c, t, USUAL);
    else
        scalar_entry_of(h, c, t, h->row);
}

/* Two tokens with entries in fours: 16 sums are one tree, and on AVX-512 never leave the registers.
 * These are so many of both that registers hold at once. */
enum { PAIR_TOKENS = DOTS < 8 ? 1 : 2, PAIR_KEYS = DOTS / PAIR_TOKENS };

/* sum[8 a + e] = k_e . k_a, sum[8 a + 4 + e] = k_e . q_a. */
VF_INLINE void pair_tile(const float *x, const float *k, int row, struct vf16 *sum)
{
    vf s[2 * PAIR_TOKENS][PAIR_KEYS][VF16] = {0};
    for (int d = 0; d < row; d += 16) {
        VF_UNROLL
        for (int p = 0; p < VF16; p++) {
            const int at = d + p * VL;
            VF_UNROLL
            for (int e = 0; e < PAIR_KEYS; e++) {
                const vf key = vf_load(k + e * 2 * row + at);
                VF_UNROLL
                for (int y = 0; y < 2 * PAIR_TOKENS; y++)
                    s[y][e][p] = vf_fma(key, vf_load(x + y * row + at), s[y][e][p]);
            }
        }
    }
    VF_UNROLL
    for (int e = 0; e < PAIR_KEYS; e++) {
        VF_UNROLL
        for (int y = 0; y < 2 * PAIR_TOKENS; y++) {
            VF_UNROLL
            for (int p = 0; p < VF16; p++) sum[4 * y + e].part[p] = s[y][e][p];
        }
    }
}

VF_INLINE void scalar_pair_of(const struct delta_head *h, const struct delta_coefs *c, int t, int row)
{
    for (int i = 0; i < t + 2; i += 4) {
        struct vf16 sum[16];
        float end[16];
        VF_UNROLL
        for (int a = 0; a < 2; a += PAIR_TOKENS) {
            VF_UNROLL
            for (int e = 0; e < 4; e += PAIR_KEYS)
                pair_tile(h->raw + (t + a) * 2 * row, h->raw + (i + e) * 2 * row, row,
                          sum + 8 * a + e);
        }
        sums16(end, sum);
        for (int a = 0; a < 2; a++) {
            float *ck = c->ck + (t + a) * BLOCK + i, *cq = c->cq + (t + a) * BLOCK + i;
            for (int e = 0; e < 4; e++) cq[e] = ck[e] * end[8 * a + 4 + e];
            for (int e = 0; e < 4; e++) ck[e] *= end[8 * a + e];
        }
    }
}

static void scalar_pair(const struct delta_head *h, const struct delta_coefs *c, int t)
{
    if (h->row == USUAL)
        scalar_pair_of(h, c, t, USUAL);
    else
        scalar_pair_of(h, c, t, h->row);
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
    int t = b->have;
    for (; t + 2 <= n; t += 2) scalar_pair(h, c, t);
    if (t < n) scalar_entry(h, c, t);
    if (!b->fold) return;
    for (int i = 0; i < BLOCK; i += VL)
        vf_store(c->w + i, vf_decay(vf_sub(vf_set1(h->G[n - 1]), vf_load(h->G + i))));
    for (int d = 0; d < h->row; d++) c->keep[d] = c->eG[n - 1];
}

/* ---- a gate for each key channel ------------------------------------------------------------------ */

/* What is left at entry t of entry i is a product, made from t downwards: e^(G_t - G_{t-1}) first.
 * This is one multiplication for each pair where e^(G_t - G_i) would be an exp. */
VF_INLINE void decayed_tile(const struct delta_head *h, struct keys k, int t, int top, int many,
                            int row, struct dots *dots)
{
    const float *x = h->raw + t * 2 * row, *step = h->step + top * row;
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
                const vf at_k = vf_mul(left, key_load(k, top - j, at));
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
VF_INLINE void decayed_all(const struct delta_head *h, struct keys k, int t, int row,
                           struct dots *dots)
{
    int top = t - 1;
    for (; top + 1 >= DECAYED_DOTS; top -= DECAYED_DOTS)
        decayed_tile(h, k, t, top, DECAYED_DOTS, row, dots);
    if (DECAYED_DOTS > 2 && top >= 1) {
        decayed_tile(h, k, t, top, 2, row, dots);
        top -= 2;
    }
    if (top >= 0) decayed_tile(h, k, t, top, 1, row, dots);
}

static void decayed_dots(const struct delta_head *h, int t, struct dots *dots)
{
    const struct keys copies = {h->raw, 2 * h->row, false}, usual = {h->raw, 2 * USUAL, false};
    const struct keys log = {h->past.k, h->past.k_step, false}, half = {log.at, log.step, true};
    if (h->past.count > 0 && h->a->slots->k_type == DTYPE_BF16)
        decayed_all(h, half, t, h->row, dots);
    else if (h->past.count > 0)
        decayed_all(h, log, t, h->row, dots);
    else if (h->row == USUAL)
        decayed_all(h, usual, t, USUAL, dots);
    else
        decayed_all(h, copies, t, h->row, dots);
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
    decayed_dots(h, t, &dots);
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

/* G of the new entries from their g, and e^(G_i - G_{i-1}) of all; of i = 0, which no sum uses,
 * something. */
static void channel_sums(const struct delta_head *h, const struct delta_block *b)
{
    const bool stays = h->past.count > 0;
    const float *past = stays ? h->past.G : h->G;
    const int64_t from = stays ? h->past.G_step : h->row, row = h->row;
    for (int d = 0; d < h->row; d += VL) {
        vf G = b->have > 0 ? vf_load(past + d) : vf_zero();
        for (int i = 1; i < b->have; i++) {
            const vf next = vf_load(past + i * from + d);
            vf_store(h->step + i * row + d, vf_decay(vf_sub(next, G)));
            G = next;
        }
        for (int i = b->have; i < b->have + b->rows; i++) {
            float *at = h->G + i * row + d;
            const vf next = vf_add(G, vf_at_least(vf_load(at), LEAST_DECAY));
            vf_store(at, next);
            vf_store(h->step + i * row + d, vf_decay(vf_sub(next, G)));
            G = next;
        }
    }
}

static void channel_block(struct delta_head *h, struct delta_coefs *c, const struct delta_block *b)
{
    const int n = b->have + b->rows;
    channel_sums(h, b);
    for (int t = b->have; t < n; t++) channel_entry(h, c, t);
    if (b->fold) channel_fold(h, c, n);
}

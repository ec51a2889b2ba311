/* delta_prompt.cuh: the gated delta rule over prompts, in two kernels. Truth: kernels/ref/delta_log.c.
 *
 * A sequence's log and its new rows are entries 0, 1, .. from the anchor on, in blocks of 16. Of a
 * block all that does not need the state is made beforehand, for all blocks at once
 * (delta_pairs.cu), and packed into one record a value head:
 *
 *     A_ti = beta_t e^(G_t - G_i) k_i.k_t, i < t     (0 for an entry of the log: its u is known)
 *     M = (I + A)^-1 diag(beta)                       by substitution
 *     P_ti = e^(G_t - G_i) k_i.q_t, i <= t
 *
 * Then blocks follow one another (delta_prompt.cu), w_t = v_t - e^G_t S k_t, or the u of the log:
 *
 *     u = M w;   o = e^G S q + P u;   S = e^G_15 S + sum_i e^(G_15 - G_i) u_i k_i^T
 *
 * The last block stays in the log. Products are made on tensor cores: keys and queries are bf16, and
 * every float is three bf16 that add up to it, so that products are those of f32. Blocks begin at
 * the anchor, so bits do not depend on how a prompt is cut into prompts; one that is read row after
 * row has its sums in another order. */
#ifndef KERNELS_CUDA_DELTA_PROMPT_CUH
#define KERNELS_CUDA_DELTA_PROMPT_CUH

#include "kernels/cuda/delta.cuh"
#include "kernels/cuda/prompt.cuh"
#include "kernels/cuda/tiles.cuh"

/* What a lane takes of two 16 x 16 matrices as right operands: halves of 8 rows t, pairs of i. */
enum { MATRIX_M, MATRIX_P, MATRICES };
struct delta_record {
    uint32_t part[MATRICES][2][WARP][3][2];
    float into[BLOCK];  /* e^G_t */
    float out[BLOCK];   /* e^(G_15 - G_i) */
    float whole[4];     /* e^G_15, and nothing */
};

struct delta_prompt_call {
    struct delta_call a;
    struct delta_record *record; /* [blocks of all sequences][Hv] */
};

/* A prompt as blocks of entries: c of them in the log, n new ones. */
struct delta_prompt_run {
    int32_t b, slot, first, c, n, blocks;
};

static __device__ inline struct delta_prompt_run delta_prompt_run_of(const struct delta_call &a,
                                                                     int32_t b)
{
    const int32_t slot = a.rows.slot[b], first = a.rows.start[b], n = a.rows.start[b + 1] - first;
    const int32_t c = slot < 0 ? 0 : a.rows.pos[b] - a.slots.base[slot];
    return delta_prompt_run{b, slot, first, c, n, (c + n + BLOCK - 1) / BLOCK};
}

/* Number of a sequence's first block among all: a prompt of n rows has at most n / 16 + 3, and there
 * are no more prompts before it than sequences, or rows enough. */
static __host__ __device__ inline int64_t delta_first_block(int32_t first_row, int32_t b)
{
    const int32_t prompts = first_row / PROMPT;
    return first_row / BLOCK + 3 * (int64_t)(b < prompts ? b : prompts);
}

/* Where the key of entry e stands; zeros beyond the rows: NULL. */
static __device__ inline const uint16_t *delta_key(const struct delta_call &a,
                                                   const struct delta_prompt_run &r, int32_t e,
                                                   int64_t kh)
{
    if (e < r.c) return (const uint16_t *)a.slots.k + delta_k_at(a, r.slot, e, kh);
    if (e >= r.c + r.n) return NULL;
    return (const uint16_t *)a.k.data + view_at(a.k, r.first + e - r.c, kh, 0);
}

static __device__ inline const uint16_t *delta_query(const struct delta_call &a,
                                                     const struct delta_prompt_run &r, int32_t e,
                                                     int64_t kh)
{
    if (e < r.c || e >= r.c + r.n) return NULL;
    return (const uint16_t *)a.q.data + view_at(a.q, r.first + e - r.c, kh, 0);
}

void delta_pairs(struct device *device, const struct delta_prompt_call &call);

/* Whether prompts of a call can be taken by these kernels, and the records they need. */
bool delta_prompt_fits(const struct delta_call &a);
bool delta_prompt(struct device *device, struct arena *scratch, const struct delta_call &a);

#endif

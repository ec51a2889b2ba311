/* prompt.cuh: forms of ops for sequences that bring many rows at once. A launch knows how many rows
 * and sequences there are, not which has how many: so both forms may be launched, and a sequence is
 * taken by the one that its own number of rows says. What shares its call changes no bit of a row. */
#ifndef KERNELS_CUDA_PROMPT_CUH
#define KERNELS_CUDA_PROMPT_CUH

#include "kernels/cuda/launch.cuh"

enum { PROMPT = 32 }; /* so many rows of a sequence, or more, are a prompt */

static __device__ inline bool is_prompt(const struct rows &rows, int32_t b)
{
    return rows.start[b + 1] - rows.start[b] >= PROMPT;
}

/* Whether there can be a prompt, or anything else, among these. */
static inline bool may_be_prompts(const struct rows *rows) { return rows->T >= PROMPT; }
static inline bool must_be_prompts(const struct rows *rows)
{
    return rows->B == 1 && rows->T >= PROMPT;
}

/* Pieces of `each` rows that prompts can make together, at most. */
static inline unsigned pieces_of_prompts(const struct rows *rows, int32_t each)
{
    const int32_t most = rows->T / PROMPT;
    return (unsigned)(rows->T / each + (rows->B < most ? rows->B : most));
}

/* The i-th piece of `each` rows, the last ones first: those of a long past take longest. */
struct prompt_piece {
    int32_t b, first; /* sequence (-1: there is no such piece), first row within it */
};

static __device__ inline struct prompt_piece prompt_piece_of(const struct rows &rows, int32_t i,
                                                            int32_t each)
{
    for (int32_t b = rows.B - 1; b >= 0; b--) {
        const int32_t n = rows.start[b + 1] - rows.start[b];
        const int32_t pieces = is_prompt(rows, b) ? (n + each - 1) / each : 0;
        if (i < pieces) return prompt_piece{b, (pieces - 1 - i) * each};
        i -= pieces;
    }
    return prompt_piece{-1, 0};
}

/* Attention of prompts, whose keys and values are in their pages already; bf16, some widths. */
bool attn_prompt_fits(const struct attn_args *a);
void attn_prompt(struct device *device, const struct attn_args *a);

/* The same bits as other forms, for many rows; false: the call is not one for them. */
bool conv_prompt(struct device *device, const struct conv_args *a);
bool glu_prompt(struct device *device, const struct glu_args *a);
bool add_norm_prompt(struct device *device, const struct add_norm_args *a);
bool gated_norm_prompt(struct device *device, const struct gated_norm_args *a);
bool l2norm_prompt(struct device *device, const struct l2norm_args *a);

#endif

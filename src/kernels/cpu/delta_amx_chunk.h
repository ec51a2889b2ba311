/* delta_amx_chunk.h: what the parts of the AMX chunk share: one chunk of 64 rows of one head, its
 * inputs, its coefficients as tile operands, the state as operand. Steps: Dk / 32.
 *
 * A tiles hold 16 rows of 32 entries, B tiles 16 pairs of 16 columns; tile n stands at n * 512
 * halves. Row blocks b and column blocks of tokens: 0..3, 16 tokens each. */
#ifndef KERNELS_CPU_DELTA_AMX_CHUNK_H
#define KERNELS_CPU_DELTA_AMX_CHUNK_H

#include "kernels/cpu/delta_amx.h"
#include "kernels/cpu/delta_amx_pack.h"

enum { HALF_CHUNK = 32, ROW_BLOCKS = 4, STRIP_WIDE = 32, BATCH = 4 };

/* What strips read of a chunk. */
struct chunk {
    struct amx_rows v, o;
    uint16_t *k_in;  /* A [4][steps]: rows of k, decayed from the chunk's start: meets the state */
    uint16_t *q_in;  /* A [4][steps]: the same of q */
    uint16_t *k_out; /* A [2 steps][2]: rows channels, columns tokens, decayed to the chunk's end */
    uint16_t *a;     /* A [4]: (I + L)^-1 beta of the half that block b is in */
    uint16_t *l;     /* A [2]: L of the second half against the first */
    uint16_t *p;     /* A [4][2]: P of block b against each half; p[0][1], p[1][1] unused */
    float *decay;    /* [Dk] of the whole chunk */
};

/* One head at work. */
struct amx {
    int Dk, Dv, steps;
    struct chunk chunk[BATCH];

    /* Preparing a chunk. */
    const uint16_t *q, *k; /* its bf16 rows, in place or staged */
    size_t qk_bytes;       /* between two of them */
    struct amx_rows g;
    float *beta;           /* [64] */
    float *alpha;          /* [64] e^g, one gate a head */
    float *since, *until;  /* [64] decay from the chunk's start to after a token, and on to its end */
    uint16_t *kT;          /* B [4][steps]: pairs of channels, columns tokens */
    float *gram;           /* [4][2][16][16] k.k and q.k of one block against the blocks j */
    float *solve;          /* [2][4][16][16] of a half: L of its blocks 0, 1, (1, 0); then A (1, 0) */
    float *inverse;        /* [4][16][16] of the diagonal blocks */
    uint16_t *q_stage, *k_stage;
    float *v_stage, *o_stage, *g_stage;

    /* The state of all strips: f32 [Dv/32][Dk][32], and as B [Dv/32][steps][2]. */
    float *S;
    uint16_t *state;

    /* A strip at work. */
    float *tile[3]; /* [4][16][16]: what an operation leaves */
    uint16_t *w;    /* B [2] */
    uint16_t *x;    /* B [2 halves][2]: what tokens write */
};

static inline const char *row_at(const struct amx_rows *r, int64_t row, int64_t column)
{
    return (const char *)r->data + (row * r->stride + column) * (int64_t)dtype_size(r->dtype);
}

#endif

/* delta_amx_chunk.h: what the parts of the AMX chunk share: one chunk of 64 rows of one head, its
 * inputs, its coefficients as tile operands, the state as operand. Steps: Dk / 32.
 *
 * A tiles hold 16 rows of 32 entries, B tiles 16 pairs of 16 columns; tile n stands at n * 512
 * halves. Row blocks b and column blocks of tokens: 0..3, 16 tokens each. */
#ifndef KERNELS_CPU_DELTA_AMX_CHUNK_H
#define KERNELS_CPU_DELTA_AMX_CHUNK_H

#include "kernels/cpu/delta_amx.h"
#include "kernels/cpu/delta_amx_pack.h"

enum { HALF_CHUNK = 32, ROW_BLOCKS = 4, STRIP_WIDE = 32 };

struct chunk {
    int Dk, Dv, steps;

    /* Inputs of this chunk: bf16 rows in place, or staged in work memory. */
    const uint16_t *q, *k;
    size_t qk_bytes; /* between two rows of q and of k */
    struct amx_rows v, o, g;
    float *beta;     /* [64] */
    uint16_t *q_stage, *k_stage;
    float *v_stage, *o_stage, *g_stage;

    /* Coefficients. */
    uint16_t *kT;       /* B [4][steps]: pairs of channels, columns tokens */
    uint16_t *k_in;     /* A [4][steps]: rows of k, decayed from the chunk's start: meets the state */
    uint16_t *q_in;     /* A [4][steps]: the same of q */
    uint16_t *k_out;    /* A [2 steps][2]: rows channels, columns tokens: makes the next state */
    float *gram;        /* [4][4][2][16][16] k.k and k.q of blocks b >= j */
    float *solve;       /* [2][4][16][16] of a half: L of its blocks 0, 1, (1, 0); then A (1, 0) */
    float *inverse;     /* [4][16][16] of the diagonal blocks */
    uint16_t *a;        /* A [4]: (I + L)^-1 beta of the half that block b is in */
    uint16_t *l;        /* A [2]: L of the second half against the first */
    uint16_t *p;        /* A [4][2]: P of block b against each half; p[0][1], p[1][1] unused */
    float *alpha;       /* [64] e^g, one gate a head */
    float *since;       /* [64] decay from the chunk's start to after a token */
    float *until;       /* [64] decay from after a token to the chunk's end; NULL: it is in k_out */
    float *decay;       /* [Dk] of the whole chunk */

    /* The state of all strips: f32 [Dv/32][Dk][32], and as B [Dv/32][steps][2]. */
    float *S;
    uint16_t *state;

    /* Of two strips at a time. */
    float *tile[2];     /* [4][16][16]: what an operation leaves for the next one's side work */
    uint16_t *w;        /* B [2 strips][2] */
    uint16_t *x, *xs;   /* B [2 strips][2 halves][2]: what tokens write; the same decayed to the end */
};

/* Everything that vector units do beside an operation on tiles, in four slices. */
struct side {
    const struct chunk *c;
    const float *tile;
    int strip, half, step; /* strip of the pair is strip & 1 */
};
typedef void side_work(const struct side *s, int slice);

static inline void side_none(const struct side *s, int slice) { (void)s, (void)slice; }

#endif

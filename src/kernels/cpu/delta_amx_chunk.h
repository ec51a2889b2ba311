/* delta_amx_chunk.h: what the parts of the AMX chunk share: one chunk of 64 rows of one head, its
 * inputs, its coefficients as tile operands, the state as operand. Steps: Dk / 32.
 *
 * A tiles hold 16 rows of 32 entries, B tiles 16 pairs of 16 columns; tile n stands at n * 512
 * halves. Row blocks b and column blocks j of tokens: 0..3, 16 tokens each. The 32 value columns of a
 * strip are two tiles of 16, the even ones and the odd ones: as the halves of a dword they come
 * apart and together again without crossing lanes. */
#ifndef KERNELS_CPU_DELTA_AMX_CHUNK_H
#define KERNELS_CPU_DELTA_AMX_CHUNK_H

#include "kernels/cpu/delta_amx.h"
#include "kernels/cpu/delta_amx_pack.h"

enum { HALF_CHUNK = 32, ROW_BLOCKS = 4, STRIP_WIDE = 32, BATCH = 4 };
enum { BATCH_ROWS = BATCH * AMX_CHUNK };

#define TILE_AT(base, n) ((base) + (size_t)(n) * TILE_HALVES)

/* What strips read of a chunk. */
struct chunk {
    uint16_t *k_in;  /* A [4][steps]: rows of k, decayed from the chunk's start: meets the state */
    uint16_t *q_in;  /* A [4][steps]: the same of q */
    uint16_t *k_out; /* A [2 steps][2]: rows channels, columns tokens, decayed to the chunk's end */
    uint16_t *a;     /* A [4]: (I + L)^-1 beta of the half that block b is in */
    uint16_t *l;     /* A [2]: L of the second half against the first */
    uint16_t *p;     /* A [4][2]: P of block b against each half; p[0][1], p[1][1] unused */
    float *decay;    /* [Dk] of the whole chunk */
};

/* A gate a channel: vectors of even and of odd channels in turn, [steps][2][16]. */
struct channels {
    float *rate;             /* [steps][16][2][16] e^g of the block's rows */
    float *block;            /* decay of the block */
    float *since;            /* and from the chunk's start to the block's */
    float *far[ROW_BLOCKS];  /* from the end of block j to the end of the one at hand */
    float *back;             /* 1 / block */
    float *product;          /* [steps][2][16] of a pair */
    uint16_t *k, *q;         /* A [steps]: rows of the block decayed from its start */
    uint16_t *turn;          /* 16 rows of 64 bytes */
    uint16_t *columns;       /* B [4][steps]: keys of block j decayed to the start of the one at hand */
};

/* Rows of a head in a batch. */
struct piece {
    const struct amx_head *head;
    int64_t row;
    int rows;
};

/* Heads at work, in turns. */
struct amx {
    int Dk, Dv, steps, strips;
    enum dtype dtype; /* of the values within: bf16 or f32 */
    struct chunk chunk[BATCH];

    /* Preparing a block. */
    uint16_t *q, *k;       /* A [steps]: its rows */
    float *beta;           /* [64] */
    float *alpha;          /* [64] e^g, one gate a head */
    float *since, *until;  /* [64] decay from the chunk's start to after a token, and on to its end */
    uint16_t *kT;          /* B [4][steps]: pairs of channels, columns tokens; with a gate a channel
                              decayed to the block's end */
    float *gram;           /* [4][2][16][16] k.k and q.k of one block against the blocks j */
    float *solve;          /* [2][4][16][16] of a half: L of its blocks 0, 1, (1, 0); then A (1, 0) */
    float *inverse;        /* [4][16][16] of the diagonal blocks */
    struct channels channels;

    /* Rows in and out, and whose they are: at work, of the turn before, of the next. Values
     * [strips][256][32], outputs, those of the turn before; in bf16 as they are, in f32 even columns
     * and then odd ones. */
    const struct amx_head *heads;
    int count;
    struct piece now, before, next;
    char *v, *o, *left;

    /* The state of all strips: f32 [strips][Dk][32], and as B [strips][steps][2]. Of the head at work,
     * and of the first one. */
    float *S, *all_S;
    uint16_t *state, *all_state;

    /* A strip at work. */
    float *tile[3]; /* [4][16][16]: what an operation leaves */
    uint16_t *w;    /* B [2] */
    uint16_t *x;    /* B [2 halves][2]: what tokens write */
};

static inline char *row_at(const struct amx_rows *r, int64_t row)
{
    return (char *)r->data + row * r->stride * (int64_t)dtype_size(r->dtype);
}

#endif

/* delta_backward_amx_chunk.h: what the parts of the AMX backward of delta share: one head of one
 * sequence at work, its chunk of 64 tokens as tile operands, products of 32 x 32 and what is done
 * with them. Algebra and figures: docs/kernels/delta_amx_backward.md.
 *
 * Rows of tokens and of the state are f32 while they are computed and bf16 as operands of tiles:
 *
 *     A [m][n]   m blocks of 16 rows, n steps of 32 entries to be summed
 *     B [m][n]   m panels of 32 columns, n steps, two tiles of 16 columns each
 *
 * An entry c of a step pairs with c + 16, whatever is summed (channels, columns or tokens): two
 * vectors of f32 become a row of an operand without crossing lanes, and one dword of either kind of
 * operand turns into the other. Squares are 64 x 64, blocks of 16 x 16, six to a row of which two
 * are not used.
 *
 * A load waits for an earlier store to an address that is the same modulo 4096. So everything lies
 * at multiples of 1024, vector work goes through all of it in step, 64 bytes at a time, and loads
 * what a step needs before it stores anything; rows of blocks are 6 kB apart for that reason too. */
#ifndef KERNELS_CPU_DELTA_BACKWARD_AMX_CHUNK_H
#define KERNELS_CPU_DELTA_BACKWARD_AMX_CHUNK_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/delta_amx_pack.h"

enum { CHUNK = 64, HALF = 32, BLOCKS = CHUNK / 16, WIDE = 32 };
enum { USUAL = 4 }; /* steps of the heads that most models have: 128 wide */
enum { SQUARE_ROW = 6 * TILE_FLOATS, SQUARE = BLOCKS * SQUARE_ROW, LOWER_TILES = 2 * BLOCKS };

/* What the way forward leaves of a chunk. */
struct kept {
    uint16_t *S;    /* B [ks][vs] columns summed: the state before the chunk */
    uint16_t *read; /* A [4][vs] what the tokens read of it, decayed */
    uint16_t *u;    /* A [4][vs] what they write */
    uint16_t *back; /* A [4][2] ((I + beta L)^-1)^T */
};

struct head {
    const struct delta_args *a;
    int64_t b, h, kh;
    int ks, vs; /* Dk / 32, Dv / 32 */

    /* The chunk: its first row, how many there are, and gates of each: e^g, the product of those
     * since the chunk's start (with the token's own) and on to its end. */
    int64_t row;
    int count;
    float *beta, *alpha, *since, *until;

    /* Squares: decay from a column's token to a row's; k.k and q.k with it, without beta. */
    float *decay, *L, *P;
    float *inverse, *square, *turned; /* at work */
    float *pairs;                     /* what passes all gates between two tokens */

    uint16_t *k, *q;             /* A [4][ks] */
    uint16_t *k_turned;          /* B [2][ks] channels summed, columns tokens */
    uint16_t *k_down, *q_down;   /* A [2 ks][2] rows channels, tokens summed */
    uint16_t *k_on, *q_on;       /* B [ks][2] columns channels, tokens summed */
    uint16_t *dout;              /* A [4][vs] */
    uint16_t *dout_on, *dout_in; /* B [vs][2] tokens summed; the same decayed since the start */
    uint16_t *x_on, *y_on;       /* B [vs][2] tokens summed: results of one stage for the next */
    uint16_t *du;                /* A [4][vs] gradient of u / beta, beyond the solve */
    uint16_t *u_out, *du_in;     /* A [4][vs] until u, -since beta du */
    uint16_t *u_turned;          /* B [2][vs] columns summed, columns tokens */
    uint16_t *solve;             /* A [4][2] (I + beta L)^-1 */
    uint16_t *P_turned, *dP, *dP_turned, *dL; /* A [4][2]; dL with its transpose */

    /* The state or its gradient: f32 [vs][Dk][32]; B [vs][ks] channels summed; B [ks][vs]. */
    float *S, *G;
    uint16_t *S_down, *G_down, *G_across;
    struct kept *kept;

    float *tile;                         /* [2][4][16][16] what products leave */
    uint16_t *aside;                     /* A [2] the state's rows before they are turned */
    float *used, *left, *wrote, *passed; /* [64][16] parts of dg and dbeta, lanes still apart */
    float *sums;                         /* [4][64] those parts */
    float *rows; /* [64][Dk or Dv] a gradient before it is added to its tensor */
};

/* Floats from row to row of m->rows: an odd number of lines, so that they spread over L1. */
static inline int rows_wide(int steps) { return 32 * steps + 16; }

static inline int chunk_of(int64_t rows) { return rows < CHUNK ? (int)rows : CHUNK; }

static inline const char *row_of(const struct tensor *t, int64_t row, int64_t head)
{
    return tensor_at(t, row * t->stride[0] + head * t->stride[1]);
}

/* Block (b, j) of a square. */
static inline int block_at(int b, int j) { return b * SQUARE_ROW + j * TILE_FLOATS; }

/* Calls a line that will be written a few steps later to L1: stores that miss it are served one
 * after another. */
TILE_INLINE void expect_write(const void *line)
{
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)line));
}

enum { AHEAD = 4 }; /* steps */

/* The lines of a later step in an A operand's two blocks, or a B operand's two tiles. */
TILE_INLINE void expect_pairs(const uint16_t *at, int64_t apart, int t)
{
    expect_write(at + 32 * (t + AHEAD));
    expect_write(at + apart + 32 * (t + AHEAD));
}

/* Calls rows of the sequence to L2, up to 64 from `row` on; NULL has none. They lie too far apart
 * for the machine to guess. Inlined, since gcc 12 drops calls of what only prefetches. */
TILE_INLINE void call_rows(const struct head *m, const struct tensor *t, int64_t row, int64_t head)
{
    const int64_t first = m->a->rows->start[m->b], end = m->a->rows->start[m->b + 1];
    const int64_t bytes = t ? t->dim[2] * (int64_t)dtype_size(t->dtype) : 0;
    for (int64_t i = row < first ? first : row; i < row + CHUNK && i < end && t; i++) {
        const char *at = row_of(t, i, head);
        for (int64_t c = 0; c < bytes; c += 64) _mm_prefetch(at + c, _MM_HINT_T1);
    }
}

/* ---- operands -------------------------------------------------------------------------------- */

#define TILE_AT(base, n) ((base) + (size_t)(n)*TILE_HALVES)

/* 32 entries of a row as 16 pairs. */
TILE_INLINE __m512i pair32(const void *row, enum dtype dtype, int64_t at)
{
    return pack_pair(load16(row, dtype, at), load16(row, dtype, at + 16));
}

/* The lower and the upper halves of two rows of pairs, paired anew. */
TILE_INLINE __m512i pair_low(__m512i x, __m512i y)
{
    return _mm512_mask_mov_epi16(_mm512_slli_epi32(y, 16), 0x55555555, x);
}
TILE_INLINE __m512i pair_high(__m512i x, __m512i y)
{
    return _mm512_mask_mov_epi16(y, 0x55555555, _mm512_srli_epi32(x, 16));
}

/* Rows of one head as A [4][steps], zeros after the chunk's last. */
static void pack_rows(uint16_t *to, const struct tensor *t, const struct head *m, int64_t head,
                      int steps)
{
    const int64_t bytes = t->stride[0] * (int64_t)dtype_size(t->dtype);
    const char *from = row_of(t, m->row, head);
    const enum dtype dtype = t->dtype;
    const int count = m->count;
    for (int i = 0; i < CHUNK; i++, from += bytes) {
        uint16_t *at = TILE_AT(to, i / 16 * steps) + i % 16 * 32;
        for (int s = 0; s < steps; s++) {
            expect_write(TILE_AT(at, s) + 32 * AHEAD);
            _mm512_store_si512(TILE_AT(at, s),
                               i < count ? pair32(from, dtype, 32 * s) : _mm512_setzero_si512());
        }
    }
}

/* The A tile `from` turned: its pairs become rows, its rows columns. */
TILE_INLINE void turn_tile(uint16_t *to, const void *from)
{
    __m512i t[16];
    for (int i = 0; i < 16; i++) expect_write(to + i * 32);
    turn16(t, from, TILE_BYTES);
    for (int i = 0; i < 16; i++) _mm512_store_si512(to + i * 32, t[i]);
}

/* A [4][steps], rows tokens, to B [2][steps], columns tokens. */
static void turn_rows(uint16_t *to, const uint16_t *from, int steps)
{
    for (int b = 0; b < BLOCKS; b++)
        for (int s = 0; s < steps; s++)
            turn_tile(TILE_AT(to, (b / 2 * steps + s) * 2 + b % 2), TILE_AT(from, b * steps + s));
}

/* A [4][steps], rows tokens, to B [steps][2], tokens summed. */
static void pair_tokens(uint16_t *to, const uint16_t *from, int steps)
{
    for (int n = 0; n < steps; n++)
        for (int half = 0; half < 2; half++) {
            const uint16_t *first = TILE_AT(from, 2 * half * steps + n);
            const uint16_t *second = TILE_AT(first, steps);
            uint16_t *at = TILE_AT(to, (2 * n + half) * 2);
            for (int t = 0; t < 16; t++) {
                const __m512i x = _mm512_load_si512(first + 32 * t);
                const __m512i y = _mm512_load_si512(second + 32 * t);
                expect_pairs(at, TILE_HALVES, t);
                _mm512_store_si512(at + 32 * t, pair_low(x, y));
                _mm512_store_si512(TILE_AT(at, 1) + 32 * t, pair_high(x, y));
            }
        }
}

/* B [2][steps], columns tokens, to A [2 steps][2], rows channels. */
static void pair_columns(uint16_t *to, const uint16_t *from, int steps)
{
    for (int half = 0; half < 2; half++)
        for (int s = 0; s < steps; s++) {
            const uint16_t *first = TILE_AT(from, (half * steps + s) * 2);
            uint16_t *at = TILE_AT(to, 4 * s + half);
            for (int p = 0; p < 16; p++) {
                const __m512i x = _mm512_load_si512(first + 32 * p);
                const __m512i y = _mm512_load_si512(TILE_AT(first, 1) + 32 * p);
                expect_pairs(at, 2 * TILE_HALVES, p);
                _mm512_store_si512(at + 32 * p, pair_low(x, y));
                _mm512_store_si512(TILE_AT(at, 2) + 32 * p, pair_high(x, y));
            }
        }
}

/* Rows of the lower squares as A [4][2]. */
static void pack_lower(uint16_t *to, const float *square)
{
    for (int i = 0; i < CHUNK; i++)
        for (int half = 0; half <= i / HALF; half++) {
            const int b = i / 16, j = 2 * half;
            const float *at = square + block_at(b, j) + i % 16 * 16;
            const __m512 x = _mm512_load_ps(at);
            const __m512 y = j < b ? _mm512_load_ps(at + TILE_FLOATS) : _mm512_setzero_ps();
            _mm512_store_si512(TILE_AT(to, 2 * b + half) + i % 16 * 32, pack_pair(x, y));
        }
}

/* A lower square turned over: blocks on and above the diagonal. */
static void turn_square(float *to, const float *from)
{
    for (int b = 0; b < BLOCKS; b++)
        for (int j = 0; j <= b; j++)
            turn_tile((uint16_t *)(to + block_at(j, b)), from + block_at(b, j));
}

/* Rows of a square that was turned as A [4][2]. */
static void pack_upper(uint16_t *to, const float *square)
{
    for (int i = 0; i < CHUNK; i++)
        for (int half = i / HALF; half < 2; half++) {
            const int b = i / 16, j = 2 * half;
            const float *at = square + block_at(b, j) + i % 16 * 16;
            const __m512 x = j >= b ? _mm512_load_ps(at) : _mm512_setzero_ps();
            const __m512 y = _mm512_load_ps(at + TILE_FLOATS);
            _mm512_store_si512(TILE_AT(to, 2 * b + half) + i % 16 * 32, pack_pair(x, y));
        }
}

/* ---- products -------------------------------------------------------------------------------- */

/* What is done with the 32 x 32 results of products, rows t and t + 16 at a time. Addresses are
 * made once and handed on by value: a store of vectors could change whatever stands in memory. */
struct side {
    const float *tile;  /* the products: [2][2][2][16][16], blocks of rows and of columns */
    const float *by[2]; /* numbers of the 32 tokens */
    const uint16_t *in; /* A: rows of pairs that a result meets */
    uint16_t *out[2];   /* A: where results go; the second block of all is `apart` halves on */
    int64_t apart;
    uint16_t *on;  /* B: two tiles */
    const char *v; /* first of the tokens' rows, and how many of them there are */
    int64_t v_bytes;
    int live;
    float *grad; /* rows of m->rows, `wide` floats each */
    int64_t wide;
    float *lanes[2];          /* [32][16] sums with their lanes apart */
    float *S, end;            /* 32 channels of a strip, and what they are multiplied with */
    uint16_t *aside, *across; /* B: the state turned; its second tile follows the first */
};
typedef void side_work(struct side s, int t);

/* Vector n (columns 16 n ..) of a row of a product. */
TILE_INLINE __m512 left_at(const float *tile, int product, int row, int n)
{
    return _mm512_load_ps(tile + (4 * product + 2 * (row / 16) + n) * TILE_FLOATS + row % 16 * 16);
}

/* The values of `half` at strip `panel`. */
TILE_INLINE void side_values(struct side *s, const struct head *m, int half, int panel)
{
    const struct tensor *v = m->a->v;
    const int64_t size = (int64_t)dtype_size(v->dtype);
    s->v = row_of(v, m->row + HALF * half, m->h) + WIDE * panel * size;
    s->v_bytes = v->stride[0] * size;
    s->live = m->count - HALF * half;
}

/* Vector n of a token's value, 0 after the chunk's last. */
TILE_INLINE __m512 value_at(struct side s, enum dtype dtype, int row, int n)
{
    return row < s.live ? load16(s.v + row * s.v_bytes, dtype, 16 * n) : _mm512_setzero_ps();
}

TILE_INLINE void tiles_clear(void) { tile_zero(0), tile_zero(1), tile_zero(2), tile_zero(3); }

/* Tiles 0 to 3 += 32 rows of A, whose blocks lie `apart` tiles apart, times a panel of B. */
TILE_INLINE void tiles_add(const uint16_t *a, int apart, const uint16_t *b, int steps)
{
    for (int i = 0; i < steps; i++) {
        tile_load(4, TILE_AT(a, i), TILE_BYTES);
        tile_load(6, TILE_AT(b, 2 * i), TILE_BYTES);
        tile_dp(0, 4, 6);
        tile_load(7, TILE_AT(b, 2 * i + 1), TILE_BYTES);
        tile_dp(1, 4, 7);
        tile_load(5, TILE_AT(a, i + apart), TILE_BYTES);
        tile_dp(2, 5, 6);
        tile_dp(3, 5, 7);
    }
}

TILE_INLINE void tiles_leave(float *to)
{
    tile_store(0, to, TILE_BYTES);
    tile_store(1, to + TILE_FLOATS, TILE_BYTES);
    tile_store(2, to + 2 * TILE_FLOATS, TILE_BYTES);
    tile_store(3, to + 3 * TILE_FLOATS, TILE_BYTES);
}

/* One product on its own. */
TILE_INLINE void tiles_product(float *to, const uint16_t *a, int apart, const uint16_t *b,
                               int steps)
{
    tiles_clear();
    tiles_add(a, apart, b, steps);
    tiles_leave(to);
}

/* The products of a half (32 tokens or channels) and a panel; and what is to be done with them. */
typedef void products(const struct head *m, int half, int panel, float *to);
typedef struct side side_of(const struct head *m, int half, int panel);

/* All halves of all panels. A panel of B is used by its halves one after another. */
TILE_INLINE void run_stage(const struct head *m, int halves, int panels, products *multiply,
                           side_of *prepare, side_work *work)
{
    for (int i = 0; i < halves * panels; i++) {
        struct side now = prepare(m, i % halves, i / halves);
        multiply(m, i % halves, i / halves, m->tile);
        for (int t = 0; t < 16; t++) work(now, t);
    }
}

#endif

/* delta_strips_tmpl.h: the state's side of the gated delta rule, after delta_tmpl.h.
 *
 * Lanes are value columns, and no two of them ever meet. Everything is a chain of multiply-adds for
 * each column: S k and S q over d ascending, the log over i ascending, the fold over i ascending.
 * Tiles only say how many chains run beside each other; they cannot change bits. */

enum {
    STRIP_VF = STRIP / VL,
    /* A tile of S k and S q: so many rows of kq by so many vectors; even rows. */
    DOT_ROWS = VL == 16 ? 8 : VL == 8 ? 4 : 2,
    DOT_VF = VL == 4 ? 4 : 2,
    /* Strips side by side for so few tokens, and vectors of them in a tile. */
    SIDE = VL == 16 ? DELTA_SIDE : 1,
    SIDE_TOKENS = VL == 16 ? 2 : 1,
    SIDE_VF = VL == 16 ? SIDE * STRIP_VF : 4,
    SOLVE_VF = SIDE_VF > STRIP_VF ? SIDE_VF : STRIP_VF,
    /* A tile of the fold: rows of S by vectors. */
    FOLD_ROWS = VL == 16 ? 8 : VL == 8 ? 4 : 2,
    FOLD_VF = VL == 4 ? 4 : 2,
    /* Tokens that take in earlier u side by side. */
    SOLVE = VL == 16 ? 4 : VL == 8 ? 2 : 1,
    /* Steps of a sum in a turn of its loop: counting takes the ports of multiply-adds. */
    AHEAD = 4,
};

/* A strip's state as a tile reads it: f32, or a bf16 anchor where it lies. */
struct strips {
    const void *at;
    int64_t stride; /* elements from strip to strip */
    int count;      /* side by side */
};

VF_INLINE vf strips_load(const struct strips *S, bool half, int v, int d)
{
    const int64_t at = v / STRIP_VF * S->stride + (int64_t)d * STRIP + v % STRIP_VF * VL;
    return half ? vf_load_bf16((const uint16_t *)S->at + at) : vf_load((const float *)S->at + at);
}

/* Channel d of a tile: sum[i][v] += S[d][v0 + v] x[i][d]. */
VF_INLINE void dot_step(const struct strips *S, bool half, int v0, int rows, int vectors,
                        const float *x, int row, int d, vf sum[][8])
{
    vf at[8];
    VF_UNROLL
    for (int v = 0; v < vectors; v++) at[v] = strips_load(S, half, v0 + v, d);
    VF_UNROLL
    for (int i = 0; i < rows; i++) {
        const vf xi = vf_set1(x[(int64_t)i * row + d]);
        VF_UNROLL
        for (int v = 0; v < vectors; v++) sum[i][v] = vf_fma(at[v], xi, sum[i][v]);
    }
}

/* A row of the next turn in each of four tensors, and of g, to be fetched while a tile is at work: a
 * line at a time, a quarter of the tile for each. In bursts they would hold all the buffers through
 * which S and x come. */
enum { QUARTERS = 4 };
struct ahead {
    const char *row[QUARTERS + 1];
    int64_t step[QUARTERS + 1]; /* bytes for each channel of the quarter; of g for all channels */
};

VF_INLINE void ahead_fetch(const struct ahead *ahead, bool gates, int quarter, int d, int from)
{
    __builtin_prefetch(ahead->row[quarter] + (d - from) * ahead->step[quarter], 0, 3);
    if (gates) __builtin_prefetch(ahead->row[QUARTERS] + d * ahead->step[QUARTERS], 0, 3);
}

/* r[row][..] = sum_d S[d] x[row][d] for `rows` rows of x and vectors v0..v0+vectors-1. */
VF_INLINE void dot_tile(const struct strips *S, bool half, int v0, int rows, int vectors,
                        const float *x, int row, int Dk, float *r, const struct ahead *ahead,
                        bool gates)
{
    vf sum[8][8];
    VF_UNROLL
    for (int i = 0; i < rows; i++) {
        VF_UNROLL
        for (int v = 0; v < vectors; v++) sum[i][v] = vf_zero();
    }
    int d = 0;
    for (int quarter = 0; ahead && quarter < QUARTERS; quarter++)
        for (const int from = d; d + AHEAD <= from + Dk / QUARTERS; d += AHEAD) {
            ahead_fetch(ahead, gates, quarter, d, from);
            VF_UNROLL
            for (int j = 0; j < AHEAD; j++)
                dot_step(S, half, v0, rows, vectors, x, row, d + j, sum);
        }
    for (; d + AHEAD <= Dk; d += AHEAD) {
        VF_UNROLL
        for (int j = 0; j < AHEAD; j++)
            dot_step(S, half, v0, rows, vectors, x, row, d + j, sum);
    }
    for (; d < Dk; d++) dot_step(S, half, v0, rows, vectors, x, row, d, sum);
    const int wide = S->count * STRIP;
    VF_UNROLL
    for (int i = 0; i < rows; i++) {
        VF_UNROLL
        for (int v = 0; v < vectors; v++) vf_store(r + i * wide + (v0 + v) * VL, sum[i][v]);
    }
}

/* One strip, any number of rows (an even one: k and q of each token). The first tiles fetch `count`
 * rows ahead, as long as there are some. */
VF_INLINE void dots_strip_of(const struct strips *S, const float *x, int row, int rows, int Dk,
                             float *r, const struct ahead *ahead, int count, bool gates)
{
    for (int v = 0; v < STRIP_VF; v += DOT_VF) {
        int i = 0;
        for (; v == 0 && i + DOT_ROWS <= rows && i < count * DOT_ROWS; i += DOT_ROWS)
            dot_tile(S, false, v, DOT_ROWS, DOT_VF, x + (int64_t)i * row, row, Dk, r + i * STRIP,
                     ahead + i / DOT_ROWS, gates);
        for (; i + DOT_ROWS <= rows; i += DOT_ROWS)
            dot_tile(S, false, v, DOT_ROWS, DOT_VF, x + (int64_t)i * row, row, Dk, r + i * STRIP,
                     NULL, false);
        if (DOT_ROWS > 6 && i + 6 <= rows) {
            dot_tile(S, false, v, 6, DOT_VF, x + (int64_t)i * row, row, Dk, r + i * STRIP, NULL,
                     false);
            i += 6;
        }
        if (DOT_ROWS > 4 && i + 4 <= rows) {
            dot_tile(S, false, v, 4, DOT_VF, x + (int64_t)i * row, row, Dk, r + i * STRIP, NULL,
                     false);
            i += 4;
        }
        if (i < rows)
            dot_tile(S, false, v, 2, DOT_VF, x + (int64_t)i * row, row, Dk, r + i * STRIP, NULL,
                     false);
    }
}

/* The width of most models is a constant: rows of x then need one address. */
static void dots_strip(const struct strips *S, const float *x, int row, int rows, int Dk, float *r,
                       const struct ahead *ahead, int count, bool gates)
{
    if (row == USUAL && Dk == USUAL && gates)
        dots_strip_of(S, x, USUAL, rows, USUAL, r, ahead, count, true);
    else if (row == USUAL && Dk == USUAL)
        dots_strip_of(S, x, USUAL, rows, USUAL, r, ahead, count, false);
    else
        dots_strip_of(S, x, row, rows, Dk, r, ahead, count, gates);
}

/* k and q of one token against strips side by side: as many chains as there are. */
VF_INLINE void dots_token_of(const struct strips *S, bool half, const float *x, int row, int Dk,
                             float *r)
{
    int v = 0;
    for (; v + SIDE_VF <= S->count * STRIP_VF; v += SIDE_VF)
        dot_tile(S, half, v, 2, SIDE_VF, x, row, Dk, r, NULL, false);
    if (SIDE_VF > 4 && v + 4 <= S->count * STRIP_VF) {
        dot_tile(S, half, v, 2, 4, x, row, Dk, r, NULL, false);
        v += 4;
    }
    for (; v < S->count * STRIP_VF; v += DOT_VF) dot_tile(S, half, v, 2, DOT_VF, x, row, Dk, r, NULL, false);
}

/* k and q of two. */
static void dots_pair(const struct strips *S, const float *x, int row, int Dk, float *r)
{
    int v = 0;
    for (; v + 4 <= S->count * STRIP_VF; v += 4) dot_tile(S, false, v, 4, 4, x, row, Dk, r, NULL, false);
    for (; v < S->count * STRIP_VF; v += DOT_VF) dot_tile(S, false, v, 4, DOT_VF, x, row, Dk, r, NULL, false);
}

static void dots_side(const struct strips *S, bool half, int tokens, const float *x, int row, int Dk,
                      float *r)
{
    if (SIDE_TOKENS > 1 && tokens == 2)
        dots_pair(S, x, row, Dk, r);
    else if (half)
        dots_token_of(S, true, x, row, Dk, r);
    else
        dots_token_of(S, false, x, row, Dk, r);
}

/* ---- u and o --------------------------------------------------------------------------------------- */

/* sum[j] += coefs[j][i] u_i for i in from..to-1, ascending; `many` tokens, so many vectors. */
VF_INLINE void take_in(vf sum[][SOLVE_VF], int many, int vectors, const float *coefs, const float *u,
                       int wide, int from, int to)
{
    for (int i = from; i < to; i++) {
        VF_UNROLL
        for (int v = 0; v < vectors; v++) {
            const vf ui = vf_load(u + i * wide + v * VL);
            VF_UNROLL
            for (int j = 0; j < many; j++)
                sum[j][v] = vf_fma(vf_set1(coefs[j * BLOCK + i]), ui, sum[j][v]);
        }
    }
}

/* The same for one token j of a tile and the u of its tile, which are in registers. */
VF_INLINE void take_own(vf *sum, int vectors, const float *coefs, const vf own[][SOLVE_VF], int many)
{
    VF_UNROLL
    for (int i = 0; i < many; i++) {
        VF_UNROLL
        for (int v = 0; v < vectors; v++) sum[v] = vf_fma(vf_set1(coefs[i]), own[i][v], sum[v]);
    }
}

/* Tokens t..t+many-1 against so many vectors of columns. u holds v in their rows and gets u; r holds
 * S k and, wide further, S q, and the second gets o. */
VF_INLINE void solve_tile(const struct delta_coefs *c, int t, int many, int vectors, float *u, float *r,
                          int wide)
{
    const float *ck = c->ck + t * BLOCK, *cq = c->cq + t * BLOCK;
    vf sum[SOLVE][SOLVE_VF], own[SOLVE][SOLVE_VF];
    VF_UNROLL
    for (int j = 0; j < many; j++) {
        VF_UNROLL
        for (int v = 0; v < vectors; v++)
            sum[j][v] = vf_mul(vf_set1(c->eG[t + j]), vf_load(r + 2 * j * wide + v * VL));
    }
    take_in(sum, many, vectors, ck, u, wide, 0, t);
    VF_UNROLL
    for (int j = 0; j < many; j++) {
        float *at = u + (t + j) * wide;
        take_own(sum[j], vectors, ck + j * BLOCK + t, own, j);
        VF_UNROLL
        for (int v = 0; v < vectors; v++) {
            own[j][v] = vf_mul(vf_set1(c->beta[t + j]), vf_sub(vf_load(at + v * VL), sum[j][v]));
            vf_store(at + v * VL, own[j][v]);
        }
    }
    VF_UNROLL
    for (int j = 0; j < many; j++) {
        VF_UNROLL
        for (int v = 0; v < vectors; v++)
            sum[j][v] = vf_mul(vf_set1(c->eG[t + j]), vf_load(r + (2 * j + 1) * wide + v * VL));
    }
    take_in(sum, many, vectors, cq, u, wide, 0, t);
    VF_UNROLL
    for (int j = 0; j < many; j++) {
        take_own(sum[j], vectors, cq + j * BLOCK + t, own, j + 1);
        VF_UNROLL
        for (int v = 0; v < vectors; v++) vf_store(r + (2 * j + 1) * wide + v * VL, sum[j][v]);
    }
}

/* One token t: so many vectors of columns, u_i of row i at i * step, where v of t becomes u. r holds
 * S k and S q, `wide` apart, and the second gets o. Each u_i is met once. */
VF_INLINE void solve_one(const struct delta_coefs *c, int t, int vectors, float *u, int64_t step,
                         float *r, int wide)
{
    const float *ck = c->ck + t * BLOCK, *cq = c->cq + t * BLOCK;
    const vf eG = vf_set1(c->eG[t]);
    vf read[SOLVE_VF], out[SOLVE_VF];
    VF_UNROLL
    for (int v = 0; v < vectors; v++) {
        read[v] = vf_mul(eG, vf_load(r + v * VL));
        out[v] = vf_mul(eG, vf_load(r + wide + v * VL));
    }
    for (int i = 0; i < t; i++) {
        const vf ki = vf_set1(ck[i]), qi = vf_set1(cq[i]);
        VF_UNROLL
        for (int v = 0; v < vectors; v++) {
            const vf ui = vf_load(u + i * step + v * VL);
            read[v] = vf_fma(ki, ui, read[v]);
            out[v] = vf_fma(qi, ui, out[v]);
        }
    }
    const vf beta = vf_set1(c->beta[t]), own = vf_set1(cq[t]);
    VF_UNROLL
    for (int v = 0; v < vectors; v++) {
        float *at = u + t * step + v * VL;
        const vf ut = vf_mul(beta, vf_sub(vf_load(at), read[v]));
        vf_store(at, ut);
        vf_store(r + wide + v * VL, vf_fma(own, ut, out[v]));
    }
}

/* The rows of a block against one strip. */
static void solve_strip(const struct delta_coefs *c, const struct delta_block *b, float *u, float *r)
{
    const int end = b->have + b->rows;
    int t = b->have;
    for (; t + SOLVE <= end; t += SOLVE, r += 2 * SOLVE * STRIP)
        solve_tile(c, t, SOLVE, STRIP_VF, u, r, STRIP);
    for (; t < end; t++, r += 2 * STRIP) solve_one(c, t, STRIP_VF, u, STRIP, r, STRIP);
}

/* A few tokens against strips side by side: one chain would wait for itself. */
static void solve_side(const struct delta_coefs *c, const struct delta_block *b, float *u,
                       int64_t step, float *r, int wide)
{
    for (int t = b->have; t < b->have + b->rows; t++, r += 2 * wide) {
        int v = 0;
        for (; v + SIDE_VF * VL <= wide; v += SIDE_VF * VL)
            solve_one(c, t, SIDE_VF, u + v, step, r + v, wide);
        for (; v < wide; v += STRIP) solve_one(c, t, STRIP_VF, u + v, step, r + v, wide);
    }
}

/* ---- fold ------------------------------------------------------------------------------------------ */

/* Entry i of a tile: sum[j][v] += fold_i[d + j] x_i[v0 + v]. */
VF_INLINE void fold_step(const struct delta_coefs *c, int i, int d, int rows, int v0, const float *x,
                         vf sum[][FOLD_VF])
{
    const float *k = c->fold + i * c->fold_stride + d;
    vf at[FOLD_VF];
    VF_UNROLL
    for (int v = 0; v < FOLD_VF; v++) at[v] = vf_load(x + i * STRIP + (v0 + v) * VL);
    VF_UNROLL
    for (int j = 0; j < rows; j++) {
        const vf kj = vf_set1(k[j]);
        VF_UNROLL
        for (int v = 0; v < FOLD_VF; v++) sum[j][v] = vf_fma(kj, at[v], sum[j][v]);
    }
}

/* Rows d..d+rows-1 of a strip, vectors v0..: to = keep from + sum_i fold_i x_i. */
VF_INLINE void fold_tile(const struct delta_coefs *c, int n, int d, int rows, int v0, bool round,
                         const float *x, const float *from, float *to)
{
    vf sum[FOLD_ROWS][FOLD_VF];
    VF_UNROLL
    for (int j = 0; j < rows; j++) {
        VF_UNROLL
        for (int v = 0; v < FOLD_VF; v++)
            sum[j][v] = vf_mul(vf_set1(c->keep[d + j]),
                               vf_load(from + (d + j) * STRIP + (v0 + v) * VL));
    }
    int i = 0;
    for (; i + AHEAD <= n; i += AHEAD) {
        VF_UNROLL
        for (int j = 0; j < AHEAD; j++) fold_step(c, i + j, d, rows, v0, x, sum);
    }
    for (; i < n; i++) fold_step(c, i, d, rows, v0, x, sum);
    VF_UNROLL
    for (int j = 0; j < rows; j++) {
        VF_UNROLL
        for (int v = 0; v < FOLD_VF; v++)
            vf_store(to + (d + j) * STRIP + (v0 + v) * VL,
                     round ? vf_round_bf16(sum[j][v]) : sum[j][v]);
    }
}

VF_INLINE void fold_rows(const struct delta_coefs *c, int n, int Dk, bool round, const float *x,
                         const float *from, float *to)
{
    for (int v = 0; v < STRIP_VF; v += FOLD_VF) {
        int d = 0;
        for (; d + FOLD_ROWS <= Dk; d += FOLD_ROWS)
            fold_tile(c, n, d, FOLD_ROWS, v, round, x, from, to);
        for (; d < Dk; d++) fold_tile(c, n, d, 1, v, round, x, from, to);
    }
}

/* One strip at the edge of a block of n entries. */
static void fold_strip(const struct delta_head *h, const struct delta_coefs *c, int n, const float *u,
                       int64_t step, const float *from, float *to)
{
    for (int i = 0; i < n; i++)
        for (int v = 0; v < STRIP_VF; v++)
            vf_store(h->x + i * STRIP + v * VL,
                     vf_mul(vf_set1(c->w[i]), vf_load(u + i * step + v * VL)));
    if (h->round)
        fold_rows(c, n, h->Dk, true, h->x, from, to);
    else
        fold_rows(c, n, h->Dk, false, h->x, from, to);
}

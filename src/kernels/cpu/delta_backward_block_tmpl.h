/* delta_backward_block_tmpl.h: what the backward of delta knows of 16 tokens of one head before it
 * meets a state, and what it does with the gradients of that. Body of a template, after
 * delta_backward_tiles_tmpl.h. The algebra is in docs/kernels/delta_backward.md.
 *
 * Decays are running products of e^g, never e of a difference of sums: a sum that has passed -1000
 * has no digits left for the gates that follow it. */

struct block {
    int n;             /* tokens; those up to 16 are zeros that do not decay */
    float *k, *q;      /* [16][K] */
    float *e;          /* e^g: [16], or [16][K] with a gate for each channel; so are the next two */
    float *since;      /* decay of the block's start at token t: e_0 .. e_t */
    float *until;      /* of token t at the block's end: e_{t+1} .. e_15 */
    float *end;        /* [K] decay over the whole block */
    float *written;    /* [16][K] beta_t k_t until_t: the row that token t's y adds */
    float *asked;      /* [16][K] q_t since_t */
    float *taken;      /* [16][K] -k_t since_t */
    float *kT_since;   /* [K][16] columns of k since */
    float *kT_until;   /* [K][16] columns of k until */
    float *beta;       /* [16] */
    float *E;          /* [16][16] scalar gate: decay of token j at token i, lower triangle */
    float *P;          /* [16][16] q_i . k_j decayed, j <= i */
    float *solve;      /* [16][16] columns of (I + M beta)^-1 */
    /* Kept by the way forward: */
    float *M;          /* [16][16] k_i . k_j decayed, j < i */
    float *back;       /* [16][16] rows of (I + M beta)^-1, row i times beta_i */
    float *Y;          /* [V][16] columns of v_t - S'_t k_t */
};

static void turn_rows(float *columns, const float *rows, int n)
{
    for (int c = 0; c < n; c += 16) turn(columns + 16 * c, 16, rows + c, n);
}

static void turn_columns(float *rows, const float *columns, int n)
{
    for (int c = 0; c < n; c += 16) turn(rows + c, n, columns + 16 * c, 16);
}

/* Lane t of `decay` for column vector `at` of token t. */
VF_INLINE vf decay_at(const float *decay, bool channel, int t, int K, int at)
{
    return channel ? vf_load(decay + t * K + at) : vf_set1(decay[t]);
}

/* since, until, end from e. */
static void run_decay(struct block *b, bool channel, int K)
{
    const int n = channel ? K : 1;
    memcpy(b->since, b->e, (size_t)n * sizeof(float));
    for (int t = 1; t < 16; t++)
        for (int c = 0; c < n; c++)
            b->since[t * n + c] = b->since[(t - 1) * n + c] * b->e[t * n + c];
    for (int c = 0; c < n; c++) b->until[15 * n + c] = 1.0f;
    for (int t = 14; t >= 0; t--)
        for (int c = 0; c < n; c++)
            b->until[t * n + c] = b->until[(t + 1) * n + c] * b->e[(t + 1) * n + c];
    for (int c = 0; c < K; c++) b->end[c] = b->since[15 * n + (channel ? c : 0)];
}

static void exp_all(float *x, int n)
{
    for (int i = 0; i < n; i += VL) vf_store(x + i, vf_exp(vf_load(x + i)));
}

/* ---- grams: M and P -------------------------------------------------------------------------- */

/* out[i][j] = a_i . k_j, 4 x 4. Sums over many lanes keep two more bits than one chain: with one
 * key over and over, an error here is the same in every pair, and grows with each token. */
static void dots(float *out, const float *a, const float *k, int K)
{
    struct vf16 x[16] = {0};
    for (int c = 0; c < K; c += 16)
        VF_UNROLL
        for (int l = 0; l < 16; l++)
            VF_UNROLL
            for (int p = 0; p < VF16; p++)
                x[l].part[p] = vf_fma(vf_load(a + l / 4 * K + c + VL * p),
                                      vf_load(k + l % 4 * K + c + VL * p), x[l].part[p]);
    sums16(out, x);
}

/* out[i][j] = E[i][j] a_i . k_j, the diagonal with it or not. */
static void dots_lower(float *out, const float *a, const struct block *b, int K, int diagonal)
{
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 16; j += 4) {
            float tile[16];
            if (j <= i) dots(tile, a + i * K, b->k + j * K, K);
            for (int l = 0; l < 16; l++) {
                const int row = i + l / 4, column = j + l % 4, at = 16 * row + column;
                out[at] = column < row + diagonal ? tile[l] * b->E[at] : 0.0f;
            }
        }
}

/* M, or of the whole P. */
static void grams_scalar(struct block *b, int K, bool whole)
{
    memset(b->E, 0, 256 * sizeof(float));
    for (int i = 0; i < 16; i++) {
        for (int j = 0; j < i; j++) b->E[16 * i + j] = b->E[16 * (i - 1) + j] * b->e[i];
        b->E[16 * i + i] = 1.0f;
    }
    if (whole)
        dots_lower(b->P, b->q, b, K, 1);
    else
        dots_lower(b->M, b->k, b, K, 0);
}

/* The same with a gate for each channel, in delta_backward_channel_tmpl.h. `keys`: [12][K]. */
static void grams_channel(struct block *b, float *keys, int K, bool whole);

/* (I + M diag(beta))^-1 by forward substitution on the rows of I: row j, once finished, is taken
 * from all that follow it. In double, which costs little here: where beta |k|^2 is near 2 the rows
 * alternate in sign and do not shrink, and a token's y is what is left of 16 such terms. */
static void invert(struct block *b)
{
    double rows[16][16] = {{0}};
    float solve[256];
    for (int i = 0; i < 16; i++) rows[i][i] = 1.0;
    for (int j = 0; j < 16; j++) {
        for (int i = j + 1; i < 16; i++) {
            const double w = (double)b->M[16 * i + j] * (double)b->beta[j];
            for (int c = 0; c < 16; c++) rows[i][c] -= w * rows[j][c];
        }
        for (int c = 0; c < 16; c++) {
            solve[16 * j + c] = (float)rows[j][c];
            b->back[16 * j + c] = (float)(rows[j][c] * (double)b->beta[j]);
        }
    }
    turn(b->solve, 16, solve, 16);
}

/* ---- the operands that meet a state ---------------------------------------------------------- */

/* to[d][t] = from[d][t] lane[t] */
static void scale_columns(float *to, const float *from, const float *lane, float sign, int n)
{
    for (int p = 0; p < 16; p += VL) {
        const vf w = vf_mul(vf_load(lane + p), vf_set1(sign));
        for (int d = 0; d < 16 * n; d += 16)
            vf_store(to + d + p, vf_mul(vf_load(from + d + p), w));
    }
}

static void scale_row(float *row, float by, int n)
{
    for (int c = 0; c < n; c += VL) vf_store(row + c, vf_mul(vf_load(row + c), vf_set1(by)));
}

/* k, e and beta are there. `whole`: q as well, and what the way back needs; otherwise what the way
 * forward does, and M and its inverse, which stay. `rows`: [16][K]. */
static void block_prepare(struct block *b, bool channel, int K, float *rows, bool whole)
{
    run_decay(b, channel, K);
    for (int t = 0; t < 16; t++)
        for (int c = 0; c < K; c += VL) {
            const int at = t * K + c;
            const vf k = vf_load(b->k + at), since = decay_at(b->since, channel, t, K, c);
            vf_store(b->written + at, vf_mul(k, decay_at(b->until, channel, t, K, c)));
            vf_store(b->taken + at, vf_sub(vf_zero(), vf_mul(k, since)));
            if (whole) vf_store(b->asked + at, vf_mul(vf_load(b->q + at), since));
        }
    if (channel) {
        grams_channel(b, rows, K, whole);
        turn_rows(whole ? b->kT_until : b->kT_since, whole ? b->written : b->taken, K);
    } else {
        turn_rows(b->kT_until, b->k, K);
        grams_scalar(b, K, whole);
        if (whole)
            scale_columns(b->kT_until, b->kT_until, b->until, 1.0f, K);
        else
            scale_columns(b->kT_since, b->kT_until, b->since, -1.0f, K);
    }
    for (int t = 0; t < 16; t++) scale_row(b->written + t * K, b->beta[t], K);
    if (!whole) invert(b);
}

/* ---- the way back through the grams ---------------------------------------------------------- */

/* What a block's value columns have summed up. */
struct sums {
    float *asked;   /* [16][K] S0^T do_t; becomes the gradient of q */
    float *taken;   /* [16][K] S0^T dy_t; becomes the gradient of k */
    float *written; /* [16][K] G^T y_t */
    float *met;     /* [K] sum over columns of end S0 G: what passes through the whole block */
    float *dP;      /* [16][16] do_i . y_j */
    float *dM;      /* [16][16] dy_i . y_j */
    float *dbeta;   /* [16] dn_t . y_t */
    float *dg;      /* [16][K] or [16] */
};

/* dP, dM and dbeta from the sums over y, which is n without its beta. */
static void grams_finish(const struct block *b, const struct sums *s)
{
    for (int j = 0; j < 16; j++) {
        float dbeta = 0.0f;
        for (int i = j + 1; i < 16; i++) dbeta += b->M[16 * i + j] * s->dM[16 * i + j];
        s->dbeta[j] -= dbeta;
    }
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) {
            s->dP[16 * i + j] = j <= i ? s->dP[16 * i + j] * b->beta[j] : 0.0f;
            s->dM[16 * i + j] = j < i ? -(s->dM[16 * i + j] * b->beta[j]) : 0.0f;
        }
}

/* A gate decays whatever passes it, from before its token to it or later. So, summed over channels,
 *
 *     dg_l = met + sum_{i >= l} used_i + sum_{j < l} left_j + sum_{i >= l > j} pair_ij
 *
 * used: of S0 by token i; left: of token j at the block's end; pair: of token j by token i. Each
 * term carries its decay: a gate that forgets everything gets a gradient of 0, not a remainder. */
static void gates_scalar(const struct block *b, const struct sums *s, int K)
{
    struct vf16 used[16], left[16], met = {0};
    float use[16], leave[16];
    for (int c = 0; c < K; c += 16)
        for (int p = 0; p < VF16; p++)
            met.part[p] = vf_add(vf_load(s->met + c + VL * p), met.part[p]);
    for (int t = 0; t < 16; t++) {
        struct vf16 u = {0}, l = {0};
        for (int c = t * K; c < (t + 1) * K; c += 16)
            for (int p = 0; p < VF16; p++) {
                const int at = c + VL * p;
                u.part[p] = vf_fma(vf_load(b->asked + at), vf_load(s->asked + at), u.part[p]);
                u.part[p] = vf_fma(vf_load(b->taken + at), vf_load(s->taken + at), u.part[p]);
                l.part[p] = vf_fma(vf_load(b->written + at), vf_load(s->written + at), l.part[p]);
            }
        used[t] = u;
        left[t] = l;
    }
    sums16(use, used);
    sums16(leave, left);
    const float through = sum16(&met);
    float before = 0.0f;
    for (int l = 0; l < 16; l++) {
        float after = 0.0f;
        for (int i = 15; i >= l; i--) after += use[i];
        s->dg[l] = through + before + after;
        before += leave[l];
    }
    for (int i = 1; i < 16; i++) {
        float pairs = 0.0f;
        for (int l = 1; l <= i; l++) {
            const int at = 16 * i + l - 1;
            pairs += s->dM[at] * b->M[at] + s->dP[at] * b->P[at];
            s->dg[l] += pairs;
        }
    }
}

/* Gradients of q and k into s->asked and s->taken. */
static void rows_scalar(const struct block *b, const struct sums *s, int K)
{
    float keys[256], asked[256], turned[256];
    for (int i = 0; i < 256; i++) keys[i] = s->dM[i] * b->E[i];
    for (int i = 0; i < 256; i++) asked[i] = s->dP[i] * b->E[i];
    turn(turned, 16, keys, 16);
    for (int i = 0; i < 256; i++) keys[i] += turned[i];
    turn(turned, 16, asked, 16);
    for (int t = 0; t < 16; t++) {
        const vf since = vf_set1(b->since[t]), left = vf_set1(b->beta[t] * b->until[t]);
        for (int c = t * K; c < (t + 1) * K; c += VL) {
            const vf taken = vf_mul(vf_load(s->taken + c), since);
            vf_store(s->asked + c, vf_mul(vf_load(s->asked + c), since));
            vf_store(s->taken + c, vf_sub(vf_mul(vf_load(s->written + c), left), taken));
        }
    }
    gather(s->asked, K, turned, b->k, K, 16, K);
    gather(s->taken, K, keys, b->k, K, 16, K);
    gather(s->taken, K, asked, b->q, K, 16, K);
}

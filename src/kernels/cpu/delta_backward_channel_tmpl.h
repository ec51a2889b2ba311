/* delta_backward_channel_tmpl.h: pairs of tokens of a block when each key channel has a gate of its
 * own. Body of a template, after delta_backward_block_tmpl.h.
 *
 * Then k_i . k_j has a decay inside the sum, and e^(c_i - c_j) is no product of two numbers that
 * both exist. So the block is cut into fours: a key of an earlier four is decayed once, to the start
 * of a later one, and the tokens of that four are decayed from there. Between fours pairs are
 * products of rows; only those inside a four are taken one by one. */

enum { FOUR = 4 };

/* Keys of earlier fours go on to the start of four `I`: keys[j], j < 4 I. */
static void move_keys(float *keys, const struct block *b, int I, int K)
{
    const int first = FOUR * (I - 1);
    for (int c = 0; c < K; c += VL) {
        vf until = vf_set1(1.0f);
        for (int j = first + FOUR - 1; j >= first; j--) {
            vf_store(keys + j * K + c, vf_mul(vf_load(b->k + j * K + c), until));
            until = vf_mul(until, vf_load(b->e + j * K + c));
        }
        for (int j = 0; j < first; j++)
            vf_store(keys + j * K + c, vf_mul(vf_load(keys + j * K + c), until));
    }
}

/* rows[i] = a[i] decayed from the start of its four. */
static void decay_rows(float *rows, const float *a, const struct block *b, int K)
{
    for (int t = 0; t < 16; t += FOUR)
        for (int c = t * K; c < (t + 1) * K; c += VL) {
            vf since = vf_set1(1.0f);
            for (int r = 0; r < FOUR; r++) {
                since = vf_mul(since, vf_load(b->e + c + r * K));
                vf_store(rows + c + r * K, vf_mul(vf_load(a + c + r * K), since));
            }
        }
}

/* out[r][s] = a_r . k_s decayed, s <= r, tokens of one four; 0 above. */
static void dots_inside(float *out, const float *a, const struct block *b, int first, int K)
{
    struct vf16 x[16] = {0};
    for (int c = 0; c < K; c += 16)
        VF_UNROLL
        for (int p = 0; p < VF16; p++) {
            vf key[FOUR];
            VF_UNROLL
            for (int r = 0; r < FOUR; r++) {
                const int at = (first + r) * K + c + VL * p;
                const vf e = vf_load(b->e + at), row = vf_load(a + at);
                key[r] = vf_load(b->k + at);
                VF_UNROLL
                for (int s = 0; s < r; s++) {
                    key[s] = vf_mul(key[s], e);
                    x[4 * r + s].part[p] = vf_fma(row, key[s], x[4 * r + s].part[p]);
                }
                x[5 * r].part[p] = vf_fma(row, key[r], x[5 * r].part[p]);
            }
        }
    sums16(out, x);
}

static void put_tile(float *square, int i, int j, const float *tile)
{
    for (int r = 0; r < FOUR; r++)
        memcpy(square + 16 * (i + r) + j, tile + FOUR * r, FOUR * sizeof(float));
}

/* The array of columns is free for rows until it is made. */
static void grams_channel(struct block *b, float *keys, int K, bool whole)
{
    float *const square = whole ? b->P : b->M, *const from = b->kT_since;
    const float *const rows = whole ? b->q : b->k;
    float tile[16];
    memset(square, 0, 256 * sizeof(float));
    decay_rows(from, rows, b, K);
    for (int i = 0; i < 16; i += FOUR) {
        if (i > 0) move_keys(keys, b, i / FOUR, K);
        for (int j = 0; j < i; j += FOUR) {
            dots(tile, from + i * K, keys + j * K, K);
            put_tile(square, i, j, tile);
        }
        dots_inside(tile, rows, b, i, K);
        put_tile(square, i, i, tile);
    }
    for (int i = 0; i < 16 && !whole; i++) square[17 * i] = 0.0f;
}

/* ---- the way back: every pair one by one ----------------------------------------------------- */

/* VL channels of a block: key j decayed at token i, and what tokens from i on ask of key j. */
struct lanes {
    vf key[16][16], ask[16];
    vf dq[16], dk[16], dg[16];
};

static void pairs_forward(struct lanes *x, const struct block *b, const struct sums *s, int K,
                          int c)
{
    for (int i = 0; i < 16; i++) {
        const vf e = vf_load(b->e + i * K + c), own = vf_load(b->k + i * K + c);
        vf dq = vf_mul(vf_set1(s->dP[17 * i]), own), dk = vf_zero();
        for (int j = 0; j < i; j++) {
            const vf key = vf_mul(x->key[i - 1][j], e);
            dq = vf_fma(vf_set1(s->dP[16 * i + j]), key, dq);
            dk = vf_fma(vf_set1(s->dM[16 * i + j]), key, dk);
            x->key[i][j] = key;
        }
        x->key[i][i] = own;
        x->dq[i] = dq;
        x->dk[i] = dk;
    }
}

static void pairs_backward(struct lanes *x, const struct block *b, const struct sums *s, int K,
                           int c)
{
    for (int j = 0; j < 16; j++) x->ask[j] = vf_zero();
    for (int i = 15; i >= 0; i--) {
        const vf e = vf_load(b->e + i * K + c), q = vf_load(b->q + i * K + c);
        const vf k = x->key[i][i];
        vf dg = vf_zero();
        for (int j = 0; j < i; j++) {
            vf ask = vf_fma(vf_set1(s->dM[16 * i + j]), k, x->ask[j]);
            ask = vf_fma(vf_set1(s->dP[16 * i + j]), q, ask);
            dg = vf_fma(x->key[i][j], ask, dg);
            x->ask[j] = vf_mul(ask, e);
        }
        x->dg[i] = dg;
        x->dk[i] = vf_add(x->dk[i], vf_fma(vf_set1(s->dP[17 * i]), q, x->ask[i]));
    }
}

/* Gradients of q, k and g into s->asked, s->taken and s->dg; see gates_scalar. */
static void finish_channel(const struct block *b, const struct sums *s, int K)
{
    struct lanes x;
    for (int c = 0; c < K; c += VL) {
        pairs_forward(&x, b, s, K, c);
        pairs_backward(&x, b, s, K, c);
        const vf met = vf_load(s->met + c);
        vf after = vf_zero(), before = vf_zero();
        for (int t = 15; t >= 0; t--) {
            const int at = t * K + c;
            const vf asked = vf_load(s->asked + at), taken = vf_load(s->taken + at);
            after = vf_fma(vf_load(b->asked + at), asked, after);
            after = vf_fma(vf_load(b->taken + at), taken, after);
            x.dg[t] = vf_add(x.dg[t], vf_add(after, met));
        }
        for (int t = 0; t < 16; t++) {
            const int at = t * K + c;
            const vf since = vf_load(b->since + at), written = vf_load(s->written + at);
            const vf left = vf_mul(vf_set1(b->beta[t]), vf_load(b->until + at));
            const vf dk = vf_sub(vf_mul(written, left), vf_mul(vf_load(s->taken + at), since));
            vf_store(s->dg + at, vf_add(x.dg[t], before));
            vf_store(s->asked + at, vf_fma(vf_load(s->asked + at), since, x.dq[t]));
            vf_store(s->taken + at, vf_add(dk, x.dk[t]));
            before = vf_fma(vf_load(b->written + at), written, before);
        }
    }
}

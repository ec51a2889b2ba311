/* delta_backward_tiles_tmpl.h: the products that the backward of delta is made of. Body of a
 * template: a vec_*.h and turn() stand before it.
 *
 * Two kinds of arrays meet here. "Rows": one row of `ld` floats for each value column (a state) or
 * for each token (keys, queries). "Columns": [..][16], one line of 16 floats for each value column
 * or key channel, a lane a token. Every sum is one chain in ascending order, whatever the tile. */

enum {
    TILE_ACCUMULATORS = VF_REGISTERS / 2,
    TILE_VECTORS = VF_REGISTERS / 8,
    READ_ROWS = TILE_ACCUMULATORS / VF16,
    /* Steps of a sum in a turn of its loop: counting takes the ports of multiply-adds. All lengths
     * are multiples of 16. */
    AHEAD = 4
};

struct read_tile {
    vf sum[READ_ROWS][VF16];
};

/* sum[r][t] += sum_d S[r][d] x[d][t]. Rows are reached from every fourth one, by one step, two and
 * three: sixteen pointers would not stay in registers. */
VF_INLINE void read_chain(struct read_tile *y, const float *S, int64_t ld, const float *x, int n)
{
    const float *base[(READ_ROWS + 3) / 4];
    VF_UNROLL
    for (int i = 0; i < (READ_ROWS + 3) / 4; i++) base[i] = S + 4 * i * ld;
    for (int d = 0; d < n; d += AHEAD, x += 16 * AHEAD) {
        VF_UNROLL
        for (int j = 0; j < AHEAD; j++) {
            vf token[VF16];
            VF_UNROLL
            for (int p = 0; p < VF16; p++) token[p] = vf_load(x + 16 * j + VL * p);
            VF_UNROLL
            for (int r = 0; r < READ_ROWS; r++) {
                const vf s = vf_set1(base[r / 4][r % 4 * ld + j]);
                VF_UNROLL
                for (int p = 0; p < VF16; p++) y->sum[r][p] = vf_fma(s, token[p], y->sum[r][p]);
            }
        }
        VF_UNROLL
        for (int i = 0; i < (READ_ROWS + 3) / 4; i++) base[i] += AHEAD;
    }
}

VF_INLINE void read_clear(struct read_tile *y)
{
    VF_UNROLL
    for (int r = 0; r < READ_ROWS; r++)
        VF_UNROLL
        for (int p = 0; p < VF16; p++) y->sum[r][p] = vf_zero();
}

VF_INLINE void read_store(const struct read_tile *y, float *to)
{
    VF_UNROLL
    for (int r = 0; r < READ_ROWS; r++)
        VF_UNROLL
        for (int p = 0; p < VF16; p++) vf_store(to + 16 * r + VL * p, y->sum[r][p]);
}

/* y[r][t] = sum_d S[r][d] x[d][t] */
static void read_rows(float *y, const float *S, int64_t ld, const float *x, int n, int rows)
{
    for (int r = 0; r < rows; r += READ_ROWS) {
        struct read_tile tile;
        read_clear(&tile);
        read_chain(&tile, S + r * ld, ld, x, n);
        read_store(&tile, y + 16 * r);
    }
}

/* y[r][t] = v[r][t] + sum_d S[r][d] x[d][t] */
static void read_on(float *y, const float *v, const float *S, int64_t ld, const float *x, int n,
                    int rows)
{
    for (int r = 0; r < rows; r += READ_ROWS) {
        struct read_tile tile;
        VF_UNROLL
        for (int i = 0; i < READ_ROWS; i++)
            VF_UNROLL
            for (int p = 0; p < VF16; p++)
                tile.sum[i][p] = vf_load(v + 16 * (r + i) + VL * p);
        read_chain(&tile, S + r * ld, ld, x, n);
        read_store(&tile, y + 16 * r);
    }
}

/* y[r][t] = sum_d S[r][d] x[d][t] + sum_i a[r][i] b[i][t] */
static void read_both(float *y, const float *S, int64_t ld, const float *x, int n, const float *a,
                      const float *b, int rows)
{
    for (int r = 0; r < rows; r += READ_ROWS) {
        struct read_tile tile;
        read_clear(&tile);
        read_chain(&tile, S + r * ld, ld, x, n);
        read_chain(&tile, a + 16 * r, 16, b, 16);
        read_store(&tile, y + 16 * r);
    }
}

/* ---- z[t][d] += sum_r a[r][t] S[r][d] -------------------------------------------------------- */

/* One row of S. */
VF_INLINE void gather_step(vf *sum, const float *a, const float *S, const int tokens,
                           const int vectors)
{
    vf s[TILE_VECTORS];
    VF_UNROLL
    for (int c = 0; c < vectors; c++) s[c] = vf_load(S + VL * c);
    VF_UNROLL
    for (int i = 0; i < tokens; i++) {
        const vf w = vf_set1(a[i]);
        VF_UNROLL
        for (int c = 0; c < vectors; c++)
            sum[i * vectors + c] = vf_fma(w, s[c], sum[i * vectors + c]);
    }
}

/* `vectors` of columns; as many tokens side by side as accumulators allow. */
VF_INLINE void gather_columns(float *z, int64_t ldz, const float *a, const float *S, int64_t ld,
                              int rows, const int vectors)
{
    const int tokens = TILE_ACCUMULATORS / vectors;
    for (int t = 0; t < 16; t += tokens) {
        vf sum[TILE_ACCUMULATORS];
        VF_UNROLL
        for (int i = 0; i < tokens; i++)
            VF_UNROLL
            for (int c = 0; c < vectors; c++)
                sum[i * vectors + c] = vf_load(z + (t + i) * ldz + VL * c);
        for (int r = 0; r < rows; r += AHEAD) {
            VF_UNROLL
            for (int j = r; j < r + AHEAD; j++)
                gather_step(sum, a + 16 * j + t, S + j * ld, tokens, vectors);
        }
        VF_UNROLL
        for (int i = 0; i < tokens; i++)
            VF_UNROLL
            for (int c = 0; c < vectors; c++)
                vf_store(z + (t + i) * ldz + VL * c, sum[i * vectors + c]);
    }
}

/* Over n columns of S, a multiple of 16. */
static void gather(float *z, int64_t ldz, const float *a, const float *S, int64_t ld, int rows,
                   int n)
{
    int c = 0;
    for (; c + TILE_VECTORS * VL <= n; c += TILE_VECTORS * VL)
        gather_columns(z + c, ldz, a, S + c, ld, rows, TILE_VECTORS);
    for (; c + 2 * VL <= n; c += 2 * VL) gather_columns(z + c, ldz, a, S + c, ld, rows, 2);
    for (; c < n; c += VL) gather_columns(z + c, ldz, a, S + c, ld, rows, 1);
}

/* ---- to[r][d] = S[r][d] end[d] + sum_t a[r][t] x[t][d] (+ the same of b and y) --------------- */

struct update {
    float *to;         /* may be S */
    const float *S;    /* [rows][ld] */
    const float *end;  /* [ld] */
    const float *a, *x; /* [rows][16], [16][ld] */
    const float *b, *y; /* a second pair, or NULL */
    const float *met;  /* with a second pair: [rows][ld], and                                  */
    float *meeting;    /* [ld] meeting[d] += sum_r S[r][d] end[d] met[r][d], r ascending */
    int64_t ld;
    int rows;
};

VF_INLINE void update_chain(vf *sum, const float *a, const float *x, int64_t ld, const int rows,
                            const int vectors)
{
    for (int from = 0; from < 16; from += AHEAD) {
        VF_UNROLL
        for (int t = from; t < from + AHEAD; t++) {
            vf s[TILE_VECTORS];
            VF_UNROLL
            for (int c = 0; c < vectors; c++) s[c] = vf_load(x + t * ld + VL * c);
            VF_UNROLL
            for (int i = 0; i < rows; i++) {
                const vf w = vf_set1(a[16 * i + t]);
                VF_UNROLL
                for (int c = 0; c < vectors; c++)
                    sum[i * vectors + c] = vf_fma(w, s[c], sum[i * vectors + c]);
            }
        }
    }
}

VF_INLINE void update_columns(const struct update *u, int at, const int vectors, const bool pair)
{
    const int rows = TILE_ACCUMULATORS / vectors;
    vf end[TILE_VECTORS], meeting[TILE_VECTORS];
    VF_UNROLL
    for (int c = 0; c < vectors; c++) {
        end[c] = vf_load(u->end + at + VL * c);
        if (pair) meeting[c] = vf_load(u->meeting + at + VL * c);
    }
    for (int r = 0; r < u->rows; r += rows) {
        vf sum[TILE_ACCUMULATORS];
        VF_UNROLL
        for (int i = 0; i < rows; i++)
            VF_UNROLL
            for (int c = 0; c < vectors; c++) {
                const int64_t e = (r + i) * u->ld + at + VL * c;
                const vf s = vf_mul(vf_load(u->S + e), end[c]);
                if (pair) meeting[c] = vf_fma(s, vf_load(u->met + e), meeting[c]);
                sum[i * vectors + c] = s;
            }
        update_chain(sum, u->a + 16 * r, u->x + at, u->ld, rows, vectors);
        if (pair) update_chain(sum, u->b + 16 * r, u->y + at, u->ld, rows, vectors);
        VF_UNROLL
        for (int i = 0; i < rows; i++)
            VF_UNROLL
            for (int c = 0; c < vectors; c++)
                vf_store(u->to + (r + i) * u->ld + at + VL * c, sum[i * vectors + c]);
    }
    VF_UNROLL
    for (int c = 0; pair && c < vectors; c++) vf_store(u->meeting + at + VL * c, meeting[c]);
}

VF_INLINE void update_all(const struct update *u, const bool pair)
{
    const int n = (int)u->ld;
    int c = 0;
    for (; c + TILE_VECTORS * VL <= n; c += TILE_VECTORS * VL)
        update_columns(u, c, TILE_VECTORS, pair);
    for (; c + 2 * VL <= n; c += 2 * VL) update_columns(u, c, 2, pair);
    for (; c < n; c += VL) update_columns(u, c, 1, pair);
}

static void update_state(const struct update *u) { update_all(u, false); }
static void update_gradient(const struct update *u) { update_all(u, true); }

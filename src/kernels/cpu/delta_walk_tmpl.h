/* delta_walk_tmpl.h: heads through their call, after delta_strips_tmpl.h. In turns: coefficients of
 * several blocks of a head first, then strip after strip through all of them. */

/* Columns of a group of strips: where it begins and how many the head has of it. */
struct columns {
    int from, count, wide;
};

static float *log_u(const struct delta_head *h, int entry, int column)
{
    const struct delta_slots *d = h->a->slots;
    const int64_t slot = h->a->rows->slot[h->b];
    return (float *)d->u + delta_log_at(d, slot, entry, d->Hv, h->hv, h->Dv) + column;
}

/* Bytes from entry to entry. */
static inline int64_t log_u_step(const struct delta_head *h)
{
    return (int64_t)sizeof(float) * h->a->slots->Hv * h->a->slots->Dv;
}

/* Bytes from row to row of a tensor. */
static inline int64_t step_of(const struct tensor *t)
{
    return t->stride[0] * (int64_t)dtype_size(t->dtype);
}

/* The rows of u of a group of strips, [16] of them, `step` floats apart. */
struct us {
    float *at;
    int64_t step;
};

/* u of a few tokens, or of none before a fold, stays in the log. */
static struct us us_of(const struct delta_head *h, const struct delta_block *b, struct columns c)
{
    const bool stays = h->a->slots && c.count == c.wide &&
                       (b->rows == 0 || (b->rows <= SIDE_TOKENS && b->keep == b->from));
    if (!stays) return (struct us){h->u, c.wide};
    return (struct us){log_u(h, b->from, c.from), log_u_step(h) / (int64_t)sizeof(float)};
}

/* u of entries in the log, and v where the new u will be. */
static void load_columns(const struct delta_head *h, const struct delta_block *b, struct columns c,
                         struct us u)
{
    const struct tensor *v = h->a->v;
    if (b->have > 0 && u.at == h->u)
        rows_load(h->u, c.wide, log_u(h, b->from, c.from), log_u_step(h), DTYPE_F32, b->have, c.count,
                  c.wide);
    rows_load(u.at + b->have * u.step, (int)u.step,
              tensor_at(v, b->row * v->stride[0] + h->hv * v->stride[1] + c.from), step_of(v), v->dtype,
              b->rows, c.count, c.wide);
}

static void store_columns(const struct delta_head *h, const struct delta_block *b, struct columns c,
                          struct us u)
{
    const struct tensor *o = h->a->o;
    rows_store(tensor_at(o, b->row * o->stride[0] + h->hv * o->stride[1] + c.from), step_of(o), o->dtype,
               h->r + c.wide, 2 * c.wide, b->rows, c.count);
    if (b->keep < 0 || u.at != h->u) return;
    const int stay = b->keep == b->from ? b->have : 0;
    rows_store(log_u(h, b->keep + stay, c.from), log_u_step(h), DTYPE_F32, h->u + stay * c.wide, c.wide,
               b->have + b->rows - stay, c.count);
}

/* ---- what the next turn will read ------------------------------------------------------------------- */

/* Lines into the cache behind the nearest, which the strips need. */
VF_INLINE void fetch(const void *data, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)data + i, 0, 2);
}

/* What the same block of the next head finds in its log: rows as far apart. */
VF_INLINE void fetch_log(const struct delta_head *h, const struct delta_block *b)
{
    const struct delta_slots *d = h->a->slots;
    const int have = h->next.ahead == 0 ? b->have : 0;
    for (int i = b->from; i < b->from + have; i++) {
        const int64_t slot = h->a->rows->slot[h->b], size = (int64_t)dtype_size(d->k_type);
        const float *u = d->u, *G = d->G;
        fetch((char *)d->k + delta_log_at(d, slot, i, d->Hk, h->next.hk, d->Dk) * size,
              d->Dk * size);
        fetch(u + delta_log_at(d, slot, i, d->Hv, h->next.hv, d->Dv),
              d->Dv * (int64_t)sizeof *u);
        if (h->channel)
            fetch(G + delta_log_at(d, slot, i, d->Hv, h->next.hv, d->Dk),
                  d->Dk * (int64_t)sizeof *G);
    }
}

static void ahead_set(struct ahead *ahead, int i, const struct tensor *t, int64_t row, int64_t head,
                      int channels)
{
    ahead->row[i] = tensor_at(t, row * t->stride[0] + head * t->stride[1]);
    ahead->step[i] = t->dim[2] * (int64_t)dtype_size(t->dtype) / channels;
}

/* Rows lie further apart than a page, where no prefetcher follows, and are whole only here: a strip
 * takes two lines of each. So a strip of a block fetches its share of the same block of the next turn;
 * of a few tokens strips side by side fetch all rows.
 * Returns how many rows are left to its first `tiles` tiles, a row each; the rest are fetched here. */
static int rows_ahead(const struct delta_head *h, const struct delta_block *b, int strip, int count,
                      int tiles, struct ahead *ahead)
{
    const struct delta_args *a = h->a;
    const int64_t row = b->row + h->next.ahead, end = a->rows->start[h->b + 1];
    const int quarter = h->Dk / QUARTERS > 0 ? h->Dk / QUARTERS : 1;
    int n = 0;
    for (int64_t i = strip; i < b->rows && row + i < end; i += count > 1 ? 1 : h->strips, n++) {
        ahead_set(ahead + n, 0, a->k, row + i, h->next.hk, quarter);
        ahead_set(ahead + n, 1, a->q, row + i, h->next.hk, quarter);
        ahead_set(ahead + n, 2, a->v, row + i, h->next.hv, quarter);
        ahead_set(ahead + n, 3, a->o, row + i, h->next.hv, quarter);
        if (h->channel) ahead_set(ahead + n, QUARTERS, a->g, row + i, h->next.hv, h->Dk);
    }
    for (int i = tiles; i < n; i++) {
        for (int t = 0; t < QUARTERS; t++) fetch(ahead[i].row[t], ahead[i].step[t] * quarter);
        if (h->channel) fetch(ahead[i].row[QUARTERS], ahead[i].step[QUARTERS] * h->Dk);
    }
    return n < tiles ? n : tiles;
}

/* ---- where the strips of a group lie --------------------------------------------------------------- */

struct place {
    float *now; /* f32: the anchor itself, the dense state, or a copy */
    char *packed; /* bf16 anchor; NULL: none */
    bool dirty;   /* the copy is ahead of the bf16 anchor */
    int64_t floats;
};

static struct place place_of(const struct delta_head *h, int first, int count)
{
    const int64_t at = first * h->strip;
    struct place p = {.floats = count * h->strip};
    if (!h->a->slots)
        p.now = h->state + at;
    else if (h->a->slots->anchor_type == DTYPE_F32)
        p.now = (float *)h->anchor + at;
    else
        p.packed = h->anchor + at * (int64_t)dtype_size(DTYPE_BF16);
    return p;
}

static void place_pack(struct place *p)
{
    if (p->dirty) row_store(p->packed, DTYPE_BF16, p->now, (int)p->floats);
    p->dirty = false;
}

static void fold_group(const struct delta_head *h, int j, struct place *p, struct us u)
{
    const struct delta_block *b = &h->block[j];
    float *to = p->now;
    if (b->aside) {
        place_pack(p);
        to = h->aside;
    }
    for (int s = 0; s * h->strip < p->floats; s++)
        fold_strip(h, &h->coefs[j], b->have + b->rows, u.at + s * STRIP, u.step,
                   p->now + s * h->strip, to + s * h->strip);
    p->now = to;
    p->dirty = p->packed && !b->aside;
}

/* Strips first..first+count-1 through `blocks` blocks. */
static void run_group(const struct delta_head *h, int blocks, int first, int count)
{
    struct place p = place_of(h, first, count);
    const int wide = count * STRIP, left = h->Dv - first * STRIP;
    const struct columns columns = {first * STRIP, left < wide ? left : wide, wide};
    /* One token and no edge: a bf16 anchor is read where it lies. */
    const bool half = p.packed && blocks == 1 && h->block[0].rows == 1 && !h->block[0].fold;
    if (p.packed && !half) {
        p.now = h->aside;
        row_load(p.now, p.packed, DTYPE_BF16, (int)p.floats, 1);
    }
    for (int j = 0; j < blocks; j++) {
        const struct delta_block *b = &h->block[j];
        const struct delta_coefs *c = &h->coefs[j];
        const struct strips S = {half ? (const void *)p.packed : p.now, h->strip, count};
        const float *kq = c->kq + (int64_t)b->have * 2 * h->row;
        const struct us u = us_of(h, b, columns);
        load_columns(h, b, columns, u);
        struct ahead ahead[BLOCK];
        const int tiles = b->rows == 1 ? 0 : 2 * b->rows / DOT_ROWS;
        const int fetched = rows_ahead(h, b, first, count, tiles, ahead);
        if (first == 0) fetch_log(h, b);
        if (b->rows > 0 && b->rows <= SIDE_TOKENS) {
            dots_side(&S, half, b->rows, kq, h->row, h->Dk, h->r);
            solve_side(c, b, u.at, u.step, h->r, wide);
        } else {
            dots_strip(&S, kq, h->row, 2 * b->rows, h->Dk, h->r, ahead, fetched, h->channel);
            solve_strip(c, b, h->u, h->r);
        }
        store_columns(h, b, columns, u);
        if (b->fold) fold_group(h, j, &p, u);
    }
    place_pack(&p);
}

/* Every strip through blocks 0..blocks-1, of which the longest has `most` rows. */
static void run_blocks(const struct delta_head *h, int blocks, int most)
{
    for (int s = 0; blocks > 0 && s < h->strips;) {
        const int left = h->strips - s, side = most > SIDE_TOKENS ? 1 : left < SIDE ? left : SIDE;
        run_group(h, blocks, s, side);
        s += side;
    }
}

/* Blocks 0..blocks-1, head after head. */
static void run_turns(struct delta_head *h, int blocks, int most)
{
    for (int n = 0; blocks > 0 && n < h->count; n++) {
        delta_take_turn(h, n);
        for (int j = 0; j < blocks; j++) block_coefs(h, j);
        run_blocks(h, blocks, most);
    }
}

static void run_heads(struct delta_head *h)
{
    const struct delta_args *a = h->a;
    struct delta_plan plan = delta_plan_of(a, h->b, h->chunk_bytes > 0);
    for (int n = 0; n < h->count && !a->slots; n++) {
        delta_take_turn(h, n);
        delta_dense_load(h, a->S0);
    }
    for (bool more = true; more;) {
        int blocks = 0, most = 0;
        bool chunks = false;
        while (blocks < DELTA_BLOCKS && (more = delta_plan_next(&plan, &h->block[blocks]))) {
            chunks = h->block[blocks].chunks;
            if (chunks) break;
            if (h->block[blocks].rows > most) most = h->block[blocks].rows;
            blocks++;
        }
        run_turns(h, blocks, most);
        if (chunks) delta_run_chunks(h, &h->block[blocks]);
    }
    for (int n = 0; n < h->count && !a->slots; n++) {
        delta_take_turn(h, n);
        delta_dense_store(h, a->S1);
    }
}

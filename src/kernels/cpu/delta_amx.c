/* delta_amx.c: the gated delta rule in chunks of 64 rows, on AMX tiles. docs/kernels/delta_amx.md. */
#include "kernels/cpu/delta_amx.h"

#include "kernels/cpu/delta_amx_channel.h"
#include "kernels/cpu/delta_amx_gate.h"
#include "kernels/cpu/delta_amx_strip.h"

/* ---- work memory ------------------------------------------------------------------------------ */

/* Hands out pieces; without base it only counts. */
struct shelf {
    char *base;
    size_t used;
};

static void *shelf_take(struct shelf *s, size_t bytes)
{
    void *at = s->base ? s->base + s->used : NULL;
    s->used += (bytes + 63) / 64 * 64;
    return at;
}

static void lay_chunk(struct chunk *c, struct shelf *s, size_t steps)
{
    c->k_in = shelf_take(s, 4 * steps * TILE_SIZE);
    c->q_in = shelf_take(s, 4 * steps * TILE_SIZE);
    c->k_out = shelf_take(s, 4 * steps * TILE_SIZE);
    c->a = shelf_take(s, 4 * TILE_SIZE);
    c->l = shelf_take(s, 2 * TILE_SIZE);
    c->p = shelf_take(s, 8 * TILE_SIZE);
    c->decay = shelf_take(s, 32 * steps * sizeof(float));
}

static void lay_channels(struct channels *h, struct shelf *s, size_t steps)
{
    const size_t row = 32 * steps * sizeof(float);
    h->rate = shelf_take(s, 16 * row);
    float **const rows[] = {&h->block, &h->since, &h->back, &h->product};
    for (size_t i = 0; i < 4; i++) *rows[i] = shelf_take(s, row);
    for (int i = 0; i < ROW_BLOCKS; i++) h->far[i] = shelf_take(s, row);
    h->k = shelf_take(s, steps * TILE_SIZE);
    h->q = shelf_take(s, steps * TILE_SIZE);
    h->turn = shelf_take(s, TILE_SIZE);
    h->columns = shelf_take(s, 4 * steps * TILE_SIZE);
}

static size_t lay(struct amx *m, void *base)
{
    struct shelf s = {.base = base};
    const size_t steps = (size_t)m->steps, values = BATCH_ROWS * (size_t)m->Dv * dtype_size(m->dtype);
    for (int i = 0; i < 3; i++) m->tile[i] = shelf_take(&s, 4 * TILE_SIZE);
    m->w = shelf_take(&s, 2 * TILE_SIZE);
    m->x = shelf_take(&s, 4 * TILE_SIZE);
    for (int i = 0; i < BATCH; i++) lay_chunk(&m->chunk[i], &s, steps);
    m->S = shelf_take(&s, (size_t)m->Dk * (size_t)m->Dv * sizeof *m->S);
    m->state = shelf_take(&s, (size_t)m->Dk * (size_t)m->Dv * sizeof *m->state);
    m->kT = shelf_take(&s, 4 * steps * TILE_SIZE);
    m->gram = shelf_take(&s, 8 * TILE_SIZE);
    m->solve = shelf_take(&s, 8 * TILE_SIZE);
    m->inverse = shelf_take(&s, 4 * TILE_SIZE);
    float **const rows[] = {&m->alpha, &m->beta, &m->since, &m->until};
    for (size_t i = 0; i < 4; i++) *rows[i] = shelf_take(&s, AMX_CHUNK * sizeof(float));
    m->q = shelf_take(&s, steps * TILE_SIZE);
    m->k = shelf_take(&s, steps * TILE_SIZE);
    char **const stages[] = {&m->v, &m->o, &m->left};
    for (size_t i = 0; i < 3; i++) *stages[i] = shelf_take(&s, values);
    if (m->head->channel) lay_channels(&m->channels, &s, steps);
    return s.used;
}

static struct amx amx_of(const struct amx_head *h)
{
    const bool half = h->v.dtype == DTYPE_BF16 && h->o.dtype == DTYPE_BF16;
    return (struct amx){.head = h, .Dk = h->Dk, .Dv = h->Dv, .steps = h->Dk / 32,
                        .strips = h->Dv / STRIP_WIDE,
                        .dtype = half ? DTYPE_BF16 : DTYPE_F32};
}

size_t amx_work_bytes(const struct amx_head *head)
{
    struct amx m = amx_of(head);
    return lay(&m, NULL);
}

/* ---- batches --------------------------------------------------------------------------------- */

static struct amx_rows rows_from(const struct amx_rows *r, int64_t row)
{
    struct amx_rows at = *r;
    at.data = row_at(r, row);
    return at;
}

/* One number a row, `none` from `count` rows on. */
static void enter_column(float *to, const struct amx_rows *from, int count, float none)
{
    for (int i = 0; i < AMX_CHUNK; i++) {
        to[i] = none;
        if (i < count) memcpy(to + i, row_at(from, i), sizeof *to);
    }
    for (int i = 0; i < AMX_CHUNK; i += 16) _mm512_store_ps(to + i, clean(_mm512_load_ps(to + i)));
}

/* Block b of a chunk: `count` rows from `row` on are left. b is a constant: what is kept of the blocks
 * before it stays in registers. */
TILE_INLINE void enter_block(struct amx *m, const struct chunk *c, int64_t row, int count, int b,
                             __m512 *keep)
{
    const struct amx_head *h = m->head;
    const struct amx_rows q = rows_from(&h->q, row), k = rows_from(&h->k, row);
    const struct amx_rows g = rows_from(&h->g, row);
    enter_keys(m->q, &q, count, m->steps);
    enter_keys(m->k, &k, count, m->steps);
    if (keep)
        gate_block(m, c, b, keep);
    else
        channel_block(m, c, &g, count, b);
}

TILE_INLINE void enter_blocks(struct amx *m, const struct chunk *c, int64_t row, int count,
                              __m512 *keep)
{
    enter_block(m, c, row, count, 0, keep);
    enter_block(m, c, row + 16, count - 16, 1, keep);
    enter_block(m, c, row + 32, count - 32, 2, keep);
    enter_block(m, c, row + 48, count - 48, 3, keep);
}

/* Coefficients and values of chunk i of the batch: `count` rows from `row` on. */
static void enter_chunk(struct amx *m, int i, int64_t row, int count)
{
    const struct amx_head *h = m->head;
    const struct chunk *c = &m->chunk[i];
    const struct amx_rows g = rows_from(&h->g, row), beta = rows_from(&h->beta, row);
    __m512 keep[ROW_BLOCKS];
    enter_values(m, i, row, count);
    enter_column(m->beta, &beta, count, 0.0f);
    if (h->channel) {
        enter_blocks(m, c, row, count, NULL);
        channel_out(m, c);
    } else {
        enter_column(m->alpha, &g, count, 0.0f);
        gate_decays(m, c);
        enter_blocks(m, c, row, count, keep);
    }
    make_inverse(m, c);
}

/* A batch, and the outputs of the one before. */
static void run_batch(struct amx *m)
{
    const int64_t begin = m->row, left = m->head->rows - begin;
    const int rows = left < BATCH_ROWS ? (int)left : BATCH_ROWS;
    const int chunks = (rows + AMX_CHUNK - 1) / AMX_CHUNK;
    for (int i = 0; i < chunks; i++) {
        const int count = rows - i * AMX_CHUNK;
        enter_chunk(m, i, begin + i * AMX_CHUNK, count < AMX_CHUNK ? count : AMX_CHUNK);
    }
    m->row = begin + rows;
    for (int strip = 0; strip < m->strips; strip++) run_strip(m, chunks, strip);
    for (int r = chunks * AMX_CHUNK; r < m->left_rows; r++) leave_row(m, r, m->dtype);
    char *const now = m->o;
    m->o = m->left, m->left = now;
    m->left_row = begin, m->left_rows = rows;
}

void delta_chunks_amx(const struct amx_head *h)
{
    enum { FLUSH = 0x8040 }; /* denormals are zero: tiles do so anyway, and vectors trap on them */
    struct amx m = amx_of(h);
    lay(&m, h->work);
    const unsigned modes = _mm_getcsr();
    _mm_setcsr(modes | FLUSH);
    tile_open();
    enter_state(&m);
    while (m.row < h->rows) run_batch(&m);
    for (int r = 0; r < m.left_rows; r++) leave_row(&m, r, m.dtype);
    leave_state(&m);
    tile_close();
    _mm_setcsr(modes);
}

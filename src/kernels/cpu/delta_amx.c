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
    const size_t states = (size_t)m->count * (size_t)m->Dk * (size_t)m->Dv;
    for (int i = 0; i < 3; i++) m->tile[i] = shelf_take(&s, 4 * TILE_SIZE);
    m->w = shelf_take(&s, 2 * TILE_SIZE);
    m->x = shelf_take(&s, 4 * TILE_SIZE);
    for (int i = 0; i < BATCH; i++) lay_chunk(&m->chunk[i], &s, steps);
    m->all_S = shelf_take(&s, states * sizeof *m->S);
    m->all_state = shelf_take(&s, states * sizeof *m->state);
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
    if (m->heads->channel) lay_channels(&m->channels, &s, steps);
    return s.used;
}

static struct amx amx_of(const struct amx_head *h, int count)
{
    const bool half = h->v.dtype == DTYPE_BF16 && h->o.dtype == DTYPE_BF16;
    return (struct amx){.heads = h, .count = count, .Dk = h->Dk, .Dv = h->Dv, .steps = h->Dk / 32,
                        .strips = h->Dv / STRIP_WIDE,
                        .dtype = half ? DTYPE_BF16 : DTYPE_F32};
}

size_t amx_work_bytes(const struct amx_head *heads, int count)
{
    struct amx m = amx_of(heads, count);
    return lay(&m, NULL);
}

/* ---- turns ----------------------------------------------------------------------------------- */

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
    const struct amx_head *h = m->now.head;
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

/* Coefficients and values of chunk i of the batch. */
static void enter_chunk(struct amx *m, int i)
{
    const struct amx_head *h = m->now.head;
    const int64_t row = m->now.row + i * AMX_CHUNK;
    const int left = m->now.rows - i * AMX_CHUNK, count = left < AMX_CHUNK ? left : AMX_CHUNK;
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

static struct piece piece_of(const struct amx_head *head, int64_t row)
{
    const int64_t left = head->rows - row;
    return (struct piece){head, row, left < BATCH_ROWS ? (int)left : BATCH_ROWS};
}

/* Head n has its turn. */
static void take_turn(struct amx *m, int n)
{
    const size_t state = (size_t)n * (size_t)m->Dk * (size_t)m->Dv;
    m->S = m->all_S + state;
    m->state = m->all_state + state;
}

/* Its batch from `row` on, and the outputs of the turn before. */
static void run_turn(struct amx *m, int n, int64_t row)
{
    const struct amx_head *heads = m->heads;
    take_turn(m, n);
    m->now = piece_of(heads + n, row);
    m->next = n + 1 < m->count ? piece_of(heads + n + 1, row) : piece_of(heads, row + BATCH_ROWS);
    const int chunks = (m->now.rows + AMX_CHUNK - 1) / AMX_CHUNK;
    for (int i = 0; i < chunks; i++) enter_chunk(m, i);
    for (int strip = 0; strip < m->strips; strip++) run_strip(m, chunks, strip);
    for (int r = chunks * AMX_CHUNK; r < m->before.rows; r++) leave_row(m, r, m->dtype);
    char *const now = m->o;
    m->o = m->left, m->left = now;
    m->before = m->now;
}

void delta_chunks_amx(const struct amx_head *heads, int count, void *work)
{
    enum { FLUSH = 0x8040 }; /* denormals are zero: tiles do so anyway, and vectors trap on them */
    struct amx m = amx_of(heads, count);
    lay(&m, work);
    const unsigned modes = _mm_getcsr();
    _mm_setcsr(modes | FLUSH);
    tile_open();
    for (int n = 0; n < count; n++) {
        take_turn(&m, n);
        enter_state(&m, heads + n);
    }
    for (int64_t row = 0; row < heads->rows; row += BATCH_ROWS)
        for (int n = 0; n < count; n++) run_turn(&m, n, row);
    for (int r = 0; r < m.before.rows; r++) leave_row(&m, r, m.dtype);
    for (int n = 0; n < count; n++) {
        take_turn(&m, n);
        leave_state(&m, heads + n);
    }
    tile_close();
    _mm_setcsr(modes);
}

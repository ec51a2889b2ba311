/* delta_amx.c: the gated delta rule in chunks of 64 rows, on AMX tiles. docs/kernels/delta_amx.md. */
#include "kernels/cpu/delta_amx.h"

#include "kernels/cpu/delta_amx_strip.h"
#include "kernels/cpu/delta_amx_gate.h"

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

static size_t lay(struct amx *m, void *base, bool channel)
{
    struct shelf s = {.base = base};
    const size_t steps = (size_t)m->steps, Dk = (size_t)m->Dk, Dv = (size_t)m->Dv;
    for (int i = 0; i < 3; i++) m->tile[i] = shelf_take(&s, 4 * TILE_SIZE);
    m->w = shelf_take(&s, 2 * TILE_SIZE);
    m->x = shelf_take(&s, 4 * TILE_SIZE);
    for (int i = 0; i < BATCH; i++) lay_chunk(&m->chunk[i], &s, steps);
    m->state = shelf_take(&s, Dk * Dv * sizeof *m->state);
    m->kT = shelf_take(&s, 4 * steps * TILE_SIZE);
    m->gram = shelf_take(&s, 8 * TILE_SIZE);
    m->solve = shelf_take(&s, 8 * TILE_SIZE);
    m->inverse = shelf_take(&s, 4 * TILE_SIZE);
    float **const rows[] = {&m->alpha, &m->beta, &m->since, &m->until};
    for (size_t i = 0; i < 4; i++) *rows[i] = shelf_take(&s, AMX_CHUNK * sizeof(float));
    m->q_stage = shelf_take(&s, AMX_CHUNK * Dk * sizeof(uint16_t));
    m->k_stage = shelf_take(&s, AMX_CHUNK * Dk * sizeof(uint16_t));
    m->v_stage = shelf_take(&s, AMX_CHUNK * Dv * sizeof(float));
    m->o_stage = shelf_take(&s, AMX_CHUNK * Dv * sizeof(float));
    m->g_stage = shelf_take(&s, AMX_CHUNK * (channel ? Dk : 1) * sizeof(float));
    return s.used;
}

size_t amx_work_bytes(int Dk, int Dv, bool channel)
{
    struct amx m = {.Dk = Dk, .Dv = Dv, .steps = Dk / 32};
    return lay(&m, NULL, channel);
}

/* ---- a chunk's inputs ------------------------------------------------------------------------ */

static struct amx_rows rows_from(const struct amx_rows *r, int64_t row)
{
    struct amx_rows at = *r;
    at.data = (char *)r->data + row * r->stride * (int64_t)dtype_size(r->dtype);
    return at;
}

/* `count` rows as bf16, zeros after them. */
static const uint16_t *stage_keys(uint16_t *to, const struct amx_rows *from, int count, int Dk)
{
    for (int i = 0; i < AMX_CHUNK; i++)
        for (int d = 0; d < Dk; d += 32) {
            __m512 x = _mm512_setzero_ps(), y = x;
            if (i < count) {
                x = load16(row_at(from, i, d), from->dtype, 0);
                y = load16(row_at(from, i, d), from->dtype, 16);
            }
            store32(to + i * Dk + d, DTYPE_BF16, 0, x, y);
        }
    return to;
}

static struct amx_rows stage_wide(float *to, const struct amx_rows *from, int count, int width)
{
    memset(to, 0, sizeof(float) * AMX_CHUNK * (size_t)width);
    for (int i = 0; i < count; i++)
        for (int d = 0; d < width; d++) {
            const char *at = row_at(from, i, d);
            if (from->dtype == DTYPE_F32) {
                memcpy(to + i * width + d, at, sizeof *to);
            } else {
                uint16_t half;
                memcpy(&half, at, sizeof half);
                to[i * width + d] = bf16_to_f32(half);
            }
        }
    return (struct amx_rows){.data = to, .stride = width, .dtype = DTYPE_F32};
}

/* Points m and c at `count` rows from `row` on: in place, or copied where tiles cannot read them. */
static void enter_chunk(struct amx *m, struct chunk *c, const struct amx_head *h, int64_t row,
                        int count)
{
    const struct amx_rows q = rows_from(&h->q, row), k = rows_from(&h->k, row);
    const struct amx_rows beta = rows_from(&h->beta, row);
    c->v = rows_from(&h->v, row);
    c->o = rows_from(&h->o, row);
    m->g = rows_from(&h->g, row);
    memset(m->beta, 0, AMX_CHUNK * sizeof(float));
    for (int i = 0; i < count; i++) memcpy(m->beta + i, row_at(&beta, i, 0), sizeof(float));
    if (count == AMX_CHUNK && q.dtype == DTYPE_BF16 && k.dtype == DTYPE_BF16 &&
        q.stride == k.stride) {
        m->q = q.data, m->k = k.data;
        m->qk_bytes = (size_t)k.stride * sizeof *m->k;
    } else {
        m->q = stage_keys(m->q_stage, &q, count, m->Dk);
        m->k = stage_keys(m->k_stage, &k, count, m->Dk);
        m->qk_bytes = (size_t)m->Dk * sizeof *m->k;
    }
    if (count == AMX_CHUNK) return;
    c->v = stage_wide(m->v_stage, &c->v, count, m->Dv);
    m->g = stage_wide(m->g_stage, &m->g, count, h->channel ? m->Dk : 1);
    c->o = (struct amx_rows){.data = m->o_stage, .stride = m->Dv, .dtype = DTYPE_F32};
}

static void leave_part(const struct amx *m, const struct amx_head *h, int64_t row, int count)
{
    const struct amx_rows o = rows_from(&h->o, row);
    for (int i = 0; i < count; i++)
        for (int d = 0; d < m->Dv; d += 32) {
            const float *from = m->o_stage + i * m->Dv + d;
            store32((char *)row_at(&o, i, d), o.dtype, 0, _mm512_load_ps(from),
                    _mm512_load_ps(from + 16));
        }
}

/* Chunks from `row` on, as many as a batch holds, a part of a chunk alone; returns the rows done. */
static int64_t run_batch(struct amx *m, const struct amx_head *h, int64_t row)
{
    int64_t left = h->rows - row;
    int chunks = 0, count = left < AMX_CHUNK ? (int)left : AMX_CHUNK;
    for (; chunks < BATCH && left >= count; chunks++, left -= count, row += count) {
        enter_chunk(m, &m->chunk[chunks], h, row, count);
        prepare_gate(m, &m->chunk[chunks]);
    }
    for (int strip = 0; strip < m->Dv / STRIP_WIDE; strip++) run_strip(m, chunks, strip);
    if (count < AMX_CHUNK) leave_part(m, h, row - count, count);
    return (int64_t)chunks * count;
}

void delta_chunks_amx(const struct amx_head *h)
{
    enum { FLUSH = 0x8040 }; /* denormals are zero: tiles do so anyway, and vectors trap on them */
    struct amx m = {.Dk = h->Dk, .Dv = h->Dv, .steps = h->Dk / 32, .S = h->S};
    lay(&m, h->work, h->channel);
    const unsigned modes = _mm_getcsr();
    _mm_setcsr(modes | FLUSH);
    tile_open();
    pack_state(&m);
    for (int64_t row = 0; row < h->rows;) row += run_batch(&m, h, row);
    tile_close();
    _mm_setcsr(modes);
}

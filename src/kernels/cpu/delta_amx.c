/* delta_amx.c: the gated delta rule in chunks of 64 rows, on AMX tiles. docs/kernels/delta_amx.md. */
#include "kernels/cpu/delta_amx.h"

#include "kernels/cpu/delta_amx_strip.h"
#include "kernels/cpu/delta_amx_gate.h"

/* Hands out pieces of work memory; without base it only counts. */
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

static size_t lay_chunk(struct chunk *c, char *base, bool channel)
{
    struct shelf s = {.base = base};
    const size_t steps = (size_t)c->steps, Dk = (size_t)c->Dk, Dv = (size_t)c->Dv;
    uint16_t **const halves[] = {&c->kT, &c->k_in, &c->q_in, &c->k_out};
    for (size_t i = 0; i < 4; i++) *halves[i] = shelf_take(&s, 4 * steps * TILE_SIZE);
    c->a = shelf_take(&s, 4 * TILE_SIZE);
    c->l = shelf_take(&s, 2 * TILE_SIZE);
    c->p = shelf_take(&s, 8 * TILE_SIZE);
    c->w = shelf_take(&s, 4 * TILE_SIZE);
    c->x = shelf_take(&s, 8 * TILE_SIZE);
    c->xs = shelf_take(&s, 8 * TILE_SIZE);
    for (int i = 0; i < 2; i++) c->tile[i] = shelf_take(&s, 4 * TILE_SIZE);
    c->state = shelf_take(&s, Dk * Dv * sizeof *c->state);
    c->gram = shelf_take(&s, 32 * TILE_SIZE);
    c->solve = shelf_take(&s, 8 * TILE_SIZE);
    c->inverse = shelf_take(&s, 4 * TILE_SIZE);
    float **const rows[] = {&c->alpha, &c->beta, &c->since, &c->until};
    for (size_t i = 0; i < 4; i++) *rows[i] = shelf_take(&s, AMX_CHUNK * sizeof(float));
    c->decay = shelf_take(&s, Dk * sizeof(float));
    c->q_stage = shelf_take(&s, AMX_CHUNK * Dk * sizeof(uint16_t));
    c->k_stage = shelf_take(&s, AMX_CHUNK * Dk * sizeof(uint16_t));
    c->v_stage = shelf_take(&s, AMX_CHUNK * Dv * sizeof(float));
    c->o_stage = shelf_take(&s, AMX_CHUNK * Dv * sizeof(float));
    c->g_stage = shelf_take(&s, AMX_CHUNK * (channel ? Dk : 1) * sizeof(float));
    return s.used;
}

size_t amx_work_bytes(int Dk, int Dv, bool channel)
{
    struct chunk c = {.Dk = Dk, .Dv = Dv, .steps = Dk / 32};
    return lay_chunk(&c, NULL, channel);
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
            store32(to + i * Dk, DTYPE_BF16, d, x, y);
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

/* Points c at `count` rows from `row` on: in place, or copied where tiles cannot read them. */
static void enter_chunk(struct chunk *c, const struct amx_head *h, int64_t row, int count)
{
    const struct amx_rows q = rows_from(&h->q, row), k = rows_from(&h->k, row);
    const struct amx_rows beta = rows_from(&h->beta, row);
    c->v = rows_from(&h->v, row);
    c->o = rows_from(&h->o, row);
    c->g = rows_from(&h->g, row);
    memset(c->beta, 0, AMX_CHUNK * sizeof(float));
    for (int i = 0; i < count; i++) memcpy(c->beta + i, row_at(&beta, i, 0), sizeof(float));
    if (count == AMX_CHUNK && q.dtype == DTYPE_BF16 && k.dtype == DTYPE_BF16 &&
        q.stride == k.stride) {
        c->q = q.data, c->k = k.data;
        c->qk_bytes = (size_t)k.stride * sizeof *c->k;
    } else {
        c->q = stage_keys(c->q_stage, &q, count, c->Dk);
        c->k = stage_keys(c->k_stage, &k, count, c->Dk);
        c->qk_bytes = (size_t)c->Dk * sizeof *c->k;
    }
    if (count == AMX_CHUNK) return;
    c->v = stage_wide(c->v_stage, &c->v, count, c->Dv);
    c->g = stage_wide(c->g_stage, &c->g, count, h->channel ? c->Dk : 1);
    c->o = (struct amx_rows){.data = c->o_stage, .stride = c->Dv, .dtype = DTYPE_F32};
}

static void leave_part(const struct chunk *c, const struct amx_head *h, int64_t row, int count)
{
    const struct amx_rows o = rows_from(&h->o, row);
    for (int i = 0; i < count; i++)
        for (int d = 0; d < c->Dv; d += 32) {
            const float *from = c->o_stage + i * c->Dv + d;
            store32((char *)row_at(&o, i, d), o.dtype, 0, _mm512_load_ps(from),
                    _mm512_load_ps(from + 16));
        }
}

void delta_chunks_amx(const struct amx_head *h)
{
    enum { FLUSH = 0x8040 }; /* denormals are zero: tiles do so anyway, and vectors trap on them */
    struct chunk c = {.Dk = h->Dk, .Dv = h->Dv, .steps = h->Dk / 32, .S = h->S};
    lay_chunk(&c, h->work, h->channel);
    const unsigned modes = _mm_getcsr();
    _mm_setcsr(modes | FLUSH);
    tile_open();
    pack_state(&c);
    for (int64_t row = 0; row < h->rows; row += AMX_CHUNK) {
        const int count = h->rows - row < AMX_CHUNK ? (int)(h->rows - row) : AMX_CHUNK;
        enter_chunk(&c, h, row, count);
        prepare_gate(&c);
        int a = 0;
        for (; (a + 2) * STRIP_WIDE <= c.Dv; a += 2) run_pair(&c, a);
        if (a * STRIP_WIDE < c.Dv) run_single(&c, a);
        if (count < AMX_CHUNK) leave_part(&c, h, row, count);
    }
    tile_close();
    _mm_setcsr(modes);
}

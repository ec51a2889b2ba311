/* delta_backward_amx.c: the backward of delta in chunks of 64 rows on AMX tiles: bf16 operands, f32
 * sums, states and gradients. For passes that may be fast and one gate a head; sequences shorter
 * than a chunk, and all else, go to the exact kernel. docs/kernels/delta_amx_backward.md.
 *
 * For each (sequence, value head): forward chunk by chunk, keeping what the way back needs (struct
 * kept), then back from the end. Threads split (sequence, key head); the value heads of a key head
 * add to dq and dk one after another. */
#include "kernels/cpu/delta_backward_amx_grad.h"

/* ---- work memory ----------------------------------------------------------------------------- */

/* Hands out pieces that lie alike modulo 1024; without base it only counts. */
struct shelf {
    char *base;
    size_t used;
};

static void *shelf_take(struct shelf *s, size_t bytes)
{
    void *at = s->base ? s->base + s->used : NULL;
    s->used += (bytes + TILE_SIZE - 1) / TILE_SIZE * TILE_SIZE;
    return at;
}

static void take_tiles(struct shelf *s, uint16_t **const *list, size_t count, size_t tiles)
{
    for (size_t i = 0; i < count; i++) *list[i] = shelf_take(s, tiles * TILE_SIZE);
}

static void take_floats(struct shelf *s, float **const *list, size_t count, size_t floats)
{
    for (size_t i = 0; i < count; i++) *list[i] = shelf_take(s, floats * sizeof(float));
}

#define COUNT(list) (sizeof(list) / sizeof *(list))

static void lay_kept(struct head *m, struct shelf *s, int64_t chunks)
{
    m->kept = shelf_take(s, (size_t)chunks * sizeof *m->kept);
    for (int64_t c = 0; c < chunks; c++) {
        struct kept none, *kept = s->base ? m->kept + c : &none;
        uint16_t **const states[] = {&kept->S}, **const rows[] = {&kept->read, &kept->u};
        uint16_t **const squares[] = {&kept->back};
        take_tiles(s, states, 1, (size_t)(2 * m->ks * m->vs));
        take_tiles(s, rows, 2, (size_t)(BLOCKS * m->vs));
        take_tiles(s, squares, 1, LOWER_TILES);
    }
}

/* For sequences of up to `chunks`; returns the bytes it takes. */
static size_t lay_head(struct head *m, void *base, int64_t chunks)
{
    struct shelf s = {.base = base};
    float **const squares[] = {&m->decay,  &m->L,      &m->P,    &m->inverse,
                               &m->square, &m->turned, &m->pairs};
    float **const gates[] = {&m->beta, &m->alpha, &m->since, &m->until};
    float **const lanes[] = {&m->used, &m->left, &m->wrote, &m->passed};
    float **const states[] = {&m->S, &m->G};
    uint16_t **const packed[] = {&m->solve, &m->P_turned, &m->dP, &m->dP_turned, &m->dL};
    uint16_t **const keys[] = {&m->k,      &m->q,    &m->k_turned, &m->k_down,
                               &m->q_down, &m->k_on, &m->q_on};
    uint16_t **const values[] = {&m->dout, &m->dout_on, &m->dout_in, &m->x_on,    &m->y_on,
                                 &m->du,   &m->u_out,   &m->du_in,   &m->u_turned};
    uint16_t **const operands[] = {&m->S_down, &m->G_down, &m->G_across};
    const size_t ks = (size_t)m->ks, vs = (size_t)m->vs;
    m->tile = shelf_take(&s, 8 * TILE_SIZE);
    m->aside = shelf_take(&s, 2 * TILE_SIZE);
    m->sums = shelf_take(&s, 4 * CHUNK * sizeof(float));
    m->rows =
        shelf_take(&s, CHUNK * sizeof(float) * (size_t)rows_wide(m->ks > m->vs ? m->ks : m->vs));
    take_floats(&s, gates, COUNT(gates), CHUNK);
    take_floats(&s, lanes, COUNT(lanes), 16 * CHUNK);
    take_floats(&s, squares, COUNT(squares), SQUARE);
    take_tiles(&s, packed, COUNT(packed), LOWER_TILES);
    take_tiles(&s, keys, COUNT(keys), BLOCKS * ks);
    take_tiles(&s, values, COUNT(values), BLOCKS * vs);
    take_tiles(&s, operands, COUNT(operands), 2 * ks * vs);
    take_floats(&s, states, COUNT(states), WIDE * WIDE * ks * vs);
    lay_kept(m, &s, chunks);
    return s.used;
}

/* ---- a head ---------------------------------------------------------------------------------- */

static void enter_chunk(struct head *m, int64_t first, int64_t rows, int64_t chunk)
{
    m->row = first + chunk * CHUNK;
    m->count = chunk_of(rows - chunk * CHUNK);
}

static void head_backward(struct head *m)
{
    const struct delta_args *a = m->a;
    const int64_t first = a->rows->start[m->b], rows = a->rows->start[m->b + 1] - first;
    const int64_t chunks = (rows + CHUNK - 1) / CHUNK;
    struct kept *kept = m->kept;
    load_state(m, m->S, a->S0);
    pack_state(m, m->S, m->S_down, kept->S);
    for (int64_t c = 0; c < chunks; c++) {
        enter_chunk(m, first, rows, c);
        m->kept = kept + c;
        chunk_forward(m, c + 1 < chunks);
    }
    load_state(m, m->G, a->S1 ? a->S1->grad : NULL);
    pack_state(m, m->G, m->G_down, m->G_across);
    for (int64_t c = chunks - 1; c >= 0; c--) {
        enter_chunk(m, first, rows, c);
        m->kept = kept + c;
        chunk_backward(m);
    }
    m->kept = kept;
    add_state(m, a->S0 ? a->S0->grad : NULL, m->G);
}

/* ---- the call -------------------------------------------------------------------------------- */

struct job {
    const struct delta_args *a;
    char *scratch;
    size_t per_thread;
    int64_t chunks;
};

static struct head head_of(const struct delta_args *a)
{
    return (struct head){.a = a, .ks = (int)a->k->dim[2] / 32, .vs = (int)a->v->dim[2] / 32};
}

static void run_groups(void *context, int64_t begin, int64_t end, int thread)
{
    enum { FLUSH = 0x8040 }; /* denormals are zero: tiles do so anyway, and vectors trap on them */
    const struct job *job = context;
    const int64_t Hk = job->a->k->dim[1], R = job->a->v->dim[1] / Hk;
    struct head m = head_of(job->a);
    lay_head(&m, job->scratch + (size_t)thread * job->per_thread, job->chunks);
    const unsigned modes = _mm_getcsr();
    _mm_setcsr(modes | FLUSH);
    tile_open();
    for (int64_t i = begin; i < end; i++)
        for (int64_t r = 0; r < R; r++) {
            m.b = i / Hk, m.kh = i % Hk, m.h = m.kh * R + r;
            head_backward(&m);
        }
    tile_close();
    _mm_setcsr(modes);
}

static void run_long(struct device *device, struct arena *scratch, const struct delta_args *a)
{
    const int64_t groups = a->rows->B * a->k->dim[1], threads = pool_threads(device->pool);
    struct job job = {.a = a};
    for (int32_t b = 0; b < a->rows->B; b++) {
        const int64_t chunks = (a->rows->start[b + 1] - a->rows->start[b] + CHUNK - 1) / CHUNK;
        if (chunks > job.chunks) job.chunks = chunks;
    }
    struct head m = head_of(a);
    job.per_thread = lay_head(&m, NULL, job.chunks);
    job.scratch =
        arena_take(scratch, job.per_thread * (size_t)(threads < groups ? threads : groups));
    if (job.scratch) pool_run(device->pool, groups, 1, run_groups, &job);
}

static bool narrow(const struct tensor *t)
{
    return t->dtype == DTYPE_F32 || t->dtype == DTYPE_BF16;
}

static bool fits(const struct delta_args *a)
{
    return a->fast && !a->slots && a->g->rank == 2 && a->k->dim[2] % 32 == 0 &&
           a->v->dim[2] % 32 == 0 && narrow(a->q) && narrow(a->k) && narrow(a->v) &&
           (a->o->grad || (a->S1 && a->S1->grad));
}

static bool is_long(const struct rows *rows, int32_t b)
{
    return rows->start[b + 1] - rows->start[b] >= CHUNK && !(rows->slot && rows->slot[b] < 0);
}

/* A state and its gradient, from sequence b on. */
struct states {
    struct tensor t, grad;
};

static struct tensor *states_from(struct states *s, const struct tensor *t, int32_t b)
{
    if (!t) return NULL;
    s->t = *t;
    if (t->data) s->t.data = tensor_at(t, b * t->stride[0]);
    if (t->grad) {
        s->grad = *t->grad;
        if (s->grad.data) s->grad.data = tensor_at(t->grad, b * t->grad->stride[0]);
        s->t.grad = &s->grad;
    }
    return &s->t;
}

/* Runs of sequences that are all long or all short, one after another. */
void cpu_delta_backward_amx(struct device *device, struct arena *scratch, const void *args)
{
    const struct delta_args *a = args;
    if (!fits(a)) {
        cpu_delta_backward_avx512(device, scratch, args);
        return;
    }
    GDN_CHECK(a->k->dim[1] > 0 && a->v->dim[1] % a->k->dim[1] == 0, "delta: heads");
    for (int32_t b = 0, end; b < a->rows->B; b = end) {
        const bool whole = is_long(a->rows, b);
        for (end = b + 1; end < a->rows->B && is_long(a->rows, end) == whole; end++) continue;
        struct states S0, S1;
        struct rows rows = {.B = end - b,
                            .T = a->rows->T,
                            .start = a->rows->start + b,
                            .pos = a->rows->pos + b,
                            .slot = a->rows->slot ? a->rows->slot + b : NULL};
        struct delta_args part = *a;
        part.rows = &rows;
        part.S0 = states_from(&S0, a->S0, b);
        part.S1 = states_from(&S1, a->S1, b);
        const size_t mark = arena_mark(scratch);
        if (whole)
            run_long(device, scratch, &part);
        else
            cpu_delta_backward_avx512(device, scratch, &part);
        arena_release(scratch, mark);
    }
}

/* delta_backward_tmpl.h: the backward of the gated delta rule, dense calls. Truth:
 * kernels/ref/delta.c; algebra, figures, what was tried: docs/kernels/delta_backward.md. Body of a
 * template: a vec_*.h, turn() and CPU_NAME stand before it.
 *
 * One head of one sequence at a time, S and its gradient G as rows [V][K] (K and V are Dk and Dv
 * rounded up to 16 with zeros):
 *
 *     forward    y = v - S' k in blocks of 16, the state at every 64th token   Y, squares, saved[c]
 *     for each chunk of 64, from the end:
 *         forward    the states between its blocks again, from Y               inner[i]
 *         backward   its blocks: all gradients, and G goes to the block's start
 *
 * Threads split (sequence, key head). The value heads of a key head add to dq and dk one after
 * another, and nothing depends on the batch: same bits with any threads, alone or together.
 *
 * Scratch, for each thread that has work, in floats; T: tokens of the longest sequence, n: its
 * blocks, at most 4:
 *
 *     (ceil(T / 64) + n) K V                        states; T = 4096, 128 x 128: 4.5 MB
 *     16 ceil(T / 16) (V + 32)                      Y and squares: 2.6 MB
 *     112 n K + n (48 or 48 K)                      blocks, with one gate a head or one a channel
 *     65 K + 48 V + 16 max(K, V), and some 2000 n   sums and rows */
#include "base/check.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/delta_backward_rows_tmpl.h"
#include "kernels/cpu/delta_backward_tiles_tmpl.h"
#include "kernels/cpu/delta_backward_block_tmpl.h"
#include "kernels/cpu/delta_backward_channel_tmpl.h"

enum { BLOCKS = 4, CHUNK = 16 * BLOCKS, STRIP_ROWS = 32, SQUARES = 2 * 256 };

/* One thread's head. */
struct walk {
    const struct delta_args *a;
    int K, V;
    bool channel;
    float *saved;         /* [chunks][V][K] */
    float *Y;             /* [blocks of the sequence][V][16] */
    float *squares;       /* [blocks of the sequence][2][16][16] M and back */
    float *inner[BLOCKS]; /* states at the block starts of a chunk; the first is a saved one */
    float *G;             /* [V][K] gradient of the state */
    struct block block[BLOCKS];
    struct sums sums;
    struct wishes *wishes;
    float *rows;          /* [16][max(K, V)] */
    float *v, *dout, *dy; /* [V][16] */
    float *rest, *dn;     /* [STRIP_ROWS][16] */
};

/* ---- scratch --------------------------------------------------------------------------------- */

/* Hands out pieces of 64 bytes' multiples; with base == NULL it only counts. */
struct shelf {
    float *base;
    size_t used;
};

static float *shelf_take(struct shelf *s, int64_t n)
{
    float *at = s->base ? s->base + s->used : NULL;
    s->used += ((size_t)n + 15) / 16 * 16;
    return at;
}

static void lay_block(struct block *b, struct shelf *s, int K, bool channel)
{
    float **const rows[] = {&b->k, &b->q, &b->written, &b->asked, &b->taken, &b->kT_since,
                            &b->kT_until};
    float **const gates[] = {&b->e, &b->since, &b->until};
    float **const squares[] = {&b->E, &b->P, &b->solve};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) *rows[i] = shelf_take(s, 16 * K);
    for (size_t i = 0; i < 3; i++) *gates[i] = shelf_take(s, channel ? 16 * K : 16);
    for (size_t i = 0; i < 3; i++) *squares[i] = shelf_take(s, 256);
    b->end = shelf_take(s, K);
    b->beta = shelf_take(s, 16);
}

/* For sequences of up to T tokens; returns how many floats it takes. */
static size_t lay_walk(struct walk *w, float *base, int64_t T)
{
    struct shelf s = {.base = base};
    const int K = w->K, V = w->V, blocks = T < CHUNK ? (int)(T + 15) / 16 : BLOCKS;
    const int64_t state = (int64_t)K * V;
    w->saved = shelf_take(&s, (T + CHUNK - 1) / CHUNK * state);
    w->Y = shelf_take(&s, (T + 15) / 16 * 16 * V);
    w->squares = shelf_take(&s, (T + 15) / 16 * SQUARES);
    for (int i = 1; i < blocks; i++) w->inner[i] = shelf_take(&s, state);
    w->G = shelf_take(&s, state);
    for (int i = 0; i < blocks; i++) lay_block(&w->block[i], &s, K, w->channel);
    struct sums *u = &w->sums;
    u->asked = shelf_take(&s, 16 * K);
    u->taken = shelf_take(&s, 16 * K);
    u->written = shelf_take(&s, 16 * K);
    u->dg = shelf_take(&s, 16 * K);
    u->met = shelf_take(&s, K);
    u->dP = shelf_take(&s, 256);
    u->dM = shelf_take(&s, 256);
    u->dbeta = shelf_take(&s, 16);
    w->rows = shelf_take(&s, 16 * (K > V ? K : V));
    w->v = shelf_take(&s, 16 * V);
    w->dout = shelf_take(&s, 16 * V);
    w->dy = shelf_take(&s, 16 * V);
    w->rest = shelf_take(&s, 16 * STRIP_ROWS);
    w->dn = shelf_take(&s, 16 * STRIP_ROWS);
    return s.used;
}

static int64_t key_head(const struct delta_args *a, int64_t h)
{
    return h / (a->v->dim[1] / a->k->dim[1]);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static void load_block(const struct walk *w, struct block *b, int64_t row, int n, int64_t h,
                       bool whole)
{
    const struct delta_args *a = w->a;
    const int64_t kh = key_head(a, h);
    b->n = n;
    load_rows(b->k, w->K, a->k, row, n, kh);
    if (whole) load_rows(b->q, w->K, a->q, row, n, kh);
    load_each(b->beta, a->beta, row, n, h);
    if (w->channel)
        load_rows(b->e, w->K, a->g, row, n, h);
    else
        load_each(b->e, a->g, row, n, h);
    exp_all(b->e, w->channel ? 16 * w->K : 16);
    block_prepare(b, w->channel, w->K, w->rows, whole);
}

static int strip_rows(const struct walk *w, int r)
{
    return w->V - r < STRIP_ROWS ? w->V - r : STRIP_ROWS;
}

static int strips_of(const struct walk *w) { return (w->V + STRIP_ROWS - 1) / STRIP_ROWS; }

/* The state after the block, of value columns r.., given Y. */
static void write_strip(const struct walk *w, const struct block *b, const float *S, float *to,
                        int r)
{
    const int64_t at = (int64_t)r * w->K;
    wish_grant(w->wishes);
    update_state(&(struct update){.to = to + at, .S = S + at, .end = b->end, .a = b->Y + 16 * r,
                                  .x = b->written, .ld = w->K, .rows = strip_rows(w, r)});
}

/* Y, and the state after the block where `to` asks for it. */
static void write_block(const struct walk *w, const struct block *b, int64_t row, int64_t h,
                        const float *S, float *to)
{
    const int K = w->K;
    load_rows(w->rows, w->V, w->a->v, row, b->n, h);
    turn_rows(w->v, w->rows, w->V);
    for (int r = 0; r < w->V; r += STRIP_ROWS) {
        const int rows = strip_rows(w, r);
        wish_grant(w->wishes);
        read_on(w->rest, w->v + 16 * r, S + (int64_t)r * K, K, b->kT_since, K, rows);
        wish_grant(w->wishes);
        read_rows(b->Y + 16 * r, w->rest, 16, b->solve, 16, rows);
        if (to) write_strip(w, b, S, to, r);
    }
}

static void sums_clear(const struct sums *s, int K)
{
    memset(s->asked, 0, sizeof(float) * 16 * (size_t)K);
    memset(s->taken, 0, sizeof(float) * 16 * (size_t)K);
    memset(s->written, 0, sizeof(float) * 16 * (size_t)K);
    memset(s->met, 0, sizeof(float) * (size_t)K);
    memset(s->dP, 0, sizeof(float) * 256);
    memset(s->dM, 0, sizeof(float) * 256);
    memset(s->dbeta, 0, sizeof(float) * 16);
}

/* dbeta[t] += sum_r dn[r][t] y[r][t] */
static void add_products(float *sum, const float *dn, const float *y, int rows)
{
    for (int p = 0; p < 16; p += VL) {
        vf s = vf_load(sum + p);
        for (int r = 0; r < rows; r++)
            s = vf_fma(vf_load(dn + 16 * r + p), vf_load(y + 16 * r + p), s);
        vf_store(sum + p, s);
    }
}

/* A strip of value columns: G is the gradient of the state after the block, then of S before it. */
static void strip_backward(const struct walk *w, const struct block *b, const float *S, int r,
                           int rows)
{
    const int K = w->K;
    const struct sums *s = &w->sums;
    const float *Y = b->Y + 16 * r, *dout = w->dout + 16 * r;
    float *G = w->G + (int64_t)r * K, *dy = w->dy + 16 * r;
    wish_grant(w->wishes);
    read_both(w->dn, G, K, b->kT_until, K, dout, b->P, rows);
    wish_grant(w->wishes);
    read_rows(dy, w->dn, 16, b->back, 16, rows);
    add_products(s->dbeta, w->dn, Y, rows);
    gather(s->dP, 16, dout, Y, 16, rows, 16);
    gather(s->dM, 16, dy, Y, 16, rows, 16);
    gather(s->written, K, Y, G, K, rows, K);
    wish_grant(w->wishes);
    gather(s->asked, K, dout, S, K, rows, K);
    wish_grant(w->wishes);
    gather(s->taken, K, dy, S, K, rows, K);
    wish_grant(w->wishes);
    update_gradient(&(struct update){.to = G, .S = G, .end = b->end, .a = dout, .x = b->asked,
                                     .b = dy, .y = b->taken, .met = S, .meeting = s->met, .ld = K,
                                     .rows = rows});
}

static void block_backward(const struct walk *w, const struct block *b, int64_t row, int64_t h,
                           const float *S)
{
    const struct delta_args *a = w->a;
    const struct sums *s = &w->sums;
    const int64_t kh = key_head(a, h);
    sums_clear(s, w->K);
    load_rows(w->rows, w->V, a->o->grad, row, b->n, h);
    turn_rows(w->dout, w->rows, w->V);
    wish_rows(w->wishes, a->v->grad, row, b->n, h);
    wish_rows(w->wishes, a->q->grad, row, b->n, kh);
    wish_rows(w->wishes, a->k->grad, row, b->n, kh);
    wish_turns(w->wishes, 5 * strips_of(w));
    for (int r = 0; r < w->V; r += STRIP_ROWS)
        strip_backward(w, b, S + (int64_t)r * w->K, r, strip_rows(w, r));
    turn_columns(w->rows, w->dy, w->V);
    add_rows(a->v->grad, row, b->n, h, w->rows, w->V);
    grams_finish(b, s);
    add_each(a->beta->grad, row, b->n, h, s->dbeta);
    if (w->channel) {
        finish_channel(b, s, w->K);
        add_rows(a->g->grad, row, b->n, h, s->dg, w->K);
    } else {
        gates_scalar(b, s, w->K);
        rows_scalar(b, s, w->K);
        add_each(a->g->grad, row, b->n, h, s->dg);
    }
    add_rows(a->q->grad, row, b->n, kh, s->asked, w->K);
    add_rows(a->k->grad, row, b->n, kh, s->taken, w->K);
}

/* ---- heads ----------------------------------------------------------------------------------- */

static float *Y_of(const struct walk *w, int64_t at) { return w->Y + at * w->V; }

static float *squares_of(const struct walk *w, int64_t at) { return w->squares + at / 16 * SQUARES; }

/* What the way forward keeps of the block at `at`. */
static void keep_at(const struct walk *w, struct block *b, int64_t at)
{
    b->Y = Y_of(w, at);
    b->M = squares_of(w, at);
    b->back = b->M + 256;
}

/* Y, and the states at every CHUNKth token but the end. */
static void head_forward(struct walk *w, int64_t first, int64_t n, int64_t h)
{
    const struct delta_args *a = w->a;
    const int64_t state = (int64_t)w->K * w->V, kh = key_head(a, h);
    struct block *b = &w->block[0];
    float *S = w->saved;
    for (int64_t at = 0; at < n; at += 16) {
        const int64_t row = first + at, left = n - at - 16, in = at % CHUNK;
        float *next = w->saved + (at / CHUNK + 1) * state;
        float *to = left <= 0 ? NULL : in + 16 < CHUNK ? w->inner[1] : next;
        wish_clear(w->wishes);
        wish_rows(w->wishes, a->k, row + 16, left < 16 ? left : 16, kh);
        wish_rows(w->wishes, a->v, row + 16, left < 16 ? left : 16, h);
        if (at - in + CHUNK < n)
            wish_floats(w->wishes, next + in / 16 * state / BLOCKS, state / BLOCKS);
        wish_turns(w->wishes, (to ? 3 : 2) * strips_of(w));
        keep_at(w, b, at);
        load_block(w, b, row, left < 0 ? 16 + (int)left : 16, h, false);
        write_block(w, b, row, h, S, to);
        S = to;
    }
}

/* The n tokens of a head from `at` on, of which the first is row `row` of all. */
static void chunk_backward(struct walk *w, int64_t row, int64_t at, int n, int64_t h)
{
    const struct delta_args *a = w->a;
    const int64_t state = (int64_t)w->K * w->V, kh = key_head(a, h);
    const int blocks = (n + 15) / 16;
    float *S = w->saved + at / CHUNK * state;
    w->inner[0] = S;
    for (int i = 0; i < blocks; i++) {
        struct block *b = &w->block[i];
        const int64_t next = row + 16 * i + 16;
        const int left = n - 16 * i, rest = left - 16 < 16 ? left - 16 : 16;
        wish_clear(w->wishes);
        wish_rows(w->wishes, a->k, next, rest, kh);
        wish_rows(w->wishes, a->q, next, rest, kh);
        wish_turns(w->wishes, strips_of(w));
        keep_at(w, b, at + 16 * i);
        load_block(w, b, row + 16 * i, left < 16 ? left : 16, h, true);
        for (int r = 0; left > 16 && r < w->V; r += STRIP_ROWS)
            write_strip(w, b, w->inner[i], w->inner[i + 1], r);
    }
    for (int i = blocks - 1; i >= 0; i--) {
        wish_clear(w->wishes);
        if (i > 0) wish_rows(w->wishes, a->o->grad, row + 16 * i - 16, 16, h);
        if (at > 0) {
            wish_floats(w->wishes, S - state + i * state / BLOCKS, state / BLOCKS);
            wish_floats(w->wishes, Y_of(w, at - CHUNK + 16 * i), 16 * w->V);
            wish_floats(w->wishes, squares_of(w, at - CHUNK + 16 * i), SQUARES);
        }
        block_backward(w, &w->block[i], row + 16 * i, h, w->inner[i]);
    }
}

static void head_backward(struct walk *w, int64_t b, int64_t h)
{
    const struct delta_args *a = w->a;
    const struct rows *rows = a->rows;
    const bool absent = rows->slot && rows->slot[b] < 0;
    const int64_t first = rows->start[b], n = absent ? 0 : rows->start[b + 1] - first;
    load_state(w->G, w->K, w->V, a->S1 ? a->S1->grad : NULL, b, h);
    if (n > 0) {
        load_state(w->saved, w->K, w->V, a->S0, b, h);
        head_forward(w, first, n, h);
    }
    for (int64_t c = (n + CHUNK - 1) / CHUNK - 1; c >= 0; c--) {
        const int64_t left = n - c * CHUNK;
        chunk_backward(w, first + c * CHUNK, c * CHUNK, left < CHUNK ? (int)left : CHUNK, h);
    }
    add_state(a->S0 ? a->S0->grad : NULL, b, h, w->G, w->K);
}

/* ---- the call -------------------------------------------------------------------------------- */

struct job {
    const struct delta_args *a;
    float *scratch;
    size_t per_thread;
    int64_t longest;
};

static struct walk walk_of(const struct delta_args *a)
{
    return (struct walk){.a = a, .K = (int)(a->k->dim[2] + 15) / 16 * 16,
                         .V = (int)(a->v->dim[2] + 15) / 16 * 16, .channel = a->g->rank == 3};
}

static void run_groups(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    const int64_t Hk = job->a->k->dim[1], R = job->a->v->dim[1] / Hk;
    struct walk w = walk_of(job->a);
    struct wishes wishes = {.count = 0};
    w.wishes = &wishes;
    lay_walk(&w, job->scratch + (size_t)thread * job->per_thread, job->longest);
    for (int64_t i = begin; i < end; i++)
        for (int64_t r = 0; r < R; r++) head_backward(&w, i / Hk, i % Hk * R + r);
}

void CPU_NAME(cpu_delta_backward)(struct device *device, struct arena *scratch, const void *args)
{
    const struct delta_args *a = args;
    GDN_CHECK(a->slots == NULL, "delta: gradients go through dense states only");
    GDN_CHECK(a->k->dim[1] > 0 && a->v->dim[1] % a->k->dim[1] == 0, "delta: heads");
    if (!a->o->grad && !(a->S1 && a->S1->grad)) return;
    const int64_t groups = a->rows->B * a->k->dim[1];
    struct job job = {.a = a};
    for (int32_t b = 0; b < a->rows->B; b++) {
        const int64_t n = a->rows->start[b + 1] - a->rows->start[b];
        if (n > job.longest) job.longest = n;
    }
    struct walk w = walk_of(a);
    job.per_thread = lay_walk(&w, NULL, job.longest);
    const int64_t threads = pool_threads(device->pool);
    const size_t busy = (size_t)(threads < groups ? threads : groups);
    job.scratch = arena_take(scratch, sizeof(float) * job.per_thread * busy);
    if (job.scratch) pool_run(device->pool, groups, 1, run_groups, &job);
}

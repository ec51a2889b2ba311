#include "harness/drift.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"
#include "harness/cache.h"
#include "harness/fill.h"

const struct drift drifts[] = {
    {.name = "decay 1e-4", .least = 0.5e-4, .most = 1.5e-4, .beta = 1},
    {.name = "decay 1e-4 per channel", .least = 0, .most = 2e-4, .beta = 1, .channel = true},
    {.name = "decay 1e-4, weak writes", .least = 0.5e-4, .most = 1.5e-4, .beta = 0.02},
    {.name = "decay 1e-2", .least = 0.5e-2, .most = 1.5e-2, .beta = 1},
    {.name = "no decay", .beta = 1},
    {.name = "no decay, 8 keys", .keys = 8, .beta = 1},
    {.name = "no decay, 8 keys, beta 2", .keys = 8, .beta = 1.9},
};
const int drift_count = (int)(sizeof drifts / sizeof *drifts);
const int drift_steps[DRIFT_POINTS] = {112, 9 * 112, 90 * 112, 893 * 112};

enum { KEPT = 8 }; /* at most, of repeated keys */

struct head {
    const struct drift *drift;
    struct station *at;
    int D;
    struct rng rng;
    float *q, *k, *v, *g, *beta, *o; /* rows of one call */
    float *kept;                     /* [KEPT][D] */
    void *place[2];                  /* f32 and bf16 [D][D], of the device */
    double *exact, *found;           /* [Dk][Dv] and [Dv][Dk] */
    double *row;                     /* [Dv] */
    struct cache cache[2];           /* f32 and bf16 anchors */
};

/* ---- tokens ---------------------------------------------------------------------------------- */

static void draw_unit(struct rng *rng, float *x, int D)
{
    double square = 0;
    for (int d = 0; d < D; d++) {
        x[d] = (float)rng_normal(rng);
        square += (double)x[d] * (double)x[d];
    }
    for (int d = 0; d < D; d++) x[d] = (float)((double)x[d] / sqrt(square));
}

static void draw_call(struct head *h)
{
    const struct drift *s = h->drift;
    const int D = h->D, gates = s->channel ? D : 1;
    for (int t = 0; t < DRIFT_CALL; t++) {
        draw_unit(&h->rng, h->q + t * D, D);
        if (s->keys)
            memcpy(h->k + t * D, h->kept + (int)rng_below(&h->rng, (uint64_t)s->keys) * D,
                   sizeof *h->k * (size_t)D);
        else
            draw_unit(&h->rng, h->k + t * D, D);
        for (int j = 0; j < D; j++) h->v[t * D + j] = (float)rng_normal(&h->rng);
        for (int i = 0; i < gates; i++)
            h->g[t * gates + i] = -(float)rng_between(&h->rng, s->least, s->most);
        h->beta[t] = (float)rng_between(&h->rng, s->beta / 2, s->beta);
    }
}

/* ---- in double ------------------------------------------------------------------------------- */

static void exact_token(struct head *h, int t)
{
    const int D = h->D;
    const float *k = h->k + t * D;
    memset(h->row, 0, sizeof *h->row * (size_t)D);
    for (int d = 0; d < D; d++) {
        const double decay = exp((double)h->g[h->drift->channel ? t * D + d : t]);
        double *S = h->exact + d * D;
        for (int j = 0; j < D; j++) h->row[j] += (double)k[d] * (S[j] *= decay);
    }
    for (int j = 0; j < D; j++)
        h->row[j] = (double)h->beta[t] * ((double)h->v[t * D + j] - h->row[j]);
    for (int d = 0; d < D; d++)
        for (int j = 0; j < D; j++) h->exact[d * D + j] += (double)k[d] * h->row[j];
}

bool drift_applies(const struct device *device) { return device->host; }

/* ---- on the device --------------------------------------------------------------------------- */

static struct tensor rows_of(const void *at, int first, int rows, int heads, int width)
{
    const int64_t dim[] = {rows, heads, width};
    return tensor_over((char *)at + (size_t)first * (size_t)heads * (size_t)width * sizeof(float),
                       DTYPE_F32, width ? 3 : 2, dim);
}

/* Rows [first, first + n) of the call: on slots, or on a state in place. */
static bool feed(struct head *h, int first, int n, struct delta_slots *slots, int pos,
                 struct tensor *state)
{
    const int32_t start[] = {0, n}, position[] = {pos}, slot[] = {0};
    const struct rows rows = {.B = 1, .T = n, .start = start, .pos = position,
                              .slot = slots ? slot : NULL};
    struct tensor q = rows_of(h->q, first, n, 1, h->D), k = rows_of(h->k, first, n, 1, h->D);
    struct tensor v = rows_of(h->v, first, n, 1, h->D), o = rows_of(h->o, first, n, 1, h->D);
    struct tensor g = h->drift->channel ? rows_of(h->g, first, n, 1, h->D)
                                        : tensor_over(h->g + first, DTYPE_F32, 2,
                                                      (int64_t[]){n, 1});
    struct tensor beta = tensor_over(h->beta + first, DTYPE_F32, 2, (int64_t[]){n, 1});
    const struct delta_args args = {.q = &q, .k = &k, .v = &v, .g = &g, .beta = &beta, .o = &o,
                                    .S0 = state, .S1 = state, .rows = &rows, .slots = slots};
    h->at->device->forward[OP_DELTA](h->at->device, &h->at->scratch, &args);
    const bool full = h->at->scratch.failed;
    arena_reset(&h->at->scratch);
    return !full;
}

static bool feed_call(struct head *h, int pos)
{
    const int64_t dim[] = {1, 1, h->D, h->D};
    struct tensor state[2] = {tensor_over(h->place[0], DTYPE_F32, 4, dim),
                              tensor_over(h->place[1], DTYPE_BF16, 4, dim)};
    bool fine = true;
    for (int i = 0; i < 2; i++) {
        fine = fine && feed(h, 0, DRIFT_CALL, &h->cache[i].slots, pos, NULL);
        for (int t = 0; t < DRIFT_CALL && fine; t++) fine = feed(h, t, 1, NULL, 0, &state[i]);
    }
    for (int t = 0; t < DRIFT_CALL; t++) exact_token(h, t);
    return fine;
}

/* ---- the distance ---------------------------------------------------------------------------- */

static bool find(struct head *h, enum keeping how, int pos)
{
    const bool half = how >= KEEP_BF16_LOG;
    const enum dtype dtype = half ? DTYPE_BF16 : DTYPE_F32;
    if (how == KEEP_LOG || how == KEEP_BF16_LOG)
        return cache_state(&h->cache[half], 0, pos, h->found);
    for (int i = 0; i < h->D * h->D; i++)
        h->found[i] = number_read((char *)h->place[half] + (size_t)i * dtype_size(dtype), dtype);
    return true;
}

static double distance(const struct head *h)
{
    double square = 0, off = 0;
    for (int d = 0; d < h->D; d++)
        for (int j = 0; j < h->D; j++) {
            const double want = h->exact[d * h->D + j], e = h->found[j * h->D + d] - want;
            square += want * want;
            off += e * e;
        }
    return sqrt(off / square);
}

/* ---- a run ----------------------------------------------------------------------------------- */

static bool head_open(struct head *h)
{
    const size_t D = (size_t)h->D;
    struct device *device = h->at->device;
    float **rows[] = {&h->q, &h->k, &h->v, &h->o, &h->g, &h->beta};
    bool open = true;
    for (int i = 0; i < 6; i++) {
        *rows[i] = device->take(device, sizeof(float) * DRIFT_CALL * D);
        open = open && *rows[i];
    }
    for (int i = 0; i < 2; i++) {
        h->place[i] = device->take(device, sizeof(float) * D * D);
        open = h->place[i] && open;
        const struct delta_slots like = {
            .slots = 1, .entries = BLOCK, .Hk = 1, .Hv = 1, .Dk = h->D, .Dv = h->D,
            .channel_gate = h->drift->channel, .k_type = DTYPE_F32,
            .anchor_type = i ? DTYPE_BF16 : DTYPE_F32};
        open = cache_open(&h->cache[i], device, &like) && open;
    }
    h->kept = mem_take_array(KEPT * D, sizeof *h->kept);
    h->exact = mem_take_array(D * D, sizeof *h->exact);
    h->found = mem_take_array(D * D, sizeof *h->found);
    h->row = mem_take_array(D, sizeof *h->row);
    return open && h->kept && h->exact && h->found && h->row;
}

static void head_close(struct head *h)
{
    struct device *device = h->at->device;
    void *all[] = {h->q, h->k, h->v, h->o, h->g, h->beta, h->place[0], h->place[1]};
    for (int i = 0; i < 8; i++) device->give(device, all[i]);
    for (int i = 0; i < 2; i++) cache_close(&h->cache[i]);
    mem_give(h->kept);
    mem_give(h->exact);
    mem_give(h->found);
    mem_give(h->row);
}

bool drift_run(const struct drift *drift, struct station *at, int D, int last, struct drifted *out,
               struct verdict *v)
{
    struct head h = {.drift = drift, .at = at, .D = D, .rng = {.seed = 41}};
    bool fine = EXPECT(v, head_open(&h), "no memory");
    for (int i = 0; fine && i < KEPT; i++) draw_unit(&h.rng, h.kept + i * D, D);
    for (int pos = 0, point = 0; fine && point <= last;) {
        draw_call(&h);
        fine = EXPECT(v, feed_call(&h, pos), "the scratch is full");
        pos += DRIFT_CALL;
        if (pos < drift_steps[point]) continue;
        for (int how = 0; fine && how < KEEPINGS; how++) {
            fine = EXPECT(v, find(&h, (enum keeping)how, pos), "no memory");
            out->error[point][how] = distance(&h);
        }
        point++;
    }
    head_close(&h);
    return fine;
}

void drift_judge(const struct drift *drift, const struct drifted *d, int point, struct verdict *v)
{
    const double *error = d->error[point];
    v->cases++;
    for (int how = 0; how < KEEPINGS; how++)
        EXPECT(v, error[how] >= 0, "%s: keeping %d is lost", drift->name, how);
    EXPECT(v, error[KEEP_LOG] <= 5e-5 && error[KEEP_F32] <= 5e-5,
           "%s, %d tokens: f32 is off by %.2g on slots, %.2g in place", drift->name,
           drift_steps[point], error[KEEP_LOG], error[KEEP_F32]);
    EXPECT(v, error[KEEP_LOG] <= 1.5 * error[KEEP_F32] + 5e-7,
           "%s, %d tokens: slots are off by %.2g, in place by %.2g", drift->name,
           drift_steps[point], error[KEEP_LOG], error[KEEP_F32]);
    EXPECT(v, error[KEEP_BF16_LOG] <= error[KEEP_BF16],
           "%s, %d tokens: bf16 anchors are off by %.2g, bf16 after every token by %.2g",
           drift->name, drift_steps[point], error[KEEP_BF16_LOG], error[KEEP_BF16]);
}

/* conv.c: short causal convolution per channel, then SiLU unless it is plain. Truth: kernels/ref/conv.c.
 *
 *     y[t,c] = silu( sum_{j<W} w[c,j] x[t-(W-1)+j, c] )          j ascending
 *
 * Here is what surrounds the arithmetic; the tile itself is conv_tmpl.h. A strip of channels takes
 * its taps once and goes down each sequence in tiles of 4 rows; threads own strips. The W-1 inputs
 * before a sequence are read where they lie: in the slot's ring (position p in ring row p mod ring),
 * in tail_in, or in a row of zeros.
 *
 * The ring gets the inputs after the outputs are made; a draft writes it too: it only reaches rows
 * that no rewind within the log can ask for. */
#include "kernels/cpu/conv.h"

#include "base/mutant.h"
#include "kernels/cpu/vec_portable.h"
#define CPU_NAME(name) name
#include "kernels/cpu/conv_tmpl.h"
#include "kernels/cpu/conv_backward_tmpl.h"

struct conv_job {
    const struct conv_args *a;
    conv_tile_kernel *kernel;
    struct cpu_work_rows work; /* [W][CONV_STRIP] taps */
};

static void *ring_row(const struct conv_lane *l, int64_t position)
{
    const struct conv_slots *s = l->a->slots;
    const int64_t row = l->a->rows->slot[l->b] * (int64_t)s->ring + position % s->ring;
    return (char *)s->x + (row * s->C + l->first) * (int64_t)dtype_size(s->dtype);
}

const void *conv_input(const struct conv_lane *l, int64_t r)
{
    static const float zeros[CONV_STRIP];
    const struct conv_args *a = l->a;
    if (r >= 0) return conv_row(l, a->x, r);
    if (a->slots && a->rows->pos[l->b] + r >= 0) return ring_row(l, a->rows->pos[l->b] + r);
    return a->tail_in ? conv_tail(l, a->tail_in, a->w->dim[1] - 1 + r) : zeros;
}

static void make_outputs(const struct conv_job *job, const struct conv_lane *l, const float *w)
{
    const struct tensor *x = l->a->x, *y = l->a->y;
    const int64_t W = l->a->w->dim[1], step = x->stride[0] * (int64_t)dtype_size(x->dtype);
    struct conv_tile t = {.x_type = x->dtype, .y_type = y->dtype, .channels = l->n, .W = W, .w = w,
                          .plain = l->a->plain};
    for (int64_t k = 0; k < W - 1; k++) t.x[k] = conv_input(l, k - (W - 1));
    for (int64_t r = 0; r < l->T; r += t.rows) {
        t.rows = l->T - r < CONV_ROWS ? l->T - r : CONV_ROWS;
        t.ahead = r + t.rows < l->T ? t.rows * step : 0;
        for (int64_t k = 0; k < t.rows; k++) {
            t.x[W - 1 + k] = conv_row(l, x, r + k);
            t.y[k] = conv_row(l, y, r + k);
        }
        job->kernel(&t);
        for (int64_t k = 0; k < W - 1; k++) t.x[k] = t.x[k + t.rows];
    }
}

static void write_ring(const struct conv_lane *l)
{
    const struct conv_slots *s = l->a->slots;
    for (int64_t r = l->T > s->ring ? l->T - s->ring : 0; r < l->T; r++)
        memcpy(ring_row(l, l->a->rows->pos[l->b] + r), conv_input(l, r),
               (size_t)l->n * dtype_size(s->dtype));
}

static void write_tail(const struct conv_lane *l)
{
    const struct tensor *out = l->a->tail_out;
    const int64_t tail = l->a->w->dim[1] - 1;
    for (int64_t i = 0; i < tail; i++) {
        const void *from = conv_input(l, l->T - tail + i);
        void *to = conv_tail(l, out, i);
        /* tail_out may be tail_in: what moves comes from a later row, or stays. */
        if (to != from) memcpy(to, from, (size_t)l->n * dtype_size(out->dtype));
    }
}

static void clear_outputs(const struct conv_lane *l)
{
    const struct tensor *y = l->a->y;
    for (int64_t t = l->a->rows->start[l->b]; t < l->a->rows->start[l->b + 1]; t++)
        memset(tensor_at(y, t * y->stride[0] + l->first), 0, (size_t)l->n * dtype_size(y->dtype));
}

static void run_strip(const struct conv_job *job, int64_t first, int64_t n, float *w)
{
    const struct conv_args *a = job->a;
    conv_pack_taps(a->w, first, n, w);
    for (int32_t b = 0; b < a->rows->B; b++) {
        const struct conv_lane l = conv_lane(a, b, first, n);
        if (a->rows->slot && a->rows->slot[b] < 0) clear_outputs(&l);
        make_outputs(job, &l, w);
        if (a->slots && !(MUTANT == 4 && a->rows->draft)) write_ring(&l);
        if (a->tail_out) write_tail(&l);
    }
}

static void run_units(void *context, int64_t begin, int64_t end, int thread)
{
    const struct conv_job *job = context;
    const int64_t C = job->a->x->dim[1], stop = end * CONV_UNIT < C ? end * CONV_UNIT : C;
    for (int64_t c = begin * CONV_UNIT; c < stop; c += CONV_STRIP)
        run_strip(job, c, stop - c < CONV_STRIP ? stop - c : CONV_STRIP,
                  job->work.data + thread * job->work.stride);
}

void conv_pack_taps(const struct tensor *w, int64_t first, int64_t n, float *to)
{
    const int64_t W = w->dim[1];
    const char *from = tensor_at(w, first * w->stride[0]);
    const int64_t step = w->stride[0] * (int64_t)dtype_size(w->dtype);
    float tap[CONV_TAPS];
    int64_t c = 0;
    for (; W == 4 && w->dtype == DTYPE_F32 && c + 4 <= n; c += 4) {
        cpu_quad q[4];
        for (int i = 0; i < 4; i++) memcpy(&q[i], from + (c + i) * step, sizeof q[i]);
        const cpu_quad ab = __builtin_shufflevector(q[0], q[1], 0, 4, 1, 5);
        const cpu_quad cd = __builtin_shufflevector(q[2], q[3], 0, 4, 1, 5);
        const cpu_quad AB = __builtin_shufflevector(q[0], q[1], 2, 6, 3, 7);
        const cpu_quad CD = __builtin_shufflevector(q[2], q[3], 2, 6, 3, 7);
        q[0] = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
        q[1] = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
        q[2] = __builtin_shufflevector(AB, CD, 0, 1, 4, 5);
        q[3] = __builtin_shufflevector(AB, CD, 2, 3, 6, 7);
        for (int j = 0; j < 4; j++) memcpy(to + j * CONV_STRIP + c, &q[j], sizeof q[j]);
    }
    for (; c < n; c++) {
        cpu_load_row(tap, from + c * step, w->dtype, W);
        for (int64_t j = 0; j < W; j++) to[j * CONV_STRIP + c] = tap[j];
    }
}

void conv_forward_with(conv_tile_kernel *kernel, struct device *device, struct arena *scratch,
                       const struct conv_args *args)
{
    const int64_t C = args->x->dim[1], W = args->w->dim[1];
    struct conv_job job = {.a = args, .kernel = kernel};
    GDN_CHECK(W >= 1 && W <= CONV_TAPS, "a convolution of %lld taps", (long long)W);
    GDN_CHECK((!args->slots || args->slots->dtype == args->x->dtype) &&
                  (!args->tail_in || args->tail_in->dtype == args->x->dtype) &&
                  (!args->tail_out || args->tail_out->dtype == args->x->dtype),
              "rings and tails keep inputs in their type");
    job.work = cpu_take_rows(device, scratch, W * CONV_STRIP);
    if (!job.work.data) return;
    /* A channel costs about eight rows more than it has: its taps and its past. */
    const int64_t grain = cpu_grain(CONV_UNIT * (args->rows->T + 8));
    pool_run(device->pool, (C + CONV_UNIT - 1) / CONV_UNIT, grain, run_units, &job);
}

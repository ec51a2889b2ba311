/* conv.c: short causal convolution per channel, then SiLU. Truth: kernels/ref/conv.c.
 *
 *     y[t,c] = silu( sum_{j<W} w[c,j] x[t-(W-1)+j, c] )          j ascending
 *
 * Rows before the pass come from the slot's ring (position p in ring row p mod ring), from tail_in,
 * or are zero. The ring gets the inputs after the outputs are made; a draft writes it too: it only
 * reaches rows that no rewind within the log can ask for. */
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/math.h"

enum { CHANNELS = 64, TAPS = 16 };

/* Channels first..first+n-1 of one sequence. */
struct lane {
    const struct conv_args *a;
    int b;
    int64_t first, n;
    float w[TAPS][CHANNELS];
};

static int64_t ring_element(const struct conv_slots *s, int64_t slot, int64_t position, int64_t c)
{
    return (slot * s->ring + position % s->ring) * s->C + c;
}

/* Where the input `back` rows before row 0 of the pass stands; NULL: it is zero. */
static const void *history(const struct lane *l, int64_t back, enum dtype *dtype)
{
    const struct conv_args *a = l->a;
    const int64_t tail = a->w->dim[1] - 1;
    if (a->slots) {
        const int64_t position = a->rows->pos[l->b] - back;
        if (position < 0) return NULL;
        *dtype = a->slots->dtype;
        return (const char *)a->slots->x +
               ring_element(a->slots, a->rows->slot[l->b], position, l->first) *
                   (int64_t)dtype_size(*dtype);
    }
    if (!a->tail_in) return NULL;
    *dtype = a->tail_in->dtype;
    return tensor_at(a->tail_in, l->b * a->tail_in->stride[0] +
                                     (tail - back) * a->tail_in->stride[1] + l->first);
}

/* Input of row `r` of the pass (negative: history) as f32. */
static void input_row(const struct lane *l, int64_t r, float *x)
{
    const struct tensor *t = l->a->x;
    enum dtype dtype = t->dtype;
    const void *from = r >= 0 ? tensor_at(t, (l->a->rows->start[l->b] + r) * t->stride[0] + l->first)
                              : history(l, -r, &dtype);
    if (from)
        cpu_load_row(x, from, dtype, l->n);
    else
        memset(x, 0, sizeof(float) * (size_t)l->n);
}

static void load_weights(struct lane *l)
{
    const struct tensor *w = l->a->w;
    float taps[TAPS];
    for (int64_t c = 0; c < l->n; c++) {
        cpu_load_row(taps, tensor_at(w, (l->first + c) * w->stride[0]), w->dtype, w->dim[1]);
        for (int64_t j = 0; j < w->dim[1]; j++) l->w[j][c] = taps[j];
    }
}

static void make_outputs(const struct lane *l, int64_t T)
{
    const int64_t W = l->a->w->dim[1];
    const struct tensor *y = l->a->y;
    float x[CHANNELS], sum[CHANNELS];
    for (int64_t r = 0; r < T; r++) {
        memset(sum, 0, sizeof sum);
        for (int64_t j = 0; j < W; j++) {
            input_row(l, r - (W - 1) + j, x);
            for (int64_t c = 0; c < l->n; c++) sum[c] = sum[c] + l->w[j][c] * x[c];
        }
        for (int64_t c = 0; c < l->n; c++) sum[c] = cpu_silu(sum[c]);
        cpu_store_row(tensor_at(y, (l->a->rows->start[l->b] + r) * y->stride[0] + l->first),
                      y->dtype, sum, l->n);
    }
}

static void write_ring(const struct lane *l, int64_t T)
{
    const struct conv_args *a = l->a;
    const struct conv_slots *s = a->slots;
    const size_t size = dtype_size(s->dtype);
    for (int64_t r = T > s->ring ? T - s->ring : 0; r < T; r++)
        memcpy((char *)s->x + ring_element(s, a->rows->slot[l->b], a->rows->pos[l->b] + r,
                                           l->first) * (int64_t)size,
               tensor_at(a->x, (a->rows->start[l->b] + r) * a->x->stride[0] + l->first),
               size * (size_t)l->n);
}

static void write_tail(const struct lane *l, int64_t T)
{
    const struct tensor *out = l->a->tail_out;
    const int64_t tail = l->a->w->dim[1] - 1;
    float x[CHANNELS];
    for (int64_t i = 0; i < tail; i++) {
        input_row(l, T - tail + i, x);
        cpu_store_row(tensor_at(out, l->b * out->stride[0] + i * out->stride[1] + l->first),
                      out->dtype, x, l->n);
    }
}

static void run_lanes(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const struct conv_args *a = context;
    const int64_t C = a->x->dim[1], lanes = (C + CHANNELS - 1) / CHANNELS;
    for (int64_t i = begin; i < end; i++) {
        struct lane l = {.a = a, .b = (int)(i / lanes), .first = i % lanes * CHANNELS};
        l.n = C - l.first < CHANNELS ? C - l.first : CHANNELS;
        const int64_t T = a->rows->start[l.b + 1] - a->rows->start[l.b];
        if (a->rows->slot && a->rows->slot[l.b] < 0) {
            for (int64_t r = a->rows->start[l.b]; r < a->rows->start[l.b + 1]; r++)
                memset(tensor_at(a->y, r * a->y->stride[0] + l.first), 0,
                       dtype_size(a->y->dtype) * (size_t)l.n);
            if (a->tail_out) write_tail(&l, 0);
            continue;
        }
        load_weights(&l);
        make_outputs(&l, T);
        if (a->slots && !(MUTANT == 4 && a->rows->draft)) write_ring(&l, T);
        if (a->tail_out) write_tail(&l, T);
    }
}

void cpu_conv_forward(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct conv_args *a = args;
    GDN_CHECK(a->w->dim[1] <= TAPS, "a convolution of %lld taps", (long long)a->w->dim[1]);
    GDN_CHECK(!a->slots || a->slots->dtype == a->x->dtype, "the ring keeps inputs in their type");
    const int64_t lanes = (a->x->dim[1] + CHANNELS - 1) / CHANNELS;
    struct conv_args copy = *a;
    pool_run(device->pool, a->rows->B * lanes, 1, run_lanes, &copy);
}

/* conv: a short causal convolution of every channel, then SiLU unless it is plain.
 *
 *   pre[t, c] = sum_{j=0..W-1} w[c, j] x[t-(W-1)+j, c],  j ascending;   y = silu(pre), or pre
 *
 * x, y [T, C], w [C, W], tail_in and tail_out [B, W-1, C], oldest first. What lies before the first
 * row of a sequence: dense, tail_in or zero; slots, the ring (position p in ring row p mod ring,
 * zero before position 0). A row enters the ring as given and is read from there. tail_out holds
 * the last W-1 inputs, reaching back into tail_in where the sequence is shorter.
 *
 * backward (dense): dpre = dy silu'(pre) (dy);  dw[c, j] = sum_t dpre[t, c] x[t-(W-1)+j, c];
 *   dx[s, c] = sum_j w[c, j] dpre[s+(W-1)-j, c], and what tail_out hands back; the inputs before
 *   the sequence are tail_in's. */
#include "base/check.h"
#include "kernels/ref/ref.h"

/* Input i of sequence b, counted from its first row; i >= -(W-1). */
static double dense_input(const struct conv_args *a, int32_t b, int64_t i, int64_t c)
{
    if (i >= 0) return ref_get(a->x, ref_at(a->x, a->rows->start[b] + i, c, 0));
    return ref_get(a->tail_in, ref_at(a->tail_in, b, a->w->dim[1] - 1 + i, c));
}

static double dense_sum(const struct conv_args *a, int32_t b, int64_t i, int64_t c)
{
    const int64_t W = a->w->dim[1];
    double sum = 0.0;
    for (int64_t j = 0; j < W; j++)
        sum += ref_get(a->w, ref_at(a->w, c, j, 0)) * dense_input(a, b, i - (W - 1) + j, c);
    return sum;
}

static int64_t ring_at(const struct conv_slots *s, int32_t slot, int64_t position, int64_t c)
{
    return ((int64_t)slot * s->ring + position % s->ring) * s->C + c;
}

static double ring_sum(const struct conv_args *a, int32_t b, int64_t i, int64_t c)
{
    const struct conv_slots *s = a->slots;
    const int32_t slot = a->rows->slot[b];
    const int64_t W = a->w->dim[1], p = a->rows->pos[b] + i;
    ref_store(s->dtype, s->x, ring_at(s, slot, p, c),
              ref_get(a->x, ref_at(a->x, a->rows->start[b] + i, c, 0)));
    double sum = 0.0;
    for (int64_t j = 0; j < W; j++) {
        const int64_t from = p - (W - 1) + j;
        if (from < 0) continue;
        sum += ref_get(a->w, ref_at(a->w, c, j, 0)) *
               ref_load(s->dtype, s->x, ring_at(s, slot, from, c));
    }
    return sum;
}

void conv_forward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device, (void)scratch;
    const struct conv_args *a = args;
    const struct rows *rows = a->rows;
    const int64_t C = a->x->dim[1], W = a->w->dim[1];
    GDN_CHECK(!a->slots || (rows->slot && a->slots->ring >= W && !a->tail_in && !a->tail_out),
              "conv: slots stand for the tails");
    for (int32_t b = 0; b < rows->B; b++) {
        const int64_t n = ref_length(rows, b);
        if (ref_absent(rows, b)) ref_clear(a->y, rows->start[b], rows->start[b + 1]);
        for (int64_t i = 0; i < n; i++) {
            for (int64_t c = 0; c < C; c++) {
                const double pre = a->slots ? ring_sum(a, b, i, c) : dense_sum(a, b, i, c);
                ref_put(a->y, ref_at(a->y, rows->start[b] + i, c, 0),
                        a->plain ? pre : ref_act(ACT_SILU, pre));
            }
        }
        for (int64_t j = 0; a->tail_out && j < W - 1; j++)
            for (int64_t c = 0; c < C; c++)
                ref_put(a->tail_out, ref_at(a->tail_out, b, j, c),
                        dense_input(a, b, n - (W - 1) + j, c));
    }
}

/* Channel c of sequence b. dx [W-1 + n] starts with the inputs before the sequence; dw [W]. */
static void channel_backward(const struct conv_args *a, int32_t b, int64_t c, double *dx,
                             double *dw)
{
    const struct tensor *dy = a->y->grad, *dlast = ref_grad(a->tail_out);
    const struct tensor *grad = a->x->grad, *dtail = ref_grad(a->tail_in);
    const int64_t n = ref_length(a->rows, b), W = a->w->dim[1], first = a->rows->start[b];
    for (int64_t i = 0; i < W - 1 + n; i++) dx[i] = 0.0;
    for (int64_t i = 0; i < n; i++) {
        const double slope = a->plain ? 1.0 : ref_act_slope(ACT_SILU, dense_sum(a, b, i, c));
        const double dpre = ref_get(dy, ref_at(dy, first + i, c, 0)) * slope;
        for (int64_t j = 0; j < W; j++) {
            dw[j] += dpre * dense_input(a, b, i - (W - 1) + j, c);
            dx[i + j] += dpre * ref_get(a->w, ref_at(a->w, c, j, 0));
        }
    }
    for (int64_t j = 0; j < W - 1; j++) dx[n + j] += ref_get(dlast, ref_at(dlast, b, j, c));
    for (int64_t j = 0; j < W - 1; j++) ref_add(dtail, ref_at(dtail, b, j, c), dx[j]);
    for (int64_t i = 0; i < n; i++) ref_add(grad, ref_at(grad, first + i, c, 0), dx[W - 1 + i]);
}

void conv_backward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device;
    const struct conv_args *a = args;
    const int64_t C = a->x->dim[1], W = a->w->dim[1];
    GDN_CHECK(a->slots == NULL, "conv: gradients go through dense tails only");
    if (!a->y->grad && !ref_grad(a->tail_out)) return;
    double *dx = ref_take(scratch, W - 1 + ref_longest(a->rows)), *dw = ref_take(scratch, W);
    if (!dx || !dw) return;
    for (int64_t c = 0; c < C; c++) {
        for (int64_t j = 0; j < W; j++) dw[j] = 0.0;
        for (int32_t b = 0; b < a->rows->B; b++) channel_backward(a, b, c, dx, dw);
        for (int64_t j = 0; j < W; j++)
            ref_add(a->w->grad, ref_at(a->w->grad, c, j, 0), dw[j]);
    }
}

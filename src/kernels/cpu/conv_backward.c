/* conv_backward.c: the gradient of the convolution: what surrounds the tiles of
 * conv_backward_tmpl.h. Truth: kernels/ref/conv.c.
 *
 * A strip of channels belongs to one thread, which goes through all sequences in order; dw is summed
 * in f32 over 64 rows of a sequence and in double over these sums, so it is the same for any number
 * of threads. A sequence is followed by W-1 rows without outputs, with which the gradients of its
 * last inputs become complete. */
#include "kernels/cpu/conv.h"
#include "kernels/cpu/cpu.h"

enum { BACK_STRIP = 256 }; /* of which taps, sums and a few rows stay near */

struct back_job {
    const struct conv_args *a;
    conv_back_kernel *kernel;
    struct cpu_work_rows work; /* struct room */
};

/* A thread's working memory; each row is CONV_STRIP long. */
struct room {
    float *w, *dpre, *dw; /* [W], [W-1], [W] */
    double *sum;          /* [W] */
};

static int64_t room_floats(int64_t W) { return (W + (W - 1) + W + 2 * W) * CONV_STRIP; }

static struct room room_of(const struct back_job *job, int thread)
{
    const int64_t W = job->a->w->dim[1];
    float *at = job->work.data + thread * job->work.stride;
    return (struct room){.sum = (double *)(void *)at, .w = at + 2 * W * CONV_STRIP,
                         .dpre = at + 3 * W * CONV_STRIP, .dw = at + (4 * W - 1) * CONV_STRIP};
}

/* The gradient of input i of the sequence: a row of x, or of what was before it. */
static float *input_grad(const struct conv_lane *l, int64_t i)
{
    const struct tensor *x = l->a->x->grad, *tail = l->a->tail_in ? l->a->tail_in->grad : NULL;
    if (i >= 0) return x ? conv_row(l, x, i) : NULL;
    return tail ? conv_tail(l, tail, l->a->w->dim[1] - 1 + i) : NULL;
}

static void add_sums(const struct conv_lane *l, const struct room *room)
{
    for (int64_t j = 0; j < l->a->w->dim[1]; j++) {
        float *dw = room->dw + j * CONV_STRIP;
        for (int64_t c = 0; c < l->n; c++) room->sum[j * CONV_STRIP + c] += (double)dw[c];
        memset(dw, 0, (size_t)l->n * sizeof *dw);
    }
}

static int64_t row_bytes(const struct tensor *t)
{
    return t ? t->stride[0] * (int64_t)dtype_size(t->dtype) : 0;
}

/* Rows r..r+rows-1 of the sequence; those from T on lie behind it. */
static void back_tile(const struct back_job *job, const struct conv_lane *l,
                      const struct room *room, int64_t r, int64_t rows)
{
    const struct conv_args *a = l->a;
    const int64_t W = a->w->dim[1], next = r + rows < l->T ? rows : 0;
    struct conv_back_tile t = {.x_type = a->x->dtype, .rows = rows, .channels = l->n, .W = W,
                               .live = r < l->T, .plain = a->plain, .w = room->w,
                               .dpre = room->dpre, .dw = room->dw};
    t.x_ahead = next * row_bytes(a->x);
    t.dy_ahead = next * row_bytes(a->y->grad);
    t.dx_ahead = next * row_bytes(a->x->grad);
    for (int64_t k = 0; k < rows; k++) t.dx[k] = input_grad(l, r + k - (W - 1));
    for (int64_t k = 0; t.live && k < rows; k++) t.dy[k] = conv_row(l, a->y->grad, r + k);
    for (int64_t k = 0; t.live && k < W - 1 + rows; k++) t.x[k] = conv_input(l, r + k - (W - 1));
    job->kernel(&t);
}

static void through_rows(const struct back_job *job, const struct conv_lane *l,
                         const struct room *room)
{
    const int64_t all = l->T + l->a->w->dim[1] - 1;
    int64_t rows;
    for (int64_t j = 0; j < l->a->w->dim[1] - 1; j++)
        memset(room->dpre + j * CONV_STRIP, 0, (size_t)l->n * sizeof(float));
    for (int64_t r = 0; r < all; r += rows) {
        const int64_t end = r < l->T ? l->T : all;
        rows = end - r < CONV_ROWS ? end - r : CONV_ROWS;
        back_tile(job, l, room, r, rows);
        if ((r + rows) % CPU_SUM_ROWS == 0 || r + rows == l->T) add_sums(l, room);
    }
}

/* tail_out handed on the last W-1 inputs. */
static void through_tail(const struct conv_lane *l)
{
    const int64_t tail = l->a->w->dim[1] - 1;
    for (int64_t j = 0; j < tail; j++) {
        const float *from = conv_tail(l, l->a->tail_out->grad, j);
        float *to = input_grad(l, l->T - tail + j);
        for (int64_t c = 0; to && c < l->n; c++) to[c] += from[c];
    }
}

static void back_strip(const struct back_job *job, int64_t first, int64_t n,
                       const struct room *room)
{
    const struct conv_args *a = job->a;
    const struct tensor *grad = a->w->grad;
    const int64_t W = a->w->dim[1];
    conv_pack_taps(a->w, first, n, room->w);
    memset(room->sum, 0, (size_t)(W * CONV_STRIP) * sizeof *room->sum);
    memset(room->dw, 0, (size_t)(W * CONV_STRIP) * sizeof *room->dw);
    for (int32_t b = 0; b < a->rows->B; b++) {
        const struct conv_lane l = conv_lane(a, b, first, n);
        if (a->y->grad && l.T > 0) through_rows(job, &l, room);
        if (a->tail_out && a->tail_out->grad) through_tail(&l);
    }
    for (int64_t c = 0; grad && c < n; c++) {
        float *to = tensor_at(grad, (first + c) * grad->stride[0]);
        for (int64_t j = 0; j < W; j++) to[j] += (float)room->sum[j * CONV_STRIP + c];
    }
}

static void back_units(void *context, int64_t begin, int64_t end, int thread)
{
    const struct back_job *job = context;
    const struct room room = room_of(job, thread);
    const int64_t C = job->a->x->dim[1], stop = end * CONV_UNIT < C ? end * CONV_UNIT : C;
    for (int64_t c = begin * CONV_UNIT; c < stop; c += BACK_STRIP)
        back_strip(job, c, stop - c < BACK_STRIP ? stop - c : BACK_STRIP, &room);
}

void conv_backward_with(conv_back_kernel *kernel, struct device *device, struct arena *scratch,
                        const struct conv_args *args)
{
    const int64_t C = args->x->dim[1], W = args->w->dim[1];
    struct back_job job = {.a = args, .kernel = kernel};
    GDN_CHECK(!args->slots && W >= 1 && W <= CONV_TAPS,
              "a convolution's gradient goes through dense tails only");
    if (!args->y->grad && !(args->tail_out && args->tail_out->grad)) return;
    job.work = cpu_take_rows(device, scratch, room_floats(W));
    if (!job.work.data) return;
    const int64_t grain = cpu_grain(CONV_UNIT * (args->rows->T + 8));
    pool_run(device->pool, (C + CONV_UNIT - 1) / CONV_UNIT, grain, back_units, &job);
}

/* linear_backward_tmpl.h: the product of linear_backward.h in the words of a vector vocabulary.
 *
 * A thread takes 512 columns of some rows, 256 p at a time: `a` is packed in tiles of TALL rows, `b`,
 * brought to f32, in panels of WIDE vectors; a tile times a panel stays in registers.
 *
 *                  panel of b [256][WIDE]     in the nearest cache, both packs in the second
 *     a            |  tile of c            |
 *     [256][TALL]  |  TALL x WIDE          |  sums in registers, added to c after 256 p */
#include "kernels/cpu/linear_backward.h"
#include "kernels/cpu/row_tmpl.h"

enum {
    OUTER_TALL = VF_REGISTERS >= 32 ? 12 : VL == 8 ? 6 : 4, /* rows of a tile */
    OUTER_WIDE = 2,                                         /* vectors of a panel */
    OUTER_DEEP = 256,                                       /* p of a sum */
    OUTER_ROWS = 10 * OUTER_TALL,                           /* rows and columns of a share */
    OUTER_COLUMNS = 512,
    OUTER_PANEL = OUTER_WIDE * VL
};

struct outer_job {
    const struct outer *o;
    struct cpu_work_rows work; /* [OUTER_ROWS + OUTER_COLUMNS][OUTER_DEEP]: packed a, packed b */
    int64_t column_shares;
};

/* Rows m..m+rows-1, p..p+P-1 to tiles [P][OUTER_TALL]; rows that are not there are 0. */
static void outer_pack_a(const struct outer *o, int64_t m, int64_t rows, int64_t p, int64_t P,
                         float *to)
{
    for (int64_t tile = 0; tile < rows; tile += OUTER_TALL, to += P * OUTER_TALL) {
        const int64_t some = rows - tile < OUTER_TALL ? rows - tile : OUTER_TALL;
        const float *from = o->a + p * o->a_p + (m + tile) * o->a_m;
        if (some < OUTER_TALL) memset(to, 0, (size_t)(P * OUTER_TALL) * sizeof *to);
        if (o->a_m == 1)
            for (int64_t i = 0; i < P; i++)
                memcpy(to + i * OUTER_TALL, from + i * o->a_p, (size_t)some * sizeof *to);
        else
            for (int64_t r = 0; r < some; r++)
                for (int64_t i = 0; i < P; i++)
                    to[i * OUTER_TALL + r] = from[r * o->a_m + i * o->a_p];
    }
}

/* Columns k..stop-1 of a row of what b stands for, k a multiple of OUTER_COLUMNS: where they lie, or
 * brought to `room` [OUTER_COLUMNS] when they are quantised. */
static const void *outer_row(const struct outer *o, int64_t p, int64_t k, int64_t stop, float *room,
                             enum dtype *type)
{
    *type = o->w ? DTYPE_F32 : o->b->dtype;
    const void *row = o->w ? linear_weight_row(o->w, o->b_first + p, type)
                           : cpu_row(o->b, o->b_first + p);
    if (!dtype_quantised(*type)) return (const char *)row + k * (int64_t)dtype_size(*type);
    quant_load_f32(room, row, *type, o->K, k, stop - k);
    *type = DTYPE_F32;
    return room;
}

/* Columns k..stop-1 of rows p..p+P-1 to panels [P][OUTER_PANEL]; columns that are not there are 0.
 * Row by row: what is far away is read in long runs. */
static void outer_pack_b(const struct outer *o, int64_t k, int64_t stop, int64_t p, int64_t P,
                         float *to)
{
    for (int64_t i = 0; i < P; i++) {
        float room[OUTER_COLUMNS];
        enum dtype type;
        const void *row = outer_row(o, p + i, k, stop, room, &type);
        for (int64_t at = k, v = 0; at < stop || v % OUTER_WIDE != 0; at += VL, v++) {
            float *vector = to + (v / OUTER_WIDE * P + i) * OUTER_PANEL + v % OUTER_WIDE * VL;
            const int64_t left = o->K - at;
            vf_store(vector, left >= VL ? row_get(type, row, at - k, VL)
                                        : left > 0 ? row_get(type, row, at - k, left) : vf_zero());
        }
    }
}

static void outer_tile(const struct outer *o, const float *a, const float *b, int64_t P, int64_t m,
                       int64_t rows, int64_t k)
{
    vf sum[OUTER_TALL][OUTER_WIDE];
    VF_UNROLL for (int r = 0; r < OUTER_TALL; r++)
        VF_UNROLL for (int v = 0; v < OUTER_WIDE; v++) sum[r][v] = vf_zero();
    for (int64_t p = 0; p < P; p++, a += OUTER_TALL, b += OUTER_PANEL) {
        vf wide[OUTER_WIDE];
        VF_UNROLL for (int v = 0; v < OUTER_WIDE; v++) wide[v] = vf_load(b + v * VL);
        VF_UNROLL for (int r = 0; r < OUTER_TALL; r++) {
            const vf one = vf_set1(a[r]);
            VF_UNROLL for (int v = 0; v < OUTER_WIDE; v++)
                sum[r][v] = vf_fma(one, wide[v], sum[r][v]);
        }
    }
    VF_UNROLL for (int r = 0; r < OUTER_TALL; r++) {
        if (r >= rows) break;
        float *c = cpu_row(o->c, o->c_row ? o->c_row[m + r] : o->c_first + m + r);
        VF_UNROLL for (int v = 0; v < OUTER_WIDE; v++) {
            const int64_t at = k + v * VL, left = o->K - at;
            if (left > 0) row_add(c, at, left < VL ? left : VL, sum[r][v]);
        }
    }
}

/* Rows m.. and columns k.. of one share. */
static void outer_share(const struct outer *o, int64_t m, int64_t k, float *work)
{
    const int64_t rows = o->M - m < OUTER_ROWS ? o->M - m : OUTER_ROWS;
    const int64_t stop = o->K - k < OUTER_COLUMNS ? o->K : k + OUTER_COLUMNS;
    float *a = work, *b = work + OUTER_ROWS * OUTER_DEEP;
    for (int64_t p = 0; p < o->P; p += OUTER_DEEP) {
        const int64_t P = o->P - p < OUTER_DEEP ? o->P - p : OUTER_DEEP;
        outer_pack_a(o, m, rows, p, P, a);
        outer_pack_b(o, k, stop, p, P, b);
        for (int64_t at = k; at < stop; at += OUTER_PANEL)
            for (int64_t r = 0; r < rows; r += OUTER_TALL)
                outer_tile(o, a + r * P, b + (at - k) * P, P, m + r, rows - r, at);
    }
}

static void outer_shares(void *context, int64_t begin, int64_t end, int thread)
{
    const struct outer_job *job = context;
    float *work = job->work.data + thread * job->work.stride;
    for (int64_t i = begin; i < end; i++)
        outer_share(job->o, i / job->column_shares * OUTER_ROWS,
                    i % job->column_shares * OUTER_COLUMNS, work);
}

static bool outer_run(struct device *device, struct arena *scratch, const struct outer *o)
{
    const size_t mark = arena_mark(scratch);
    struct outer_job job = {.o = o};
    job.work = cpu_take_rows(device, scratch, (OUTER_ROWS + OUTER_COLUMNS) * OUTER_DEEP);
    if (!job.work.data) return false;
    job.column_shares = (o->K + OUTER_COLUMNS - 1) / OUTER_COLUMNS;
    const int64_t row_shares = (o->M + OUTER_ROWS - 1) / OUTER_ROWS;
    pool_run(device->pool, row_shares * job.column_shares, 1, outer_shares, &job);
    arena_release(scratch, mark);
    return true;
}

void CPU_NAME(cpu_linear_backward)(struct device *device, struct arena *scratch, const void *args)
{
    linear_backward_with(outer_run, device, scratch, args);
}

void CPU_NAME(cpu_linear_ce_backward)(struct device *device, struct arena *scratch,
                                      const void *args)
{
    linear_ce_backward_with(outer_run, device, scratch, args);
}

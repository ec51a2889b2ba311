/* linear.c: y = x W^T, and the cross entropy of a head without its logits in memory.
 * Truth: kernels/ref/linear.c, kernels/ref/linear_ce.c.
 *
 * Every output is exactly cpu_dot(x_t, w_n): lanes ascending over k, one tree. What is free is the
 * order among outputs and among lanes. A tile of 4 rows x 2 columns takes the lanes four at a time
 * over a stretch of k that stays in the nearest cache:
 *
 *        k  0123 4567 89ab cdef 0123 ...      pass 0 reads 0123 of each sixteen, pass 1 4567, ..
 *   x0..3   ####                ####          4 x 2 sums of one quad each stay in registers
 *   w0..1   ####                ####
 *
 * x is brought to f32 once per block of rows, a group of 8 weight rows once per block by the thread
 * that owns these columns. */
#include "kernels/cpu/cpu.h"

enum { TILE_ROWS = 4, TILE_COLUMNS = 2, GROUP = 8, STRETCH = 512, MOST_ROWS = 512 };

/* Some rows of x times all or some columns. */
struct product {
    const struct linear *w;
    const float *x[MOST_ROWS]; /* [K] each */
    void *y[MOST_ROWS];        /* each where its column `first` goes */
    enum dtype y_type;
    int64_t rows, first;
    struct cpu_work_rows work; /* [GROUP * K]; none when all parts are f32 */
};

static void dot_tile(const float *const *x, const float *const *w, int64_t K,
                     float (*out)[GROUP], int64_t column)
{
    float lane[TILE_ROWS][TILE_COLUMNS][CPU_LANES] = {0};
    int64_t whole = K - K % CPU_LANES;
    const float *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3], *w0 = w[0], *w1 = w[1];
    for (int64_t begin = 0; begin < whole; begin += STRETCH) {
        int64_t end = begin + STRETCH < whole ? begin + STRETCH : whole;
        for (int l = 0; l < CPU_LANES; l += 4) {
            cpu_quad s00 = cpu_load_quad(&lane[0][0][l]), s01 = cpu_load_quad(&lane[0][1][l]);
            cpu_quad s10 = cpu_load_quad(&lane[1][0][l]), s11 = cpu_load_quad(&lane[1][1][l]);
            cpu_quad s20 = cpu_load_quad(&lane[2][0][l]), s21 = cpu_load_quad(&lane[2][1][l]);
            cpu_quad s30 = cpu_load_quad(&lane[3][0][l]), s31 = cpu_load_quad(&lane[3][1][l]);
            for (int64_t k = begin + l; k < end; k += CPU_LANES) {
                cpu_quad a = cpu_load_quad(w0 + k), b = cpu_load_quad(w1 + k), q;
                q = cpu_load_quad(x0 + k), s00 += q * a, s01 += q * b;
                q = cpu_load_quad(x1 + k), s10 += q * a, s11 += q * b;
                q = cpu_load_quad(x2 + k), s20 += q * a, s21 += q * b;
                q = cpu_load_quad(x3 + k), s30 += q * a, s31 += q * b;
            }
            memcpy(&lane[0][0][l], &s00, sizeof s00), memcpy(&lane[0][1][l], &s01, sizeof s01);
            memcpy(&lane[1][0][l], &s10, sizeof s10), memcpy(&lane[1][1][l], &s11, sizeof s11);
            memcpy(&lane[2][0][l], &s20, sizeof s20), memcpy(&lane[2][1][l], &s21, sizeof s21);
            memcpy(&lane[3][0][l], &s30, sizeof s30), memcpy(&lane[3][1][l], &s31, sizeof s31);
        }
    }
    for (int i = 0; i < TILE_ROWS; i++)
        for (int j = 0; j < TILE_COLUMNS; j++) {
            for (int64_t k = whole; k < K; k++) lane[i][j][k - whole] += x[i][k] * w[j][k];
            out[i][column + j] = cpu_lanes_sum(lane[i][j]);
        }
}

/* Row n of W in f32: where it lies, or brought to `room`. */
static const float *weight_row(const struct linear *w, int64_t n, float *room)
{
    const struct linear_part *part = linear_part_of(w, n);
    const struct tensor *t = part->w;
    const void *row = cpu_row(t, part->from + n - part->row);
    if (t->dtype == DTYPE_F32) return row;
    cpu_load_row(room, row, t->dtype, w->K);
    return room;
}

static void put(const struct product *p, int64_t row, int64_t column, const float *out, int64_t n)
{
    char *y = p->y[row];
    cpu_store_row(y + column * (int64_t)dtype_size(p->y_type), p->y_type, out, n);
}

static void product_columns(void *context, int64_t begin, int64_t end, int thread)
{
    const struct product *p = context;
    int64_t K = p->w->K, group;
    float *room = p->work.data ? p->work.data + thread * p->work.stride : NULL;
    for (int64_t n = begin; n < end; n += group) {
        const float *w[GROUP + 1];
        group = end - n < GROUP ? end - n : GROUP;
        for (int64_t j = 0; j < group; j++)
            w[j] = weight_row(p->w, p->first + n + j, room ? room + j * K : NULL);
        w[group] = w[group - 1]; /* the odd one of a tile is computed twice, kept once */
        int64_t t = 0;
        for (; t + TILE_ROWS <= p->rows; t += TILE_ROWS) {
            float out[TILE_ROWS][GROUP];
            for (int64_t j = 0; j < group; j += TILE_COLUMNS) dot_tile(p->x + t, w + j, K, out, j);
            for (int i = 0; i < TILE_ROWS; i++) put(p, t + i, n, out[i], group);
        }
        for (; t < p->rows; t++) {
            float out[GROUP];
            for (int64_t j = 0; j < group; j++) out[j] = cpu_dot(p->x[t], w[j], K);
            put(p, t, n, out, group);
        }
    }
}

/* Rows that are multiplied together: few enough to stay in a cache, enough to share the weights. */
static int64_t block_rows(int64_t K)
{
    int64_t rows = (INT64_C(1) << 18) / (K + 1) / TILE_ROWS * TILE_ROWS;
    return rows < 32 ? 32 : rows > MOST_ROWS ? MOST_ROWS : rows;
}

/* The product of one op call, with its share of the scratch; NULL when that is full. *x_room is
 * where a block of x goes that is not f32. */
static struct product *product_new(struct device *device, struct arena *scratch,
                                   const struct linear *w, const struct tensor *x, float **x_room)
{
    struct product *p = arena_take(scratch, sizeof *p);
    if (!p) return NULL;
    *p = (struct product){.w = w};
    *x_room = NULL;
    for (int i = 0; i < w->parts && !p->work.data; i++) {
        if (w->part[i].w->dtype == DTYPE_F32) continue;
        p->work = cpu_take_rows(device, scratch, GROUP * w->K);
        if (!p->work.data) return NULL;
    }
    if (x->dtype != DTYPE_F32) {
        *x_room = arena_take(scratch, (size_t)(block_rows(w->K) * w->K) * sizeof **x_room);
        if (!*x_room) return NULL;
    }
    return p;
}

/* Adds row t of x to the block. */
static void product_add(struct product *p, const struct tensor *x, int64_t t, float *x_room)
{
    const void *row = cpu_row(x, t);
    if (x_room) {
        float *to = x_room + p->rows * p->w->K;
        cpu_load_row(to, row, x->dtype, p->w->K);
        row = to;
    }
    p->x[p->rows++] = row;
}

void cpu_linear_forward(struct device *device, struct arena *scratch, const void *args)
{
    const struct linear_args *a = args;
    float *x_room;
    int64_t T = cpu_rows(a->x), most = block_rows(a->w->K);
    struct product *p = product_new(device, scratch, a->w, a->x, &x_room);
    if (!p) return;
    p->y_type = a->y->dtype;
    for (int64_t t = 0; t < T;) {
        for (p->rows = 0; t < T && p->rows < most; t++) {
            p->y[p->rows] = cpu_row(a->y, t);
            product_add(p, a->x, t, x_room);
        }
        pool_run(device->pool, a->w->N, GROUP, product_columns, p);
    }
}

/* ---- cross entropy -------------------------------------------------------------------------- */

/* loss = logsumexp - logit of the target, for the rows that have one, a tile of the vocabulary at
 * a time. The tiles are those of cpu_lse: the sum is that of whole rows of logits. */
struct entropy {
    const struct linear_ce_args *args;
    struct product *product;
    float *logits; /* [rows, CPU_LSE_TILE] */
    int64_t tile;  /* columns of this tile */
    int64_t row[MOST_ROWS];
    float hit[MOST_ROWS]; /* the target's logit, once its tile has come */
    struct cpu_lse lse[MOST_ROWS];
};

static void entropy_rows(void *context, int64_t begin, int64_t end, int thread)
{
    struct entropy *e = context;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const float *logits = e->logits + i * CPU_LSE_TILE;
        int64_t target = e->args->targets[e->row[i]] - e->product->first;
        cpu_lse_add(&e->lse[i], logits, e->tile);
        if (target >= 0 && target < e->tile) e->hit[i] = logits[target];
    }
}

static void entropy_block(struct device *device, struct entropy *e)
{
    struct product *p = e->product;
    int64_t vocab = e->args->vocab;
    for (int64_t i = 0; i < p->rows; i++) {
        e->lse[i] = (struct cpu_lse){-INFINITY, 0.0f};
        p->y[i] = e->logits + i * CPU_LSE_TILE;
    }
    for (p->first = 0; p->rows && p->first < vocab; p->first += CPU_LSE_TILE) {
        e->tile = vocab - p->first < CPU_LSE_TILE ? vocab - p->first : CPU_LSE_TILE;
        pool_run(device->pool, e->tile, GROUP, product_columns, p);
        pool_run(device->pool, p->rows, 8, entropy_rows, e);
    }
    for (int64_t i = 0; i < p->rows; i++) {
        float loss = (float)(cpu_lse_value(&e->lse[i]) - (double)e->hit[i]);
        cpu_store_row(tensor_at(e->args->loss, e->row[i]), e->args->loss->dtype, &loss, 1);
    }
}

void cpu_linear_ce_forward(struct device *device, struct arena *scratch, const void *args)
{
    const struct linear_ce_args *a = args;
    const struct tensor *loss = a->loss;
    const float none = 0.0f;
    float *x_room;
    int64_t T = cpu_rows(a->x), most = block_rows(a->w->K);
    struct product *p = product_new(device, scratch, a->w, a->x, &x_room);
    struct entropy *e = arena_take(scratch, sizeof *e);
    float *logits = arena_take(scratch, (size_t)(most * CPU_LSE_TILE) * sizeof *logits);
    if (!p || !e || !logits) return;
    e->args = a;
    e->product = p;
    e->logits = logits;
    p->y_type = DTYPE_F32;
    for (int64_t t = 0; t < T;) {
        for (p->rows = 0; t < T && p->rows < most; t++) {
            if (a->targets[t] < 0) {
                cpu_store_row(tensor_at(loss, t), loss->dtype, &none, 1);
                continue;
            }
            GDN_CHECK(a->targets[t] < a->vocab, "target %d", a->targets[t]);
            e->row[p->rows] = t;
            product_add(p, a->x, t, x_room);
        }
        entropy_block(device, e);
    }
}

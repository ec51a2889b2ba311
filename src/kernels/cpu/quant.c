/* quant.c: which products are made of int8, their x, and the product for any machine. */
#include "kernels/cpu/quant.h"

#include "base/cpu.h"

/* Of a share; of what is made together, as streams side by side, each as far as a share goes. */
enum { COLUMNS = 64, STREAMS = 4, CHUNK = STREAMS * COLUMNS };

/* ---- x ------------------------------------------------------------------------------------------ */

/* Where element i of block b stands. */
static int64_t code_place(enum dtype dtype, int64_t b, int64_t i)
{
    if (dtype == DTYPE_Q8) return b * QUANT_BLOCK + i;
    return b / 4 * 4 * QUANT_BLOCK + i / 16 * 64 + b % 4 * 16 + i % 16;
}

/* s_b; the sum of the codes. A block with a number that is not finite has NaN for its scale. */
static float enter_block(int8_t *code, enum dtype dtype, int64_t b, const float *x, int32_t *sum)
{
    const float shift = 0x1.8p23f; /* to the nearest whole number */
    uint32_t most = 0;
    int32_t q[QUANT_BLOCK];
    for (int i = 0; i < QUANT_BLOCK; i++) {
        const uint32_t size = f32_bits(x[i]) & 0x7fffffffu;
        most = size > most ? size : most;
    }
    const bool finite = most < 0x7f800000u;
    const float scale = finite ? f32_of_bits(most) / 127 : NAN, over = 1 / scale;
    const bool none = !finite || !(over < INFINITY); /* 0, or too small to divide by */
    *sum = 0;
    for (int i = 0; i < QUANT_BLOCK; i++) {
        q[i] = none ? 0 : (int32_t)((x[i] * over + shift) - shift);
        *sum += q[i];
    }
    for (int64_t h = 0; h < 2; h++)
        for (int64_t i = 0; i < 16; i++)
            code[code_place(dtype, b, 16 * h) + i] = (int8_t)q[16 * h + i];
    return scale;
}

static void enter_row(const struct quant_x *to, enum dtype dtype, const void *x, enum dtype x_type,
                      int64_t K, int64_t blocks)
{
    int8_t *code = (int8_t *)(size_t)to->code;
    float *scale = (float *)(size_t)to->scale, *sum = (float *)(size_t)to->sum;
    int32_t *less = (int32_t *)(size_t)to->less;
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t k = b * QUANT_BLOCK, left = K - k;
        float block[QUANT_BLOCK] = {0};
        int32_t codes;
        if (left > 0)
            cpu_load_row(block, (const char *)x + k * (int64_t)dtype_size(x_type), x_type,
                         left < QUANT_BLOCK ? left : QUANT_BLOCK);
        scale[b] = enter_block(code, dtype, b, block, &codes);
        sum[b] = scale[b] * (float)codes;
        for (int64_t i = 0; dtype == DTYPE_Q8 && i < 8; i++) {
            const int8_t *four = code + b * QUANT_BLOCK + 4 * i;
            less[8 * b + i] = -128 * (four[0] + four[1] + four[2] + four[3]);
        }
    }
}

/* ---- the product for any machine ---------------------------------------------------------------- */

static int32_t block_dot(const uint8_t *code, enum dtype dtype, int64_t b, const int8_t *x)
{
    int32_t sum = 0;
    if (dtype == DTYPE_Q8) {
        for (int i = 0; i < QUANT_BLOCK; i++)
            sum += (int8_t)code[b * QUANT_BLOCK + i] * x[b * QUANT_BLOCK + i];
        return sum;
    }
    const int8_t *low = x + code_place(dtype, b, 0), *high = low + 64;
    for (int i = 0; i < 16; i++)
        sum += (code[16 * b + i] & 15) * low[i] + (code[16 * b + i] >> 4) * high[i];
    return sum;
}

void quant_dot_portable(float *y, const void *const *row, int rows, enum dtype dtype,
                        int64_t blocks, const struct quant_x *x)
{
    for (int r = 0; r < rows; r++) {
        const struct quant_row w = quant_row_at(row[r], dtype, blocks * QUANT_BLOCK);
        float sum = 0;
        for (int64_t b = 0; b < blocks; b++) {
            sum += quant_f16(w.scale, b) * x->scale[b] *
                   (float)block_dot(w.code, dtype, b, x->code);
            if (dtype == DTYPE_Q4) sum += quant_f16(w.minimum, b) * x->sum[b];
        }
        y[r] = sum;
    }
}

/* ---- a list of products ------------------------------------------------------------------------- */

/* A product with its x, columns of one type. */
struct entered {
    struct product p;
    enum dtype dtype;
    struct quant_x *x;              /* [rows] */
    int64_t blocks;                 /* of K, as in a row of weights */
    int64_t first_row, first_share; /* of this product, counted over the list */
};

struct job {
    quant_dot *dot;
    struct entered *list;
};

static int64_t shares(const struct product *p) { return (p->columns + COLUMNS - 1) / COLUMNS; }

static int64_t padded(int64_t blocks)
{
    return (blocks + QUANT_SCALES - 1) / QUANT_SCALES * QUANT_SCALES;
}

static void enter_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct entered *e = ((const struct job *)context)->list;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        while (i >= e->first_row + e->p.rows) e++;
        enter_row(&e->x[i - e->first_row], e->dtype, e->p.x[i - e->first_row], e->p.x_type,
                  e->p.w->K, padded(e->blocks));
    }
}

/* Columns n .. n + columns - 1, at most CHUNK, of all rows. Rows of weights take turns from STREAMS
 * places: memory is read faster so than as one stream. */
static void make_chunk(const struct job *job, const struct entered *e, int64_t n, int64_t columns)
{
    const int64_t apart = (columns + STREAMS - 1) / STREAMS;
    float sum[QUANT_FEW][CHUNK];
    for (int64_t i = 0; i < apart;) {
        const void *row[QUANT_ROWS];
        int64_t place[QUANT_ROWS];
        enum dtype dtype;
        int rows = 0;
        for (; rows + STREAMS <= QUANT_ROWS && i < apart; i++)
            for (int64_t c = i; c < columns; c += apart, rows++)
                place[rows] = c, row[rows] = linear_weight_row(e->p.w, n + c, &dtype);
        for (int64_t r = 0; r < e->p.rows; r++) {
            float y[QUANT_ROWS];
            job->dot(y, row, rows, e->dtype, e->blocks, &e->x[r]);
            for (int j = 0; j < rows; j++) sum[r][place[j]] = y[j];
        }
    }
    for (int64_t r = 0; r < e->p.rows; r++)
        cpu_store_row((char *)e->p.y[r] + (n - e->p.y_first) * (int64_t)dtype_size(e->p.y_type),
                      e->p.y_type, sum[r], columns);
}

static void make_shares(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    const struct entered *e = job->list;
    (void)thread;
    for (int64_t i = begin, next; i < end; i = next) {
        while (i >= e->first_share + shares(&e->p)) e++;
        const int64_t last = e->first_share + shares(&e->p), at = (i - e->first_share) * COLUMNS;
        next = i + CHUNK / COLUMNS;
        if (next > end) next = end;
        if (next > last) next = last;
        const int64_t most = (next - i) * COLUMNS, left = e->p.columns - at;
        make_chunk(job, e, e->p.first + at, left < most ? left : most);
    }
}

static bool take_x(struct entered *e, struct arena *scratch)
{
    const size_t n = (size_t)padded(e->blocks), block = QUANT_BLOCK + 8 * sizeof(int32_t);
    e->x = arena_take(scratch, (size_t)e->p.rows * sizeof *e->x);
    for (int64_t r = 0; r < e->p.rows; r++) {
        int8_t *code = arena_take(scratch, n * block);
        float *scale = arena_take(scratch, 2 * n * sizeof *scale);
        if (!e->x || !code || !scale) return false;
        e->x[r] = (struct quant_x){code, (int32_t *)(void *)(code + n * QUANT_BLOCK), scale,
                                   scale + n};
    }
    return e->x;
}

static quant_dot *dot_of(const struct device *device)
{
    const uint32_t vnni = CPU_AVX512 | CPU_AVX512_VNNI;
    if ((device->isa & vnni) == vnni) return quant_dot_vnni;
    return device->isa & CPU_AVX2 ? quant_dot_avx2 : quant_dot_portable;
}

static bool run_entered(struct device *device, struct arena *scratch, struct entered *list,
                        int64_t count)
{
    struct job job = {dot_of(device), list};
    int64_t rows = 0, all = 0;
    for (int64_t i = 0; i < count; i++) {
        list[i].first_row = rows, list[i].first_share = all;
        rows += list[i].p.rows, all += shares(&list[i].p);
        if (!take_x(&list[i], scratch)) return false;
    }
    pool_run(device->pool, rows, 1, enter_rows, &job);
    pool_run(device->pool, all, 1, make_shares, &job);
    return true;
}

/* ---- which are made here ------------------------------------------------------------------------ */

static int64_t part_end(const struct linear *w, int64_t n)
{
    const struct linear_part *part = linear_part_of(w, n);
    return part->row + part->rows;
}

/* Columns from n on whose weights are all of one quantised type, or all of none; *type: which. */
static int64_t run_of_columns(const struct product *p, int64_t n, enum dtype *type)
{
    const int64_t end = p->first + p->columns;
    int64_t at = n;
    linear_weight_row(p->w, n, type);
    for (enum dtype next = *type; at < end;) {
        at = part_end(p->w, at);
        if (at < end) linear_weight_row(p->w, at, &next);
        if (next != *type && (dtype_quantised(next) || dtype_quantised(*type))) break;
    }
    return (at < end ? at : end) - n;
}

/* Cuts a product into runs; those that are made here go to one list, the others to the other. */
static void cut_product(const struct product *p, struct entered *here, int64_t *n_here,
                        struct product *there, int64_t *n_there)
{
    for (int64_t n = p->first, columns; n < p->first + p->columns; n += columns) {
        struct product some = *p;
        enum dtype type;
        columns = run_of_columns(p, n, &type);
        some.first = n, some.columns = columns;
        if (dtype_quantised(type) && p->rows < QUANT_FEW)
            here[(*n_here)++] = (struct entered){.p = some, .dtype = type,
                                                 .blocks = quant_blocks(p->w->K)};
        else
            there[(*n_there)++] = some;
    }
}

bool quant_products(product_kernel *run, struct device *device, struct arena *scratch,
                    const struct product *list, int64_t count)
{
    const size_t mark = arena_mark(scratch);
    int64_t most = 0, n_here = 0, n_there = 0;
    for (int64_t i = 0; i < count; i++) most += list[i].w->parts;
    struct entered *here = arena_take(scratch, (size_t)most * sizeof *here);
    struct product *there = arena_take(scratch, (size_t)most * sizeof *there);
    bool room = here && there;
    for (int64_t i = 0; room && i < count; i++)
        cut_product(&list[i], here, &n_here, there, &n_there);
    if (room && n_here > 0) room = run_entered(device, scratch, here, n_here);
    if (room && n_there > 0) room = run(device, scratch, there, n_there);
    arena_release(scratch, mark);
    return room;
}

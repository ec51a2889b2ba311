/* Laws of the matrix products (docs/kernels/linear.md): the bits of an output are a function of its
 * row of x and its row of W. Not of how many rows and columns are multiplied with them, of how W is
 * cut into parts, of how far apart rows lie, or of the threads. A quantised W has the bits of the bf16
 * one with its values. And numbers at the edges of f32. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"
#include "harness/suite.h"
#include "tensor/quant.h"

enum { ROWS = 512, GAP = 8 }; /* even rows stay even */

/* x [ROWS, K] with GAP elements between its rows, W [N, K], y [ROWS, N]. */
struct product {
    int64_t K, N;
    enum dtype act, weight;
    struct tensor x, w, y;
};

static const struct {
    int64_t K, N;
    enum dtype act, weight;
} cases[] = {{1024, 103, DTYPE_BF16, DTYPE_BF16}, {520, 70, DTYPE_F32, DTYPE_BF16},
             {333, 81, DTYPE_BF16, DTYPE_BF16},   {800, 33, DTYPE_F32, DTYPE_F32},
             {777, 40, DTYPE_F32, DTYPE_F16},     {1024, 70, DTYPE_BF16, DTYPE_Q8},
             {2304, 41, DTYPE_BF16, DTYPE_Q4},    {3584, 25, DTYPE_BF16, DTYPE_Q8},
             {333, 33, DTYPE_BF16, DTYPE_Q8},     {520, 40, DTYPE_F32, DTYPE_Q4},
             {2048, 205, DTYPE_BF16, DTYPE_BF16}, {3584, 90, DTYPE_BF16, DTYPE_BF16}};

static void put(struct tensor *t, int64_t i, float x)
{
    if (t->dtype == DTYPE_F32)
        ((float *)t->data)[i] = x;
    else
        ((uint16_t *)t->data)[i] = t->dtype == DTYPE_F16 ? f32_to_f16(x) : f32_to_bf16(x);
}

static bool quantised_matrix(struct tensor *t, enum dtype dtype, int64_t rows, int64_t width,
                             uint64_t seed)
{
    struct rng rng = {.seed = seed};
    float *row = mem_take_array((size_t)width, sizeof *row);
    *t = tensor_over(NULL, dtype, 2, (int64_t[]){rows, width});
    t->data = mem_take((size_t)(rows * t->stride[0]));
    for (int64_t r = 0; row && t->data && r < rows; r++) {
        for (int64_t i = 0; i < width; i++) row[i] = (float)rng_normal(&rng);
        quant_store(tensor_at(t, r * t->stride[0]), dtype, row, width);
    }
    mem_give(row);
    return row && t->data;
}

static bool matrix(struct tensor *t, enum dtype dtype, int64_t rows, int64_t width, int64_t apart,
                   uint64_t seed)
{
    if (dtype_quantised(dtype)) return quantised_matrix(t, dtype, rows, width, seed);
    *t = tensor_over(NULL, dtype, 2, (int64_t[]){rows, width});
    t->stride[0] = apart;
    t->data = mem_take((size_t)(rows * apart) * dtype_size(dtype));
    struct rng rng = {.seed = seed};
    for (int64_t i = 0; t->data && i < rows * apart; i++)
        put(t, i, i % apart < width ? (float)rng_normal(&rng) : NAN);
    return t->data;
}

static void product_close(struct product *p)
{
    mem_give(p->x.data);
    mem_give(p->w.data);
    mem_give(p->y.data);
}

static bool product_open(struct product *p, int i, struct verdict *v)
{
    *p = (struct product){.K = cases[i].K, .N = cases[i].N, .act = cases[i].act,
                          .weight = cases[i].weight};
    v->cases++;
    const bool good = matrix(&p->x, p->act, ROWS, p->K, p->K + GAP, 1) &&
                      matrix(&p->w, p->weight, p->N, p->K, p->K, 2) &&
                      matrix(&p->y, p->act, ROWS, p->N, p->N, 3);
    return EXPECT(v, good, "no memory");
}

enum { PARTS = 3 };

static size_t bytes_of(const struct tensor *t)
{
    return (size_t)(t->dim[0] * t->stride[0]) * dtype_size(t->dtype);
}

/* A device that does not read the host's memory gets the numbers in its own. */
static bool lend(struct device *d, struct tensor *t)
{
    const void *numbers = t->data;
    if (d->host) return true;
    t->data = d->take(d, bytes_of(t));
    if (t->data) d->upload(d, t->data, numbers, bytes_of(t));
    return t->data;
}

static void take_back(struct device *d, const struct tensor *t)
{
    if (!d->host && t->data) d->give(d, t->data);
}

/* Rows first.. of y, through W as these parts. */
static bool multiply(const struct product *p, struct station *s, int64_t first, int64_t rows,
                     const struct linear_part *part, int parts, struct tensor *y, struct verdict *v)
{
    struct linear_part there[PARTS];
    struct tensor weight[PARTS], x = p->x, out = *y;
    bool lent = true;
    struct linear w = {.K = p->K, .parts = parts, .part = there};
    x.data = tensor_at(&x, first * x.stride[0]);
    x.dim[0] = y->dim[0] = out.dim[0] = rows;
    for (int i = 0; i < parts; i++) {
        there[i] = part[i];
        weight[i] = *part[i].w;
        there[i].w = &weight[i];
        lent = lend(s->device, &weight[i]) && lent;
        w.N += part[i].rows;
    }
    lent = lend(s->device, &x) && lent;
    lent = lend(s->device, &out) && lent;
    const struct linear_args a = {.x = &x, .y = &out, .w = &w};
    const bool ran = EXPECT(v, lent, "no memory") &&
                     station_run(s, s->device->forward[OP_LINEAR], &a, v);
    if (ran && !s->device->host) s->device->download(s->device, y->data, out.data, bytes_of(&out));
    for (int i = 0; i < parts; i++) take_back(s->device, &weight[i]);
    take_back(s->device, &x);
    take_back(s->device, &out);
    return ran;
}

static bool multiply_all(struct product *p, struct station *s, struct verdict *v)
{
    const struct linear_part whole = {.w = &p->w, .rows = p->N};
    return multiply(p, s, 0, ROWS, &whole, 1, &p->y, v);
}

/* Columns at, .. of rows first.. of y are what `part` has. */
static void expect_bits(const struct product *p, const struct tensor *part, int64_t first, int64_t at,
                        struct verdict *v, const char *when)
{
    const size_t size = dtype_size(p->act);
    for (int64_t r = 0; r < part->dim[0]; r++)
        if (!EXPECT(v, memcmp(tensor_at(&p->y, (first + r) * p->N + at),
                              tensor_at(part, r * part->stride[0]), (size_t)part->dim[1] * size) == 0,
                    "row %d of a product of %d x %d has other bits %s", (int)(first + r), (int)p->N,
                    (int)p->K, when))
            return;
}

static void rows(struct lab *lab, struct verdict *v, const struct law *law)
{
    static const int64_t counts[] = {1, 2, 3, 4, 5, 6, 7, 15, 16, 17, 33, 65, 511};
    enum { COUNTS = sizeof counts / sizeof *counts };
    (void)law;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct product p;
        struct tensor y = {0};
        if (product_open(&p, (int)i, v) && multiply_all(&p, &lab->under[0], v) &&
            matrix(&y, p.act, ROWS, p.N, p.N, 4))
            for (int c = 0; c < COUNTS; c++) {
                const struct linear_part whole = {.w = &p.w, .rows = p.N};
                const int64_t first = (ROWS - counts[c]) * (c % 3) / 2;
                if (multiply(&p, &lab->under[c % LAB_STATIONS], first, counts[c], &whole, 1, &y, v))
                    expect_bits(&p, &y, first, 0, v, "among fewer rows");
            }
        mem_give(y.data);
        product_close(&p);
    }
}

/* W in pieces of odd sizes, one behind the other. */
static void cut_parts(struct lab *lab, const struct product *p, struct tensor *y, struct verdict *v)
{
    struct tensor w = p->w;
    const int64_t a = 19, b = p->N - 1;
    const struct linear_part part[] = {{&w, 0, a, 0}, {&w, a, b - a, a}, {&w, b, p->N - b, b}};
    y->dim[1] = y->stride[0] = p->N;
    for (int64_t n = 1; n <= 65; n *= 8)
        if (multiply(p, &lab->under[n % LAB_STATIONS], 0, n, part, 3, y, v))
            expect_bits(p, y, 0, 0, v, "in parts");
}

/* With three rows of f32 between its columns 18 and 19. */
static void mixed_parts(struct lab *lab, const struct product *p, struct tensor *other,
                        struct tensor *y, struct verdict *v)
{
    struct tensor w = p->w;
    const int64_t a = 19;
    const struct linear_part part[] = {{&w, 0, a, 0}, {other, 0, 3, a}, {&w, a, p->N - a, a + 3}};
    y->dim[1] = y->stride[0] = p->N + 3;
    for (int64_t n = 1; n <= 65; n *= 8) {
        if (!multiply(p, &lab->under[n % LAB_STATIONS], 0, n, part, 3, y, v)) continue;
        struct tensor left = *y, right = *y;
        left.dim[1] = a, right.dim[1] = p->N - a;
        right.data = tensor_at(y, a + 3);
        expect_bits(p, &left, 0, 0, v, "before a part of another type");
        expect_bits(p, &right, 0, a, v, "behind a part of another type");
    }
}

static void parts(struct lab *lab, struct verdict *v, const struct law *law)
{
    (void)law;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct product p;
        struct tensor y = {0}, other = {0};
        if (product_open(&p, (int)i, v) && multiply_all(&p, &lab->under[0], v) &&
            matrix(&y, p.act, 65, p.N + 3, p.N + 3, 4) &&
            matrix(&other, DTYPE_F32, 3, p.K, p.K, 5)) {
            cut_parts(lab, &p, &y, v);
            mixed_parts(lab, &p, &other, &y, v);
        }
        mem_give(other.data);
        mem_give(y.data);
        product_close(&p);
    }
}

/* The bf16 weight that has the values of a quantised one. */
static bool settle(struct tensor *t, const struct tensor *from, int64_t rows, int64_t width)
{
    *t = tensor_over(NULL, DTYPE_BF16, 2, (int64_t[]){rows, width});
    t->data = mem_take((size_t)(rows * width) * sizeof(uint16_t));
    for (int64_t r = 0; t->data && r < rows; r++)
        quant_load_bf16((uint16_t *)t->data + r * width, tensor_at(from, r * from->stride[0]),
                        from->dtype, width, 0, width);
    return t->data;
}

static void values(struct lab *lab, struct verdict *v, const struct law *law)
{
    static const int64_t counts[] = {1, 8, 13, 32, 64, 65, ROWS};
    (void)law;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct product p;
        struct tensor y = {0}, plain = {0};
        if (!dtype_quantised(cases[i].weight)) continue;
        if (product_open(&p, (int)i, v) && multiply_all(&p, &lab->under[0], v) &&
            settle(&plain, &p.w, p.N, p.K) && matrix(&y, p.act, ROWS, p.N, p.N, 4))
            for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
                const struct linear_part whole = {.w = &plain, .rows = p.N};
                if (multiply(&p, &lab->under[1], 0, counts[c], &whole, 1, &y, v))
                    expect_bits(&p, &y, 0, 0, v, "than quantised");
            }
        mem_give(plain.data);
        mem_give(y.data);
        product_close(&p);
    }
}

/* What a sum of three bf16 must get right: infinities, NaN, the largest and the smallest numbers. Row r
 * of x is one number, then zeros; W is 1 there. */
static const float edge[] = {INFINITY, -INFINITY,      NAN,   3.40282347e38f, -3.3e38f,      1.0f,
                             0x1p-126f, 0x1.fffffep0f, -0.0f, 1e-40f,         0x1.fffffep-100f};
enum { EDGES = sizeof edge / sizeof *edge };

static void expect_edge(const struct product *p, int64_t r, int64_t n, struct verdict *v)
{
    const void *at = tensor_at(&p->y, r * p->N + n);
    const bool half = p->act == DTYPE_BF16;
    const float exact = r < EDGES ? edge[r] : 0.0f;
    const float want = half ? bf16_to_f32(f32_to_bf16(exact)) : exact;
    const float got = half ? bf16_to_f32(*(const uint16_t *)at) : *(const float *)at;
    bool good = got == want;
    if (isnan(want)) good = isnan(got);
    /* Parts below the smallest normal number are flushed to 0. */
    if (fabsf(want) < 0x1p-90f) good = fabsf(got - want) <= 0x1p-126f;
    EXPECT(v, good, "%g times 1 is %g", (double)want, (double)got);
}

static void edges(struct lab *lab, struct verdict *v, const struct law *law)
{
    (void)law;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct product p;
        if (dtype_quantised(cases[i].weight)) continue;
        if (product_open(&p, (int)i, v)) {
            memset(p.x.data, 0, (size_t)(ROWS * (p.K + GAP)) * dtype_size(p.act));
            for (int64_t n = 0; n < p.N; n++) put(&p.w, n * p.K + 7, 1.0f);
            for (int r = 0; r < EDGES; r++) put(&p.x, r * (p.K + GAP) + 7, edge[r]);
            if (multiply_all(&p, &lab->under[1], v))
                for (int64_t r = 0; r < ROWS; r++)
                    for (int64_t n = 0; n < p.N; n += p.N - 1) expect_edge(&p, r, n, v);
        }
        product_close(&p);
    }
}

static const struct law laws[] = {{.name = "rows", .run = rows},
                                  {.name = "parts", .run = parts},
                                  {.name = "values", .run = values},
                                  {.name = "edges", .run = edges}};
SUITE(linear_bits, LAWS(laws));

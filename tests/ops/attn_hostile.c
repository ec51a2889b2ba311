/* Laws of op_attn on pages that hold numbers of somebody else: a row's bits are a function of its
 * past, whatever stands behind it, wherever its pages lie, however it is cut and whoever does it.
 * With every instruction set, over several spans, in f32, f16 and bf16.
 *
 * The file is linked twice, like attn and attn_pages: with the library's AMX tiles, which few
 * machines have, and with tiles in plain C (tile.h), which run wherever there is AVX-512 with bf16. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "harness/suite.h"
#include "harness/ways.h"
#include "kernels/cpu/cpu.h"

/* ---- which code --------------------------------------------------------------------------------- */

static void choice(struct lab *lab, struct verdict *v, const struct law *law)
{
#ifdef GDN_TILE_EMULATED
    const uint32_t needs = CPU_AVX512 | CPU_AVX512_BF16;
#else
    const uint32_t needs = CPU_AVX512 | CPU_AVX512_BF16 | CPU_AMX;
#endif
    v->cases++;
    if ((cpu_flags() & needs) != needs)
        fprintf(stderr, "attn_hostile %s: SKIPPED, there are no tiles here\n", law->name);
    else
        EXPECT(v, lab->under[0].device->forward[OP_ATTN] == cpu_attn_forward_amx,
               "attention is not on tiles");
}

/* ---- a past and what comes behind it ------------------------------------------------------------ */

enum { LATENT = 1, POOL = 23, TENSORS = 4 };
enum { Q, K, V, O };

/* shape: T tokens from position `start` on; Hk, R, D, Dv, act, option as in attn_pages.c. */
struct past {
    struct shape s;
    int rows; /* start + T */
    void *value[TENSORS]; /* [rows] of q, k, v and, of a run, o */
    struct kv_pages pages;
    int32_t table[POOL];
};

static const struct shape shapes[] = {
    {.T = 70, .start = 1100, .Hk = 1, .R = 2, .D = 40, .Dv = 24, .act = DTYPE_BF16},
    {.T = 70, .start = 1100, .Hk = 1, .R = 2, .D = 40, .Dv = 24, .act = DTYPE_F32},
    {.T = 70, .start = 1100, .Hk = 1, .R = 2, .D = 40, .Dv = 24, .act = DTYPE_F16},
    {.T = 5, .start = 510, .Hk = 2, .R = 20, .D = 64, .Dv = 64, .act = DTYPE_BF16},
    {.T = 40, .start = 580, .Hk = 1, .R = 9, .D = 96, .Dv = 64, .act = DTYPE_BF16,
     .option = LATENT},
    {.T = 40, .start = 580, .Hk = 1, .R = 9, .D = 96, .Dv = 64, .act = DTYPE_F32, .option = LATENT},
};

static int64_t row_of(const struct past *p, int i)
{
    const struct shape *s = &p->s;
    return (int64_t)s->Hk * (i == Q || i == O ? s->R : 1) * (i == Q || i == K ? s->D : s->Dv);
}

static size_t row_bytes(const struct past *p, int i)
{
    return (size_t)row_of(p, i) * dtype_size((enum dtype)p->s.act);
}

static bool past_open(struct past *p, const struct shape *s, struct verdict *v)
{
    struct rng rng = {.seed = 3};
    *p = (struct past){.s = *s, .rows = s->start + s->T};
    v->shape = *s;
    v->cases++;
    p->pages = (struct kv_pages){.pages = POOL, .Hkv = s->Hk, .D = s->D, .Dv = s->Dv,
                                 .dtype = (enum dtype)s->act, .table = p->table,
                                 .row_pages = POOL};
    bool fine = true;
    for (int i = 0; i < TENSORS; i++) {
        p->value[i] = mem_take_array((size_t)p->rows, row_bytes(p, i));
        fine = fine && p->value[i];
        for (int64_t e = 0; fine && e < p->rows * row_of(p, i); e++)
            dtype_store(p->value[i], (enum dtype)s->act, e, rng_normal(&rng));
    }
    p->pages.k = mem_take_array((size_t)POOL * PAGE, row_bytes(p, K));
    p->pages.v = mem_take_array((size_t)POOL * PAGE, row_bytes(p, V));
    return EXPECT(v, fine && p->pages.k && p->pages.v, "no memory");
}

static void past_close(struct past *p)
{
    for (int i = 0; i < TENSORS; i++) mem_give(p->value[i]);
    mem_give(p->pages.k);
    mem_give(p->pages.v);
}

static void fill_nan(const struct past *p, void *to, int64_t n)
{
    for (int64_t e = 0; e < n; e++) dtype_store(to, (enum dtype)p->s.act, e, NAN);
}

/* All rows in calls that end at the cuts, over pages full of NaN that lie `step` apart. The o of
 * the run, or NULL. */
static void *run(struct past *p, struct station *at, const int *cut, int cuts, int step,
                 struct verdict *v)
{
    static const int32_t slot[] = {0};
    const bool latent = p->s.option == LATENT;
    const enum dtype act = (enum dtype)p->s.act;
    void *o = mem_take_array((size_t)p->rows, row_bytes(p, O)), *values = p->pages.v;
    for (int i = 0; i < POOL; i++) p->table[i] = i * step % POOL;
    fill_nan(p, p->pages.k, POOL * PAGE * row_of(p, K));
    fill_nan(p, values, POOL * PAGE * row_of(p, V));
    if (latent) p->pages.v = NULL;
    bool fine = EXPECT(v, o != NULL, "no memory");
    for (int i = 0, from = 0; fine && i < cuts; from = cut[i++]) {
        const int32_t start[] = {0, cut[i] - from}, pos[] = {from};
        const struct rows rows = {.B = 1, .T = start[1], .start = start, .pos = pos, .slot = slot};
        const int64_t Hq = (int64_t)p->s.Hk * p->s.R, heads[] = {Hq, p->s.Hk, p->s.Hk, Hq};
        struct tensor t[TENSORS];
        for (int n = 0; n < TENSORS; n++) {
            char *data = n == O ? o : p->value[n];
            t[n] = tensor_over(data + (size_t)from * row_bytes(p, n), act, 3,
                               (int64_t[]){rows.T, heads[n], row_of(p, n) / heads[n]});
        }
        if (latent) t[V] = t[K], t[V].dim[2] = p->s.Dv;
        const struct attn_args args = {.q = &t[Q], .k = &t[K], .v = &t[V], .o = &t[O],
                                       .rows = &rows, .pages = &p->pages,
                                       .scale = 1 / sqrt(p->s.D)};
        fine = station_run(at, at->device->forward[OP_ATTN], &args, v);
    }
    p->pages.v = values;
    if (fine) return o;
    mem_give(o);
    return NULL;
}

static void expect_same(const struct past *p, const void *a, const void *b, int from, int rows,
                        const char *when, struct verdict *v)
{
    const size_t row = row_bytes(p, O);
    for (int i = from; a && b && i < from + rows; i++)
        if (!EXPECT(v, memcmp((const char *)a + (size_t)i * row, (const char *)b + (size_t)i * row,
                              row) == 0, "row %d has other bits %s", i, when))
            return;
}

/* ---- the laws ----------------------------------------------------------------------------------- */

enum { SHAPES_ = sizeof shapes / sizeof *shapes, STEP = HARNESS_SANITIZED ? 5 : 1 };

/* On plain host memory: other devices have the laws of attn_pages. */
static bool host(const struct ways *w)
{
    return strcmp(w->of[0].one.device->name, "cpu") == 0;
}

static void past_holds(struct ways *w, struct verdict *v)
{
    for (int n = 0; host(w) && n < w->count * SHAPES_; n += STEP) {
        struct way *way = &w->of[n / SHAPES_];
        struct past p;
        if (past_open(&p, &shapes[n % SHAPES_], v)) {
            const int whole[] = {p.rows}, two[] = {p.s.start, p.rows};
            const int odd[] = {1, 3, 64, 65, 130, 509, 511, 514, p.rows};
            void *want = run(&p, &way->one, whole, 1, 1, v);
            void *got[] = {run(&p, &way->one, two, 2, 5, v), run(&p, &way->three, two, 2, 1, v),
                           run(&p, &way->three, odd, 9, 11, v)};
            expect_same(&p, want, got[0], 0, p.rows, "over other pages", v);
            expect_same(&p, want, got[1], 0, p.rows, "with more threads than blocks", v);
            expect_same(&p, want, got[2], 0, p.rows, "in many calls", v);
            for (int i = 0; i < 3; i++) mem_give(got[i]);
            mem_give(want);
        }
        past_close(&p);
    }
}
EVERY_ISA(past)

/* From row `first` on keys and values are no numbers: the rows before do not know it, those behind
 * are NaN. */
static void spoil(struct past *p, int first, struct station *at, const void *want,
                  struct verdict *v)
{
    const int whole[] = {p->rows};
    const enum dtype act = (enum dtype)p->s.act;
    for (int i = K; i <= V; i++)
        fill_nan(p, (char *)p->value[i] + (size_t)first * row_bytes(p, i),
                 (p->rows - first) * row_of(p, i));
    void *got = run(p, at, whole, 1, 1, v);
    expect_same(p, want, got, 0, first, "before what is no number", v);
    for (int64_t e = first * row_of(p, O); got && e < p->rows * row_of(p, O); e++)
        if (!EXPECT(v, isnan(dtype_load(got, act, e)), "a NaN is lost at row %lld",
                    (long long)(e / row_of(p, O))))
            break;
    mem_give(got);
}

static void future_holds(struct ways *w, struct verdict *v)
{
    for (int n = 0; host(w) && n < w->count * SHAPES_; n += STEP) {
        struct station *at = &w->of[n / SHAPES_].one;
        struct past p;
        if (past_open(&p, &shapes[n % SHAPES_], v)) {
            const int whole[] = {p.rows};
            void *want = run(&p, at, whole, 1, 1, v);
            spoil(&p, p.rows - 3, at, want, v);
            spoil(&p, p.rows * 3 / 4, at, want, v);
            mem_give(want);
        }
        past_close(&p);
    }
}
EVERY_ISA(future)

/* One value is infinite: so is its entry of the outputs that see it, and nothing else changes. */
static void infinite_holds(struct ways *w, struct verdict *v)
{
    enum { AT = 100, ENTRY = 3 };
    for (int n = 0; host(w) && n < w->count * SHAPES_; n += STEP) {
        struct station *at = &w->of[n / SHAPES_].one;
        struct past p;
        if (past_open(&p, &shapes[n % SHAPES_], v) && p.s.option != LATENT) {
            const int whole[] = {p.rows};
            const enum dtype act = (enum dtype)p.s.act;
            void *want = run(&p, at, whole, 1, 1, v);
            dtype_store(p.value[V], act, AT * row_of(&p, V) + ENTRY, -INFINITY);
            void *got = run(&p, at, whole, 1, 1, v);
            const int64_t row = row_of(&p, O), heads = row / p.s.Dv;
            for (int64_t e = 0; want && got && e < p.rows * row; e++) {
                const bool hit = e / row >= AT && e % p.s.Dv == ENTRY &&
                                 e % row / p.s.Dv < heads / p.s.Hk;
                const double found = dtype_load(got, act, e);
                if (!EXPECT(v, hit ? isinf(found) && found < 0 : found == dtype_load(want, act, e),
                            "entry %lld of row %lld is %g", (long long)(e % row),
                            (long long)(e / row), found))
                    break;
            }
            mem_give(want);
            mem_give(got);
        }
        past_close(&p);
    }
}
EVERY_ISA(infinite)

/* Its pages lie in the host's memory. */
static bool of_host(const struct device *device) { return device->host; }

static const struct law laws[] = {{.name = "choice", .run = choice, .applies = of_host},
                                  {.name = "past", .run = past, .applies = of_host},
                                  {.name = "future", .run = future, .applies = of_host},
                                  {.name = "infinite", .run = infinite, .applies = of_host}};
SUITE(attn_hostile, LAWS(laws));

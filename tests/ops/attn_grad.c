/* Laws of the backward of op_attn, with every instruction set: a number that is none spoils what it
 * spoils in the reference and nothing else, and threads change no bit. Values: attn.c. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"
#include "harness/suite.h"
#include "harness/ways.h"

enum { Q, K, V, O, TENSORS, FIRST = 3, LENGTH = 150, T = FIRST + LENGTH, WIDEST = 4 * 40 };

struct dense {
    float value[TENSORS][T * WIDEST], grad[TENSORS][T * WIDEST];
};

static int64_t heads_of(int i) { return i == Q || i == O ? 4 : 2; }
static int64_t width_of(int i) { return i == Q || i == K ? 40 : 24; }
static int64_t row_of(int i) { return heads_of(i) * width_of(i); }

/* Gradients of q, k, v; that of o is what was put there. A sequence of three rows and one of 150. */
static bool differentiate(struct dense *d, struct station *at, struct verdict *v)
{
    static const int32_t start[] = {0, FIRST, T}, pos[] = {0, 0};
    const struct rows rows = {.B = 2, .T = T, .start = start, .pos = pos};
    struct tensor t[TENSORS], g[TENSORS];
    for (int i = 0; i < TENSORS; i++) {
        const int64_t dim[] = {T, heads_of(i), width_of(i)};
        if (i != O) memset(d->grad[i], 0, sizeof d->grad[i]);
        t[i] = tensor_over(d->value[i], DTYPE_F32, 3, dim);
        g[i] = tensor_over(d->grad[i], DTYPE_F32, 3, dim);
        t[i].grad = &g[i];
    }
    const struct attn_args args = {.q = &t[Q], .k = &t[K], .v = &t[V], .o = &t[O], .rows = &rows,
                                   .scale = 1 / sqrt(40.0)};
    return station_run(at, at->device->backward[OP_ATTN], &args, v);
}

static void dense_fill(struct dense *d)
{
    struct rng rng = {.seed = 5};
    for (int i = 0; i < TENSORS; i++)
        for (int64_t e = 0; e < T * row_of(i); e++) {
            d->value[i][e] = (float)rng_normal(&rng);
            d->grad[i][e] = (float)rng_normal(&rng);
        }
}

/* Where the reference has a NaN there is one; elsewhere the values agree: sums of 150 terms in f32. */
static void expect_like(const struct dense *got, const struct dense *want, const char *when,
                        struct verdict *v)
{
    static const char *const name[] = {"q", "k", "v"};
    for (int i = Q; i <= V; i++)
        for (int64_t e = 0; e < T * row_of(i); e++) {
            const float a = got->grad[i][e], b = want->grad[i][e];
            if (!EXPECT(v, isnan(a) == isnan(b) && (isnan(b) || fabsf(a - b) < 1e-4f),
                        "%s: d %s of row %lld is %g, expected %g", when, name[i],
                        (long long)(e / row_of(i)), (double)a, (double)b))
                break;
        }
}

static void strays_holds(struct ways *w, struct verdict *v)
{
    static const struct {
        const char *name;
        int tensor; /* of values; TENSORS: the gradient of o */
    } stray[] = {{"q", Q}, {"k", K}, {"v", V}, {"d o", TENSORS}, {"nothing", -1}};
    struct dense *got = mem_take(2 * sizeof *got), *want = got + 1;
    for (int n = 0; EXPECT(v, got, "no memory") && n < 5 * w->count; n++) {
        const int i = stray[n % 5].tensor;
        char name[48];
        snprintf(name, sizeof name, "%s, a NaN in %s", w->of[n / 5].name, stray[n % 5].name);
        v->cases++;
        dense_fill(got);
        if (i == TENSORS) got->grad[O][(FIRST + 70) * row_of(O) + 30] = NAN;
        if (i >= 0 && i < TENSORS) got->value[i][(FIRST + 70) * row_of(i) + 30] = NAN;
        *want = *got;
        if (differentiate(want, w->ref, v) && differentiate(got, &w->of[n / 5].one, v))
            expect_like(got, want, name, v);
    }
    mem_give(got);
}
EVERY_ISA(strays)

static void threads_holds(struct ways *w, struct verdict *v)
{
    struct dense *one = mem_take(2 * sizeof *one), *three = one + 1;
    for (int n = 0; EXPECT(v, one, "no memory") && n < w->count; n++) {
        v->cases++;
        dense_fill(one);
        *three = *one;
        if (differentiate(one, &w->of[n].one, v) && differentiate(three, &w->of[n].three, v))
            EXPECT(v, memcmp(one, three, sizeof *one) == 0, "%s: three threads have other bits",
                   w->of[n].name);
    }
    mem_give(one);
}
EVERY_ISA(threads)

static bool has_it(const struct device *device) { return device->backward[OP_ATTN] != NULL; }

static const struct law laws[] = {{.name = "strays", .run = strays, .applies = has_it},
                                  {.name = "threads", .run = threads, .applies = has_it}};
SUITE(attn_grad, LAWS(laws));

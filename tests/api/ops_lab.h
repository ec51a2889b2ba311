/* ops_lab.h: what the tests of gdn/ops.h share: the caller's arrays in hostile memory, workspaces
 * of exactly the size asked for, and the recurrence once more, in double, from its formula. */
#ifndef TESTS_API_OPS_LAB_H
#define TESTS_API_OPS_LAB_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "gdn/ops.h"
#include "tensor/dtype.h"

#define LAB static __attribute__((unused))

/* ---- arrays in hostile memory ---------------------------------------------------------------- */

/* How an array lies: dense; with gaps between heads and rows; at an address that is aligned to an
 * element only; heads before rows; sequences one row apart from where they would be. */
enum layout { DENSE, GAPS, ODD, HEADS_FIRST, PADDED, LAYOUTS };

enum { EDGE = 64 }; /* bytes of canary on either side */

struct box {
    struct gdn_array a; /* what the call gets */
    enum dtype type;
    int rank;
    int64_t dim[4], step[4];
    unsigned char *block, *before;
    size_t bytes;
};

/* 0xfff5 in each 16 bits is NaN in every float type. */
LAB void poison(void *at, size_t bytes)
{
    static const unsigned char pattern[2] = {0xf5, 0xff};
    for (size_t i = 0; i < bytes; i++) ((unsigned char *)at)[i] = pattern[i % 2];
}

LAB enum dtype box_dtype(int type)
{
    return type == GDN_F16 ? DTYPE_F16 : type == GDN_BF16 ? DTYPE_BF16
                                     : type == GDN_F64 ? DTYPE_F64 : DTYPE_F32;
}

LAB void box_lay(struct box *b, enum layout how)
{
    const int last = b->rank - 1;
    int64_t gap = how == GAPS ? 3 : 0, step = 1;
    int order[4] = {0, 1, 2, 3}; /* outermost first */
    if (how == HEADS_FIRST && b->rank == 4) order[1] = 2, order[2] = 1;
    for (int i = last; i >= 0; i--) {
        b->step[order[i]] = step;
        step = step * b->dim[order[i]] + (i > 0 ? gap : 0);
        if (how == PADDED && i == 1 && b->rank >= 3) step += b->step[1] * 2 + 1;
    }
    for (int i = 0; how != DENSE && how != ODD && i < last; i++) b->a.stride[i] = b->step[i];
    b->bytes = (size_t)(step > 0 ? step : 1) * dtype_size(b->type);
}

LAB struct box box_open(int type, enum layout how, int rank, int64_t d0, int64_t d1, int64_t d2,
                        int64_t d3)
{
    struct box b = {.a = {.type = type}, .type = box_dtype(type), .rank = rank,
                    .dim = {d0, d1, d2, d3}};
    box_lay(&b, how);
    const size_t lead = EDGE + (how == ODD ? dtype_size(b.type) : 0);
    b.bytes += lead + EDGE;
    b.block = malloc(b.bytes);
    b.before = malloc(b.bytes);
    if (!b.block || !b.before) abort();
    poison(b.block, b.bytes);
    memcpy(b.before, b.block, b.bytes);
    b.a.data = b.block + lead;
    return b;
}

LAB void box_close(struct box *b)
{
    free(b->block);
    free(b->before);
    *b = (struct box){0};
}

LAB int64_t box_count(const struct box *b)
{
    int64_t n = 1;
    for (int i = 0; i < b->rank; i++) n *= b->dim[i];
    return n;
}

/* Element i in row-major order as an offset from the data. */
LAB int64_t box_at(const struct box *b, int64_t i)
{
    int64_t at = 0;
    for (int k = b->rank - 1; k >= 0; k--) {
        at += i % b->dim[k] * b->step[k];
        i /= b->dim[k];
    }
    return at;
}

LAB double box_get(const struct box *b, int64_t i)
{
    return dtype_load(b->a.data, b->type, box_at(b, i));
}

LAB void box_set(struct box *b, int64_t i, double x)
{
    dtype_store(b->a.data, b->type, box_at(b, i), x);
    memcpy(b->before, b->block, b->bytes);
}

/* x[i] = fill(rng); then what the array holds is what the test believes. */
typedef double lab_fill(struct rng *rng);
LAB double normal(struct rng *rng) { return rng_normal(rng); }
LAB double decay(struct rng *rng) { return -0.5 * rng_unit(rng); }
LAB double share(struct rng *rng) { return rng_unit(rng); }

LAB void box_fill(struct box *b, struct rng *rng, lab_fill *fill)
{
    for (int64_t i = 0; i < box_count(b); i++)
        dtype_store(b->a.data, b->type, box_at(b, i), fill(rng));
    memcpy(b->before, b->block, b->bytes);
}

LAB void box_copy(struct box *to, const struct box *from)
{
    assert_int_equal(box_count(to), box_count(from));
    for (int64_t i = 0; i < box_count(to); i++)
        dtype_store(to->a.data, to->type, box_at(to, i), box_get(from, i));
    memcpy(to->before, to->block, to->bytes);
}

/* Nothing but elements has changed; `element` false: these neither. */
LAB void box_whole(const struct box *b, bool elements_may)
{
    unsigned char *now = malloc(b->bytes);
    const size_t size = dtype_size(b->type);
    const size_t lead = (size_t)((unsigned char *)b->a.data - b->block);
    memcpy(now, b->block, b->bytes);
    for (int64_t i = 0; elements_may && i < box_count(b); i++) {
        const size_t at = lead + (size_t)box_at(b, i) * size;
        memcpy(now + at, b->before + at, size);
    }
    assert_memory_equal(now, b->before, b->bytes);
    free(now);
}

/* Every element of an output was written. */
LAB void box_written(const struct box *b)
{
    box_whole(b, true);
    for (int64_t i = 0; i < box_count(b); i++)
        if (isnan(box_get(b, i))) fail_msg("element %lld was not written", (long long)i);
}

LAB bool box_same(const struct box *x, const struct box *y)
{
    for (int64_t i = 0; i < box_count(x); i++) {
        const double a = box_get(x, i), b = box_get(y, i);
        if (memcmp(&a, &b, sizeof a) != 0) return false;
    }
    return true;
}

/* |x - y| / |y|, as vectors. */
LAB double box_distance(const struct box *x, const struct box *y)
{
    double d = 0, n = 0;
    for (int64_t i = 0; i < box_count(x); i++) {
        d += (box_get(x, i) - box_get(y, i)) * (box_get(x, i) - box_get(y, i));
        n += box_get(y, i) * box_get(y, i);
    }
    return n > 0 ? sqrt(d / n) : sqrt(d);
}

/* The largest |x - y|; and of y alone. */
LAB double box_furthest(const struct box *x, const struct box *y)
{
    double most = 0;
    for (int64_t i = 0; i < box_count(x); i++)
        most = fmax(most, fabs(box_get(x, i) - box_get(y, i)));
    return most;
}

LAB double box_largest(const struct box *y)
{
    double most = 0;
    for (int64_t i = 0; i < box_count(y); i++) most = fmax(most, fabs(box_get(y, i)));
    return most;
}

#define assert_near(x, y, limit)                                                                 \
    do {                                                                                         \
        const double found_ = box_distance((x), (y));                                            \
        if (!(found_ <= (limit)))                                                                \
            fail_msg("%s and %s: %g apart, need %g", #x, #y, found_, (double)(limit));           \
    } while (0)

/* ---- calls ----------------------------------------------------------------------------------- */

LAB gdn_ops *lab_open(const char *device, int threads, uint32_t isa)
{
    struct gdn_error err = {0};
    gdn_ops *ops;
    if (gdn_ops_open(device, threads, isa, &ops, &err) != GDN_OK) fail_msg("%s", err.text);
    return ops;
}

/* A workspace of exactly `bytes`, at an odd address, poisoned, with canaries. */
struct bench {
    unsigned char *block, *at;
    size_t bytes;
};

LAB struct bench bench_open(size_t bytes)
{
    struct bench w = {.block = malloc(bytes + 2 * EDGE + 1), .bytes = bytes};
    if (!w.block) abort();
    poison(w.block, bytes + 2 * EDGE + 1);
    w.at = w.block + EDGE + 1;
    return w;
}

LAB void bench_close(struct bench *w)
{
    unsigned char edge[2 * EDGE + 1];
    poison(edge, sizeof edge);
    assert_memory_equal(w->block, edge, EDGE + 1);
    for (int i = 0; i < EDGE; i++)
        assert_int_equal(w->at[w->bytes + (size_t)i],
                         ((size_t)(w->at - w->block) + w->bytes + (size_t)i) % 2 ? 0xff : 0xf5);
    free(w->block);
}

/* Asks for the size, makes the call with exactly that, and wants it to succeed. */
#define LAB_CALL(op, direction, ops, call, gradient, ...)                                        \
    do {                                                                                         \
        struct gdn_error err_ = {0};                                                             \
        size_t bytes_ = 1;                                                                       \
        if (gdn_##op##_workspace((ops), (call), (gradient), &bytes_, &err_) != GDN_OK)           \
            fail_msg("%s", err_.text);                                                           \
        struct bench work_ = bench_open(bytes_);                                                 \
        if (gdn_##op##_##direction((ops), (call), __VA_ARGS__ work_.at, bytes_, &err_) != GDN_OK) \
            fail_msg("%s", err_.text);                                                           \
        bench_close(&work_);                                                                     \
    } while (0)
#define FORWARD(op, ops, call) LAB_CALL(op, forward, ops, call, NULL)
#define BACKWARD(op, ops, call, gradient) LAB_CALL(op, backward, ops, call, gradient, gradient, )

/* ---- the recurrence, once more --------------------------------------------------------------- */

/* Boxes of one delta call; a box that was not opened is not given. */
struct delta_case {
    struct gdn_delta call;
    struct box q, k, v, g, beta, S0, o, S1;
};

LAB int64_t lab_begin(const struct gdn_rows *r, int32_t b)
{
    return r->starts ? r->starts[b] : (int64_t)b * r->T;
}

LAB void lab_unit(const struct delta_case *c, const struct box *x, int64_t row, int32_t kh,
                  double scale, double *y)
{
    const int32_t D = c->call.Dk;
    double squares = 1e-6;
    for (int32_t d = 0; d < D; d++) {
        y[d] = box_get(x, (row * c->call.Hk + kh) * D + d);
        squares += y[d] * y[d];
    }
    for (int32_t d = 0; d < D; d++) y[d] *= scale / (c->call.l2norm ? sqrt(squares) : 1.0);
}

LAB double lab_decay(const struct delta_case *c, int64_t row, int32_t h, int32_t d)
{
    const int64_t at = row * c->call.Hv + h;
    if (!c->call.g.data) return 1.0;
    return exp(box_get(&c->g, c->call.channel_gate ? at * c->call.Dk + d : at));
}

/* Row `row` of head h: S becomes the state after it, o [Dv] its output. */
LAB void lab_step(const struct delta_case *c, int64_t row, int32_t h, double *S, double *o)
{
    const int32_t Dk = c->call.Dk, Dv = c->call.Dv, kh = h / (c->call.Hv / c->call.Hk);
    double q[256], k[256];
    lab_unit(c, &c->q, row, kh, c->call.scale != 0 ? c->call.scale : 1 / sqrt((double)Dk), q);
    lab_unit(c, &c->k, row, kh, 1, k);
    const double beta = c->call.beta.data ? box_get(&c->beta, row * c->call.Hv + h) : 1.0;
    for (int32_t j = 0; j < Dv; j++) {
        double r = 0;
        for (int32_t d = 0; d < Dk; d++) {
            S[j * Dk + d] *= lab_decay(c, row, h, d);
            r += S[j * Dk + d] * k[d];
        }
        const double u = beta * (box_get(&c->v, (row * c->call.Hv + h) * Dv + j) - r);
        o[j] = 0;
        for (int32_t d = 0; d < Dk; d++) {
            S[j * Dk + d] += u * k[d];
            o[j] += S[j * Dk + d] * q[d];
        }
    }
}

/* What the call must give: o of all rows and S1, as boxes of f64. Without a slot S1 is NaN. */
LAB void lab_delta(const struct delta_case *c, struct box *o, struct box *S1)
{
    const struct gdn_rows *r = &c->call.rows;
    const int32_t Hv = c->call.Hv, Dk = c->call.Dk, Dv = c->call.Dv;
    const int64_t N = r->slots ? r->pool : r->B, size = (int64_t)Dk * Dv;
    double *S = malloc((size_t)size * sizeof *S), y[256];
    *o = box_open(GDN_F64, DENSE, 4, r->starts ? 1 : r->B, r->T, Hv, Dv);
    *S1 = box_open(GDN_F64, DENSE, 4, N, Hv, Dv, Dk);
    for (int64_t i = 0; i < box_count(o); i++) ((double *)o->a.data)[i] = 0;
    for (int32_t i = 0; i < r->B * Hv; i++) {
        const int32_t b = i / Hv, h = i % Hv, slot = r->slots ? r->slots[b] : b;
        if (slot < 0) continue;
        const int64_t at = ((int64_t)slot * Hv + h) * size;
        for (int64_t e = 0; e < size; e++) S[e] = c->call.S0.data ? box_get(&c->S0, at + e) : 0;
        for (int64_t row = lab_begin(r, b); row < lab_begin(r, b + 1); row++) {
            if (r->mask && !r->mask[row]) continue;
            lab_step(c, row, h, S, y);
            memcpy((double *)o->a.data + (row * Hv + h) * Dv, y, sizeof *y * (size_t)Dv);
        }
        memcpy((double *)S1->a.data + at, S, sizeof *S * (size_t)size);
    }
    free(S);
}

/* How the arrays of a case look. */
struct delta_shape {
    struct gdn_rows rows;
    int32_t Hk, Hv, Dk, Dv;
    int act, gate, state; /* types of q, k, v, o; g, beta; S0, S1 */
    enum layout layout;
    bool channel_gate, l2norm, no_gate, no_beta, no_state, wide_o;
    double scale;
};

LAB void delta_open(struct delta_case *c, const struct delta_shape *s, uint64_t seed)
{
    struct rng rng = {.seed = seed};
    const int64_t B = s->rows.starts ? 1 : s->rows.B, T = s->rows.T;
    const int64_t N = s->rows.slots ? s->rows.pool : s->rows.B;
    *c = (struct delta_case){.call = {.rows = s->rows, .Hk = s->Hk, .Hv = s->Hv, .Dk = s->Dk,
                                      .Dv = s->Dv, .channel_gate = s->channel_gate,
                                      .l2norm = s->l2norm, .scale = s->scale}};
    c->q = box_open(s->act, s->layout, 4, B, T, s->Hk, s->Dk);
    c->k = box_open(s->act, s->layout, 4, B, T, s->Hk, s->Dk);
    c->v = box_open(s->act, s->layout, 4, B, T, s->Hv, s->Dv);
    c->g = box_open(s->gate, s->layout, s->channel_gate ? 4 : 3, B, T, s->Hv, s->Dk);
    c->beta = box_open(s->gate, s->layout, 3, B, T, s->Hv, 1);
    c->S0 = box_open(s->state, s->layout, 4, N, s->Hv, s->Dv, s->Dk);
    c->S1 = box_open(s->state, s->layout, 4, N, s->Hv, s->Dv, s->Dk);
    c->o = box_open(s->wide_o ? GDN_F32 : s->act, s->layout, 4, B, T, s->Hv, s->Dv);
    box_fill(&c->q, &rng, normal);
    box_fill(&c->k, &rng, normal);
    box_fill(&c->v, &rng, normal);
    box_fill(&c->g, &rng, decay);
    box_fill(&c->beta, &rng, share);
    box_fill(&c->S0, &rng, normal);
    if (!s->l2norm) /* keys of length 1 from the start */
        for (int64_t i = 0; i < box_count(&c->k); i += s->Dk) {
            double squares = 0;
            for (int64_t d = 0; d < s->Dk; d++) squares += pow(box_get(&c->k, i + d), 2);
            for (int64_t d = 0; d < s->Dk; d++)
                dtype_store(c->k.a.data, c->k.type, box_at(&c->k, i + d),
                            box_get(&c->k, i + d) / sqrt(squares));
        }
    memcpy(c->k.before, c->k.block, c->k.bytes);
    c->call.q = c->q.a, c->call.k = c->k.a, c->call.v = c->v.a, c->call.o = c->o.a;
    if (!s->no_gate) c->call.g = c->g.a;
    if (!s->no_beta) c->call.beta = c->beta.a;
    if (!s->no_state) c->call.S0 = c->S0.a;
    c->call.S1 = c->S1.a;
}

LAB void delta_close(struct delta_case *c)
{
    struct box *all[] = {&c->q, &c->k, &c->v, &c->g, &c->beta, &c->S0, &c->o, &c->S1};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) box_close(all[i]);
}

/* Inputs are as they were. */
LAB void delta_inputs_whole(const struct delta_case *c)
{
    const struct box *all[] = {&c->q, &c->k, &c->v, &c->g, &c->beta, &c->S0};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) box_whole(all[i], false);
}

#endif

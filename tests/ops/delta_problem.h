/* delta_problem.h: problems for op_delta and their answers by any device: forward and backward on
 * dense calls, forward on slots. For delta_grad.c, delta_grad_bits.c, delta_amx_backward.c and
 * delta_hostile.c. */
#ifndef OPS_DELTA_PROBLEM_H
#define OPS_DELTA_PROBLEM_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"
#include "harness/suite.h"
#include "harness/ways.h"

enum { CHANNEL = 1 }; /* shape.option */
enum { Q, K, V, G, BETA, S0, INPUTS, O = INPUTS, S1, TENSORS };
static const char *const names[] = {"dq", "dk", "dv", "dg", "dbeta", "dS0"};
enum { SEQUENCES = 8 };

/* ---- a problem and its answer ---------------------------------------------------------------- */

struct problem {
    struct shape shape;
    int32_t start[SEQUENCES + 1], slot[SEQUENCES];
    double *value[TENSORS]; /* of o and S1: their gradients; NULL is none */
    bool fast;              /* long runs of rows may take the chunk form */
};

struct answer {
    double *grad[INPUTS];
    double *o, *S1; /* of forward, in place of the gradients */
};

static inline int64_t heads(const struct problem *p) { return (int64_t)p->shape.Hk * p->shape.R; }

static inline struct tensor tensor_like(const struct problem *p, int i, enum dtype dtype,
                                        void *data)
{
    const struct shape *s = &p->shape;
    const int64_t T = p->start[s->B], Hk = s->Hk, Hv = (int64_t)s->Hk * s->R;
    const int64_t dim[TENSORS][4] = {{T, Hk, s->Dk},       {T, Hk, s->Dk}, {T, Hv, s->Dv},
                                     {T, Hv, s->Dk},       {T, Hv},        {s->B, Hv, s->Dv, s->Dk},
                                     {T, Hv, s->Dv}, {s->B, Hv, s->Dv, s->Dk}};
    const int rank[TENSORS] = {3, 3, 3, s->option & CHANNEL ? 3 : 2, 2, 4, 3, 4};
    return tensor_over(data, dtype, rank[i], dim[i]);
}

static inline int64_t elements(const struct problem *p, int i)
{
    const struct tensor t = tensor_like(p, i, DTYPE_F32, NULL);
    return tensor_elements(&t);
}

static inline enum dtype type_of(const struct problem *p, int i)
{
    return i <= V ? (enum dtype)p->shape.act : DTYPE_F32;
}

static inline void round_values(struct problem *p)
{
    for (int i = 0; i < TENSORS; i++)
        for (int64_t e = 0; p->value[i] && e < elements(p, i); e++)
            p->value[i][e] = number_rounded(type_of(p, i), p->value[i][e]);
}

static inline void make_unit(double *x, int64_t n)
{
    double square = 0;
    for (int64_t d = 0; d < n; d++) square += x[d] * x[d];
    for (int64_t d = 0; d < n && square > 0; d++) x[d] /= sqrt(square);
}

/* Sequences of these lengths: N(0,1), unit q and k, g in -(0,1), beta in (0,1). */
static inline bool problem_open(struct problem *p, const struct shape *s, const int *length,
                                struct verdict *v)
{
    struct rng rng = {.seed = 77 + (uint64_t)length[0]};
    *p = (struct problem){.shape = *s};
    for (int b = 0; b < s->B; b++) p->start[b + 1] = p->start[b] + length[b];
    p->shape.T = p->start[s->B];
    v->shape = p->shape;
    v->cases++;
    for (int i = 0; i < TENSORS; i++) {
        const int64_t n = elements(p, i);
        double *x = p->value[i] = mem_take_array((size_t)n, sizeof *x);
        if (!EXPECT(v, x != NULL, "no memory")) return false;
        for (int64_t e = 0; e < n; e++)
            x[e] = i == G ? -rng_unit(&rng) : i == BETA ? rng_unit(&rng) : rng_normal(&rng);
        for (int64_t e = 0; i <= K && e < n; e += s->Dk) make_unit(x + e, s->Dk);
    }
    round_values(p);
    return true;
}

static inline void problem_close(struct problem *p)
{
    for (int i = 0; i < TENSORS; i++) mem_give(p->value[i]);
    *p = (struct problem){0};
}

static inline void answer_close(struct answer *a)
{
    for (int i = 0; i < INPUTS; i++) mem_give(a->grad[i]);
    mem_give(a->o);
    mem_give(a->S1);
    *a = (struct answer){0};
}

/* In the device's memory; `from` NULL: zeros. */
static inline void *place(struct device *device, const double *from, enum dtype dtype, int64_t n)
{
    const size_t bytes = (size_t)n * dtype_size(dtype);
    char *host = mem_take(bytes), *at = device->take(device, bytes);
    for (int64_t e = 0; from && host && e < n; e++)
        number_write(host + (size_t)e * dtype_size(dtype), dtype, from[e]);
    if (host && at) device->upload(device, at, host, bytes);
    mem_give(host);
    return at;
}

static inline double *fetch(struct device *device, const void *at, enum dtype dtype, int64_t n)
{
    const size_t bytes = (size_t)n * dtype_size(dtype);
    char *host = mem_take(bytes);
    double *x = mem_take_array((size_t)n, sizeof *x);
    if (host && x) device->download(device, host, at, bytes);
    for (int64_t e = 0; host && x && e < n; e++)
        x[e] = number_read(host + (size_t)e * dtype_size(dtype), dtype);
    mem_give(host);
    return x;
}

/* The tensors of a call on a device; on the reference all are in double. */
struct laid {
    struct device *device;
    enum dtype plain; /* of what is not an activation */
    struct tensor t[TENSORS], grad[TENSORS];
    struct rows rows;
    int32_t *words; /* the arrays of rows, in the device's memory */
    struct delta_args args;
    bool fine;
};

enum { STARTS = 0, SLOTS = SEQUENCES + 1, NUMBERS = SLOTS + SEQUENCES,
       POSITIONS = NUMBERS + SEQUENCES, WORDS = POSITIONS + SEQUENCES };

/* The slots of the problem, and 0, 1, 2, .. for a call on slots; positions are 0. */
static inline void lay_rows(struct laid *l, const struct problem *p)
{
    int32_t words[WORDS] = {0};
    for (int b = 0; b < SEQUENCES; b++) words[SLOTS + b] = p->slot[b], words[NUMBERS + b] = b;
    for (int b = 0; b <= SEQUENCES; b++) words[STARTS + b] = p->start[b];
    l->words = l->device->take(l->device, sizeof words);
    l->fine = l->fine && l->words;
    if (l->words) l->device->upload(l->device, l->words, words, sizeof words);
    l->rows = (struct rows){.B = p->shape.B, .T = p->shape.T, .start = l->words + STARTS,
                            .pos = l->words + POSITIONS,
                            .slot = p->shape.absent ? l->words + SLOTS : NULL};
}

static inline enum dtype laid_type(const struct laid *l, const struct problem *p, int i)
{
    return l->plain == DTYPE_F64 ? DTYPE_F64 : type_of(p, i);
}

static inline void lay_problem(struct laid *l, const struct problem *p, struct station *at)
{
    struct device *device = at->device;
    *l = (struct laid){.device = device, .fine = true,
                       .plain = strcmp(device->name, "ref") == 0 ? DTYPE_F64 : DTYPE_F32};
    for (int i = 0; i < TENSORS; i++) {
        const enum dtype type = laid_type(l, p, i);
        const int64_t n = elements(p, i);
        l->t[i] = tensor_like(p, i, type, place(device, i < O ? p->value[i] : NULL, type, n));
        l->grad[i] = tensor_like(p, i, l->plain,
                                 place(device, i < O ? NULL : p->value[i], l->plain, n));
        l->t[i].grad = i >= O && !p->value[i] ? NULL : &l->grad[i];
        l->fine = l->fine && l->t[i].data && l->grad[i].data;
    }
    lay_rows(l, p);
    struct tensor *t = l->t;
    l->args = (struct delta_args){.q = &t[Q], .k = &t[K], .v = &t[V], .g = &t[G], .beta = &t[BETA],
                                  .S0 = &t[S0], .o = &t[O], .S1 = &t[S1], .rows = &l->rows,
                                  .fast = p->fast};
}

static inline void laid_close(struct laid *l)
{
    for (int i = 0; i < TENSORS; i++) {
        l->device->give(l->device, l->t[i].data);
        l->device->give(l->device, l->grad[i].data);
    }
    l->device->give(l->device, l->words);
}

/* Element i of the call, as doubles. */
static inline double *laid_fetch(const struct laid *l, const struct problem *p, int i)
{
    return fetch(l->device, l->t[i].data, laid_type(l, p, i), elements(p, i));
}

/* A law of the backward applies where there is one. */
static inline bool goes_back(const struct device *device)
{
    return device->backward[OP_DELTA] != NULL;
}

/* The gradients. */
static inline bool solve(const struct problem *p, struct station *at, struct answer *a,
                         struct verdict *v)
{
    struct laid l;
    lay_problem(&l, p, at);
    const bool fine = EXPECT(v, l.fine, "no memory") &&
                      station_run(at, at->device->backward[OP_DELTA], &l.args, v);
    for (int i = 0; fine && i < INPUTS; i++)
        a->grad[i] = fetch(l.device, l.grad[i].data, l.plain, elements(p, i));
    laid_close(&l);
    return fine;
}

/* o and S1 of a dense call. */
static inline bool solve_forward(const struct problem *p, struct station *at, struct answer *a,
                                 struct verdict *v)
{
    struct laid l;
    lay_problem(&l, p, at);
    const bool fine = EXPECT(v, l.fine, "no memory") &&
                      station_run(at, at->device->forward[OP_DELTA], &l.args, v);
    if (fine) a->o = laid_fetch(&l, p, O), a->S1 = laid_fetch(&l, p, S1);
    laid_close(&l);
    return fine;
}

static inline bool same_bits(const struct problem *p, int i, const double *a, const double *b)
{
    return memcmp(a, b, (size_t)elements(p, i) * sizeof *a) == 0;
}

/* The gradients have the same bits in a hundred runs, with one thread and with three. */
static inline void same_in_runs(const struct problem *p, struct way *way, struct verdict *v)
{
    struct answer first = {0}, again = {0};
    bool fine = solve(p, &way->one, &first, v);
    for (int run = 0; fine && run < 100; run++) {
        fine = solve(p, run % 2 ? &way->one : &way->three, &again, v);
        for (int i = 0; fine && i < INPUTS; i++)
            fine = EXPECT(v, same_bits(p, i, again.grad[i], first.grad[i]),
                          "%s (%s) has other bits in run %d", names[i], way->name, run);
        answer_close(&again);
    }
    answer_close(&first);
}

/* Rows from .. to of sequence b as a problem of its own. */
static inline bool part_open(struct problem *part, const struct problem *of, int b, int from,
                             int to, struct verdict *v)
{
    struct shape s = of->shape;
    s.B = 1;
    if (!problem_open(part, &s, (const int[]){to - from}, v)) return false;
    part->fast = of->fast;
    for (int i = 0; i < TENSORS; i++) {
        const bool rows = i != S0 && i != S1;
        const int64_t each = elements(of, i) / (rows ? of->shape.T : of->shape.B);
        const int64_t first = rows ? of->start[b] + from : b;
        memcpy(part->value[i], of->value[i] + first * each,
               (size_t)elements(part, i) * sizeof(double));
    }
    return true;
}

/* Where such a part's answer begins in the whole one's. */
static inline const double *share_of(const struct problem *whole, const struct answer *a, int b,
                                     int from, int i)
{
    const int64_t each = elements(whole, i) / (i == S0 ? whole->shape.B : whole->shape.T);
    return a->grad[i] + (i == S0 ? b : whole->start[b] + from) * each;
}

/* Within `share` of the largest entry of each gradient, five times that for g. */
static inline void compare(const struct problem *p, const char *what, const struct answer *got,
                           const struct answer *want, double share, struct verdict *v)
{
    for (int i = 0; i < INPUTS; i++) {
        char name[64];
        const struct tensor t = tensor_like(p, i, DTYPE_F32, NULL);
        snprintf(name, sizeof name, "%s (%s)", names[i], what);
        verdict_compare(v, name, &t, got->grad[i], want->grad[i],
                        (struct limit){.l2 = INFINITY, .element = i == G ? 5 * share : share});
    }
}

#endif

/* route.c: which experts a row goes to, and back. Truth: kernels/ref/route.c.
 *
 * A row is a few hundred numbers, so this is plain code in float, one row at a time. Scores are made
 * as the softmax of attention and the gates make theirs; sums are in ascending order. */
#include <math.h>

#include "base/check.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/math.h"

static const float TINY = 1e-20f;

struct job {
    const struct route_args *a;
    struct cpu_work_rows work; /* [3 E]: scores, choices or their gradients, groups */
};

static float sigmoid(float x) { return 1.0f / (1.0f + cpu_expf(-x)); }

static void scores(const struct route_args *a, int64_t t, float *s)
{
    const int64_t E = a->logits->dim[1];
    float max = -INFINITY, sum = 0.0f;
    cpu_load_row(s, cpu_row(a->logits, t), a->logits->dtype, E);
    if (a->score == SCORE_SIGMOID) {
        for (int64_t e = 0; e < E; e++) s[e] = sigmoid(s[e]);
        return;
    }
    for (int64_t e = 0; e < E; e++) max = s[e] > max ? s[e] : max;
    for (int64_t e = 0; e < E; e++) sum += s[e] = cpu_expf(s[e] - max);
    for (int64_t e = 0; e < E; e++) s[e] /= sum;
}

/* The best of n, which is then out of the race (a NaN there); the first one left when none is a
 * number, told from those that are out by their sign. */
static const float OUT = -NAN;

static bool is_out(float x) { return isnan(x) && signbit(x); }

static int64_t take_best(float *x, int64_t n)
{
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++) {
        if (is_out(x[i])) continue;
        if (best < 0 || x[i] > x[best] || (isnan(x[best]) && !isnan(x[i]))) best = i;
    }
    x[best] = OUT;
    return best;
}

/* The best two of a group, summed. */
static float group_score(const float *x, int64_t n)
{
    float first = -INFINITY, second = first;
    for (int64_t i = 0; i < n; i++) {
        const float lower = x[i] > first ? first : x[i];
        if (x[i] > first) first = x[i];
        if (lower > second) second = lower;
    }
    return n > 1 ? first + second : first;
}

static void leave_groups(const struct route_args *a, float *choice, float *group)
{
    if (!a->groups || a->groups_used >= a->groups) return;
    const int64_t n = a->logits->dim[1] / a->groups;
    for (int64_t g = 0; g < a->groups; g++) group[g] = group_score(choice + g * n, n);
    for (int32_t i = 0; i < a->groups_used; i++) take_best(group, a->groups);
    for (int64_t g = 0; g < a->groups; g++)
        for (int64_t i = 0; !is_out(group[g]) && i < n; i++) choice[g * n + i] = OUT;
}

static void route_row(const struct route_args *a, int64_t t, float *s)
{
    const int64_t E = a->logits->dim[1], best = a->weight->dim[1];
    float *choice = s + E, *group = choice + E, sum = TINY;
    scores(a, t, s);
    for (int64_t e = 0; e < E; e++) {
        choice[e] = a->bias ? s[e] + *(const float *)tensor_at(a->bias, e) : s[e];
        if (isnan(choice[e])) choice[e] = NAN;
    }
    leave_groups(a, choice, group);
    for (int64_t i = 0; i < best; i++) {
        const int64_t e = take_best(choice, E);
        a->ids[t * best + i] = (int32_t)e;
        sum += s[e];
    }
    const float unit = (float)a->scale / (a->renormalise ? sum : 1.0f);
    for (int64_t i = 0; i < best; i++) {
        const float weight = s[a->ids[t * best + i]] * unit;
        cpu_store_row(tensor_at(a->weight, t * a->weight->stride[0] + i), a->weight->dtype,
                      &weight, 1);
    }
}

static void route_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    for (int64_t t = begin; t < end; t++)
        route_row(job->a, t, job->work.data + thread * job->work.stride);
}

void cpu_route_forward(struct device *device, struct arena *scratch, const void *args)
{
    const struct route_args *a = args;
    const int64_t E = a->logits->dim[1];
    GDN_CHECK(!a->bias || a->bias->dtype == DTYPE_F32, "the router's bias is f32");
    struct job job = {.a = a, .work = cpu_take_rows(device, scratch, 3 * E)};
    if (!job.work.data) return;
    pool_run(device->pool, a->logits->dim[0], cpu_grain(8 * E), route_rows, &job);
}

static void row_backward(const struct route_args *a, int64_t t, float *s)
{
    const int64_t E = a->logits->dim[1], best = a->weight->dim[1];
    const float *dw = cpu_row(a->weight->grad, t), scale = (float)a->scale;
    const int32_t *ids = a->ids + t * best;
    float *ds = s + E, *grad = cpu_row(a->logits->grad, t), sum = TINY, dot = 0.0f;
    scores(a, t, s);
    for (int64_t e = 0; e < E; e++) ds[e] = 0.0f;
    for (int64_t i = 0; i < best; i++) sum += s[ids[i]];
    for (int64_t i = 0; i < best; i++) {
        float more = 0.0f;
        for (int64_t j = 0; j < best; j++) more += s[ids[j]] * (dw[i] - dw[j]);
        ds[ids[i]] = scale * (a->renormalise ? more / sum / sum : dw[i]);
    }
    for (int64_t i = 0; i < best; i++) dot += ds[ids[i]] * s[ids[i]];
    for (int64_t e = 0; e < E; e++)
        grad[e] += a->score == SCORE_SOFTMAX ? s[e] * (ds[e] - dot) : ds[e] * s[e] * (1.0f - s[e]);
}

static void rows_backward(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    for (int64_t t = begin; t < end; t++)
        row_backward(job->a, t, job->work.data + thread * job->work.stride);
}

void cpu_route_backward(struct device *device, struct arena *scratch, const void *args)
{
    const struct route_args *a = args;
    const int64_t E = a->logits->dim[1];
    if (!a->weight->grad || !a->logits->grad) return;
    struct job job = {.a = a, .work = cpu_take_rows(device, scratch, 2 * E)};
    if (!job.work.data) return;
    pool_run(device->pool, a->logits->dim[0], cpu_grain(8 * E), rows_backward, &job);
}

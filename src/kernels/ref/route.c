/* route: which experts a row goes to.   logits [T, E], bias [E] or none, weight, ids [T, best]
 *
 *   s = softmax(logits), or sigmoid of each;  chosen by s + bias, the largest first (ties: the lower
 *   number), of all experts or of those in the best groups (a group counts with its best two)
 *   weight_i = scale s_i / N,  N = the sum of s over the chosen when renormalised (+ 1e-20), else 1
 *
 * backward, for the chosen as they are: ds_i = scale / N^2 sum_j s_j (dweight_i - dweight_j), where
 * nothing is left of a single one, or scale dweight_i;  then through the softmax, dl_j = s_j (ds_j - sum_i ds_i s_i) over all experts, or
 * the sigmoid, dl_i = ds_i s_i (1 - s_i). A logit that is NaN is never better than another. */
#include "base/check.h"
#include "kernels/ref/ref.h"

static const double TINY = 1e-20;

static void scores(const struct route_args *a, int64_t t, double *s)
{
    const int64_t E = a->logits->dim[1];
    double max = -(double)INFINITY, sum = 0.0;
    for (int64_t e = 0; e < E; e++) {
        s[e] = ref_get(a->logits, ref_at(a->logits, t, e, 0));
        max = fmax(max, s[e]);
    }
    for (int64_t e = 0; e < E; e++)
        sum += s[e] = a->score == SCORE_SOFTMAX ? exp(s[e] - max) : ref_sigmoid(s[e]);
    for (int64_t e = 0; a->score == SCORE_SOFTMAX && e < E; e++) s[e] /= sum;
}

/* The best two of a group, summed. */
static double group_score(const double *choice, int64_t n)
{
    double first = -(double)INFINITY, second = first;
    for (int64_t i = 0; i < n; i++) {
        if (choice[i] > first) {
            second = first;
            first = choice[i];
        } else if (choice[i] > second) {
            second = choice[i];
        }
    }
    return n > 1 ? first + second : first;
}

/* The best of n that is not taken yet; the first one left when none is a number. */
static int64_t take_best(const double *x, int64_t n, bool *taken)
{
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++) {
        if (taken[i]) continue;
        if (best < 0 || x[i] > x[best] || (isnan(x[best]) && !isnan(x[i]))) best = i;
    }
    taken[best] = true;
    return best;
}

/* What is not in one of the groups used counts as taken. */
static void leave_groups(const struct route_args *a, const double *choice, double *group,
                         bool *taken)
{
    const int64_t E = a->logits->dim[1], n = a->groups ? E / a->groups : E;
    bool used[1024] = {false};
    if (!a->groups || a->groups_used >= a->groups) return;
    GDN_CHECK(a->groups <= 1024, "route: %d groups", a->groups);
    for (int64_t g = 0; g < a->groups; g++) group[g] = group_score(choice + g * n, n);
    for (int32_t i = 0; i < a->groups_used; i++) take_best(group, a->groups, used);
    for (int64_t e = 0; e < E; e++) taken[e] = !used[e / n];
}

void route_forward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device;
    const struct route_args *a = args;
    const int64_t E = a->logits->dim[1], best = a->weight->dim[1];
    double *s = ref_take(scratch, E), *choice = ref_take(scratch, E), *group = ref_take(scratch, E);
    bool *taken = arena_take(scratch, (size_t)E * sizeof *taken);
    if (!s || !choice || !group || !taken) return;
    for (int64_t t = 0; t < a->logits->dim[0]; t++) {
        double sum = a->renormalise ? TINY : 0.0;
        scores(a, t, s);
        for (int64_t e = 0; e < E; e++) {
            choice[e] = s[e] + ref_get(a->bias, e);
            taken[e] = false;
        }
        leave_groups(a, choice, group, taken);
        for (int64_t i = 0; i < best; i++) {
            a->ids[t * best + i] = (int32_t)take_best(choice, E, taken);
            sum += a->renormalise ? s[a->ids[t * best + i]] : 0.0;
        }
        for (int64_t i = 0; i < best; i++)
            ref_put(a->weight, ref_at(a->weight, t, i, 0),
                    a->scale * s[a->ids[t * best + i]] / (a->renormalise ? sum : 1.0));
    }
}

/* Gradients of the scores of row t into ds [E], zero but for the chosen. */
static void scores_backward(const struct route_args *a, int64_t t, const double *s, double *ds)
{
    const struct tensor *dw = a->weight->grad;
    const int64_t best = a->weight->dim[1];
    const int32_t *ids = a->ids + t * best;
    double sum = TINY;
    for (int64_t e = 0; e < a->logits->dim[1]; e++) ds[e] = 0.0;
    for (int64_t i = 0; i < best; i++) sum += s[ids[i]];
    for (int64_t i = 0; i < best; i++) {
        const double d = ref_get(dw, ref_at(dw, t, i, 0));
        double more = 0.0;
        for (int64_t j = 0; j < best; j++)
            more += s[ids[j]] * (d - ref_get(dw, ref_at(dw, t, j, 0)));
        ds[ids[i]] = a->scale * (a->renormalise ? more / sum / sum : d);
    }
}

void route_backward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device;
    const struct route_args *a = args;
    const struct tensor *grad = a->logits->grad;
    const int64_t E = a->logits->dim[1];
    double *s = ref_take(scratch, E), *ds = ref_take(scratch, E);
    if (!a->weight->grad || !grad || !s || !ds) return;
    for (int64_t t = 0; t < a->logits->dim[0]; t++) {
        double dot = 0.0;
        scores(a, t, s);
        scores_backward(a, t, s, ds);
        for (int64_t e = 0; e < E; e++) dot += ds[e] * s[e];
        for (int64_t e = 0; e < E; e++)
            ref_add(grad, ref_at(grad, t, e, 0),
                    a->score == SCORE_SOFTMAX ? s[e] * (ds[e] - dot) : ds[e] * s[e] * (1.0 - s[e]));
    }
}

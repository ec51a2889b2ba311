/* top: of each row, the `best` largest of logits[0..vocab-1], largest first, ties by lower id, and
 * lse = log sum e^logit over those vocab entries.      logits [M, V], ids and values [M, best]
 * A NaN counts (and is handed out) as -inf; the logsumexp of its row is NaN. */
#include "kernels/ref/ref.h"

static double logit(const struct top_args *a, int64_t row, int64_t n)
{
    return ref_get(a->logits, ref_at(a->logits, row, n, 0));
}

static double order(const struct top_args *a, int64_t row, int64_t n)
{
    const double z = logit(a, row, n);
    return isnan(z) ? -(double)INFINITY : z;
}

/* Ids arrive in rising order, so an equal logit goes behind those already there. */
static void best_of_row(const struct top_args *a, int64_t row, int32_t *ids)
{
    int32_t held = 0;
    for (int32_t n = 0; n < a->vocab; n++) {
        const double z = order(a, row, n);
        if (held == a->best && z <= order(a, row, ids[held - 1])) continue;
        int32_t i = held < a->best ? held++ : held - 1;
        for (; i > 0 && order(a, row, ids[i - 1]) < z; i--) ids[i] = ids[i - 1];
        ids[i] = n;
    }
}

static double logsumexp(const struct top_args *a, int64_t row)
{
    double max = -(double)INFINITY, sum = 0.0;
    for (int64_t n = 0; n < a->vocab; n++) {
        double v = logit(a, row, n);
        if (isnan(v)) return v;
        if (v > max) max = v;
    }
    if (isinf(max)) return max;
    for (int64_t n = 0; n < a->vocab; n++) sum += exp(logit(a, row, n) - max);
    return max + log(sum);
}

void top_forward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device, (void)scratch;
    const struct top_args *a = args;
    for (int64_t row = 0; row < a->logits->dim[0]; row++) {
        int32_t *ids = a->ids + row * a->best;
        best_of_row(a, row, ids);
        for (int32_t i = 0; i < a->best; i++)
            a->values[row * a->best + i] = (float)order(a, row, ids[i]);
        a->lse[row] = (float)logsumexp(a, row);
    }
}

#include "run/sampler.h"

#include <math.h>

enum { CANDIDATES = 256 };

int32_t sampler_choose(const struct sampling *s, int32_t n, const int32_t *ids,
                       const float *values, double unit)
{
    if (s->temperature <= 0 || n == 1) return ids[0];
    if (n > CANDIDATES) n = CANDIDATES;
    if (s->top_k > 0 && s->top_k < n) n = s->top_k;
    double weight[CANDIDATES], sum = 0;
    for (int32_t i = 0; i < n; i++) {
        weight[i] = exp(((double)values[i] - (double)values[0]) / s->temperature);
        if (isnan(weight[i])) weight[i] = 0;
        sum += weight[i];
    }
    /* Kept: the shortest head that reaches top_p, and in it what is at least min_p of the best. */
    double kept = 0;
    int32_t keep = 0;
    while (keep < n && (keep == 0 || ((s->top_p <= 0 || s->top_p >= 1 || kept < s->top_p * sum) &&
                                      weight[keep] >= s->min_p * weight[0])))
        kept += weight[keep++];
    if (!(kept > 0)) return ids[0]; /* infinite or all NaN: no weights to draw by */
    double left = unit * kept;
    for (int32_t i = 0; i < keep - 1; i++) {
        left -= weight[i];
        if (left < 0) return ids[i];
    }
    return ids[keep - 1];
}

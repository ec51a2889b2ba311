/* kl.h: how far one next-token distribution is from another: KL(p || q), and whether both hold the
 * same token for the most likely. */
#ifndef STAGE_KL_H
#define STAGE_KL_H

#include <math.h>
#include <stdint.h>

struct kl {
    double sum, max;
    int64_t rows, same; /* same: the most likely token is */
};

static inline double kl_log_sum(const float *x, int32_t n)
{
    double most = (double)x[0], sum = 0;
    for (int32_t i = 1; i < n; i++) most = fmax(most, (double)x[i]);
    for (int32_t i = 0; i < n; i++) sum += exp((double)x[i] - most);
    return most + log(sum);
}

static inline int32_t kl_likeliest(const float *x, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* One row of logits of each. */
static inline void kl_add(struct kl *k, const float *p, const float *q, int32_t vocab)
{
    const double lp = kl_log_sum(p, vocab), lq = kl_log_sum(q, vocab);
    double sum = 0;
    for (int32_t i = 0; i < vocab; i++)
        sum += exp((double)p[i] - lp) * ((double)p[i] - lp - ((double)q[i] - lq));
    k->sum += sum;
    k->max = fmax(k->max, sum);
    k->same += kl_likeliest(p, vocab) == kl_likeliest(q, vocab);
    k->rows++;
}

static inline double kl_mean(const struct kl *k) { return k->sum / (double)k->rows; }

#endif

#include "run/sampler.h"

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"

/* ---- what may be chosen ---------------------------------------------------------------------- */

static bool repeats(const struct gdn_sampling *s)
{
    return s->repetition > 0 && (s->repetition < 1 || s->repetition > 1);
}

static bool looks_back(const struct gdn_sampling *s)
{
    return repeats(s) || s->presence < 0 || s->presence > 0 || s->frequency < 0 ||
           s->frequency > 0;
}

bool sampler_adjusts(const struct gdn_sampling *s)
{
    return looks_back(s) || s->bias_count > 0 || s->banned_count > 0;
}

static float lessen(const struct gdn_sampling *s, float logit, int32_t count)
{
    double z = (double)logit;
    if (repeats(s)) z = z > 0 ? z / s->repetition : z * s->repetition;
    return (float)(z - s->presence - s->frequency * (double)count);
}

void sampler_adjust(const struct gdn_sampling *s, const int32_t *tokens, int32_t n, int32_t vocab,
                    float *row, int32_t *counts)
{
    const int32_t first = !looks_back(s) ? n : s->window > 0 && s->window < n ? n - s->window : 0;
    for (int32_t i = first; i < n; i++)
        if (tokens[i] < vocab) counts[tokens[i]]++;
    for (int32_t i = first; i < n; i++) {
        const int32_t id = tokens[i];
        if (id >= vocab || counts[id] == 0) continue;
        row[id] = lessen(s, row[id], counts[id]);
        counts[id] = 0;
    }
    for (size_t i = 0; i < s->bias_count; i++)
        if (s->bias[i].id < vocab) row[s->bias[i].id] += s->bias[i].add;
    for (size_t i = 0; i < s->banned_count; i++)
        if (s->banned[i] < vocab) row[s->banned[i]] = -INFINITY;
}

/* Nothing can come to have more than it had, but for biases. */
static bool only_lessens(const struct gdn_sampling *s)
{
    return (!repeats(s) || s->repetition > 1) && s->presence >= 0 && s->frequency >= 0;
}

struct candidate {
    float value;
    int32_t id;
};

static float *find(struct sampler_best *best, int32_t id)
{
    for (int32_t i = 0; i < best->n; i++)
        if (best->ids[i] == id) return &best->values[i];
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->value < y->value || x->value > y->value) return x->value < y->value ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

static void put_in_order(struct sampler_best *best)
{
    struct candidate all[SAMPLER_BEST];
    for (int32_t i = 0; i < best->n; i++)
        all[i] = (struct candidate){best->values[i], best->ids[i]};
    qsort(all, (size_t)best->n, sizeof *all, by_value);
    for (int32_t i = 0; i < best->n; i++) {
        best->values[i] = all[i].value;
        best->ids[i] = all[i].id;
    }
}

int32_t sampler_adjust_best(const struct gdn_sampling *s, const int32_t *tokens, int32_t n,
                            int32_t vocab, struct sampler_best *best, int32_t *counts)
{
    const float last = best->values[best->n - 1];
    bool certain = only_lessens(s);
    const int32_t first = !looks_back(s) ? n : s->window > 0 && s->window < n ? n - s->window : 0;
    for (int32_t i = first; i < n; i++)
        if (tokens[i] < vocab) counts[tokens[i]]++;
    for (int32_t i = 0; i < best->n; i++)
        if (counts[best->ids[i]] > 0)
            best->values[i] = lessen(s, best->values[i], counts[best->ids[i]]);
    for (int32_t i = first; i < n; i++)
        if (tokens[i] < vocab) counts[tokens[i]] = 0;
    for (size_t i = 0; i < s->bias_count; i++) {
        float *value = find(best, s->bias[i].id);
        if (value) *value += s->bias[i].add;
        certain = certain && (value || s->bias[i].add <= 0);
    }
    for (size_t i = 0; i < s->banned_count; i++) {
        float *value = find(best, s->banned[i]);
        if (value) *value = -INFINITY;
    }
    put_in_order(best);
    if (best->n == vocab) return best->n;
    int32_t sure = 0;
    while (certain && sure < best->n && best->values[sure] > last) sure++;
    return sure;
}

/* ---- the draw -------------------------------------------------------------------------------- */

/* -log(-log u), u in (0, 1): the larger of such noises plus logits is each with its probability. */
static double noise(uint64_t stream, int32_t id)
{
    struct rng rng = {.seed = stream, .counter = (uint64_t)id};
    const double u = ((double)(rng_u64(&rng) >> 12) + 0.5) * 0x1p-52;
    return -log(-log(u));
}

/* Weights of the first n; *sum is theirs. */
static void weigh(const struct gdn_sampling *s, int32_t n, const float *values, double *weight,
                  double *sum)
{
    *sum = 0;
    for (int32_t i = 0; i < n; i++) {
        weight[i] = exp(((double)values[i] - (double)values[0]) / s->temperature);
        if (isnan(weight[i])) weight[i] = 0;
        *sum += weight[i];
    }
}

/* The shortest head that reaches top_p, and in it what is at least min_p of the best. */
static int32_t kept(const struct gdn_sampling *s, int32_t n, const double *weight, double sum)
{
    const bool all = s->top_p <= 0 || s->top_p >= 1;
    double so_far = 0;
    int32_t keep = 0;
    while (keep < n && (keep == 0 || ((all || so_far < s->top_p * sum) &&
                                      weight[keep] >= s->min_p * weight[0])))
        so_far += weight[keep++];
    return keep;
}

int32_t sampler_needs(const struct gdn_sampling *s)
{
    if (s->temperature <= 0) return 1;
    return s->top_k > 0 && s->top_k < SAMPLER_BEST ? s->top_k : SAMPLER_BEST;
}

int32_t sampler_choose(const struct gdn_sampling *s, int32_t n, const int32_t *ids,
                       const float *values, int64_t position)
{
    if (s->temperature <= 0 || n == 1) return ids[0];
    if (n > SAMPLER_BEST) n = SAMPLER_BEST;
    if (s->top_k > 0 && s->top_k < n) n = s->top_k;
    double weight[SAMPLER_BEST], sum, most = -INFINITY;
    weigh(s, n, values, weight, &sum);
    const int32_t keep = kept(s, n, weight, sum);
    struct rng rng = {.seed = s->seed, .counter = (uint64_t)position};
    const uint64_t stream = rng_u64(&rng);
    int32_t chosen = 0;
    for (int32_t i = 0; i < keep; i++) {
        if (!(weight[i] > 0)) continue;
        const double z = ((double)values[i] - (double)values[0]) / s->temperature +
                         noise(stream, ids[i]);
        if (!(z > most)) continue;
        most = z;
        chosen = i;
    }
    return ids[chosen];
}

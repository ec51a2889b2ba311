/* top.cu: the best tokens of each row and its logsumexp. Truth: kernels/ref/top.c.
 *
 * A block a row. A logit's order is that of 32 bits; the bits of the best-th largest are found eight
 * at a time, by counting. Then a thread takes a stretch of ids, so that of equal logits the lowest
 * ids are chosen, and what was chosen is sorted. */
#include "kernels/cuda/launch.cuh"

enum { THREADS = 1024, BINS = 256, MOST = 1024 };

struct top_call {
    struct view logits;
    int64_t vocab;
    int32_t best;
    int32_t *ids;
    float *values, *lse;
};

/* Larger for larger; NaN counts as -inf, -0 as 0. */
static __device__ inline uint32_t order_of(float x)
{
    const uint32_t bits = __float_as_uint(isnan(x) ? -INFINITY : x + 0.0f);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

static __device__ inline float value_of(uint32_t order)
{
    return __uint_as_float(order >> 31 ? order & 0x7fffffffu : ~order);
}

struct hall {
    uint64_t chosen[MOST];
    uint32_t count[BINS];
    int32_t before[2][THREADS + 1];
    float room[WARP];
    uint32_t prefix;
    int32_t left;
};

/* The order of the best-th largest; *equal: how many of that order are among the best. */
static __device__ uint32_t find_order(const struct top_call &a, int64_t row, struct hall *s,
                                      int32_t *equal)
{
    if (threadIdx.x == 0) s->prefix = 0, s->left = a.best;
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (int i = (int)threadIdx.x; i < BINS; i += THREADS) s->count[i] = 0;
        __syncthreads();
        const uint32_t prefix = s->prefix;
        for (int64_t n = threadIdx.x; n < a.vocab; n += THREADS) {
            const uint32_t order = order_of(get(a.logits, row + n));
            if (shift == 24 || order >> (shift + 8) == prefix >> (shift + 8))
                atomicAdd(&s->count[order >> shift & 255u], 1u);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            int bin = BINS - 1;
            for (; bin > 0 && (int32_t)s->count[bin] < s->left; bin--)
                s->left -= (int32_t)s->count[bin];
            s->prefix = prefix | (uint32_t)bin << shift;
        }
        __syncthreads();
    }
    *equal = s->left;
    return s->prefix;
}

/* Threads' counts become how many stand before each. */
static __device__ void sum_up(int32_t *count)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        int32_t sum = 0;
        for (int i = 0; i <= THREADS; i++) {
            const int32_t n = i < THREADS ? count[i] : 0;
            count[i] = sum;
            sum += n;
        }
    }
    __syncthreads();
}

static __device__ void choose(const struct top_call &a, int64_t row, struct hall *s, uint32_t order,
                              int32_t equal)
{
    const int64_t each = (a.vocab + THREADS - 1) / THREADS, first = each * threadIdx.x;
    const int64_t end = first + each < a.vocab ? first + each : a.vocab;
    int32_t above = 0, same = 0;
    for (int64_t n = first; n < end; n++) {
        const uint32_t o = order_of(get(a.logits, row + n));
        above += o > order, same += o == order;
    }
    s->before[0][threadIdx.x] = above;
    s->before[1][threadIdx.x] = same;
    sum_up(s->before[0]);
    sum_up(s->before[1]);
    above = s->before[0][threadIdx.x], same = s->before[1][threadIdx.x];
    for (int64_t n = first; n < end; n++) {
        const uint32_t o = order_of(get(a.logits, row + n));
        const uint64_t item = (uint64_t)o << 32 | (uint32_t)~(uint32_t)n;
        if (o > order) s->chosen[above++] = item;
        if (o == order && same++ < equal) s->chosen[a.best - equal + same - 1] = item;
    }
}

/* Largest first; bitonic, over the next power of two. */
static __device__ void sort(uint64_t *item, int32_t n)
{
    int32_t size = 1;
    while (size < n) size *= 2;
    for (int32_t i = n + (int32_t)threadIdx.x; i < size; i += THREADS) item[i] = 0;
    __syncthreads();
    for (int32_t run = 2; run <= size; run *= 2)
        for (int32_t step = run / 2; step > 0; step /= 2) {
            for (int32_t i = (int32_t)threadIdx.x; i < size; i += THREADS) {
                const int32_t j = i ^ step;
                const bool falling = (i & run) == 0;
                if (j > i && (item[i] < item[j]) == falling) {
                    const uint64_t x = item[i];
                    item[i] = item[j];
                    item[j] = x;
                }
            }
            __syncthreads();
        }
}

/* Over the first vocab entries; NaN when there is one, an infinity when that is the largest. */
static __device__ float logsumexp(const struct view &x, int64_t row, int64_t vocab, float *room)
{
    float max = -INFINITY, bad = 0.0f, sum = 0.0f;
    for (int64_t n = threadIdx.x; n < vocab; n += blockDim.x) {
        const float v = get(x, row + n);
        bad += isnan(v) ? 1.0f : 0.0f;
        max = fmaxf(max, v);
    }
    bad = block_sum(bad, room);
    max = warp_max(max);
    __syncthreads();
    if (threadIdx.x % WARP == 0) room[threadIdx.x / WARP] = max;
    __syncthreads();
    for (int i = 0; i < (int)(blockDim.x / WARP); i++) max = fmaxf(max, room[i]);
    if (bad > 0.0f) return NAN;
    if (isinf(max)) return max;
    for (int64_t n = threadIdx.x; n < vocab; n += blockDim.x) sum += expf(get(x, row + n) - max);
    return max + logf(block_sum(sum, room));
}

static __global__ void __launch_bounds__(THREADS) top(struct top_call a)
{
    __shared__ struct hall s;
    const int64_t m = blockIdx.x, row = m * a.logits.stride[0];
    int32_t equal;
    const uint32_t order = find_order(a, row, &s, &equal);
    choose(a, row, &s, order, equal);
    sort(s.chosen, a.best);
    for (int32_t i = (int32_t)threadIdx.x; i < a.best; i += THREADS) {
        a.ids[m * a.best + i] = (int32_t)~(uint32_t)s.chosen[i];
        a.values[m * a.best + i] = value_of((uint32_t)(s.chosen[i] >> 32));
    }
    const float lse = logsumexp(a.logits, row, a.vocab, s.room);
    if (threadIdx.x == 0) a.lse[m] = lse;
}

void cuda_top(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct top_args *a = (const struct top_args *)args;
    GDN_CHECK(a->best <= MOST, "top: %d of a row, at most %d", a->best, MOST);
    const struct top_call call = {view_of(a->logits), a->vocab, a->best, a->ids, a->values, a->lse};
    launch(device, top, dim3((unsigned)a->logits->dim[0]), THREADS, 0, call);
}

/* top.cu: the best tokens of each row and its logsumexp. Truth: kernels/ref/top.c.
 *
 * A row is cut into groups of 8 neighbours (more, when there would be over 32768), and these into
 * segments of 256. First, a block a segment: the order of each group's largest, and the segment's part
 * of the logsumexp. Then, a block a row: the `best` groups with the largest peaks hold the `best`
 * logits (any other group's largest has as many before it), so only those are read again and sorted.
 * Which are they is asked bit by bit: how many peaks have at least this order? At first of the largest
 * peak of each thread alone, which is quick: what so many threads reach so many peaks reach, and seldom
 * many more. Of equal logits, and of equal peaks, the lower number stands first. */
#include "kernels/cuda/launch.cuh"

enum { SEGMENT = 256, THREADS = 1024, KEPT = 32, MOST = 1024, ROOM = 4096 };

struct top_call {
    struct view logits;
    int64_t vocab;
    int32_t best, group, groups, segments; /* group: logits in each */
    int32_t most;                          /* groups whose logits there is room for */
    int32_t *ids;
    float *values, *lse;
    uint32_t *peak; /* [M][groups] */
    float *partial; /* [M][segments][2]: maximum, sum of e^(x - maximum), NaN when there is one */
};

/* Larger for larger, never 0; NaN counts as -inf, -0 as 0. */
static __device__ inline uint32_t order_of(float x)
{
    const uint32_t bits = __float_as_uint(isnan(x) ? -INFINITY : x + 0.0f);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

static __device__ inline float value_of(uint32_t order)
{
    return __uint_as_float(order >> 31 ? order & 0x7fffffffu : ~order);
}

/* Of one value a thread of the block, in every thread. `room` [32] shared. */
static __device__ float block_max(float x, float *room)
{
    x = warp_max(x);
    __syncthreads();
    if (threadIdx.x % WARP == 0) room[threadIdx.x / WARP] = x;
    __syncthreads();
    for (int i = 0; i < (int)(blockDim.x / WARP); i++) x = fmaxf(x, room[i]);
    return x;
}

static __global__ void __launch_bounds__(SEGMENT) survey(struct top_call a)
{
    __shared__ float room[WARP];
    let_next_start();
    wait_for_input();
    const int64_t m = blockIdx.y, row = m * a.logits.stride[0];
    const int32_t group = (int32_t)blockIdx.x * SEGMENT + (int32_t)threadIdx.x;
    const int64_t first = (int64_t)group * a.group;
    const int64_t end = first + a.group < a.vocab ? first + a.group : a.vocab;
    uint32_t peak = 0;
    float max = -INFINITY, bad = 0.0f, sum = 0.0f;
    for (int64_t n = first; n < end; n += 4) {
        const float4 v = load_four(a.logits.data, a.logits.dtype, row + n, (int32_t)(end - n));
        const float each[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (n + i >= end) break;
            const uint32_t order = order_of(each[i]);
            peak = order > peak ? order : peak;
            max = fmaxf(max, each[i]);
            bad += isnan(each[i]) ? 1.0f : 0.0f;
        }
    }
    if (group < a.groups) a.peak[m * a.groups + group] = peak;
    max = block_max(max, room);
    for (int64_t n = first; n < end && !isinf(max); n += 4) {
        const float4 v = load_four(a.logits.data, a.logits.dtype, row + n, (int32_t)(end - n));
        const float each[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int i = 0; i < 4; i++) sum += n + i < end ? expf(each[i] - max) : 0.0f;
    }
    sum = block_sum(sum, room);
    bad = block_sum(bad, room);
    float *to = a.partial + (m * a.segments + blockIdx.x) * 2;
    if (threadIdx.x == 0) to[0] = max, to[1] = bad > 0.0f ? NAN : sum;
}

/* The parts of the segments, joined; NaN when there is one, an infinity when that is the largest. */
static __device__ float join_segments(const struct top_call &a, int64_t m, float *room)
{
    const float *from = a.partial + m * a.segments * 2;
    float max = -INFINITY, sum = 0.0f, bad = 0.0f;
    for (int32_t i = (int32_t)threadIdx.x; i < a.segments; i += THREADS) {
        max = fmaxf(max, from[2 * i]);
        bad += isnan(from[2 * i + 1]) ? 1.0f : 0.0f;
    }
    max = block_max(max, room);
    for (int32_t i = (int32_t)threadIdx.x; i < a.segments && !isinf(max); i += THREADS)
        sum = fmaf(from[2 * i + 1], expf(from[2 * i] - max), sum);
    sum = block_sum(sum, room);
    bad = block_sum(bad, room);
    return bad > 0.0f ? NAN : isinf(max) ? max : max + logf(sum);
}

struct hall {
    float room[WARP];
    uint32_t count[3]; /* one is counted in, one is read, one is made 0 for the next question */
    int32_t group[MOST], groups, items;
};

/* How many over the whole block; question: 0, 1, 2, .. */
static __device__ inline uint32_t count_all(struct hall *s, uint32_t mine, int question)
{
    mine = __reduce_add_sync(~0u, mine);
    if (threadIdx.x == 0) s->count[(question + 1) % 3] = 0;
    if (threadIdx.x % WARP == 0) atomicAdd(&s->count[question % 3], mine);
    __syncthreads();
    return s->count[question % 3];
}

/* The highest order that the largest peaks of `want` threads have. */
static __device__ uint32_t reach_of(const uint32_t *peak, uint32_t want)
{
    uint32_t largest = 0, reach = 0;
#pragma unroll
    for (int i = 0; i < KEPT; i++) largest = peak[i] > largest ? peak[i] : largest;
#pragma unroll 1
    for (int bit = 31; bit >= 0; bit--) {
        const uint32_t higher = reach | 1u << bit;
        if ((uint32_t)__syncthreads_count(largest >= higher) >= want) reach = higher;
    }
    return reach;
}

/* The highest order that `want` peaks have, or one below it that no more than `most` have. *limit: peaks
 * of just that order count when their group is below it. */
static __device__ uint32_t find_bound(const uint32_t *peak, struct hall *s, uint32_t want,
                                      uint32_t most, int32_t *limit)
{
    uint32_t bound = reach_of(peak, want), found = 0, mine = 0;
    int question = 0;
    *limit = INT32_MAX;
#pragma unroll
    for (int i = 0; i < KEPT; i++) mine += peak[i] >= bound && peak[i] > 0;
    if (count_all(s, mine, question++) <= most) return bound;
    bound = 0;
#pragma unroll 1
    for (int bit = 31; bit >= 0 && found != want; bit--) {
        const uint32_t higher = bound | 1u << bit;
        mine = 0;
#pragma unroll
        for (int i = 0; i < KEPT; i++) mine += peak[i] >= higher;
        const uint32_t n = count_all(s, mine, question++);
        if (n >= want) bound = higher, found = n;
    }
    if (found == want) return bound;
    *limit = 0; /* too many are alike: as many groups from below as there is place for */
    for (int32_t bit = KEPT * THREADS; bit > 0; bit /= 2) {
        mine = 0;
#pragma unroll
        for (int i = 0; i < KEPT; i++)
            mine += peak[i] > bound || (peak[i] == bound &&
                                        (int32_t)threadIdx.x + i * THREADS < *limit + bit);
        if (count_all(s, mine, question++) <= want) *limit += bit;
    }
    return bound;
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

/* The logits of the best groups that may be among the best, in any order. */
static __device__ void collect(const struct top_call &a, int64_t row, struct hall *s,
                               uint64_t *item, uint32_t least)
{
    for (int32_t i = (int32_t)threadIdx.x; i < s->groups * a.group; i += THREADS) {
        const int64_t n = (int64_t)s->group[i / a.group] * a.group + i % a.group;
        if (n >= a.vocab) continue;
        const uint32_t order = order_of(get(a.logits, row + n));
        if (order >= least)
            item[atomicAdd(&s->items, 1)] = (uint64_t)order << 32 | (uint32_t)~(uint32_t)n;
    }
}

static __global__ void __launch_bounds__(THREADS) choose(struct top_call a)
{
    DYNAMIC_SHARED(room);
    __shared__ struct hall s;
    uint64_t *item = (uint64_t *)room;
    const int64_t m = blockIdx.x;
    uint32_t peak[KEPT];
    if (threadIdx.x == 0) s.count[0] = s.groups = s.items = 0;
    let_next_start();
    wait_for_input();
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        const int32_t g = (int32_t)threadIdx.x + i * THREADS;
        peak[i] = g < a.groups ? a.peak[m * a.groups + g] : 0;
    }
    __syncthreads();
    int32_t limit;
    const uint32_t want = (uint32_t)(a.best < a.groups ? a.best : a.groups);
    const uint32_t bound = find_bound(peak, &s, want, (uint32_t)a.most, &limit);
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        const int32_t g = (int32_t)threadIdx.x + i * THREADS;
        if (peak[i] > bound || (peak[i] == bound && peak[i] > 0 && g < limit))
            s.group[atomicAdd(&s.groups, 1)] = g;
    }
    __syncthreads();
    collect(a, m * a.logits.stride[0], &s, item, a.best <= a.groups ? bound : 0);
    __syncthreads();
    sort(item, s.items);
    for (int32_t i = (int32_t)threadIdx.x; i < a.best; i += THREADS) {
        a.ids[m * a.best + i] = (int32_t)~(uint32_t)item[i];
        a.values[m * a.best + i] = value_of((uint32_t)(item[i] >> 32));
    }
    const float lse = join_segments(a, m, s.room);
    if (threadIdx.x == 0) a.lse[m] = lse;
}

void cuda_top(struct device *device, struct arena *scratch, const void *args)
{
    const struct top_args *a = (const struct top_args *)args;
    const size_t M = (size_t)a->logits->dim[0];
    struct top_call call = {view_of(a->logits), a->vocab, a->best, 8, 0, 0, 0, a->ids, a->values, a->lse};
    GDN_CHECK(a->best <= MOST, "top: %d of a row, at most %d", a->best, MOST);
    while ((a->vocab + call.group - 1) / call.group > KEPT * THREADS) call.group *= 2;
    call.groups = (int32_t)((a->vocab + call.group - 1) / call.group);
    call.segments = (call.groups + SEGMENT - 1) / SEGMENT;
    call.peak = (uint32_t *)arena_take(scratch, M * (size_t)call.groups * sizeof *call.peak);
    call.partial = (float *)arena_take(scratch, M * (size_t)call.segments * 2 * sizeof(float));
    if (!call.peak || !call.partial) return;
    const int32_t want = a->best < call.groups ? a->best : call.groups;
    call.most = 2 * want * call.group <= ROOM ? 2 * want : want;
    if (call.most > MOST) call.most = MOST;
    size_t items = 1;
    while (items < (size_t)(call.most * call.group)) items *= 2;
    launch_early(device, survey, dim3((unsigned)call.segments, (unsigned)M), SEGMENT, 0, call);
    launch_early(device, choose, dim3((unsigned)M), THREADS, items * sizeof(uint64_t), call);
}

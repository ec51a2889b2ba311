/* route.cu: which experts a row goes to. Truth: kernels/ref/route.c. A warp a row. */
#include "kernels/cuda/launch.cuh"

struct route_call {
    struct view logits, bias, weight;
    int32_t *ids;
    enum score score;
    bool renormalise;
    float scale;
    int32_t groups, groups_used, best, E;
};

/* Larger is better: the value, then the lower number. Below every number comes what is none, and 0
 * stands for what is taken. */
static __device__ inline uint64_t rank_of(float x, int32_t i)
{
    const uint32_t bits = __float_as_uint(x + 0.0f);
    const uint32_t key = isnan(x) ? 1u : bits >> 31 ? ~bits : bits | 0x80000000u;
    return (uint64_t)key << 32 | (uint32_t)~i;
}

/* Who is left of n numbers: lane l has l, l + 32, .. and knows the best of them. */
struct choice {
    const float *x;
    int32_t n;
    bool *taken;
    uint64_t best;
};

static __device__ inline void look(struct choice &c)
{
    c.best = 0;
    for (int32_t i = (int32_t)threadIdx.x; i < c.n; i += WARP) {
        const uint64_t rank = c.taken[i] ? 0u : rank_of(c.x[i], i);
        if (rank > c.best) c.best = rank;
    }
}

/* The best of all, in every lane; only the lane that had it looks again. */
static __device__ int32_t take_best(struct choice &c)
{
    const uint32_t value = (uint32_t)(c.best >> 32), most = __reduce_max_sync(~0u, value);
    const int32_t found =
        (int32_t)~__reduce_max_sync(~0u, value == most ? (uint32_t)c.best : 0u);
    if (found % WARP == (int32_t)threadIdx.x) {
        c.taken[found] = true;
        look(c);
    }
    return found;
}

/* s [E] of row t. */
static __device__ void make_scores(const struct route_call &a, int64_t t, float *s)
{
    float max = -INFINITY, sum = 0.0f;
    for (int32_t e = (int32_t)threadIdx.x; e < a.E; e += WARP) {
        s[e] = get(a.logits, t * a.logits.stride[0] + e);
        max = fmaxf(max, s[e]);
    }
    max = warp_max(max);
    for (int32_t e = (int32_t)threadIdx.x; e < a.E; e += WARP) {
        s[e] = a.score == SCORE_SOFTMAX ? expf(s[e] - max) : sigmoid(s[e]);
        sum += s[e];
    }
    sum = warp_sum(sum);
    for (int32_t e = (int32_t)threadIdx.x; a.score == SCORE_SOFTMAX && e < a.E; e += WARP)
        s[e] /= sum;
}

/* The best two of a group, summed. */
static __device__ float group_score(const float *choice, int32_t n)
{
    float first = -INFINITY, second = -INFINITY;
    for (int32_t i = 0; i < n; i++) {
        if (choice[i] > first) {
            second = first;
            first = choice[i];
        } else if (choice[i] > second) {
            second = choice[i];
        }
    }
    return n > 1 ? first + second : first;
}

/* What is in none of the groups used counts as taken. */
static __device__ void leave_groups(const struct route_call &a, const float *choice, float *group,
                                    bool *unused, bool *taken)
{
    const int32_t n = a.E / a.groups;
    for (int32_t g = (int32_t)threadIdx.x; g < a.groups; g += WARP) {
        group[g] = group_score(choice + g * n, n);
        unused[g] = false;
    }
    __syncwarp();
    struct choice c = {group, a.groups, unused, 0};
    look(c);
    for (int32_t i = 0; i < a.groups_used; i++) take_best(c);
    __syncwarp();
    for (int32_t e = (int32_t)threadIdx.x; e < a.E; e += WARP) taken[e] = !unused[e / n];
    __syncwarp();
}

static __global__ void route(struct route_call a)
{
    let_next_start();
    wait_for_input();
    DYNAMIC_SHARED(room); /* scores, choice, group, chosen [E]; taken, unused [E] */
    float *s = room, *choice = room + a.E, *group = room + 2 * a.E;
    int32_t *chosen = (int32_t *)(room + 3 * a.E);
    bool *taken = (bool *)(chosen + a.E), *unused = taken + a.E;
    const int64_t t = blockIdx.x;
    make_scores(a, t, s);
    for (int32_t e = (int32_t)threadIdx.x; e < a.E; e += WARP) {
        choice[e] = a.bias.data ? s[e] + get(a.bias, e) : s[e];
        taken[e] = false;
    }
    __syncwarp();
    if (a.groups && a.groups_used < a.groups) leave_groups(a, choice, group, unused, taken);
    struct choice c = {choice, a.E, taken, 0};
    look(c);
    float sum = 0.0f;
    for (int32_t i = 0; i < a.best; i++) {
        const int32_t e = take_best(c);
        sum += s[e];
        if (threadIdx.x == 0) a.ids[t * a.best + i] = chosen[i] = e;
    }
    __syncwarp();
    const float all = a.renormalise ? sum + 1e-20f : 1.0f;
    for (int32_t i = (int32_t)threadIdx.x; i < a.best; i += WARP)
        put(a.weight, t * a.weight.stride[0] + i, a.scale * s[chosen[i]] / all);
}

void cuda_route(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct route_args *a = (const struct route_args *)args;
    const int32_t E = (int32_t)a->logits->dim[1];
    const struct route_call call = {view_of(a->logits), view_of(a->bias), view_of(a->weight),
                                    a->ids, a->score, a->renormalise, (float)a->scale,
                                    a->groups, a->groups_used, (int32_t)a->weight->dim[1], E};
    launch_early(device, route, dim3((unsigned)a->logits->dim[0]), WARP, (size_t)E * 18, call);
}

/* delta.cuh: a call of the gated delta rule, as its kernels see it. */
#ifndef KERNELS_CUDA_DELTA_CUH
#define KERNELS_CUDA_DELTA_CUH

#include "kernels/cuda/conv.cuh"
#include "kernels/cuda/gate.cuh"

/* Where rows come from, and go to, when the whole mixer is one call (delta_mix.cuh). */
struct delta_mix {
    struct conv_call conv; /* x: q|k|v of all heads */
    struct view a, b, A_log, dt_bias, z, norm, y;
    struct gate_constants gate;
    float q_scale, eps;
    enum act act;
};

struct delta_call {
    struct view q, k, v, g, beta, o, S0, S1; /* S0, S1: data NULL when there is none */
    struct rows rows;
    struct delta_slots slots; /* anchor NULL: dense */
    int32_t Hk, Hv, Dk, Dv;
    int32_t gates; /* decays of a head: 1, or with a gate a channel Dk */
    bool channel;
    bool beside; /* prompts are left out: they have kernels of their own (delta_prompt.cu) */
    int32_t stretch; /* at most so many rows are looked at together */
    struct delta_mix mix;
    unsigned *arrivals; /* [B] blocks of a sequence that are done; 0 between calls */
};

/* Channels that stand in shared memory: quarters of a multiple of 4. */
static inline __host__ __device__ int32_t channels_of(int32_t Dk) { return (Dk + 15) / 16 * 16; }

/* A sequence's rows, and where its log stands: m entries, of which `overdue` are folded first; when
 * the call is over the `gone` oldest of what is left then and comes are in the anchor. */
struct delta_run {
    int32_t slot, first, n, base, m, overdue, gone;
    bool absent;
};

static __device__ inline struct delta_run delta_run_of(const struct delta_call &a, int32_t b)
{
    const int32_t first = a.rows.start[b], end = a.rows.start[b + 1];
    const int32_t slot = a.rows.slot ? a.rows.slot[b] : 0;
    const int32_t pos = a.slots.anchor ? a.rows.pos[b] : 0;
    struct delta_run r = {slot, first, end - first, 0, 0, 0, 0, slot < 0};
    if (!a.slots.anchor || r.absent) return r;
    r.base = a.slots.base[slot];
    r.m = pos - r.base;
    r.overdue = r.m > BLOCK ? BLOCK : 0;
    r.m -= r.overdue;
    const int32_t all = r.m + r.n;
    r.gone = a.rows.draft || all <= BLOCK ? 0 : (all - 1) / BLOCK * BLOCK;
    return r;
}

/* Decay below which e^g is 0 already; no infinity may enter the sum. */
static __device__ inline float delta_decay(const struct delta_call &a, int64_t t, int64_t h, int64_t d)
{
    return fmaxf(get(a.g, view_at(a.g, t, h, d)), -104.0f);
}

/* Element 0 of a key head, or value head, in an entry of a slot's log. */
static __device__ inline int64_t delta_k_at(const struct delta_call &a, int32_t slot, int32_t entry,
                                            int64_t kh)
{
    return (((int64_t)slot * a.slots.entries + entry) * a.Hk + kh) * a.Dk;
}

static __device__ inline int64_t delta_u_at(const struct delta_call &a, int32_t slot, int32_t entry,
                                            int64_t h)
{
    return (((int64_t)slot * a.slots.entries + entry) * a.Hv + h) * a.Dv;
}

static __device__ inline int64_t delta_G_at(const struct delta_call &a, int32_t slot, int32_t entry,
                                            int64_t h)
{
    return (((int64_t)slot * a.slots.entries + entry) * a.Hv + h) * a.gates;
}

#endif

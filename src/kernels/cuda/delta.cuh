/* delta.cuh: a call of the gated delta rule, as its kernels see it. */
#ifndef KERNELS_CUDA_DELTA_CUH
#define KERNELS_CUDA_DELTA_CUH

#include "kernels/cuda/launch.cuh"

struct delta_call {
    struct view q, k, v, g, beta, o, S0, S1; /* S0, S1: data NULL when there is none */
    struct rows rows;
    struct delta_slots slots; /* anchor NULL: dense */
    int32_t Hk, Hv, Dk, Dv, gates; /* gates: decays of a head, 1 or Dk */
    int32_t stretch; /* at most so many rows are looked at together */
    bool beside;     /* prompts are left out: they have kernels of their own (delta_prompt.cu) */
};

/* A sequence's rows, and where its log stands: m entries, of which `overdue` are folded first. */
struct delta_run {
    int32_t slot, first, n, base, m, overdue;
};

static __device__ inline struct delta_run delta_run_of(const struct delta_call &a, int32_t b)
{
    struct delta_run r = {-1, a.rows.start[b], a.rows.start[b + 1] - a.rows.start[b], 0, 0, 0};
    if (!a.slots.anchor) return r;
    r.slot = a.rows.slot[b];
    r.base = a.slots.base[r.slot];
    r.m = a.rows.pos[b] - r.base;
    r.overdue = r.m > BLOCK ? BLOCK : 0;
    r.m -= r.overdue;
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

/* Appends k and G, and moves base (delta_append.cu): after all who read the log have read it. */
void delta_append(struct device *device, const struct delta_call &call);

#endif

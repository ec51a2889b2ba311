/* delta_prompt.cu: the walk over the blocks of a prompt (delta_prompt.cuh).
 *
 * A block of threads takes 16 value columns of one head of one sequence. Some warps have 32 channels
 * of its state each, in registers, transposed: S^T [16 columns][32 channels] is what tile_multiply
 * leaves behind (the fold) and, split, what it takes on the left (S k, S q). They show one another
 * their shares of S k and S q once a block; then each makes w and u of all 16 entries for itself.
 * Two more warps make o, and two fetch keys, queries, values and records of the blocks to come. */
#include "kernels/cuda/delta_walk.cuh"

enum { WRITERS = 2, END_THREADS = 1024 };

/* Three ways through all blocks, one for each kind of warp; they meet once a block, when the shares
 * of its products and all of the next block are there. */
template <int WARPS>
static __device__ void walk_state(const struct delta_call &a, const struct place &p,
                                  struct hall<WARPS> *s)
{
    const int warp = (int)threadIdx.x / WARP, last = p.run.blocks - 1;
    float S[TILES][4];
    move_anchor<false>(a, p, S);
    __syncthreads();
    for (int32_t j = 0; j <= last; j++) {
        const struct stage<WARPS> *at = &s->stage[j % STAGES];
        tile u;
        meet_state<WARPS>(at, S, s->share[j % 2][warp]);
        __syncthreads();
        if (j < last || warp == 0) make_u<WARPS>(a, p, j, at, s->share[j % 2], u);
        if (j < last) fold<WARPS>(a, at, u, S);
        if (j == last && warp == 0) keep_u(a, p, p.run.c + p.run.n - j * BLOCK, u);
    }
    move_anchor<true>(a, p, S);
}

template <int WARPS>
static __device__ void walk_outputs(const struct delta_call &a, const struct place &p,
                                    struct hall<WARPS> *s)
{
    const int half = (int)threadIdx.x / WARP - WARPS;
    __syncthreads();
    for (int32_t j = 0; j < p.run.blocks; j++) {
        const struct stage<WARPS> *at = &s->stage[j % STAGES];
        tile u;
        __syncthreads();
        make_u<WARPS>(a, p, j, at, s->share[j % 2], u);
        make_o<WARPS>(a, p, j, at, s->share[j % 2], u, half);
    }
}

template <int WARPS>
static __device__ void walk_loads(const struct delta_prompt_call &call, const struct place &p,
                                  struct hall<WARPS> *s)
{
    for (int32_t j = 0; j < STAGES - 1; j++) {
        if (j < p.run.blocks) load_block(call, p, j, s);
        copies_end();
    }
    copies_wait<STAGES - 2>();
    __syncthreads();
    for (int32_t j = 0; j < p.run.blocks; j++) {
        copies_wait<STAGES - 3>();
        __syncthreads();
        if (j + STAGES - 1 < p.run.blocks) load_block(call, p, j + STAGES - 1, s);
        copies_end();
    }
}

template <int WARPS>
static __global__ void __launch_bounds__((WARPS + WRITERS + LOADERS) * WARP, 1)
    walk_prompt(struct delta_prompt_call call)
{
    DYNAMIC_SHARED(room);
    struct hall<WARPS> *s = (struct hall<WARPS> *)room;
    const struct delta_call &a = call.a;
    const int32_t b = (int32_t)blockIdx.z, warp = (int32_t)threadIdx.x / WARP;
    if (!is_prompt(a.rows, b)) return;
    struct place p = {};
    p.run = delta_prompt_run_of(a, b);
    p.h = blockIdx.y, p.kh = p.h / (a.Hv / a.Hk), p.column = (int32_t)blockIdx.x * COLUMNS;
    p.record = delta_first_block(p.run.first, b) * a.Hv + p.h;
    if (p.run.slot < 0) {
        for (int32_t i = (int32_t)threadIdx.x; i < p.run.n * COLUMNS; i += (int32_t)blockDim.x)
            put(a.o, view_at(a.o, p.run.first + i / COLUMNS, p.h, p.column + i % COLUMNS), 0.0f);
    } else if (warp < WARPS) {
        walk_state<WARPS>(a, p, s);
    } else if (warp < WARPS + WRITERS) {
        walk_outputs<WARPS>(a, p, s);
    } else {
        walk_loads<WARPS>(call, p, s);
    }
}

/* The last block's keys and decays enter the log, and the anchor stands before it: when all have read
 * what was there. */
static __global__ void __launch_bounds__(END_THREADS) end_prompt(struct delta_call a)
{
    const int32_t b = (int32_t)blockIdx.x;
    if (!is_prompt(a.rows, b) || absent(a.rows, b)) return;
    const struct delta_prompt_run r = delta_prompt_run_of(a, b);
    const int32_t base = (r.blocks - 1) * BLOCK, n = r.c + r.n - base;
    const int64_t t = r.first + r.n - n;
    __syncthreads(); /* base has been read */
    const int32_t eights = a.Dk / 8, row = a.Hk * eights;
#pragma unroll 4
    for (int32_t i = (int32_t)threadIdx.x; i < n * row; i += END_THREADS) {
        const int32_t e = i / row, kh = i % row / eights, d = i % eights * 8;
        *(uint4 *)((uint16_t *)a.slots.k + delta_k_at(a, r.slot, e, kh) + d) =
            *(const uint4 *)((const uint16_t *)a.k.data + view_at(a.k, t + e, kh, d));
    }
    for (int32_t h = (int32_t)threadIdx.x; h < a.Hv; h += END_THREADS) {
        float G = 0.0f;
#pragma unroll
        for (int32_t e = 0; e < BLOCK; e++) {
            if (e < n) G += delta_decay(a, t + e, h, 0);
            if (e < n) ((float *)a.slots.G)[delta_G_at(a, r.slot, e, h)] = G;
        }
    }
    if (threadIdx.x == 0) a.slots.base[r.slot] += base;
}

/* ---- the call -------------------------------------------------------------------------------- */

template <int WARPS> static void run(struct device *device, const struct delta_prompt_call &call)
{
    const struct delta_call &a = call.a;
    const dim3 grid((unsigned)(a.Dv / COLUMNS), (unsigned)a.Hv, (unsigned)a.rows.B);
    launch(device, walk_prompt<WARPS>, grid, (WARPS + WRITERS + LOADERS) * WARP,
           sizeof(struct hall<WARPS>), call);
}

/* bf16, and rows that can be copied 16 bytes at a time. */
static bool in_sixteens(const struct view &v)
{
    return v.dtype == DTYPE_BF16 && (size_t)v.data % 16 == 0 && v.stride[0] % 8 == 0 &&
           v.stride[1] % 8 == 0;
}

bool delta_prompt_fits(const struct delta_call &a)
{
    return a.slots.anchor && !a.slots.channel_gate && !a.rows.draft && may_be_prompts(&a.rows) &&
           (a.Dk == 64 || a.Dk == 96 || a.Dk == 128 || a.Dk == 192) && a.Dv % COLUMNS == 0 &&
           in_sixteens(a.q) && in_sixteens(a.k) && in_sixteens(a.v) &&
           a.slots.k_type == DTYPE_BF16 && (size_t)a.slots.k % 16 == 0;
}

bool delta_prompt(struct device *device, struct arena *scratch, const struct delta_call &a)
{
    const int64_t blocks = delta_first_block(a.rows.T, a.rows.B);
    struct delta_prompt_call call = {a, NULL};
    call.record = (struct delta_record *)arena_take(scratch, sizeof *call.record *
                                                                 (size_t)(blocks * a.Hv));
    if (!call.record) return false;
    delta_pairs(device, call);
    if (a.Dk == 64)
        run<2>(device, call);
    else if (a.Dk == 96)
        run<3>(device, call);
    else if (a.Dk == 128)
        run<4>(device, call);
    else
        run<6>(device, call);
    launch(device, end_prompt, dim3((unsigned)a.rows.B), END_THREADS, 0, a);
    return true;
}

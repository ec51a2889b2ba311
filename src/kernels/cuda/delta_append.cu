/* delta_append.cu: the rows of a call enter the log: k, and G summed from the block's edge; base moves
 * over the blocks that were folded. Several heads read a key and all read base, so this waits for the
 * kernel that computes. u is written there, by the one block that reads it.
 *
 *     plain    entries  m + i - 16 folds, what falls below 0 is in the anchor
 *     draft    entries  m + i, up to 31; G begins anew at entry 16 */
#include "kernels/cuda/delta.cuh"
#include "kernels/cuda/prompt.cuh"

enum { THREADS = 256 };

static __device__ void append_k(const struct delta_call &a, const struct delta_run &r, int32_t gone)
{
    for (int64_t i = threadIdx.x; i < (int64_t)a.Hk * a.Dk; i += THREADS) {
        for (int32_t e = 0; r.overdue && e < r.m; e++)
            store(a.slots.k, a.slots.k_type, delta_k_at(a, r.slot, e, 0) + i,
                  load(a.slots.k, a.slots.k_type, delta_k_at(a, r.slot, BLOCK + e, 0) + i));
        for (int32_t t = gone > r.m ? gone - r.m : 0; t < r.n; t++)
            store(a.slots.k, a.slots.k_type, delta_k_at(a, r.slot, r.m + t - gone, 0) + i,
                  get(a.k, view_at(a.k, r.first + t, i / a.Dk, i % a.Dk)));
    }
}

static __device__ void append_G(const struct delta_call &a, const struct delta_run &r, int32_t gone)
{
    float *log = (float *)a.slots.G;
    for (int64_t i = threadIdx.x; i < (int64_t)a.Hv * a.gates; i += THREADS) {
        for (int32_t e = 0; r.overdue && e < r.m; e++)
            log[delta_G_at(a, r.slot, e, 0) + i] = log[delta_G_at(a, r.slot, BLOCK + e, 0) + i];
        const int32_t from = gone > r.m ? gone - r.m : 0;
        const int32_t begin = r.m + from - gone; /* entry of the first row that stays */
        float G = begin > 0 && from < r.n ? log[delta_G_at(a, r.slot, begin - 1, 0) + i] : 0.0f;
        for (int32_t t = from; t < r.n; t++) {
            const int32_t e = r.m + t - gone;
            if (e % BLOCK == 0) G = 0.0f;
            G += delta_decay(a, r.first + t, i / a.gates, i % a.gates);
            log[delta_G_at(a, r.slot, e, 0) + i] = G;
        }
    }
}

static __global__ void append(struct delta_call a)
{
    const int32_t b = (int32_t)blockIdx.x;
    if (absent(a.rows, b) || (a.beside && is_prompt(a.rows, b))) return;
    const struct delta_run r = delta_run_of(a, b);
    const int32_t all = r.m + r.n;
    const int32_t gone = a.rows.draft || all <= BLOCK ? 0 : (all - 1) / BLOCK * BLOCK;
    append_k(a, r, gone);
    append_G(a, r, gone);
    __syncthreads();
    if (threadIdx.x == 0) a.slots.base[r.slot] = r.base + r.overdue + gone;
}

void delta_append(struct device *device, const struct delta_call &call)
{
    launch(device, append, dim3((unsigned)call.rows.B), THREADS, 0, call);
}

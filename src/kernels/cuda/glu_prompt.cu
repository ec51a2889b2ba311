/* glu_prompt.cu: act(a) b of bf16 rows, 8 elements a thread. Truth: kernels/ref/glu.c. Every
 * element as in rows.cu. */
#include "kernels/cuda/prompt.cuh"
#include "kernels/cuda/tiles.cuh"

enum { THREADS = 256, EACH = 8 };

static __device__ inline int64_t element_at(const struct view &v, int64_t t, int32_t h, int32_t d)
{
    return v.rank == 3 ? view_at(v, t, h, d) : t * v.stride[0] + d;
}

static __device__ inline uint32_t pair_of(uint32_t a, uint32_t b, enum act act)
{
    return bf16_pair(act_of(act, low_value(a)) * low_value(b),
                     act_of(act, high_value(a)) * high_value(b));
}

/* Rows of `width` = H x D elements. */
static __global__ void __launch_bounds__(THREADS)
    glu_many(struct view a, struct view b, struct view y, int32_t width, int32_t D, enum act act)
{
    const int32_t i = ((int32_t)blockIdx.y * THREADS + (int32_t)threadIdx.x) * EACH;
    const int64_t t = blockIdx.x;
    let_next_start();
    wait_for_input();
    if (i >= width) return;
    const int32_t h = i / D, d = i % D;
    const uint4 x = *(const uint4 *)((const uint16_t *)a.data + element_at(a, t, h, d));
    const uint4 z = *(const uint4 *)((const uint16_t *)b.data + element_at(b, t, h, d));
    *(uint4 *)((uint16_t *)y.data + element_at(y, t, h, d)) =
        uint4{pair_of(x.x, z.x, act), pair_of(x.y, z.y, act), pair_of(x.z, z.z, act),
              pair_of(x.w, z.w, act)};
}

static bool in_eights(const struct tensor *t)
{
    bool fits = t->dtype == DTYPE_BF16 && (size_t)t->data % 16 == 0 && tensor_width(t) % EACH == 0;
    for (int i = 0; i + 1 < t->rank; i++) fits = fits && t->stride[i] % EACH == 0;
    return fits && (t->rank == 2 || t->rank == 3);
}

bool glu_prompt(struct device *device, const struct glu_args *a)
{
    if (!in_eights(a->a) || !in_eights(a->b) || !in_eights(a->y))
        return false;
    const int32_t D = (int32_t)tensor_width(a->y);
    const int32_t width = D * (a->y->rank == 3 ? (int32_t)a->y->dim[1] : 1);
    launch_early(device, glu_many, dim3((unsigned)a->y->dim[0], blocks_for(width, THREADS * EACH)),
           THREADS, 0, view_of(a->a), view_of(a->b), view_of(a->y), width, D, a->act);
    return true;
}

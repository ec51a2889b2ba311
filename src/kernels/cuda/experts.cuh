/* experts.cuh: a mixture of experts as its kernels see it. */
#ifndef KERNELS_CUDA_EXPERTS_CUH
#define KERNELS_CUDA_EXPERTS_CUH

#include "kernels/cuda/launch.cuh"

struct matrix {
    const void *data;
    int64_t stride;
    enum dtype dtype;
};

struct expert {
    struct matrix gate, up, down;
};

/* y[t] = sum_j weight[t, j] z_j, j ascending. */
struct experts_call {
    const struct expert *table; /* in device memory */
    const int32_t *ids;         /* [T, best] */
    struct view x, weight, y;
    int64_t best, I;
};

/* bf16 rows and experts of this type, all of them: false when a block has no room for it. */
bool experts_coded(struct device *device, struct arena *scratch, enum dtype type,
                   const struct experts_call *call);

#endif

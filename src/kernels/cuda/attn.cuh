/* attn.cuh: attention behind attn_mix.cu. */
#ifndef KERNELS_CUDA_ATTN_CUH
#define KERNELS_CUDA_ATTN_CUH

#include "kernels/cuda/prompt.cuh"

/* Attention over pages that hold the keys and values of these rows already (k and v NULL).
 * prompts_only: the rows of all other sequences are neither read nor written. */
void attn_paged(struct device *device, struct arena *scratch, const struct attn_args *args,
                bool prompts_only);

#endif

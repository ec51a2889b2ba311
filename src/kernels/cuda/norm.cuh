/* norm.cuh: what a norm makes of an element, for kernels that norm on their way. */
#ifndef KERNELS_CUDA_NORM_CUH
#define KERNELS_CUDA_NORM_CUH

#include "kernels/cuda/launch.cuh"

struct norm_constants {
    float eps;
    bool centred, late;
};

/* x r c,  c = w or 1 + w;  late: x r is rounded before the weight comes */
static __device__ inline float normed(float x, float r, float w, enum dtype t,
                                      struct norm_constants c)
{
    const float even = c.late ? rounded(t, x * r) : x * r;
    return even * (c.centred ? 1.0f + w : w);
}

/* Squares of four neighbours, added to a sum. */
static __device__ inline float add_squares(float sum, const float4 &v)
{
    return fmaf(v.w, v.w, fmaf(v.z, v.z, fmaf(v.y, v.y, fmaf(v.x, v.x, sum))));
}

#endif

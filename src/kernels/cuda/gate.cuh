/* gate.cuh: the decay of a head or channel and the strength of a head, as rows.cu and delta_mix.cuh
 * need them. */
#ifndef KERNELS_CUDA_GATE_CUH
#define KERNELS_CUDA_GATE_CUH

#include "kernels/cuda/launch.cuh"

struct gate_constants {
    float beta_scale, lower_bound;
};

/* u = a + dt_bias;  g = -e^A softplus(u), or lower_bound sigmoid(e^A u) */
static __device__ inline float gate_decay(float u, float A_log, const struct gate_constants &c)
{
    const float A = expf(A_log);
    if (c.lower_bound != 0.0f) return c.lower_bound * sigmoid(A * u);
    return -A * (u > 20.0f ? u : log1pf(expf(u)));
}

#endif

/* cuda.h: an NVIDIA GPU as a device. The kernels are the *.cu files beside this; a build without
 * nvcc has kernels/nocuda.c instead, which says so. */
#ifndef KERNELS_CUDA_CUDA_H
#define KERNELS_CUDA_CUDA_H

#include "base/status.h"
#include "tensor/device.h"

/* Fills memory, queue and kernels of a zeroed device: the first GPU. A sentence when there is no
 * driver, no GPU, or one that is too old. */
enum gdn_status cuda_open(struct device *device, struct gdn_error *err);
void cuda_close(struct device *device);

/* The anchor of a head is strips of 32 columns here, [Dk][32] each: what a block reads lies together. */
int64_t cuda_anchor_elements(int32_t Hv, int32_t Dv, int32_t Dk);
void cuda_anchor_pack(const struct delta_slots *slots, int32_t slot, const double *dense);
void cuda_anchor_unpack(const struct delta_slots *slots, int32_t slot, double *dense);

void cuda_draw(struct device *device, void *to, const struct draw *draw, int64_t n);
void *cuda_experts_place(struct device *device, const struct experts *experts);

op_kernel cuda_embed, cuda_norm, cuda_add_norm, cuda_gated_norm, cuda_l2norm, cuda_linear, cuda_conv,
    cuda_gate, cuda_delta, cuda_delta_mix, cuda_rope, cuda_attn, cuda_attn_mix, cuda_glu, cuda_join,
    cuda_route, cuda_experts,
    cuda_head_linear, cuda_top, cuda_linear_ce;

#endif

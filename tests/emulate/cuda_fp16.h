/* cuda_fp16.h: half precision for the emulated CUDA (cuda_runtime.h beside this). */
#ifndef EMULATE_CUDA_FP16_H
#define EMULATE_CUDA_FP16_H

#include "tensor/dtype.h"

struct __half {
    uint16_t bits;
};
static inline __half __ushort_as_half(uint16_t bits) { return __half{bits}; }
static inline uint16_t __half_as_ushort(__half h) { return h.bits; }
static inline float __half2float(__half h) { return f16_to_f32(h.bits); }
static inline __half __float2half_rn(float x) { return __half{f32_to_f16(x)}; }

#endif

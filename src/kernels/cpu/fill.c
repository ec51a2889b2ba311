/* fill.c: the kernels take their places in the device's table, from weak to strong. */
#include "base/cpu.h"
#include "kernels/cpu/cpu.h"

/* What kernels on tiles take. Their tests also run them on tiles in plain C (tile.h). */
#ifdef GDN_TILE_EMULATED
enum { TILES = CPU_AVX512 | CPU_AVX512_BF16 };
#else
enum { TILES = CPU_AVX512 | CPU_AVX512_BF16 | CPU_AMX };
#endif

/* What is compiled for each ISA; `isa` is the end of the names, empty for any machine. */
#define FILL_ISA(isa)                                           \
    forward[OP_ADD_NORM] = cpu_add_norm_forward##isa;           \
    forward[OP_LINEAR] = cpu_linear_forward##isa;               \
    forward[OP_EXPERTS] = cpu_experts_forward##isa;             \
    forward[OP_LINEAR_CE] = cpu_linear_ce_forward##isa;         \
    forward[OP_HEAD_LINEAR] = cpu_head_linear_forward##isa;     \
    forward[OP_CONV] = cpu_conv_forward##isa;                   \
    forward[OP_GATE] = cpu_gate_forward##isa;                   \
    forward[OP_L2NORM] = cpu_l2norm_forward##isa;               \
    forward[OP_DELTA] = cpu_delta_forward##isa;                 \
    forward[OP_NORM] = cpu_norm_forward##isa;                   \
    forward[OP_GATED_NORM] = cpu_gated_norm_forward##isa;       \
    forward[OP_ROPE] = cpu_rope_forward##isa;                   \
    forward[OP_ATTN] = cpu_attn_forward##isa;                   \
    forward[OP_GLU] = cpu_glu_forward##isa;                     \
    backward[OP_ADD_NORM] = cpu_add_norm_backward##isa;         \
    backward[OP_LINEAR] = cpu_linear_backward##isa;             \
    backward[OP_LINEAR_CE] = cpu_linear_ce_backward##isa;       \
    backward[OP_CONV] = cpu_conv_backward##isa;                 \
    backward[OP_GATE] = cpu_gate_backward##isa;                 \
    backward[OP_L2NORM] = cpu_l2norm_backward##isa;             \
    backward[OP_NORM] = cpu_norm_backward##isa;                 \
    backward[OP_GATED_NORM] = cpu_gated_norm_backward##isa;     \
    backward[OP_ROPE] = cpu_rope_backward##isa;                 \
    backward[OP_ATTN] = cpu_attn_backward##isa;                 \
    backward[OP_GLU] = cpu_glu_backward##isa;                   \
    backward[OP_DELTA] = cpu_delta_backward##isa

void cpu_fill_portable(struct device *device)
{
    op_kernel **forward = device->forward, **backward = device->backward;
    forward[OP_EMBED] = cpu_embed_forward;
    forward[OP_TOP] = cpu_top_forward;
    forward[OP_ROUTE] = cpu_route_forward;
    forward[OP_JOIN] = cpu_join_forward;
    backward[OP_EMBED] = cpu_embed_backward;
    backward[OP_ROUTE] = cpu_route_backward;
    backward[OP_EXPERTS] = cpu_experts_backward;
    backward[OP_HEAD_LINEAR] = cpu_head_linear_backward;
    backward[OP_JOIN] = cpu_join_backward;
    FILL_ISA();
}

void cpu_fill(struct device *device, uint32_t flags)
{
    op_kernel **forward = device->forward, **backward = device->backward;
    cpu_fill_portable(device);
    if (flags & CPU_AVX2) {
        FILL_ISA(_avx2);
    }
    if (flags & CPU_AVX512) {
        FILL_ISA(_avx512);
    }
    if ((flags & TILES) == TILES) {
        forward[OP_DELTA] = cpu_delta_forward_amx;
        forward[OP_LINEAR] = cpu_linear_forward_amx;
        forward[OP_LINEAR_CE] = cpu_linear_ce_forward_amx;
        forward[OP_EXPERTS] = cpu_experts_forward_amx;
        forward[OP_ATTN] = cpu_attn_forward_amx;
        forward[OP_HEAD_LINEAR] = cpu_head_linear_forward_amx;
        backward[OP_DELTA] = cpu_delta_backward_amx;
    }
}

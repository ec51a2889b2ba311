/* fill.c: the portable kernels take their places in the device's table. */
#include "kernels/cpu/cpu.h"

void cpu_fill_portable(struct device *device)
{
    op_kernel **forward = device->forward;
    forward[OP_EMBED] = cpu_embed_forward;
    forward[OP_ADD_NORM] = cpu_add_norm_forward;
    forward[OP_LINEAR] = cpu_linear_forward;
    forward[OP_TOP] = cpu_top_forward;
    forward[OP_LINEAR_CE] = cpu_linear_ce_forward;
    forward[OP_CONV] = cpu_conv_forward;
    forward[OP_GATE] = cpu_gate_forward;
    forward[OP_L2NORM] = cpu_l2norm_forward;
    forward[OP_DELTA] = cpu_delta_forward;
    forward[OP_NORM] = cpu_norm_forward;
    forward[OP_GATED_NORM] = cpu_gated_norm_forward;
    forward[OP_ROPE] = cpu_rope_forward;
    forward[OP_ATTN] = cpu_attn_forward;
    forward[OP_GLU] = cpu_glu_forward;
}

/* delta_mix.cu: op_delta_mix for few rows of each sequence: the whole mixer in one launch. */
#include "kernels/cuda/delta_kernel.cuh"

/* As [T or all, H, D] over rows of H D columns. */
static struct view heads_of(const struct tensor *t, int64_t H, int64_t D)
{
    struct view v = view_of(t);
    v.dim[1] = H, v.dim[2] = D, v.stride[1] = D, v.stride[2] = 1;
    return v;
}

void cuda_delta_mix(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct delta_mix_args *a = (const struct delta_mix_args *)args;
    struct delta_call call = {};
    struct delta_mix *mix = &call.mix;
    call.Hk = a->Hk, call.Hv = a->Hv, call.Dk = a->Dk, call.Dv = a->Dv;
    call.channel = a->dt_bias->rank == 2;
    GDN_CHECK(a->delta && a->tail && a->rows->slot, "delta_mix: on slots only");
    GDN_CHECK(a->Dv <= DELTA_MIX_VALUES, "delta_mix: values of %d", a->Dv);
    mix->conv.x = view_of(a->qkv), mix->conv.w = view_of(a->conv);
    mix->conv.rows = *a->rows, mix->conv.slots = *a->tail;
    mix->a = heads_of(a->a, a->Hv, call.channel ? a->Dk : 1), mix->b = heads_of(a->b, a->Hv, 1);
    mix->A_log = view_of(a->A_log), mix->dt_bias = view_of(a->dt_bias);
    mix->z = view_of(a->z), mix->norm = view_of(a->norm), mix->y = view_of(a->y);
    mix->gate = gate_constants{(float)a->beta_scale, (float)a->lower_bound};
    mix->q_scale = (float)(1.0 / sqrt((double)a->Dk)), mix->eps = (float)a->eps;
    mix->act = a->act;
    finish_call(device, &call, a->rows, a->delta);
    const int32_t teams = (int32_t)blocks_for(a->Dv, STRIP);
    (call.channel ? run<true, true> : run<false, true>)(device, call, teams);
}

/* delta.cu: op_delta, on slots or dense. */
#include "kernels/cuda/delta_kernel.cuh"
#include "kernels/cuda/delta_prompt.cuh"

/* Many sequences fill the GPU with a head a block, few with a strip a block. */
static int32_t teams_of(const struct delta_call *call)
{
    const int64_t strips = (call->Dv + STRIP - 1) / STRIP, heads = (int64_t)call->rows.B * call->Hv;
    return heads < 512 ? 1 : strips < MOST_TEAMS ? (int32_t)strips : MOST_TEAMS;
}

void cuda_delta(struct device *device, struct arena *scratch, const void *args)
{
    const struct delta_args *a = (const struct delta_args *)args;
    struct delta_call call = {};
    call.q = view_of(a->q), call.k = view_of(a->k), call.v = view_of(a->v);
    call.g = view_of(a->g), call.beta = view_of(a->beta), call.o = view_of(a->o);
    call.S0 = view_of(a->S0), call.S1 = view_of(a->S1);
    call.Hk = (int32_t)a->k->dim[1], call.Hv = (int32_t)a->v->dim[1];
    call.Dk = (int32_t)a->k->dim[2], call.Dv = (int32_t)a->v->dim[2];
    call.channel = a->g->rank == 3;
    GDN_CHECK(!a->slots || (a->rows->slot && !a->S0 && !a->S1),
              "delta: slots stand for the dense states");
    finish_call(device, &call, a->rows, a->slots);
    if (a->rows->T > a->rows->B && delta_prompt_fits(call)) { /* one row each: decode */
        call.beside = true;
        if (!delta_prompt(device, scratch, call) || must_be_prompts(a->rows)) return;
    }
    (call.channel ? run<true, false> : run<false, false>)(device, call, teams_of(&call));
}

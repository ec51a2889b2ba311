#include "model/layer.h"

static struct tensor *mix(struct pass *pass, const struct layer *l, struct layer_state *state,
                          struct tensor *h)
{
    struct tensor *packed = op_linear(pass, &l->in, h), *mixed = NULL;
    switch (l->kind) {
    case LAYER_DELTA:
        mixed = op_delta_mix(pass, &l->delta, packed, state ? &state->delta : NULL,
                             state ? &state->conv : NULL);
        break;
    case LAYER_ATTN:
        mixed = op_attn_mix(pass, &l->attn, packed, state ? &state->kv : NULL);
        break;
    }
    return op_linear(pass, &l->out, mixed);
}

void layer_run(struct pass *pass, void *context, struct tensor *const in[2], struct tensor *out[2])
{
    const struct layer_call *call = context;
    const struct layer *l = call->layer;
    struct tensor *x, *h = op_add_norm(pass, in[0], in[1], &l->norm1, &x);
    struct tensor *mixed = mix(pass, l, call->state, h);
    h = op_add_norm(pass, x, mixed, &l->norm2, &x);
    out[0] = x;
    out[1] = op_linear(pass, &l->down, op_ffn_act(pass, op_linear(pass, &l->gate_up, h)));
}

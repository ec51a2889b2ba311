#include "model/mtp.h"

struct layer_shape mtp_shape(const struct config *c)
{
    return (struct layer_shape){.kind = LAYER_ATTN, .Hkv = c->Hkv, .D = c->head_dim, .width = c->D};
}

struct tensor *mtp_shift(struct pass *pass, const struct mtp *m, struct tensor *hidden,
                         struct layer_state *state)
{
    return op_plain_conv(pass, m->shift, hidden, &state->conv);
}

struct tensor *mtp_run(struct pass *pass, const struct mtp *m, struct tensor *embed,
                       const int32_t *ids, struct tensor *hidden, struct layer_state *state)
{
    const struct layer_call call = {m->own.layer, state};
    struct tensor *e = op_embed(pass, embed, ids, hidden->dim[0]);
    struct tensor *both = op_norm_pair(pass, &m->embed, e, &m->hidden, hidden), *out[2], *sum;
    struct tensor *const in[2] = {op_linear(pass, &m->join, both), NULL};
    layer_run(pass, (void *)(size_t)&call, in, out);
    return op_add_norm(pass, out[0], out[1], &m->norm, &sum);
}

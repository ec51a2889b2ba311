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

/* x: the stream as it enters the layer. */
static struct tensor *mix(struct pass *pass, const struct mtp *m, const struct mtp_in *in,
                          struct layer_state *state, struct tensor **x)
{
    const struct layer *l = m->own.layer;
    struct tensor *e = op_embed(pass, in->embed, in->ids, in->hidden->dim[0]);
    struct tensor *both = op_norm_pair(pass, &m->embed, e, &m->hidden, in->hidden);
    struct tensor *h = op_add_norm(pass, op_linear(pass, &m->join, both), NULL, &l->norm1, x);
    return layer_mix(pass, l, state, h);
}

void mtp_keep(struct pass *pass, const struct mtp *m, const struct mtp_in *in,
              struct layer_state *state)
{
    struct tensor *x;
    mix(pass, m, in, state, &x);
}

struct tensor *mtp_run(struct pass *pass, const struct mtp *m, const struct mtp_in *in,
                       struct layer_state *state, const int32_t *wanted, int32_t count)
{
    struct tensor *x, *out[2], *sum, *mixed = mix(pass, m, in, state, &x);
    if (count < in->hidden->dim[0]) {
        mixed = op_embed(pass, mixed, wanted, count);
        x = op_embed(pass, x, wanted, count);
    }
    layer_end(pass, m->own.layer, x, mixed, out);
    return op_add_norm(pass, out[0], out[1], &m->norm, &sum);
}

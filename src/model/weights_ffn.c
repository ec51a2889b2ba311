/* weights_ffn.c: the tensors of a layer's ffn: dense, or experts in one of three layouts. */
#include <stdio.h>

#include "base/memory.h"
#include "model/weights_load.h"

static enum gdn_status take_dense(struct loader *l, const char *p, int64_t F, struct layer *layer)
{
    TRY(take_linear(l, p, l->c->D, 2,
                    (struct part[]){{"gate_proj.weight", F}, {"up_proj.weight", F}},
                    &layer->gate_up));
    return take_linear(l, p, F, 1, (struct part[]){{"down_proj.weight", l->c->D}}, &layer->down);
}

/* ---- experts --------------------------------------------------------------------------------- */

struct room {
    struct linear *gate_up, *down; /* [experts] */
};

/* All experts one below another: gate_up [E, 2I, D] or gate, up [E, I, D]; down [E, D, I]. */
static enum gdn_status take_stacked(struct loader *l, const char *p, bool apart, struct room *room)
{
    const int64_t E = l->c->experts, I = l->c->expert_width, D = l->c->D;
    struct linear_part *part = take_parts(l, 3 * E);
    struct tensor *gate = NULL, *up = NULL, *down = NULL;
    if (!part) return GDN_ERR_MEMORY;
    if (apart) {
        TRY(take_tensor(l, p, "switch_mlp.gate_proj.weight", false, 3, (int64_t[]){E, I, D},
                        &gate));
        TRY(take_tensor(l, p, "switch_mlp.up_proj.weight", false, 3, (int64_t[]){E, I, D}, &up));
    } else {
        TRY(take_tensor(l, p, "experts.gate_up_proj", false, 3, (int64_t[]){E, 2 * I, D}, &gate));
    }
    TRY(take_tensor(l, p, apart ? "switch_mlp.down_proj.weight" : "experts.down_proj", false, 3,
                    (int64_t[]){E, D, I}, &down));
    for (int64_t e = 0; e < E; e++, part += 3) {
        const int64_t rows = apart ? I : 2 * I;
        part[0] = (struct linear_part){gate, e * rows, rows, 0};
        part[1] = (struct linear_part){up, e * I, I, I};
        part[2] = (struct linear_part){down, e * D, D, 0};
        room->gate_up[e] = (struct linear){2 * I, D, apart ? 2 : 1, part};
        room->down[e] = (struct linear){D, I, 1, part + 2};
    }
    return GDN_OK;
}

static enum gdn_status take_apart(struct loader *l, const char *p, struct room *room)
{
    const int64_t I = l->c->expert_width, D = l->c->D;
    for (int32_t e = 0; e < l->c->experts; e++) {
        char q[160];
        snprintf(q, sizeof q, "%sexperts.%d.", p, e);
        TRY(take_linear(l, q, D, 2,
                        (struct part[]){{"gate_proj.weight|w1.weight", I},
                                        {"up_proj.weight|w3.weight", I}},
                        &room->gate_up[e]));
        TRY(take_linear(l, q, I, 1, (struct part[]){{"down_proj.weight|w2.weight", D}},
                        &room->down[e]));
    }
    return GDN_OK;
}

static enum gdn_status take_experts(struct loader *l, const char *p, struct layer *layer)
{
    const size_t bytes = (size_t)l->c->experts * sizeof(struct linear);
    struct room room = {arena_take_zeroed(&l->w->parts, bytes),
                        arena_take_zeroed(&l->w->parts, bytes)};
    char name[ST_NAME_BYTES];
    if (!room.gate_up || !room.down)
        return error_set(l->err, GDN_ERR_MEMORY, "no memory for %d experts", l->c->experts);
    layer->experts = (struct experts){.count = l->c->experts, .gate_up = room.gate_up,
                                       .down = room.down};
    if (find_name(l, p, "experts.gate_up_proj", name)) return take_stacked(l, p, false, &room);
    if (find_name(l, p, "switch_mlp.gate_proj.weight", name))
        return take_stacked(l, p, true, &room);
    return take_apart(l, p, &room);
}

static enum gdn_status take_route(struct loader *l, const char *p, struct layer *layer)
{
    const struct config *c = l->c;
    const int64_t E = c->experts;
    layer->route = (struct route_weight){
        .best = c->experts_used, .groups = c->groups > 1 ? c->groups : 0,
        .groups_used = c->groups_used, .score = c->family->score, .renormalise = c->renormalise,
        .scale = c->route_scale};
    TRY(take_linear(l, p, c->D, 1, (struct part[]){{"gate.weight", E}}, &layer->route.logits));
    if (c->family->score != SCORE_SIGMOID) return GDN_OK;
    return take_vector(l, p, "gate.e_score_correction_bias|e_score_correction_bias", E,
                       &layer->route.bias);
}

/* The expert that every row visits, with a gate of its own (Qwen) or without. */
static enum gdn_status take_shared(struct loader *l, const char *p, struct layer *layer)
{
    const struct config *c = l->c;
    const bool gated = c->family->dialect == DIALECT_QWEN;
    char q[160];
    if (c->shared_width == 0) return GDN_OK;
    snprintf(q, sizeof q, "%s%s.", p, gated ? "shared_expert" : "shared_experts");
    TRY(take_dense(l, q, c->shared_width, layer));
    if (!gated) return GDN_OK;
    return take_linear(l, p, c->D, 1, (struct part[]){{"shared_expert_gate.weight", 1}},
                       &layer->share);
}

/* ---- a layer's ffn --------------------------------------------------------------------------- */

/* Kimi's release keeps experts, and its converters dense layers too, under another name. */
enum gdn_status take_ffn(struct loader *l, const char *prefix, bool sparse, struct layer *layer)
{
    char p[96], name[ST_NAME_BYTES];
    layer->sparse = sparse;
    const char *probe = layer->sparse ? "block_sparse_moe.gate.weight"
                                      : "block_sparse_moe.gate_proj.weight";
    snprintf(p, sizeof p, "%s%s", prefix,
             find_name(l, prefix, probe, name) ? "block_sparse_moe." : "mlp.");
    if (!layer->sparse) return take_dense(l, p, l->c->F, layer);
    TRY(take_route(l, p, layer));
    TRY(take_experts(l, p, layer));
    return take_shared(l, p, layer);
}

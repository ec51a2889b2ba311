#include "model/weights.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "model/weights_load.h"
#include "tensor/quant.h"

static enum gdn_status find_prefix(struct loader *l)
{
    static const char *const known[] = {"model.language_model.", "model.", "language_model.model.",
                                        ""};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char name[ST_NAME_BYTES];
        enum dtype dtype;
        snprintf(name, sizeof name, "%sembed_tokens.weight", known[i]);
        if (!weights_find(l->w, name, &dtype)) continue;
        l->w->prefix = known[i];
        return GDN_OK;
    }
    return error_set(l->err, GDN_ERR_INPUT, "%s: tensor embed_tokens.weight is missing under "
                     "every known prefix (model., model.language_model., language_model.model.)",
                     st_path_tail(l->path));
}

/* MLX turns the convolution to [C, W, 1] and adds 1 to the norms in the same conversion. */
static bool find_shift(const struct loader *l)
{
    for (int32_t i = 0; i < l->c->layers; i++) {
        char prefix[64], name[ST_NAME_BYTES];
        snprintf(prefix, sizeof prefix, "%slayers.%d.", l->w->prefix, i);
        if (!find_name(l, prefix, "linear_attn.conv1d.weight", name)) continue;
        enum dtype dtype;
        const struct st_entry *e = weights_find(l->w, name, &dtype)->entry;
        return e->rank == 3 && e->shape[2] == 1 && e->shape[1] != 1;
    }
    return false;
}

static bool begins(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

static bool is_head(const char *name)
{
    static const char *const known[] = {"lm_head.weight", "lm_head.weight.q8"};
    if (begins(name, "language_model.")) name += strlen("language_model.");
    return strcmp(name, known[0]) == 0 || strcmp(name, known[1]) == 0;
}

static bool is_mtp(const char *name)
{
    return begins(name, "mtp.") || begins(name, "model.mtp.") ||
           begins(name, "language_model.mtp.");
}

/* What is left over must be something we know and leave alone. */
static enum gdn_status account(struct loader *l)
{
    struct weights *w = l->w;
    size_t unknown = 0;
    char names[300] = "";
    for (size_t i = 0; i < w->shards.count; i++) {
        const struct st_entry *e = w->shards.tensors[i].entry;
        w->file_bytes += (int64_t)e->bytes;
        if (l->used[i]) continue;
        w->unused_bytes += (int64_t)e->bytes;
        if (is_mtp(e->name)) {
            w->mtp++;
        } else if (begins(e->name, "model.visual.") || begins(e->name, "vision_tower.")) {
            w->vision++;
        } else if (!(l->c->tied && is_head(e->name))) {
            if (unknown++ < NAMED) add_name(names, sizeof names, e->name);
        }
    }
    if (unknown == 0) return GDN_OK;
    return error_set(l->err, GDN_ERR_INPUT, "%s: %zu tensors have no place in this model: %s%s",
                     st_path_tail(l->path), unknown, names, unknown > NAMED ? ", ..." : "");
}

static enum gdn_status take_head(struct loader *l)
{
    struct weights *w = l->w;
    const struct config *c = l->c;
    if (c->tied) {
        struct linear_part *part = take_parts(l, 1);
        if (!part) return GDN_ERR_MEMORY;
        *part = (struct linear_part){.w = w->embed, .rows = c->vocab};
        w->head = (struct linear){.N = c->vocab, .K = c->D, .parts = 1, .part = part};
        return GDN_OK;
    }
    const char *prefix = begins(w->prefix, "language_model.") ? "language_model." : "";
    return take_linear(l, prefix, c->D, 1, (struct part[]){{"lm_head.weight", c->vocab}},
                       &w->head);
}

enum gdn_status take_model(struct loader *l)
{
    struct weights *w = l->w;
    const struct config *c = l->c;
    if (l->wanted || l->drawn)
        w->prefix = "model.";
    else
        TRY(find_prefix(l));
    w->shifted = c->family->centred && find_shift(l);
    TRY(take_tensor(l, w->prefix, "embed_tokens.weight", false, 2, (int64_t[]){c->vocab, c->D},
                    &w->embed));
    for (int32_t i = 0; i < c->layers; i++) {
        char p[64];
        snprintf(p, sizeof p, "%slayers.%d.", w->prefix, i);
        TRY(take_layer(l, p, c->kind[i], c->sparse[i], &w->layer[i]));
    }
    TRY(take_norm(l, w->prefix, "norm.weight", c->D, &w->final));
    TRY(take_head(l));
    TRY(faults_found(l));
    return account(l);
}

/* Tensors that a model of this shape may have, and parts of projections. */
static int64_t most_tensors(const struct config *c, int32_t layers)
{
    enum { PER_LAYER = 32 };
    return (int64_t)layers * (PER_LAYER + 3ll * c->experts) + 4;
}

/* Address space for the parts: each take of a few may cost some lines of the cache. */
static int64_t most_bytes(const struct config *c, int32_t layers)
{
    enum { TAKES = 16, EACH = 256 };
    const int64_t takes = TAKES + 2ll * c->experts;
    const int64_t parts = TAKES + 6ll * c->Hk + 3ll * c->experts, linears = 2ll * c->experts;
    return layers * (takes * EACH + parts * (int64_t)sizeof(struct linear_part) +
                        linears * (int64_t)sizeof(struct linear)) + (1 << 16);
}

enum gdn_status take_room(struct weights *w, const struct config *c, int32_t layers,
                          struct gdn_error *err)
{
    const int64_t tensors = most_tensors(c, layers);
    if (tensors <= INT32_MAX) {
        w->room = (int32_t)tensors;
        w->list = mem_take_array((size_t)w->room, sizeof *w->list);
        w->layer = mem_take_array((size_t)layers, sizeof *w->layer);
        if (w->list && w->layer && arena_open(&w->parts, (size_t)most_bytes(c, layers)))
            return GDN_OK;
    }
    return error_set(err, GDN_ERR_MEMORY, "no memory for the list of %lld tensors",
                     (long long)tensors);
}

enum gdn_status weights_open(struct weights *w, const struct config *c, const char *path,
                             struct gdn_error *err)
{
    *w = (struct weights){.layers = c->layers};
    TRY(shards_open(&w->shards, path, err));
    struct loader l = {.w = w, .c = c, .path = path, .err = err,
                       .used = mem_take(w->shards.count)};
    enum gdn_status status = take_room(w, c, c->layers, err);
    if (status == GDN_OK && !l.used)
        status = error_set(err, GDN_ERR_MEMORY, "no memory for %zu tensors", w->shards.count);
    if (status == GDN_OK) status = weights_refuse_foreign(&w->shards, err);
    if (status == GDN_OK) status = take_model(&l);
    mem_give(l.used);
    if (status != GDN_OK) weights_close(w);
    return status;
}

enum gdn_status weights_list(const struct config *c, weights_wanted *wanted, void *context,
                             struct gdn_error *err)
{
    struct weights w = {.layers = c->layers};
    struct loader l = {.w = &w, .c = c, .path = "", .err = err, .wanted = wanted,
                       .context = context};
    enum gdn_status status = take_room(&w, c, c->layers, err);
    if (status == GDN_OK) status = take_model(&l);
    weights_close(&w);
    return status;
}

static void visit(struct weights_visit *v, const struct linear *w, double share)
{
    for (int i = 0; i < w->parts; i++) {
        const double rows = share * (double)w->part[i].rows;
        const enum dtype dtype = w->part[i].w->dtype;
        v->products += rows * (double)w->K;
        v->bytes += rows * (double)(dtype_quantised(dtype) ? quant_row_bytes(dtype, w->K)
                                                           : w->K * (int64_t)dtype_size(dtype));
    }
}

struct weights_visit weights_visit(const struct weights *w)
{
    struct weights_visit v = {0};
    for (int32_t i = 0; i < w->layers; i++) {
        const struct layer *l = &w->layer[i];
        const struct linear *const all[] = {&l->in, &l->out, &l->decay, &l->gate, &l->gate_up,
                                            &l->down, &l->share, &l->route.logits};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++) visit(&v, all[j], 1);
        const double chosen = l->sparse ? (double)l->route.best / l->experts.count : 0;
        for (int32_t e = 0; l->sparse && e < l->experts.count; e++) {
            visit(&v, &l->experts.gate_up[e], chosen);
            visit(&v, &l->experts.down[e], chosen);
        }
    }
    visit(&v, &w->head, 1);
    return v;
}

void weights_close(struct weights *w)
{
    weights_unplace(w);
    for (int32_t i = 0; i < w->count; i++) {
        mem_give(w->list[i].name);
        mem_give(w->list[i].copy);
    }
    mem_give(w->list);
    mem_give(w->layer);
    arena_close(&w->parts);
    shards_close(&w->shards);
    *w = (struct weights){0};
}

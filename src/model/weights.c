#include "model/weights.h"

#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/memory.h"

enum { NAMED = 5 }; /* faults that a sentence names, before it only counts them */

struct loader {
    struct weights *w;
    const struct config *c;
    const char *path;
    struct gdn_error *err;
    bool *used; /* [shards.count] */
    size_t faults;
    struct gdn_error first; /* of the faults */
    char others[240];       /* the names of the next */
};

/* ---- one tensor ----------------------------------------------------------------------------------- */

static bool our_type(enum st_dtype from, enum dtype *to)
{
    switch (from) {
    case ST_F32: *to = DTYPE_F32; return true;
    case ST_BF16: *to = DTYPE_BF16; return true;
    case ST_F16: *to = DTYPE_F16; return true;
    default: return false;
    }
}

/* "[3, 4]"; "[]" for a scalar. */
static void shape_text(char *out, size_t room, int rank, const int64_t *dim)
{
    size_t n = (size_t)snprintf(out, room, "[");
    for (int i = 0; i < rank && n < room; i++)
        n += (size_t)snprintf(out + n, room - n, "%s%lld", i ? ", " : "", (long long)dim[i]);
    if (n < room) snprintf(out + n, room - n, "]");
}

/* Middle axes of length 1 (the convolution's [C, 1, W]) do not count. */
static bool same_shape(const struct st_entry *e, int rank, const int64_t *dim)
{
    int i = 0;
    for (int j = 0; j < e->rank; j++) {
        if (i < rank && e->shape[j] == dim[i])
            i++;
        else if (e->shape[j] != 1)
            return false;
    }
    return i == rank;
}

static void add_name(char *names, size_t room, const char *name)
{
    const size_t n = strlen(names);
    snprintf(names + n, room - n, "%s%.50s", n ? ", " : "", name);
}

/* A tensor is missing or of the wrong kind. Loading goes on, so that all such are counted. */
static void fault(struct loader *l, enum gdn_status status, const char *where, const char *name,
                  const char *found, const char *need)
{
    if (l->faults == 0)
        error_set(&l->first, status, "%s: tensor %s: found %s, need %s", st_path_tail(where), name,
                  found, need);
    else if (l->faults < NAMED)
        add_name(l->others, sizeof l->others, name);
    l->faults++;
}

static enum gdn_status faults_found(struct loader *l)
{
    if (l->faults == 0) return GDN_OK;
    if (l->faults == 1) return error_set(l->err, l->first.status, "%s", l->first.text);
    return error_set(l->err, l->first.status, "%s; and %zu more: %s%s", l->first.text,
                     l->faults - 1, l->others, l->faults > NAMED ? ", ..." : "");
}

/* NULL after a fault. */
static const struct shard_tensor *find_entry(struct loader *l, const char *name, int rank,
                                             const int64_t *dim)
{
    const struct shard_tensor *found = shards_find(&l->w->shards, name);
    char need[120], have[160];
    shape_text(need, sizeof need, rank, dim);
    if (!found) {
        fault(l, GDN_ERR_INPUT, l->path, name, "nothing", need);
        return NULL;
    }
    const struct st_entry *e = found->entry;
    enum dtype dtype;
    l->used[found - l->w->shards.tensors] = true;
    if (!our_type(e->dtype, &dtype)) {
        fault(l, GDN_ERR_UNSUPPORTED, found->file->path, name, st_dtype_name(e->dtype),
              "F32, BF16 or F16");
        return NULL;
    }
    if (same_shape(e, rank, dim)) return found;
    shape_text(have, sizeof have, e->rank, e->shape);
    fault(l, GDN_ERR_INPUT, found->file->path, name, have, need);
    return NULL;
}

static float value_at(const struct st_entry *e, size_t i)
{
    uint16_t half;
    float whole;
    if (e->dtype == ST_F32) {
        memcpy(&whole, e->data + 4 * i, sizeof whole);
        return whole;
    }
    memcpy(&half, e->data + 2 * i, sizeof half);
    return e->dtype == ST_BF16 ? bf16_to_f32(half) : f16_to_f32(half);
}

/* Copies the tensor: small weights as f32, what the file holds at an odd address as it is. */
static enum gdn_status copy_tensor(struct loader *l, struct weight *weight,
                                   const struct st_entry *e, bool as_f32)
{
    const size_t n = e->bytes / st_dtype_size(e->dtype);
    const size_t bytes = as_f32 ? n * sizeof(float) : e->bytes;
    weight->copy = mem_take_dirty(bytes);
    if (!weight->copy)
        return error_set(l->err, GDN_ERR_MEMORY, "no memory for tensor %s (%zu bytes)",
                         weight->name, bytes);
    if (as_f32)
        for (size_t i = 0; i < n; i++) ((float *)weight->copy)[i] = value_at(e, i);
    else
        memcpy(weight->copy, e->data, bytes);
    l->w->copied_bytes += (int64_t)bytes;
    return GDN_OK;
}

/* *out stays NULL after a fault. */
static enum gdn_status take_tensor(struct loader *l, const char *name, bool small, int rank,
                                   const int64_t *dim, struct tensor **out)
{
    struct weights *w = l->w;
    const struct shard_tensor *found = find_entry(l, name, rank, dim);
    if (!found) return GDN_OK;
    struct weight *weight = &w->list[w->count];
    weight->name = mem_text(name);
    if (!weight->name) return error_set(l->err, GDN_ERR_MEMORY, "no memory for a name");
    w->count++;
    weight->origin = found;
    enum dtype dtype = DTYPE_F32;
    our_type(found->entry->dtype, &dtype);
    const bool aligned = (size_t)found->entry->data % dtype_size(dtype) == 0;
    if (small || !aligned) {
        TRY(copy_tensor(l, weight, found->entry, small));
        if (small) dtype = DTYPE_F32;
    }
    void *data = weight->copy ? weight->copy : (void *)(size_t)found->entry->data;
    weight->tensor = tensor_over(data, dtype, rank, dim);
    w->parameters += tensor_elements(&weight->tensor);
    *out = &weight->tensor;
    return GDN_OK;
}

/* ---- layers ----------------------------------------------------------------------------------------- */

static enum gdn_status take_vector(struct loader *l, const char *name, int64_t n,
                                   struct tensor **out)
{
    return take_tensor(l, name, true, 1, &n, out);
}

static enum gdn_status take_norm(struct loader *l, const char *name, int64_t n,
                                 struct norm_weight *norm)
{
    norm->eps = l->c->eps;
    norm->centred = l->c->family->centred;
    return take_vector(l, name, n, &norm->w);
}

/* A row block of a packed projection: prefix + name, [rows, K]. */
struct part {
    const char *name;
    int64_t rows;
};

static enum gdn_status take_linear(struct loader *l, const char *prefix, int64_t K, int parts,
                                   const struct part *part, struct linear *linear)
{
    *linear = (struct linear){.K = K, .parts = parts};
    for (int i = 0; i < parts; i++) {
        char name[ST_NAME_BYTES];
        snprintf(name, sizeof name, "%s%s", prefix, part[i].name);
        linear->part[i].row = linear->N;
        linear->N += part[i].rows;
        TRY(take_tensor(l, name, false, 2, (int64_t[]){part[i].rows, K}, &linear->part[i].w));
    }
    return GDN_OK;
}

static enum gdn_status take_named(struct loader *l, const char *prefix, const char *name, int rank,
                                  const int64_t *dim, struct tensor **out)
{
    char full[ST_NAME_BYTES];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    return take_tensor(l, full, true, rank, dim, out);
}

static enum gdn_status take_delta(struct loader *l, const char *p, struct layer *layer)
{
    const struct config *c = l->c;
    const int64_t K = (int64_t)c->Hk * c->Dk, V = (int64_t)c->Hv * c->Dv, C = 2 * K + V;
    struct delta_weight *d = &layer->delta;
    *d = (struct delta_weight){.Hk = c->Hk, .Hv = c->Hv, .Dk = c->Dk, .Dv = c->Dv, .eps = c->eps,
                               .beta_scale = c->family->beta_scale};
    TRY(take_linear(l, p, c->D, 4,
                    (struct part[]){{"linear_attn.in_proj_qkv.weight", C},
                                    {"linear_attn.in_proj_z.weight", V},
                                    {"linear_attn.in_proj_b.weight", c->Hv},
                                    {"linear_attn.in_proj_a.weight", c->Hv}},
                    &layer->in));
    const int64_t heads = c->Hv, width = c->Dv;
    TRY(take_named(l, p, "linear_attn.conv1d.weight", 2, (int64_t[]){C, c->taps}, &d->conv));
    TRY(take_named(l, p, "linear_attn.A_log", 1, &heads, &d->A_log));
    TRY(take_named(l, p, "linear_attn.dt_bias", 1, &heads, &d->dt_bias));
    TRY(take_named(l, p, "linear_attn.norm.weight", 1, &width, &d->norm));
    return take_linear(l, p, V, 1, (struct part[]){{"linear_attn.out_proj.weight", c->D}},
                       &layer->out);
}

static enum gdn_status take_attn(struct loader *l, const char *p, struct layer *layer)
{
    const struct config *c = l->c;
    const int64_t Q = (int64_t)c->Hq * c->head_dim, KV = (int64_t)c->Hkv * c->head_dim;
    const int64_t width = c->head_dim;
    struct attn_weight *a = &layer->attn;
    *a = (struct attn_weight){.Hq = c->Hq, .Hkv = c->Hkv, .D = c->head_dim, .rot = c->rot,
                              .eps = c->eps, .theta = c->theta};
    TRY(take_linear(l, p, c->D, 3,
                    (struct part[]){{"self_attn.q_proj.weight", 2 * Q},
                                    {"self_attn.k_proj.weight", KV},
                                    {"self_attn.v_proj.weight", KV}},
                    &layer->in));
    TRY(take_named(l, p, "self_attn.q_norm.weight", 1, &width, &a->q_norm));
    TRY(take_named(l, p, "self_attn.k_norm.weight", 1, &width, &a->k_norm));
    return take_linear(l, p, Q, 1, (struct part[]){{"self_attn.o_proj.weight", c->D}},
                       &layer->out);
}

static enum gdn_status take_layer(struct loader *l, int32_t index)
{
    const struct config *c = l->c;
    struct layer *layer = &l->w->layer[index];
    layer->kind = c->kind[index];
    char p[64], name[ST_NAME_BYTES];
    snprintf(p, sizeof p, "%slayers.%d.", l->w->prefix, index);
    snprintf(name, sizeof name, "%sinput_layernorm.weight", p);
    TRY(take_norm(l, name, c->D, &layer->norm1));
    TRY(layer->kind == LAYER_DELTA ? take_delta(l, p, layer) : take_attn(l, p, layer));
    snprintf(name, sizeof name, "%spost_attention_layernorm.weight", p);
    TRY(take_norm(l, name, c->D, &layer->norm2));
    TRY(take_linear(l, p, c->D, 2,
                    (struct part[]){{"mlp.gate_proj.weight", c->F}, {"mlp.up_proj.weight", c->F}},
                    &layer->gate_up));
    return take_linear(l, p, c->F, 1, (struct part[]){{"mlp.down_proj.weight", c->D}},
                       &layer->down);
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

static enum gdn_status find_prefix(struct loader *l)
{
    static const char *const known[] = {"model.language_model.", "model.", "language_model.model.",
                                        ""};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char name[ST_NAME_BYTES];
        snprintf(name, sizeof name, "%sembed_tokens.weight", known[i]);
        if (!shards_find(&l->w->shards, name)) continue;
        l->w->prefix = known[i];
        return GDN_OK;
    }
    return error_set(l->err, GDN_ERR_INPUT, "%s: tensor embed_tokens.weight is missing under "
                     "every known prefix (model., model.language_model., language_model.model.)",
                     st_path_tail(l->path));
}

static bool begins(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

static bool is_head(const char *name)
{
    return strcmp(name, "lm_head.weight") == 0 ||
           strcmp(name, "language_model.lm_head.weight") == 0;
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
        w->head = (struct linear){.N = c->vocab, .K = c->D, .parts = 1,
                                  .part = {{.w = w->embed}}};
        return GDN_OK;
    }
    const char *prefix = begins(w->prefix, "language_model.") ? "language_model." : "";
    return take_linear(l, prefix, c->D, 1, (struct part[]){{"lm_head.weight", c->vocab}},
                       &w->head);
}

static enum gdn_status take_everything(struct loader *l)
{
    struct weights *w = l->w;
    const struct config *c = l->c;
    TRY(find_prefix(l));
    char name[ST_NAME_BYTES];
    snprintf(name, sizeof name, "%sembed_tokens.weight", w->prefix);
    TRY(take_tensor(l, name, false, 2, (int64_t[]){c->vocab, c->D}, &w->embed));
    for (int32_t i = 0; i < c->layers; i++) TRY(take_layer(l, i));
    snprintf(name, sizeof name, "%snorm.weight", w->prefix);
    TRY(take_norm(l, name, c->D, &w->final));
    TRY(take_head(l));
    TRY(faults_found(l));
    return account(l);
}

enum gdn_status weights_open(struct weights *w, const struct config *c, const char *path,
                             struct gdn_error *err)
{
    enum { PER_LAYER = 14 };
    *w = (struct weights){.layers = c->layers};
    TRY(shards_open(&w->shards, path, err));
    w->room = c->layers * PER_LAYER + 3;
    w->list = mem_take_array((size_t)w->room, sizeof *w->list);
    w->layer = mem_take_array((size_t)c->layers, sizeof *w->layer);
    struct loader l = {.w = w, .c = c, .path = path, .err = err,
                       .used = mem_take(w->shards.count)};
    enum gdn_status status = GDN_ERR_MEMORY;
    if (w->list && w->layer && l.used)
        status = take_everything(&l);
    else
        error_set(err, status, "no memory for the list of %d tensors", w->room);
    mem_give(l.used);
    if (status != GDN_OK) weights_close(w);
    return status;
}

void weights_close(struct weights *w)
{
    for (int32_t i = 0; i < w->count; i++) {
        mem_give(w->list[i].name);
        mem_give(w->list[i].copy);
    }
    mem_give(w->list);
    mem_give(w->layer);
    shards_close(&w->shards);
    *w = (struct weights){0};
}

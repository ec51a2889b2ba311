#include <string.h>

#include "api/handles.h"
#include "base/file.h"
#include "base/memory.h"
#include "model/fingerprint.h"
#include "model/weights_random.h"

/* Snapshots in the store of prefixes: each is compared with each when room is made. */
enum { PREFIXES = 128 };

static enum gdn_status check_type(const char *what, enum gdn_type type, bool f64,
                                  enum dtype *dtype, struct gdn_error *err)
{
    switch (type) {
    case GDN_F32: *dtype = DTYPE_F32; return GDN_OK;
    case GDN_BF16: *dtype = DTYPE_BF16; return GDN_OK;
    case GDN_F64:
        if (!f64) break;
        *dtype = DTYPE_F64;
        return GDN_OK;
    }
    return error_set(err, GDN_ERR_USAGE, "%s: found %d, need GDN_F32 or GDN_BF16%s", what,
                     (int)type, f64 ? " or GDN_F64" : "");
}

static enum gdn_status check_draft(const struct gdn_options *o, struct engine_options *e,
                                   struct gdn_error *err)
{
    if (o->draft != GDN_DRAFT_OFF && o->draft != GDN_DRAFT_LOOKUP && o->draft != GDN_DRAFT_MTP)
        return error_set(err, GDN_ERR_USAGE, "options.draft: found %d, need GDN_DRAFT_OFF, "
                         "GDN_DRAFT_LOOKUP or GDN_DRAFT_MTP", (int)o->draft);
    if (o->draft_depth < 0 || o->draft_depth >= BLOCK)
        return error_set(err, GDN_ERR_USAGE, "options.draft_depth: found %d, need 0 to %d",
                         o->draft_depth, BLOCK - 1);
    e->entries = o->speculate || o->draft != GDN_DRAFT_OFF ? 2 * BLOCK : BLOCK;
    return GDN_OK;
}

static enum gdn_status check_options(struct gdn_model *m, struct gdn_error *err)
{
    struct gdn_options *o = &m->options;
    struct engine_options *e = &m->engine_options;
    if (o->sessions < 1 || o->sessions > 65536)
        return error_set(err, GDN_ERR_USAGE, "options.sessions: found %d, need 1 to 65536",
                         o->sessions);
    if (o->threads < 0 || o->threads > 1024)
        return error_set(err, GDN_ERR_USAGE, "options.threads: found %d, need 0 to 1024",
                         o->threads);
    if (o->prefix_bytes < 0)
        return error_set(err, GDN_ERR_USAGE, "options.prefix_bytes: found %lld, need 0 or more",
                         (long long)o->prefix_bytes);
    const bool ref = o->device && strcmp(o->device, "ref") == 0;
    TRY(check_type("options.compute", o->compute, ref, &e->compute, err));
    TRY(check_type("options.state", o->state, false, &e->anchor, err));
    if (o->quant < GDN_QUANT_NONE || o->quant > GDN_QUANT_Q4)
        return error_set(err, GDN_ERR_USAGE, "options.quant: found %d, need GDN_QUANT_NONE, "
                         "GDN_QUANT_Q8 or GDN_QUANT_Q4", (int)o->quant);
    e->slots = o->sessions + 1; /* a spare one to restore into */
    e->fast = o->fast;
    return check_draft(o, e, err);
}

static enum gdn_status check_context(struct gdn_model *m, struct gdn_error *err)
{
    const int32_t trained = m->config.context, asked = m->options.context;
    if ((asked < 0 && asked != GDN_CONTEXT_FIT) || asked > trained)
        return error_set(err, GDN_ERR_USAGE, "context: found %d tokens, need 1 to %d (the model's)",
                         asked, trained);
    m->engine_options.context = asked > 0 ? asked : trained;
    return GDN_OK;
}

/* A tokenizer may be missing: then the model speaks ids. */
static enum gdn_status open_tokenizer(struct gdn_model *m, const char *folder,
                                      struct gdn_error *err)
{
    if (!tokenizer_is_in(folder)) return GDN_OK;
    TRY(tokenizer_open(folder, 0, &m->tokenizer, err));
    if (tokenizer_count(m->tokenizer) > m->config.vocab)
        return error_set(err, GDN_ERR_INPUT, "%s: the tokenizer has %d tokens, the model has %d "
                         "rows", st_path_tail(folder), tokenizer_count(m->tokenizer),
                         m->config.vocab);
    return GDN_OK;
}

static enum gdn_status open_files(struct gdn_model *m, const char *path, struct gdn_error *err)
{
    if (!path) return error_set(err, GDN_ERR_USAGE, "path: found NULL, need a model folder");
    if (!file_exists(path))
        return error_set(err, GDN_ERR_INPUT, "%s: no such file or folder", st_path_tail(path));
    if (!file_is_folder(path))
        return error_set(err, GDN_ERR_INPUT,
                         "%s: found a file, need a model folder (config.json and safetensors)",
                         st_path_tail(path));
    TRY(config_open(&m->config, path, err));
    TRY(check_context(m, err));
    TRY(open_tokenizer(m, path, err));
    TRY(chat_open(path, &m->chat, err));
    TRY(weights_open(&m->weights, &m->config, path, err));
    if (m->options.draft == GDN_DRAFT_MTP) {
        TRY(mtp_open(&m->mtp, &m->config, &m->weights, path, err));
        m->engine_options.mtp = &m->mtp;
    }
    return GDN_OK;
}

static enum gdn_status draw_model(struct gdn_model *m, const struct shape_text *shape,
                                  struct gdn_error *err)
{
    if (m->options.quant || m->options.draft == GDN_DRAFT_MTP)
        return error_set(err, GDN_ERR_UNSUPPORTED, "options: found quant or the MTP head for "
                         "random weights without a file, need gdn_random_model for them");
    TRY(config_parse(&m->config, shape->text, shape->len, "config.json", err));
    TRY(check_context(m, err));
    return weights_draw(&m->weights, &m->config, shape->seed, err);
}

/* From a folder, or without one. */
static enum gdn_status open_model(struct gdn_model *m, const char *path,
                                  const struct shape_text *shape, struct gdn_error *err)
{
    TRY(check_options(m, err));
    TRY(shape ? draw_model(m, shape, err) : open_files(m, path, err));
    const char *device = m->options.device ? m->options.device : "cpu";
    m->device = device_open(device, m->options.threads, ~m->options.without, err);
    if (!m->device) return err->status;
    const struct weights_watch watch = {m->options.progress, m->options.progress_context};
    if (m->options.quant)
        TRY(weights_quantise(&m->weights, m->options.quant == GDN_QUANT_Q8 ? DTYPE_Q8 : DTYPE_Q4,
                             m->device->pool, &watch, err));
    TRY(weights_place(&m->weights, m->device, &watch, err));
    if (m->engine_options.mtp)
        TRY(weights_place(&m->mtp.own, m->device, &(struct weights_watch){0}, err));
    m->sessions = mem_take_array((size_t)m->options.sessions, sizeof *m->sessions);
    if (!m->sessions)
        return error_set(err, GDN_ERR_MEMORY, "no memory for %d sessions", m->options.sessions);
    if (m->options.context == GDN_CONTEXT_FIT) m->engine_options.context = plan_context(m);
    return GDN_OK;
}

enum gdn_status model_open(const char *path, const struct shape_text *shape,
                           const struct gdn_options *options, gdn_model **model,
                           struct gdn_error *err)
{
    struct gdn_error own = {0};
    if (!err) err = &own;
    *model = NULL;
    /* Before anything behind it is read: the caller's struct may be of another version. */
    if (options && options->size != sizeof *options)
        return error_set(err, GDN_ERR_USAGE, "options.size: found %zu, need %zu", options->size,
                         sizeof *options);
    struct gdn_model *m = mem_take(sizeof *m);
    if (!m) return error_set(err, GDN_ERR_MEMORY, "no memory for a model");
    m->options = options ? *options : gdn_options_default();
    enum gdn_status status = open_model(m, path, shape, err);
    if (status != GDN_OK) {
        gdn_model_close(m);
        return status;
    }
    *model = m;
    return GDN_OK;
}

enum gdn_status gdn_model_open(const char *path, const struct gdn_options *options,
                               gdn_model **model, struct gdn_error *err)
{
    return model_open(path, NULL, options, model, err);
}

void gdn_model_close(gdn_model *m)
{
    if (!m) return;
    for (int i = 0; m->sessions && i < m->options.sessions; i++) gdn_session_free(&m->sessions[i]);
    store_close(&m->store);
    engine_close(&m->engine);
    mem_give(m->sessions);
    mem_give(m->tokens);
    mem_give(m->counts);
    mtp_close(&m->mtp);
    weights_close(&m->weights);
    chat_close(m->chat);
    tokenizer_close(m->tokenizer);
    device_close(m->device);
    mem_give(m);
}

enum gdn_status model_ready(struct gdn_model *m, struct gdn_error *err)
{
    if (m->engine_open) return GDN_OK;
    TRY(plan_check(m, err));
    const int32_t vocab = m->tokenizer ? tokenizer_count(m->tokenizer) : m->config.vocab;
    const size_t context = (size_t)m->engine_options.context;
    if (!m->tokens) m->tokens = mem_take_array((size_t)m->options.sessions, 4 * context);
    if (!m->counts) m->counts = mem_take_array((size_t)m->config.vocab, sizeof *m->counts);
    if (!m->tokens || !m->counts)
        return error_set(err, GDN_ERR_MEMORY, "no memory for the tokens of %d sessions",
                         m->options.sessions);
    for (int i = 0; i < m->options.sessions; i++)
        m->sessions[i].tokens = m->tokens + context * (size_t)i;
    TRY(engine_open(&m->engine, &m->config, &m->weights, vocab, m->device, &m->engine_options,
                    err));
    fingerprint_make(&m->config, &m->weights, m->fingerprint);
    marks_open(&m->marks, m->tokenizer);
    if (m->options.prefix_bytes > 0) {
        const enum gdn_status status = store_open(&m->store, &m->engine.state,
                                                  plan_prefixes(m), PREFIXES, err);
        if (status != GDN_OK) {
            engine_close(&m->engine);
            return status;
        }
    }
    m->engine_open = true;
    return GDN_OK;
}

static enum gdn_quant quant_of(const struct weights *w)
{
    switch (weights_quant(w)) {
    case DTYPE_Q8: return GDN_QUANT_Q8;
    case DTYPE_Q4: return GDN_QUANT_Q4;
    default: return GDN_QUANT_NONE;
    }
}

static void info_layers(const struct config *c, struct gdn_model_info *info)
{
    for (int32_t i = 0; i < c->layers; i++) {
        info->delta_layers += c->kind[i] == LAYER_DELTA;
        info->attention_layers += c->kind[i] == LAYER_ATTN;
        info->sparse_layers += c->sparse[i];
    }
    info->eos_count = c->eos_count;
    memcpy(info->eos, c->eos, sizeof info->eos);
}

void gdn_model_describe(const gdn_model *m, struct gdn_model_info *info)
{
    const struct config *c = &m->config;
    const struct plan plan = plan_make(m);
    const int64_t left = plan_left(m);
    const int64_t page = plan_session(m, PAGE), two = plan_session(m, 2 * PAGE);
    const struct weights_visit visit = weights_visit(&m->weights);
    *info = (struct gdn_model_info){
        .family = c->family->name, .vocab = c->vocab, .width = c->D, .ffn = c->F,
        .layers = c->layers, .heads = c->Hq, .kv_heads = c->Hkv, .head_width = c->head_dim,
        .rotary = c->rot, .latent = c->family->latent ? c->latent + c->shared_key : 0,
        .experts = c->experts, .experts_used = c->experts_used, .expert_width = c->expert_width,
        .shared_width = c->shared_width, .key_heads = c->Hk, .value_heads = c->Hv,
        .key_width = c->Dk, .value_width = c->Dv, .taps = c->taps, .trained_context = c->context,
        .context = m->engine_options.context, .tied = c->tied,
        .mtp_layers = c->mtp_layers, .mtp_tensors = m->weights.mtp,
        .vision_tensors = m->weights.vision, .parameters = m->weights.parameters,
        .quant = quant_of(&m->weights), .weight_bytes = m->weights.drawn ? m->weights.placed_bytes
                                                                      : m->weights.file_bytes,
        .copied_bytes = m->weights.copied_bytes,
        .state_bytes = page - (two - page), .kv_token_bytes = (two - page) / PAGE,
        .session_bytes = plan_session(m, m->engine_options.context),
        .scratch_bytes = plan.scratch, .need_bytes = plan.all,
        .machine_bytes = left == INT64_MAX ? -1 : left,
        .token_bytes = visit.bytes, .token_products = visit.products,
        .tokens = m->tokenizer ? tokenizer_count(m->tokenizer) : 0,
        .recommends = c->sampling, .temperature = c->temperature, .top_p = c->top_p,
        .top_k = c->top_k};
    info_layers(c, info);
}

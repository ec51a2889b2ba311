/* config.c: the whole of a config.json; keys of one family alone: config_family.c. */
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "formats/safetensors.h"
#include "model/config_source.h"

enum { FILE_LIMIT = 16 << 20 };

static enum gdn_status add_eos(struct config *c, const char *name, json_t *value,
                               struct gdn_error *err)
{
    const size_t n = json_is_array(value) ? json_array_size(value) : 1;
    for (size_t i = 0; value && !json_is_null(value) && i < n; i++) {
        json_t *id = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= c->vocab)
            return error_set(err, GDN_ERR_INPUT, "%s: eos_token_id: found %s, need 0 to %d", name,
                             source_show(id).text, c->vocab - 1);
        bool known = false;
        for (int32_t j = 0; j < c->eos_count; j++)
            known = known || c->eos[j] == (int32_t)json_integer_value(id);
        if (known) continue;
        if (c->eos_count == CONFIG_EOS)
            return error_set(err, GDN_ERR_INPUT, "%s: eos_token_id: found %d different ids, need "
                             "at most %d", name, CONFIG_EOS + 1, CONFIG_EOS);
        c->eos[c->eos_count++] = (int32_t)json_integer_value(id);
    }
    return GDN_OK;
}

static enum gdn_status refuse_quantised(const struct source *s)
{
    static const char *const keys[] = {"quantization_config", "quantization"};
    for (size_t i = 0; i < 2 * sizeof keys / sizeof *keys; i++) {
        json_t *v = json_object_get(i < 2 ? s->top : s->text, keys[i % 2]);
        if (v && !json_is_null(v))
            return source_refuse(s, GDN_ERR_UNSUPPORTED, keys[i % 2], v,
                          "none: this build reads f32, bf16 and f16");
    }
    return GDN_OK;
}

static enum gdn_status find_family(struct config *c, const struct source *s)
{
    json_t *type = json_object_get(s->text, "model_type");
    if (!type) type = json_object_get(s->top, "model_type");
    if (!json_is_string(type)) return source_refuse(s, GDN_ERR_INPUT, "model_type", type, "a text");
    c->family = family_find(json_string_value(type));
    if (!c->family)
        return source_refuse(s, GDN_ERR_UNSUPPORTED, "model_type", type, family_names());
    TRY(refuse_quantised(s));
    TRY(take_text(s, s->text, "hidden_act", "silu"));
    bool bias = false;
    TRY(take_bool(s, s->text, "attention_bias", &bias));
    if (!bias) return GDN_OK;
    return source_refuse(s, GDN_ERR_UNSUPPORTED, "attention_bias", json_true(), "false");
}

static enum gdn_status take_all(struct config *c, const struct source *s)
{
    TRY(find_family(c, s));
    TRY(take_int(s, "vocab_size", 1, WIDTH_LIMIT, 0, &c->vocab));
    TRY(take_int(s, "hidden_size", 1, 1 << 17, 0, &c->D));
    TRY(take_int(s, "num_hidden_layers", 1, CONFIG_LAYERS, 0, &c->layers));
    TRY(take_int(s, "num_attention_heads", 1, HEADS_LIMIT, 0, &c->Hq));
    TRY(take_int(s, "max_position_embeddings|model_max_length", 1, 1 << 30, 32768, &c->context));
    TRY(take_real(s, s->text, "rms_norm_eps", 0.0, 1.0, c->family->eps, &c->eps));
    TRY(config_take_family(c, s));
    TRY(take_bool(s, s->top, "tie_word_embeddings", &c->tied));
    TRY(take_bool(s, s->text, "tie_word_embeddings", &c->tied));
    TRY(add_eos(c, s->name, json_object_get(s->text, "eos_token_id"), s->err));
    return add_eos(c, s->name, json_object_get(s->top, "eos_token_id"), s->err);
}

/* jansson's sentence quotes the file: what is not plain text must not reach a terminal. */
static void make_plain(char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text > '~') *text = '?';
}

static json_t *load(const struct source *s, const char *json, size_t len)
{
    json_error_t where;
    json_t *top = json_loadb(json, len, JSON_REJECT_DUPLICATES, &where);
    if (json_is_object(top)) return top;
    if (top) {
        error_set(s->err, GDN_ERR_INPUT, "%s: found %s, need an object", s->name,
                  source_show(top).text);
    } else {
        make_plain(where.text);
        error_set(s->err, GDN_ERR_INPUT, "%s: line %d, byte %d: %.120s", s->name, where.line,
                  where.position, where.text);
    }
    json_decref(top);
    return NULL;
}

enum gdn_status config_parse(struct config *c, const char *json, size_t len, const char *name,
                             struct gdn_error *err)
{
    *c = (struct config){0};
    struct source s = {.name = st_path_tail(name), .err = err};
    s.top = s.text = load(&s, json, len);
    if (!s.top) return GDN_ERR_INPUT;
    enum gdn_status status = GDN_OK;
    if (source_has(&s, "text_config")) {
        json_t *text = json_object_get(s.top, "text_config");
        if (json_is_object(text))
            s.text = text;
        else
            status = source_bad(&s, "text_config", "an object");
    }
    if (status == GDN_OK) status = take_all(c, &s);
    json_decref(s.top);
    return status;
}

static enum gdn_status take_generation(struct config *c, const struct source *s)
{
    c->sampling = false;
    TRY(take_bool(s, s->top, "do_sample", &c->sampling));
    TRY(add_eos(c, s->name, json_object_get(s->top, "eos_token_id"), s->err));
    TRY(take_real(s, s->top, "temperature", 0.0, 100.0, 1.0, &c->temperature));
    TRY(take_real(s, s->top, "top_p", 0.0, 1.0, 1.0, &c->top_p));
    return take_int(s, "top_k", 0, WIDTH_LIMIT, 0, &c->top_k);
}

enum gdn_status config_parse_generation(struct config *c, const char *json, size_t len,
                                        const char *name, struct gdn_error *err)
{
    struct source s = {.name = st_path_tail(name), .err = err};
    s.top = s.text = load(&s, json, len);
    if (!s.top) return GDN_ERR_INPUT;
    enum gdn_status status = take_generation(c, &s);
    json_decref(s.top);
    return status;
}

enum gdn_status config_open(struct config *c, const char *folder, struct gdn_error *err)
{
    char path[4096];
    char *json;
    size_t len;
    if (!file_join(path, sizeof path, folder, "config.json"))
        return error_set(err, GDN_ERR_USAGE, "%s: the name is too long", st_path_tail(folder));
    TRY(file_read(path, FILE_LIMIT, &json, &len, err));
    enum gdn_status status = config_parse(c, json, len, path, err);
    mem_give(json);
    if (status != GDN_OK) return status;
    if (!file_join(path, sizeof path, folder, "generation_config.json"))
        return error_set(err, GDN_ERR_USAGE, "%s: the name is too long", st_path_tail(folder));
    if (!file_exists(path)) return GDN_OK;
    TRY(file_read(path, FILE_LIMIT, &json, &len, err));
    status = config_parse_generation(c, json, len, path, err);
    mem_give(json);
    return status;
}

struct layer_shape config_layer_shape(const struct config *c, int32_t layer)
{
    if (c->kind[layer] == LAYER_DELTA)
        return (struct layer_shape){.kind = LAYER_DELTA, .Hk = c->Hk, .Hv = c->Hv, .Dk = c->Dk,
                                    .Dv = c->Dv, .taps = c->taps,
                                    .channel_gate = c->family->channel_gate};
    if (c->family->latent)
        return (struct layer_shape){.kind = LAYER_ATTN, .Hkv = 1, .D = c->latent + c->shared_key,
                                    .Dv = c->latent, .latent = true};
    return (struct layer_shape){.kind = LAYER_ATTN, .Hkv = c->Hkv, .D = c->head_dim};
}

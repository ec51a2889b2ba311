/* config.c: the one file that knows jansson. */
#include "model/config.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "formats/safetensors.h"

/* Where a key is looked up: the text config, then (for a few) the file's top level. */
struct source {
    const char *name;
    json_t *top, *text;
    struct gdn_error *err;
};

enum { FILE_LIMIT = 16 << 20, WIDTH_LIMIT = 1 << 24, HEADS_LIMIT = 1 << 16, HEAD_LIMIT = 1 << 14 };

/* A value as a message shows it: one line of ASCII, cut where it grows long. */
struct shown {
    char text[64];
    size_t n;
};

static int show_part(const char *part, size_t n, void *context)
{
    struct shown *shown = context;
    for (size_t i = 0; i < n && shown->n < sizeof shown->text - 4; i++)
        shown->text[shown->n++] = part[i] == 0x7f ? '?' : part[i]; /* jansson lets DEL through */
    if (shown->n == sizeof shown->text - 4) memcpy(shown->text + shown->n, "...", 4);
    return 0;
}

static struct shown show(const json_t *value)
{
    struct shown shown = {0};
    if (!value) return (struct shown){.text = "nothing"};
    json_dump_callback(value, show_part, &shown,
                       JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(6));
    return shown;
}

static enum gdn_status refuse(const struct source *s, enum gdn_status status, const char *key,
                              const json_t *value, const char *need)
{
    return error_set(s->err, status, "%s: %s: found %s, need %s", s->name, key, show(value).text,
                     need);
}

static enum gdn_status bad(const struct source *s, const char *key, const char *need)
{
    return refuse(s, GDN_ERR_INPUT, key, json_object_get(s->text, key), need);
}

static bool present(const struct source *s, const char *key)
{
    json_t *v = json_object_get(s->text, key);
    return v && !json_is_null(v);
}

/* An integer in [min, max]; absent: `fallback`, or an error when that is below min. */
static enum gdn_status take_int(const struct source *s, const char *key, int32_t min, int32_t max,
                                int32_t fallback, int32_t *out)
{
    *out = fallback;
    if (!present(s, key) && fallback >= min) return GDN_OK;
    json_t *v = json_object_get(s->text, key);
    json_int_t n = json_is_integer(v) ? json_integer_value(v) : (json_int_t)min - 1;
    if (n < min || n > max) {
        char need[80];
        snprintf(need, sizeof need, "an integer from %d to %d", min, max);
        return bad(s, key, need);
    }
    *out = (int32_t)n;
    return GDN_OK;
}

static enum gdn_status take_real(const struct source *s, json_t *in, const char *key, double min,
                                 double max, double fallback, double *out)
{
    json_t *v = json_object_get(in, key);
    *out = fallback;
    if (!v || json_is_null(v)) return GDN_OK;
    double x = json_is_number(v) ? json_number_value(v) : NAN;
    if (!(x >= min && x <= max)) {
        char need[80];
        snprintf(need, sizeof need, "a number from %g to %g", min, max);
        return refuse(s, GDN_ERR_INPUT, key, v, need);
    }
    *out = x;
    return GDN_OK;
}

static enum gdn_status take_bool(const struct source *s, json_t *in, const char *key, bool *out)
{
    json_t *v = json_object_get(in, key);
    if (!v || json_is_null(v)) return GDN_OK;
    if (!json_is_boolean(v)) return refuse(s, GDN_ERR_INPUT, key, v, "true or false");
    *out = json_is_true(v);
    return GDN_OK;
}

/* Absent, or the one text we know. */
static enum gdn_status take_text(const struct source *s, json_t *in, const char *key,
                                 const char *need)
{
    json_t *v = json_object_get(in, key);
    if (!v || json_is_null(v)) return GDN_OK;
    if (!json_is_string(v)) return refuse(s, GDN_ERR_INPUT, key, v, need);
    if (strcmp(json_string_value(v), need) == 0) return GDN_OK;
    return refuse(s, GDN_ERR_UNSUPPORTED, key, v, need);
}

static enum gdn_status take_layers(struct config *c, const struct source *s)
{
    json_t *types = json_object_get(s->text, "layer_types");
    if (!types || json_is_null(types)) {
        int32_t interval;
        TRY(take_int(s, "full_attention_interval", 1, CONFIG_LAYERS, 4, &interval));
        for (int32_t i = 0; i < c->layers; i++)
            c->kind[i] = (i + 1) % interval == 0 ? LAYER_ATTN : LAYER_DELTA;
        return GDN_OK;
    }
    if (!json_is_array(types)) return bad(s, "layer_types", "a list");
    if (json_array_size(types) != (size_t)c->layers)
        return error_set(s->err, GDN_ERR_INPUT,
                         "%s: layer_types: found %zu entries, need %d (num_hidden_layers)", s->name,
                         json_array_size(types), c->layers);
    for (int32_t i = 0; i < c->layers; i++) {
        json_t *entry = json_array_get(types, (size_t)i);
        const char *kind = json_string_value(entry);
        if (kind && strcmp(kind, "linear_attention") == 0)
            c->kind[i] = LAYER_DELTA;
        else if (kind && strcmp(kind, "full_attention") == 0)
            c->kind[i] = LAYER_ATTN;
        else
            return error_set(s->err, GDN_ERR_INPUT, "%s: layer_types[%d]: found %s, need "
                             "linear_attention or full_attention", s->name, i, show(entry).text);
    }
    return GDN_OK;
}

/* The object that describes the rotation: rope_parameters, or rope_scaling of older files; or the
 * text config itself. */
static enum gdn_status find_rope(const struct source *s, json_t **in)
{
    static const char *const keys[] = {"rope_parameters", "rope_scaling"};
    *in = s->text;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && *in == s->text; i++) {
        if (!present(s, keys[i])) continue;
        *in = json_object_get(s->text, keys[i]);
        if (!json_is_object(*in)) return bad(s, keys[i], "an object");
        TRY(take_text(s, *in, "type", "default"));
    }
    return take_text(s, *in, "rope_type", "default");
}

static enum gdn_status take_rope(struct config *c, const struct source *s)
{
    json_t *in;
    double outer, part;
    TRY(find_rope(s, &in));
    TRY(take_real(s, s->text, "rope_theta", 1.0, 1e15, 10000.0, &outer));
    TRY(take_real(s, in, "rope_theta", 1.0, 1e15, outer, &c->theta));
    TRY(take_real(s, s->text, "partial_rotary_factor", 0.0, 1.0, 0.25, &outer));
    TRY(take_real(s, in, "partial_rotary_factor", 0.0, 1.0, outer, &part));
    c->rot = (int32_t)((double)c->head_dim * part);
    if (c->rot % 2 != 0)
        return error_set(s->err, GDN_ERR_INPUT, "%s: partial_rotary_factor: found %d of %d "
                         "dimensions that turn, need an even number", s->name, c->rot, c->head_dim);
    return GDN_OK;
}

static enum gdn_status take_sizes(struct config *c, const struct source *s)
{
    TRY(take_int(s, "vocab_size", 1, WIDTH_LIMIT, 0, &c->vocab));
    TRY(take_int(s, "hidden_size", 1, 1 << 17, 0, &c->D));
    TRY(take_int(s, "intermediate_size", 1, 1 << 20, 0, &c->F));
    TRY(take_int(s, "num_hidden_layers", 1, CONFIG_LAYERS, 0, &c->layers));
    TRY(take_int(s, "num_attention_heads", 1, HEADS_LIMIT, 0, &c->Hq));
    TRY(take_int(s, "num_key_value_heads", 1, HEADS_LIMIT, 0, &c->Hkv));
    TRY(take_int(s, "head_dim", 1, HEAD_LIMIT, 256, &c->head_dim));
    TRY(take_int(s, "linear_num_key_heads", 1, HEADS_LIMIT, 0, &c->Hk));
    TRY(take_int(s, "linear_num_value_heads", 1, HEADS_LIMIT, 0, &c->Hv));
    TRY(take_int(s, "linear_key_head_dim", 1, HEAD_LIMIT, 0, &c->Dk));
    TRY(take_int(s, "linear_value_head_dim", 1, HEAD_LIMIT, 0, &c->Dv));
    TRY(take_int(s, "linear_conv_kernel_dim", 2, 16, 4, &c->taps));
    TRY(take_int(s, "max_position_embeddings", 1, 1 << 30, 32768, &c->context));
    TRY(take_int(s, "mtp_num_hidden_layers", 0, 64, 0, &c->mtp_layers));
    if (c->Hq % c->Hkv != 0)
        return bad(s, "num_attention_heads", "a multiple of num_key_value_heads");
    if (c->Hv % c->Hk != 0)
        return bad(s, "linear_num_value_heads", "a multiple of linear_num_key_heads");
    const int64_t widths[] = {(int64_t)c->Hk * c->Dk, (int64_t)c->Hv * c->Dv,
                              (int64_t)c->Hq * c->head_dim};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        if (widths[i] > WIDTH_LIMIT)
            return error_set(s->err, GDN_ERR_INPUT, "%s: heads times head size: found %lld, need "
                             "at most %d", s->name, (long long)widths[i], WIDTH_LIMIT);
    return GDN_OK;
}

static enum gdn_status add_eos(struct config *c, const char *name, json_t *value,
                               struct gdn_error *err)
{
    const size_t n = json_is_array(value) ? json_array_size(value) : 1;
    for (size_t i = 0; value && !json_is_null(value) && i < n; i++) {
        json_t *id = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= c->vocab)
            return error_set(err, GDN_ERR_INPUT, "%s: eos_token_id: found %s, need 0 to %d", name,
                             show(id).text, c->vocab - 1);
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
            return refuse(s, GDN_ERR_UNSUPPORTED, keys[i % 2], v,
                          "none: this build reads f32, bf16 and f16");
    }
    return GDN_OK;
}

static enum gdn_status take_family(struct config *c, const struct source *s)
{
    json_t *type = json_object_get(s->text, "model_type");
    if (!type) type = json_object_get(s->top, "model_type");
    if (!json_is_string(type)) return refuse(s, GDN_ERR_INPUT, "model_type", type, "a text");
    c->family = family_find(json_string_value(type));
    if (!c->family) return refuse(s, GDN_ERR_UNSUPPORTED, "model_type", type, family_names());
    TRY(refuse_quantised(s));
    TRY(take_text(s, s->text, "hidden_act", "silu"));
    bool bias = false;
    TRY(take_bool(s, s->text, "attention_bias", &bias));
    return bias ? refuse(s, GDN_ERR_UNSUPPORTED, "attention_bias", json_true(), "false") : GDN_OK;
}

static enum gdn_status take_all(struct config *c, const struct source *s)
{
    TRY(take_family(c, s));
    TRY(take_sizes(c, s));
    TRY(take_real(s, s->text, "rms_norm_eps", 0.0, 1.0, 1e-6, &c->eps));
    TRY(take_layers(c, s));
    TRY(take_rope(c, s));
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
        error_set(s->err, GDN_ERR_INPUT, "%s: found %s, need an object", s->name, show(top).text);
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
    if (present(&s, "text_config")) {
        json_t *text = json_object_get(s.top, "text_config");
        if (json_is_object(text))
            s.text = text;
        else
            status = bad(&s, "text_config", "an object");
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
    if (c->kind[layer] == LAYER_ATTN)
        return (struct layer_shape){.kind = LAYER_ATTN, .Hkv = c->Hkv, .D = c->head_dim};
    return (struct layer_shape){.kind = LAYER_DELTA, .Hk = c->Hk, .Hv = c->Hv, .Dk = c->Dk,
                                .Dv = c->Dv, .taps = c->taps};
}

/* config.c: the configs of published models, as they were published: what we run is read to the
 * number, what we do not run is refused by name. Single keys: config_keys.c. */
#include "small.h"

#include "base/file.h"
#include "base/memory.h"

#define DATA GDN_SOURCE_DIR "/tests/model/data/"

static enum gdn_status parse_file(struct config *c, const char *name, struct gdn_error *err)
{
    char path[512], *json;
    size_t len;
    snprintf(path, sizeof path, DATA "%s", name);
    if (file_read(path, 1 << 20, &json, &len, err) != GDN_OK) fail_msg("%s", err->text);
    const enum gdn_status status = config_parse(c, json, len, name, err);
    mem_give(json);
    return status;
}

static void add_generation(struct config *c, const char *name)
{
    struct gdn_error err = {0};
    char path[512], *json;
    size_t len;
    snprintf(path, sizeof path, DATA "%s", name);
    if (file_read(path, 1 << 20, &json, &len, &err) != GDN_OK ||
        config_parse_generation(c, json, len, name, &err) != GDN_OK)
        fail_msg("%s", err.text);
    mem_give(json);
}

/* ---- what we run ----------------------------------------------------------------------------- */

/* Published sizes, and the widths of the packed projections that follow from them. */
struct published {
    const char *file;
    int32_t D, layers, Hq, Hkv, Hv, F;
    bool tied;
    int32_t V, C, q_rows, kv_rows;
};

static const struct published published[] = {
    {"qwen3.5-0.8b-base.json", 1024, 24, 8, 2, 16, 3584, true, 2048, 6144, 4096, 512},
    {"qwen3.5-2b-text.json", 2048, 24, 8, 2, 16, 6144, true, 2048, 6144, 4096, 512},
    {"qwen3.5-4b.json", 2560, 32, 16, 4, 32, 9216, true, 4096, 8192, 8192, 1024},
    {"qwen3.6-27b.json", 5120, 64, 24, 4, 48, 17408, false, 6144, 10240, 12288, 1024},
    {"qwen3.8-27b.json", 5120, 64, 24, 4, 48, 17408, false, 6144, 10240, 12288, 1024},
};

/* What all of them have in common. */
static void check_common(const struct config *c)
{
    assert_string_equal(c->family->name, "Qwen3.5 dense");
    assert_true(c->family->centred);
    assert_int_equal(c->vocab, 248320);
    assert_int_equal(c->head_dim, 256);
    assert_int_equal(c->rot, 64);
    assert_int_equal(c->Hk, 16);
    assert_int_equal(c->Dk, 128);
    assert_int_equal(c->Dv, 128);
    assert_int_equal(c->taps, 4);
    assert_int_equal(c->context, 262144);
    assert_int_equal(c->mtp_layers, 1);
    assert_true(c->theta == 1e7 && c->eps == 1e-6);
    assert_int_equal(c->eos_count, 1);
    assert_int_equal(c->eos[0], 248044);
    assert_false(c->sampling);
}

static void published_sizes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
        const struct published *p = &published[i];
        struct config c;
        struct gdn_error err = {0};
        if (parse_file(&c, p->file, &err) != GDN_OK) fail_msg("%s", err.text);
        check_common(&c);
        assert_int_equal(c.D, p->D);
        assert_int_equal(c.layers, p->layers);
        assert_int_equal(c.Hq, p->Hq);
        assert_int_equal(c.Hkv, p->Hkv);
        assert_int_equal(c.Hv, p->Hv);
        assert_int_equal(c.F, p->F);
        assert_int_equal(c.tied, p->tied);
        assert_int_equal(c.Hv * c.Dv, p->V);
        assert_int_equal(2 * c.Hk * c.Dk + c.Hv * c.Dv, p->C);
        assert_int_equal(2 * c.Hq * c.head_dim, p->q_rows);
        assert_int_equal(c.Hkv * c.head_dim, p->kv_rows);
        for (int32_t l = 0; l < c.layers; l++) {
            const struct layer_shape s = config_layer_shape(&c, l);
            assert_int_equal(c.kind[l], l % 4 == 3 ? LAYER_ATTN : LAYER_DELTA);
            assert_int_equal(s.kind, c.kind[l]);
            assert_int_equal(s.Hv, s.kind == LAYER_DELTA ? p->Hv : 0);
            assert_int_equal(s.Hkv, s.kind == LAYER_ATTN ? p->Hkv : 0);
            assert_int_equal(s.D, s.kind == LAYER_ATTN ? 256 : 0);
        }
    }
}

static void published_generation(void **state)
{
    (void)state;
    struct config c;
    struct gdn_error err = {0};
    assert_int_equal(parse_file(&c, "qwen3.8-27b.json", &err), GDN_OK);
    add_generation(&c, "qwen3.8-27b.generation.json");
    assert_int_equal(c.eos_count, 2);
    assert_int_equal(c.eos[0], 248044);
    assert_int_equal(c.eos[1], 248046);
    assert_true(c.sampling);
    assert_true(c.temperature == 1.0 && c.top_p == 0.95);
    assert_int_equal(c.top_k, 20);
}

/* ---- other families -------------------------------------------------------------------------- */

static void read_file(struct config *c, const char *name, const char *family)
{
    struct gdn_error err = {0};
    if (parse_file(c, name, &err) != GDN_OK) fail_msg("%s", err.text);
    assert_string_equal(c->family->name, family);
}

static int count_kind(const struct config *c, enum layer_kind kind)
{
    int n = 0;
    for (int32_t i = 0; i < c->layers; i++) n += c->kind[i] == kind;
    return n;
}

static int count_sparse(const struct config *c)
{
    int n = 0;
    for (int32_t i = 0; i < c->layers; i++) n += c->sparse[i];
    return n;
}

static void check_experts(const struct config *c, int experts, int used, int width, int shared)
{
    assert_int_equal(c->experts, experts);
    assert_int_equal(c->experts_used, used);
    assert_int_equal(c->expert_width, width);
    assert_int_equal(c->shared_width, shared);
    assert_int_equal(c->groups, 1);
    assert_true(c->renormalise);
}

static void qwen_experts(void **state)
{
    (void)state;
    struct config c;
    read_file(&c, "qwen3.5-35b-a3b.json", "Qwen3.5 MoE");
    check_experts(&c, 256, 8, 512, 512);
    assert_int_equal(count_sparse(&c), 40);
    assert_int_equal(count_kind(&c, LAYER_ATTN), 10);
    assert_true(c.F == 0 && c.D == 2048 && c.Hv == 32 && c.Hk == 16);
    read_file(&c, "qwen3.5-25b-reap-moe.json", "Qwen3.5 MoE");
    check_experts(&c, 180, 8, 512, 512);
    read_file(&c, "qwen3-next-80b-a3b.json", "Qwen3-Next");
    check_experts(&c, 512, 10, 512, 512);
    assert_int_equal(count_sparse(&c), 48);
    assert_int_equal(count_kind(&c, LAYER_ATTN), 12);
    assert_true(c.rot == 64 && c.head_dim == 256 && c.beta_scale == 1.0);
}

static void kimi(void **state)
{
    (void)state;
    struct config c;
    read_file(&c, "kimi-linear-48b-a3b.json", "Kimi-Linear");
    check_experts(&c, 256, 8, 1024, 1024);
    assert_int_equal(count_sparse(&c), 26);
    assert_false(c.sparse[0]);
    assert_true(c.route_scale == 2.446 && c.eps == 1e-5 && c.F == 9216 && c.rot == 0);
    assert_int_equal(count_kind(&c, LAYER_ATTN), 7);
    assert_true(c.kind[3] == LAYER_ATTN && c.kind[26] == LAYER_ATTN && c.kind[0] == LAYER_DELTA);
    assert_true(c.Hk == 32 && c.Hv == 32 && c.Dk == 128 && c.Dv == 128 && c.rank == 128);
    assert_true(c.nope == 128 && c.shared_key == 64 && c.latent == 512 && c.value_dim == 128);
    assert_int_equal(c.context, 1048576);
    const struct layer_shape delta = config_layer_shape(&c, 0), mla = config_layer_shape(&c, 3);
    assert_true(delta.channel_gate && !delta.latent);
    assert_true(mla.latent && mla.Hkv == 1 && mla.D == 576 && mla.Dv == 512);
}

static void olmo(void **state)
{
    (void)state;
    struct config c;
    read_file(&c, "olmo-hybrid-7b.json", "OLMo-Hybrid");
    assert_true(c.D == 3840 && c.F == 11008 && c.layers == 32 && c.head_dim == 128);
    assert_true(c.Hk == 30 && c.Hv == 30 && c.Dk == 96 && c.Dv == 192 && c.Hkv == 30);
    assert_true(c.rot == 0 && c.beta_scale == 2.0 && c.experts == 0);
    assert_int_equal(count_kind(&c, LAYER_ATTN), 8);
}

/* ---- what we do not run ---------------------------------------------------------------------- */

static void quantised(void **state)
{
    (void)state;
    static const char *const others[][3] = {
        {"qwen3.5-9b-mlx8.json", "quantization_config", "{\"group_size\":64,\"bits\":8,"},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct config c;
        struct gdn_error err = {0};
        char begin[200];
        snprintf(begin, sizeof begin, "%s: %s: found %s", others[i][0], others[i][1], others[i][2]);
        assert_int_equal(parse_file(&c, others[i][0], &err), GDN_ERR_UNSUPPORTED);
        assert_int_equal(err.status, GDN_ERR_UNSUPPORTED);
        if (strncmp(err.text, begin, strlen(begin)) != 0 || !strstr(err.text, ", need "))
            fail_msg("found \"%s\", need \"%s", err.text, begin);
    }
}

/* ---- hostile bytes --------------------------------------------------------------------------- */

/* Whatever comes out, status and sentence agree, and what is accepted can be multiplied. */
static enum gdn_status survive(const char *json, size_t len)
{
    struct config c;
    struct gdn_error err = {0};
    char *copy = mem_take(len); /* of exactly this length: a sanitizer sees one byte too many */
    memcpy(copy, json, len);
    const enum gdn_status status = config_parse(&c, copy, len, "small.json", &err);
    mem_give(copy);
    assert_int_equal(status, err.status);
    assert_int_equal(status == GDN_OK, err.text[0] == 0);
    if (status == GDN_OK) {
        assert_true(c.Hq % c.Hkv == 0 && c.Hv % c.Hk == 0 && c.rot % 2 == 0);
        assert_true(c.rot <= c.head_dim && c.layers <= CONFIG_LAYERS && c.eos_count <= CONFIG_EOS);
    } else {
        assert_true(status == GDN_ERR_INPUT || status == GDN_ERR_UNSUPPORTED);
    }
    return status;
}

static void cut_at_every_byte(void **state)
{
    (void)state;
    const char *json = SMALL({"text", "\"\\u00e9 \xC3\xA9 \\\" \""});
    const size_t len = strlen(json);
    assert_int_equal(survive(json, len), GDN_OK);
    for (size_t n = 0; n < len; n++) assert_int_equal(survive(json, n), GDN_ERR_INPUT);
}

static void any_byte_changed(void **state)
{
    (void)state;
    static const char bytes[] = {0, '"', '{', '}', '[', ',', '9', '-', 'e', '\\', '\x1b', '\xC3'};
    char json[SMALL_TEXT];
    strcpy(json, SMALL({NULL, NULL}));
    const size_t len = strlen(json);
    for (size_t at = 0; at < len; at++) {
        const char was = json[at];
        for (size_t i = 0; i < sizeof bytes; i++) {
            json[at] = bytes[i];
            survive(json, len);
        }
        json[at] = was;
    }
}

static void not_an_object(void **state)
{
    (void)state;
    const enum gdn_status bad = GDN_ERR_INPUT;
    refuse_text("[]", bad, "found []", "", "need an object");
    refuse_text("", bad, "line 1", "", "");
    refuse_text("null", bad, "", "", "");
    refuse_text("{} {}", bad, "line 1", "end of file expected", "");
    refuse_text("{\"a\": NaN}", bad, "line 1", "invalid token", "N");
    refuse_text("{\"a\": 1e999}", bad, "line 1", "overflow", "1e999");
    refuse_text("{\"a\": 99999999999999999999}", bad, "line 1", "too big integer", "");
    refuse_text("{\"a\": \"\\u0000\"}", bad, "line 1", "", "");
    refuse_text("{\"a\": \"\xC0\x80\"}", bad, "line 1", "unable to decode byte 0xc0", "");
    refuse_text("{\"a\": \x1b[2J}", bad, "line 1", "invalid token near '?'", "");
    refuse_text("{\"a\": \xC2\x9B", bad, "line 1", "??", "");
    char deep[6000];
    memset(deep, '[', sizeof deep);
    deep[sizeof deep - 1] = 0;
    refuse_text(deep, bad, "line 1", "depth", "");
}

static void keys_twice(void **state)
{
    (void)state;
    const enum gdn_status bad = GDN_ERR_INPUT;
    refuse_text("{\"model_type\":\"qwen3_5\",\"model_type\":\"qwen3_5\"}", bad, "line 1",
                "duplicate object key", "model_type");
    refuse_text(SMALL({"x", "{\"y\":{\"z\":1,\"z\":2}}"}), bad, "line 1", "duplicate object key",
                "z");
}

/* ---- messages -------------------------------------------------------------------------------- */

/* Long and unprintable values are cut and escaped, long paths keep their end. */
static void messages_fit(void **state)
{
    (void)state;
    char value[700], path[700];
    memset(value, 'x', sizeof value);
    value[0] = value[sizeof value - 2] = '"';
    value[sizeof value - 1] = 0;
    refuse_key("vocab_size", value, "found \"xxxxxxxx", "..., need an integer");
    memcpy(value + 1, "\\u001b[2J\xE4\xB8\xAD\x7f", 13);
    refuse_key("model_type", "17", "17", "a text");
    refuse_text(SMALL({"model_type", value}), GDN_ERR_UNSUPPORTED, "model_type",
                "\"\\u001B[2J\\u4E2D?xxx", "need qwen3_5, qwen3_5_moe, "
                "qwen3_next, kimi_linear or olmo_hybrid");
    memset(path, 'p', sizeof path);
    strcpy(path + sizeof path - 13, "/config.json");
    struct config c;
    struct gdn_error err = {0};
    assert_int_equal(config_parse(&c, "{}", 2, path, &err), GDN_ERR_INPUT);
    assert_non_null(strstr(err.text, "pp/config.json: model_type: found nothing, need a text"));
    /* Nobody has to look at the sentence. */
    assert_int_equal(config_parse(&c, "{}", 2, path, NULL), GDN_ERR_INPUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_sizes),   cmocka_unit_test(published_generation),
        cmocka_unit_test(qwen_experts), cmocka_unit_test(kimi), cmocka_unit_test(olmo),
        cmocka_unit_test(quantised),    cmocka_unit_test(cut_at_every_byte),
        cmocka_unit_test(any_byte_changed),  cmocka_unit_test(not_an_object),
        cmocka_unit_test(keys_twice),        cmocka_unit_test(messages_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

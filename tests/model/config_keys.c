/* config_keys.c: every key of a config, alone: missing, of the wrong type, out of range, and at
 * odds with another. Whole files: config.c; ends of the text: config_open.c. */
#include "small.h"

/* ---- integers -------------------------------------------------------------------------------- */

enum { WIDTH = 1 << 24, HEADS = 1 << 16, HEAD = 1 << 14 };

struct integer {
    const char *name;
    int64_t min, max, absent; /* absent: what it is without the key; 0: the key is needed */
    size_t field;
};

#define FIELD(member) offsetof(struct config, member)

static const struct integer integers[] = {
    {"vocab_size", 1, WIDTH, 0, FIELD(vocab)},
    {"hidden_size", 1, 1 << 17, 0, FIELD(D)},
    {"intermediate_size", 1, 1 << 20, 0, FIELD(F)},
    {"num_hidden_layers", 1, CONFIG_LAYERS, 0, FIELD(layers)},
    {"num_attention_heads", 1, HEADS, 0, FIELD(Hq)},
    {"num_key_value_heads", 1, HEADS, 0, FIELD(Hkv)},
    {"head_dim", 1, HEAD, 256, FIELD(head_dim)},
    {"linear_num_key_heads", 1, HEADS, 0, FIELD(Hk)},
    {"linear_num_value_heads", 1, HEADS, 0, FIELD(Hv)},
    {"linear_key_head_dim", 1, HEAD, 0, FIELD(Dk)},
    {"linear_value_head_dim", 1, HEAD, 0, FIELD(Dv)},
    {"linear_conv_kernel_dim", 2, 16, 4, FIELD(taps)},
    {"max_position_embeddings", 1, 1 << 30, 32768, FIELD(context)},
    {"full_attention_interval", 1, CONFIG_LAYERS, 4, FIELD(layers)},
    {"mtp_num_hidden_layers", 0, 64, 0, FIELD(mtp_layers)},
};

static int32_t field(const struct config *c, size_t at)
{
    int32_t value;
    memcpy(&value, (const char *)c + at, sizeof value);
    return value;
}

static void without(const struct integer *k, const char *value)
{
    struct config c;
    if (k->absent == 0 && k->min > 0) {
        char need[80];
        snprintf(need, sizeof need, "need an integer from %d", (int)k->min);
        refuse_key(k->name, value, value ? "found null" : "found nothing", need);
        return;
    }
    accept_text(&c, SMALL({k->name, value}));
    if (strcmp(k->name, "full_attention_interval") != 0)
        assert_int_equal(field(&c, k->field), k->absent);
}

static void every_integer(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "\"8\"", "8.0", "8e0", "true", "false", "[]", "[8]", "{}", "-2147483649",
        "4294967297", "9223372036854775807", "-9223372036854775808",
    };
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        const struct integer *k = &integers[i];
        /* Which layers there are says the list, unless it is away. */
        const bool interval = strcmp(k->name, "full_attention_interval") == 0;
        const char *types = interval ? NULL : "[\"full_attention\",\"full_attention\"]";
        char found[60], need[80], value[40];
        snprintf(need, sizeof need, "need an integer from %d to %d", (int)k->min, (int)k->max);
        for (size_t w = 0; w < sizeof wrong / sizeof *wrong; w++) {
            const char *cut = strcmp(wrong[w], "8e0") == 0 ? "8.0" : wrong[w];
            snprintf(found, sizeof found, "found %s,", cut);
            refuse_text(SMALL({k->name, wrong[w]}, {"layer_types", types}), GDN_ERR_INPUT, k->name,
                        found, need);
        }
        const int64_t outside[] = {k->min - 1, k->max + 1, -1, INT32_MIN};
        for (size_t w = 0; w < 4; w++) {
            if (outside[w] >= k->min && outside[w] <= k->max) continue;
            snprintf(value, sizeof value, "%lld", (long long)outside[w]);
            snprintf(found, sizeof found, "found %s,", value);
            refuse_text(SMALL({k->name, value}, {"layer_types", types}), GDN_ERR_INPUT, k->name,
                        found, need);
        }
        without(k, NULL);
        without(k, "null");
    }
}

/* The largest of each that the other keys allow is taken as it is. */
static void largest_sizes(void **state)
{
    (void)state;
    struct config c;
    accept_text(&c, SMALL({"vocab_size", "16777216"}, {"hidden_size", "131072"},
                          {"intermediate_size", "1048576"}, {"num_attention_heads", "65536"},
                          {"num_key_value_heads", "65536"}, {"head_dim", "256"},
                          {"linear_num_key_heads", "1024"}, {"linear_num_value_heads", "65536"},
                          {"linear_key_head_dim", "16384"}, {"linear_value_head_dim", "256"},
                          {"linear_conv_kernel_dim", "16"}, {"num_hidden_layers", "1024"},
                          {"layer_types", NULL}, {"max_position_embeddings", "1073741824"}));
    assert_int_equal(c.vocab, WIDTH);
    assert_int_equal(c.Hq * c.head_dim, WIDTH);
    assert_int_equal(c.Hk * c.Dk, WIDTH);
    assert_int_equal(c.Hv * c.Dv, WIDTH);
    assert_int_equal(c.layers, CONFIG_LAYERS);
    assert_int_equal(c.kind[CONFIG_LAYERS - 1], LAYER_ATTN);
}

static void sizes_at_odds(void **state)
{
    (void)state;
    refuse_key("num_attention_heads", "5", "found 5", "a multiple of num_key_value_heads");
    refuse_key("num_attention_heads", "1", "found 1", "a multiple of num_key_value_heads");
    refuse_key("linear_num_value_heads", "3", "found 3", "a multiple of linear_num_key_heads");
    const char *need = "need at most 16777216";
    refuse_text(SMALL({"num_attention_heads", "65536"}, {"head_dim", "258"}), GDN_ERR_INPUT,
                "heads times head size", "found", need);
    refuse_text(SMALL({"linear_num_value_heads", "65536"}, {"linear_value_head_dim", "257"}),
                GDN_ERR_INPUT, "heads times head size", "found", need);
    refuse_text(SMALL({"linear_num_key_heads", "2048"}, {"linear_num_value_heads", "2048"},
                      {"linear_key_head_dim", "16384"}),
                GDN_ERR_INPUT, "heads times head size", "found", need);
}

/* ---- other types ----------------------------------------------------------------------------- */

static void every_real(void **state)
{
    (void)state;
    static const char *const wrong[] = {"\"1\"", "true", "[]", "{}", "-1", "-1e-300", "1e300"};
    char nested[120];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        refuse_key("rms_norm_eps", wrong[i], "found", "need a number from 0 to 1");
        refuse_key("partial_rotary_factor", wrong[i], "found", "need a number from 0 to 1");
        refuse_key("rope_theta", wrong[i], "found", "need a number from 1 to 1e+15");
        snprintf(nested, sizeof nested, "{\"rope_theta\":%s}", wrong[i]);
        refuse_text(SMALL({"rope_parameters", nested}), GDN_ERR_INPUT, "rope_theta", "found",
                    "need a number from 1");
        snprintf(nested, sizeof nested, "{\"partial_rotary_factor\":%s}", wrong[i]);
        refuse_text(SMALL({"rope_parameters", nested}), GDN_ERR_INPUT, "partial_rotary_factor",
                    "found", "need a number from 0");
    }
    refuse_key("rms_norm_eps", "1.5", "found 1.5", "to 1");
    struct config c;
    accept_text(&c, SMALL({"rms_norm_eps", NULL}));
    assert_true(c.eps == 1e-6);
    accept_text(&c, SMALL({"rms_norm_eps", "0.25"}));
    assert_true(c.eps == 0.25);
}

static void rotation(void **state)
{
    (void)state;
    struct config c;
    accept_text(&c, SMALL({"rope_parameters", NULL}));
    assert_true(c.theta == 10000.0);
    assert_int_equal(c.rot, 4); /* a quarter of 16 */
    accept_text(&c, SMALL({"rope_parameters", "null"}, {"rope_theta", "5e5"},
                          {"partial_rotary_factor", "0.5"}));
    assert_true(c.theta == 5e5);
    assert_int_equal(c.rot, 8);
    /* What the object does not say stands beside it. */
    accept_text(&c, SMALL({"rope_parameters", "{\"rope_type\":\"default\"}"}, {"rope_theta", "5e5"},
                          {"partial_rotary_factor", "1"}));
    assert_true(c.theta == 5e5);
    assert_int_equal(c.rot, 16);
    accept_text(&c, SMALL({"rope_parameters", "{\"rope_theta\":7,\"partial_rotary_factor\":0}"},
                          {"rope_theta", "5e5"}, {"partial_rotary_factor", "1"}));
    assert_true(c.theta == 7.0);
    assert_int_equal(c.rot, 0);
    refuse_text(SMALL({"rope_parameters", "{\"partial_rotary_factor\":0.2}"}), GDN_ERR_INPUT,
                "partial_rotary_factor", "found 3 of 16", "an even number");
    refuse_key("rope_parameters", "[]", "found []", "an object");
    refuse_key("rope_parameters", "\"default\"", "found \"default\"", "an object");
    /* A stretched rotation would give other numbers than the ones the model was made for. */
    refuse_text(SMALL({"rope_parameters", "{\"rope_type\":\"yarn\"}"}), GDN_ERR_UNSUPPORTED,
                "rope_type", "\"yarn\"", "default");
    refuse_text(SMALL({"rope_parameters", NULL},
                      {"rope_scaling", "{\"type\":\"linear\",\"factor\":2}"}),
                GDN_ERR_UNSUPPORTED, "type", "\"linear\"", "default");
    refuse_text(SMALL({"rope_parameters", "{\"rope_type\":3}"}), GDN_ERR_INPUT, "rope_type",
                "found 3", "default");
}

static void switches_and_words(void **state)
{
    (void)state;
    struct config c;
    static const char *const wrong[] = {"\"false\"", "0", "1", "[]", "{}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        refuse_key("tie_word_embeddings", wrong[i], wrong[i], "need true or false");
        refuse_key("attention_bias", wrong[i], wrong[i], "need true or false");
    }
    refuse_text(SMALL({"attention_bias", "true"}), GDN_ERR_UNSUPPORTED, "attention_bias",
                "found true", "need false");
    refuse_text(SMALL({"hidden_act", "\"gelu\""}), GDN_ERR_UNSUPPORTED, "hidden_act",
                "found \"gelu\"", "need silu");
    refuse_key("hidden_act", "4", "found 4", "silu");
    refuse_key("model_type", NULL, "found nothing", "a text");
    refuse_key("model_type", "null", "found null", "a text");
    refuse_text(SMALL({"model_type", "\"llama\""}), GDN_ERR_UNSUPPORTED, "model_type", "\"llama\"",
                "need qwen3_5");
    refuse_text(SMALL({"model_type", "\"\""}), GDN_ERR_UNSUPPORTED, "model_type", "\"\"",
                "need qwen3_5");
    refuse_text(SMALL({"quantization_config", "{\"quant_method\":\"fp8\"}"}), GDN_ERR_UNSUPPORTED,
                "quantization_config", "{\"quant_method\":\"fp8\"}", "need none");
    refuse_text(SMALL({"quantization", "{\"bits\":4}"}), GDN_ERR_UNSUPPORTED, "quantization",
                "{\"bits\":4}", "bf16");
    accept_text(&c, SMALL({"model_type", "\"qwen3_5\""}, {"quantization_config", "null"},
                          {"attention_bias", "false"}, {"hidden_act", "\"silu\""},
                          {"tie_word_embeddings", "true"}, {"something_new", "[1,{\"a\":null}]"}));
    assert_true(c.tied);
    accept_text(&c, SMALL({"tie_word_embeddings", NULL}));
    assert_false(c.tied);
}

static void layer_types(void **state)
{
    (void)state;
    struct config c;
    refuse_key("layer_types", "[\"full_attention\"]", "found 1 entries", "2 (num_hidden_layers)");
    refuse_key("layer_types", "[]", "found 0 entries", "2 (num_hidden_layers)");
    refuse_key("layer_types", "\"full_attention\"", "found \"full_attention\"", "a list");
    refuse_key("layer_types", "{\"0\":\"full_attention\"}", "found {", "a list");
    refuse_key("layer_types", "[\"full_attention\",\"sliding\\u001b_attention\"]",
               "[1]: found \"sliding\\u001B_attention\"", "linear_attention or full_attention");
    refuse_key("layer_types", "[null,\"full_attention\"]", "[0]: found null", "linear_attention");
    /* Without a list: every interval-th layer, counted from one. */
    accept_text(&c, SMALL({"layer_types", NULL}, {"num_hidden_layers", "7"},
                          {"full_attention_interval", "3"}));
    for (int32_t i = 0; i < 7; i++)
        assert_int_equal(c.kind[i], i == 2 || i == 5 ? LAYER_ATTN : LAYER_DELTA);
    /* With one, the interval is not looked at. */
    accept_text(&c, SMALL({"full_attention_interval", "\"x\""}));
    assert_int_equal(c.kind[0], LAYER_DELTA);
    assert_int_equal(c.kind[1], LAYER_ATTN);
}

/* ---- nested ---------------------------------------------------------------------------------- */

/* Keys come from the text config; from beside it only what the files in the wild put there. */
static void nested(void **state)
{
    (void)state;
    struct config c;
    char text[SMALL_TEXT], whole[SMALL_TEXT + 200];
    strcpy(text, SMALL({"tie_word_embeddings", NULL}));
    snprintf(whole, sizeof whole, "{\"model_type\":\"qwen3_5\",\"hidden_size\":9999,"
             "\"tie_word_embeddings\":true,\"eos_token_id\":[9,7],\"text_config\":%s}", text);
    accept_text(&c, whole);
    assert_int_equal(c.D, 24);
    assert_true(c.tied);
    assert_int_equal(c.eos_count, 2);
    assert_int_equal(c.eos[0], 7);
    assert_int_equal(c.eos[1], 9);
    strcpy(text, SMALL({"tie_word_embeddings", "false"}, {"model_type", NULL}));
    snprintf(whole, sizeof whole, "{\"model_type\":\"qwen3_5\",\"tie_word_embeddings\":true,"
             "\"text_config\":%s}", text);
    accept_text(&c, whole);
    assert_false(c.tied);
    strcpy(text, SMALL({"quantization_config", "{\"bits\":4}"}));
    snprintf(whole, sizeof whole, "{\"text_config\":%s}", text);
    refuse_text(whole, GDN_ERR_UNSUPPORTED, "quantization_config", "{\"bits\":4}", "need none");
    refuse_text(SMALL({"text_config", "[]"}), GDN_ERR_INPUT, "text_config", "found []",
                "an object");
    refuse_text("{\"model_type\":\"qwen3_5\",\"text_config\":{}}", GDN_ERR_INPUT, "vocab_size",
                "found nothing", "an integer");
    accept_text(&c, SMALL({"text_config", "null"}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_integer),      cmocka_unit_test(largest_sizes),
        cmocka_unit_test(sizes_at_odds),      cmocka_unit_test(every_real),
        cmocka_unit_test(rotation),           cmocka_unit_test(switches_and_words),
        cmocka_unit_test(layer_types),        cmocka_unit_test(nested),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* model.c: options, opening and describing. */
#include "open.h"

#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/handles.h"
#include "base/file.h"

static void defaults(void **state)
{
    (void)state;
    const struct gdn_options o = gdn_options_default();
    assert_int_equal(o.size, sizeof o);
    assert_string_equal(o.device, "cpu");
    assert_int_equal(o.threads, 0);
    assert_int_equal(o.compute, GDN_F32);
    assert_int_equal(o.state, GDN_F32);
    assert_false(o.fast || o.speculate);
    assert_int_equal(o.sessions, 1);
    assert_int_equal(o.context, 0);
    assert_non_null(strchr(gdn_version(), '.'));
    /* No options are the default ones. */
    gdn_model *model = open_with(TINY, NULL);
    struct gdn_model_info info, same;
    gdn_model_describe(model, &info);
    gdn_model_close(model);
    model = open_with(TINY, &o);
    gdn_model_describe(model, &same);
    assert_int_equal(info.session_bytes, same.session_bytes);
    assert_int_equal(info.trained_context, 512);
    gdn_model_close(model);
    gdn_model_close(NULL);
}

static void environment(void **state)
{
    (void)state;
    static const char *const others[] = {"", "0", "11", "1 ", " 1", "true", "yes", "2"};
    const char *was = getenv("GDN_STATE_BF16");
    char *kept = was ? strdup(was) : NULL;
    struct gdn_options o = gdn_options_default();
    unsetenv("GDN_STATE_BF16");
    gdn_options_from_env(&o);
    assert_int_equal(o.state, GDN_F32);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        setenv("GDN_STATE_BF16", others[i], 1);
        gdn_options_from_env(&o);
        assert_int_equal(o.state, GDN_F32);
        o.state = GDN_BF16; /* and what was chosen stays */
        gdn_options_from_env(&o);
        assert_int_equal(o.state, GDN_BF16);
        o.state = GDN_F32;
    }
    setenv("GDN_STATE_BF16", "1", 1);
    gdn_options_from_env(&o);
    assert_int_equal(o.state, GDN_BF16);
    o.state = GDN_F32;
    assert_int_equal(o.compute, GDN_F32);
    /* Opening looks at the options alone. */
    gdn_model *model = open_with(TINY, &o);
    assert_int_equal(model->engine_options.anchor, DTYPE_F32);
    gdn_model_close(model);
    if (kept)
        setenv("GDN_STATE_BF16", kept, 1);
    else
        unsetenv("GDN_STATE_BF16");
    free(kept);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void option_refused(struct gdn_options o, enum gdn_status want, const char *field,
                           const char *found)
{
    struct gdn_error err = {0};
    gdn_model *model = (gdn_model *)&err;
    const int64_t live = mem_counted().live_blocks;
    const enum gdn_status got = gdn_model_open(TINY, &o, &model, &err);
    assert_null(model);
    assert_int_equal(mem_counted().live_blocks, live);
    if (got != want || err.status != want || !strstr(err.text, field) || !strstr(err.text, found) ||
        !strstr(err.text, "need"))
        fail_msg("found %d %s, need %s ... %s", (int)got, err.text, field, found);
    /* The status does not depend on somebody looking at the sentence. */
    assert_int_equal(gdn_model_open(TINY, &o, &model, NULL), want);
}

#define OPTION(member, value, found)                                                  \
    do {                                                                              \
        struct gdn_options o = gdn_options_default();                                 \
        o.member = value;                                                             \
        option_refused(o, GDN_ERR_USAGE, #member, found);                             \
    } while (0)

static void wrong_options(void **state)
{
    (void)state;
    OPTION(size, 0, "found 0");
    OPTION(size, sizeof(struct gdn_options) + 8, "found ");
    OPTION(sessions, 0, "found 0, need 1 to 65536");
    OPTION(sessions, -1, "found -1");
    OPTION(sessions, 65537, "found 65537");
    OPTION(threads, -1, "found -1, need 0 to 1024");
    OPTION(threads, 1025, "found 1025");
    OPTION(context, -2, "found -2 tokens, need 1 to 512");
    OPTION(context, 513, "found 513 tokens, need 1 to 512");
    OPTION(compute, (enum gdn_type)7, "found 7");
    OPTION(compute, GDN_F64, "found 2, need GDN_F32 or GDN_BF16");
    OPTION(state, GDN_F64, "found 2, need GDN_F32 or GDN_BF16");
    gdn_model *model;
    struct gdn_options o = gdn_options_default();
    o.device = "gpu";
    refused(USAGE, "device: found 'gpu', need 'cpu', 'cuda' or 'ref'",
            gdn_model_open(TINY, &o, &model, &err));
    /* A struct of another version may be shorter than ours: nothing behind its size is read. */
    size_t *older = malloc(sizeof *older);
    *older = sizeof *older;
    refused(USAGE, "options.size: found 8",
            gdn_model_open(TINY, (const struct gdn_options *)(const void *)older, &model, &err));
    free(older);
}

static void wrong_paths(void **state)
{
    (void)state;
    gdn_model *model;
    char folder[] = "/tmp/gdn-api-XXXXXX", path[6000];
    assert_non_null(mkdtemp(folder));
    refused(USAGE, "path: found NULL", gdn_model_open(NULL, NULL, &model, &err));
    refused(INPUT, "/nowhere: no such file", gdn_model_open("/nowhere", NULL, &model, &err));
    refused(INPUT, "found a file, need a model folder",
            gdn_model_open(TINY "/config.json", NULL, &model, &err));
    refused(INPUT, "config.json: cannot open", gdn_model_open(folder, NULL, &model, &err));
    memset(path, 'x', sizeof path);
    path[sizeof path - 1] = 0;
    refused(INPUT, "no such file", gdn_model_open(path, NULL, &model, &err));
    assert_null(model);
    rmdir(folder);
}

/* Every allocation from opening to the first token fails, once and from then on. */
static enum gdn_status first_token(gdn_model **model, struct gdn_error *err)
{
    const struct gdn_options o = small_options();
    const struct gdn_sampling greedy = {.size = sizeof greedy};
    gdn_session *session;
    int32_t id;
    enum gdn_status status = gdn_model_open(TINY, &o, model, err);
    if (status == GDN_OK) status = gdn_session_new(*model, &session, err);
    if (status == GDN_OK) status = gdn_session_feed(session, (int32_t[]){1, 2, 3}, 3, err);
    if (status == GDN_OK) status = gdn_session_sample(session, &greedy, &id, err);
    return status;
}

static void memory_fails(bool forever)
{
    for (int64_t n = 1;; n++) {
        const int64_t live = mem_counted().live_blocks;
        struct gdn_error err = {0};
        gdn_model *model;
        mem_fail_after(n, forever);
        const enum gdn_status status = first_token(&model, &err);
        mem_fail_after(0, false);
        if (status != GDN_OK) {
            assert_int_equal(status, GDN_ERR_MEMORY);
            assert_int_equal(err.status, GDN_ERR_MEMORY);
            assert_non_null(strstr(err.text, "no memory"));
        }
        /* What was opened before the failure still works after it. */
        gdn_session *session;
        if (model && status != GDN_OK)
            assert_int_equal(gdn_session_new(model, &session, NULL), GDN_OK);
        gdn_model_close(model);
        assert_int_equal(mem_counted().live_blocks, live);
        if (status == GDN_OK) return;
    }
}

static void every_allocation_fails(void **state)
{
    (void)state;
    memory_fails(false);
    memory_fails(true);
}

/* ---- what a model is ------------------------------------------------------------------------- */

/* Bytes of tensors in a safetensors file: what stands behind the header. */
static int64_t tensor_bytes(const char *path)
{
    struct gdn_error err = {0};
    struct file_map map;
    assert_int_equal(file_map_open(&map, path, &err), GDN_OK);
    const int64_t bytes = (int64_t)map.len - 8 - (int64_t)bytes_u64(map.data);
    file_map_close(&map);
    return bytes;
}

/* models/demo: 6 delta layers and 2 of attention, by the shapes of its README. */
enum {
    D = 192, F = 512, VOCAB = 4096, C = 2 * 128 + 2 * 128,
    FFN = 3 * F * D + 2 * D,
    DELTA = (C + 256 + 2 + 2) * D + 4 * C + 2 + 2 + 128 + 256 * D + FFN,
    ATTN = (512 + 128 + 128) * D + 64 + 64 + 256 * D + FFN,
    COPIED = 6 * (2 * D + 4 * C + 2 + 2 + 128) + 2 * (2 * D + 64 + 64) + D
};

static void demo_by_hand(void **state)
{
    (void)state;
    gdn_model *model = open_with(DEMO, NULL);
    struct gdn_model_info i;
    gdn_model_describe(model, &i);
    assert_string_equal(i.family, "Qwen3.5 dense");
    const int32_t sizes[][2] = {
        {i.vocab, VOCAB},   {i.width, D},          {i.ffn, F},
        {i.layers, 8},      {i.delta_layers, 6},   {i.attention_layers, 2},
        {i.heads, 4},       {i.kv_heads, 2},       {i.head_width, 64},
        {i.rotary, 16},     {i.key_heads, 1},      {i.value_heads, 2},
        {i.key_width, 128}, {i.value_width, 128},  {i.taps, 4},
        {i.tied, true},     {i.trained_context, 32768}, {i.tokens, 4096},
        {i.mtp_layers, 1},  {i.mtp_tensors, 15},   {i.vision_tensors, 0},
        {i.eos_count, 2},   {i.eos[0], 4084},      {i.eos[1], 4086},
        {i.recommends, true}, {i.top_k, 20},
    };
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        if (sizes[s][0] != sizes[s][1])
            fail_msg("size %zu: found %d, need %d", s, sizes[s][0], sizes[s][1]);
    assert_true(i.temperature == 0.7 && i.top_p == 0.95);
    assert_int_equal(i.parameters, VOCAB * D + 6 * DELTA + 2 * ATTN + D);
    assert_int_equal(i.weight_bytes, tensor_bytes(DEMO "/model.safetensors"));
    assert_int_equal(i.copied_bytes, 4 * COPIED);
    gdn_model_close(model);
}

struct heard {
    int64_t last, all;
    int times;
};

static void hear(void *context, int64_t done, int64_t all)
{
    struct heard *h = context;
    assert_true(done >= h->last && done <= all && (h->times == 0 || all == h->all));
    *h = (struct heard){done, all, h->times + 1};
}

/* How far quantising has come, to the end; files that are mapped as they are take no time. */
static void progress(void **state)
{
    (void)state;
    for (int quant = GDN_QUANT_NONE; quant <= GDN_QUANT_Q4; quant++) {
        struct heard heard = {0};
        struct gdn_options o = small_options();
        o.progress = hear;
        o.progress_context = &heard;
        o.quant = (enum gdn_quant)quant;
        gdn_model_close(open_with(DEMO, &o));
        assert_int_equal(heard.times > 10, quant != GDN_QUANT_NONE);
        assert_int_equal(heard.last, heard.all);
    }
}

/* Anchor, k, u, G and ring of 6 layers, and pages of 2, in the types and lengths of the options. */
static void demo_state(bool bf16, bool bf16_anchor, bool speculate)
{
    struct gdn_options o = gdn_options_default();
    o.threads = 1;
    o.compute = bf16 ? GDN_BF16 : GDN_F32;
    o.state = bf16_anchor ? GDN_BF16 : GDN_F32;
    o.speculate = speculate;
    o.context = 1000;
    gdn_model *model = open_with(DEMO, &o);
    struct gdn_model_info i;
    gdn_model_describe(model, &i);
    const int64_t size = bf16 ? 2 : 4, anchor = bf16_anchor ? 2 : 4, n = speculate ? 32 : 16;
    const int64_t layer = anchor * 2 * 128 * 128 + n * (size * 128 + 4 * 2 * 128 + 4 * 2) +
                          size * (3 + n) * C;
    const int64_t token = 2 * 2 * size * 2 * 64;
    assert_int_equal(i.state_bytes, 6 * layer);
    assert_int_equal(i.kv_token_bytes, token);
    assert_int_equal(i.session_bytes, 6 * layer + 1024 * token); /* 16 pages of 64 */
    /* And this is what a session takes. */
    open_session(model);
    assert_int_equal(model->engine.state.bytes, model->engine_options.slots * i.session_bytes);
    assert_int_equal(model->engine.data.size, i.scratch_bytes);
    gdn_model_close(model);
}

static void demo_states(void **state)
{
    (void)state;
    for (int kind = 0; kind < 8; kind++) demo_state(kind & 1, kind & 2, kind & 4);
}

/* A session of the published models without its pages: fp32 anchors, bf16 log and ring. */
static void published_states(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        int64_t MiB[2]; /* with 16 entries, with 32 */
    } table[] = {{"qwen3.5-0.8b-base", {25, 32}},
                 {"qwen3.5-4b", {63, 76}},
                 {"qwen3.8-27b", {183, 219}}};
    struct gdn_error err = {0};
    struct device *device = device_open("cpu", 1, ~0u, &err);
    for (int t = 0; t < 3; t++) {
        struct config c;
        char path[512], *json;
        size_t len;
        snprintf(path, sizeof path, "%s/tests/model/data/%s.json", GDN_SOURCE_DIR, table[t].file);
        assert_int_equal(file_read(path, 1 << 20, &json, &len, &err), GDN_OK);
        assert_int_equal(config_parse(&c, json, len, path, &err), GDN_OK);
        mem_give(json);
        struct layer_shape shape[CONFIG_LAYERS];
        int32_t layers = 0;
        for (int32_t l = 0; l < c.layers; l++)
            if (c.kind[l] == LAYER_DELTA) shape[layers++] = config_layer_shape(&c, l);
        for (int32_t e = 0; e < 2; e++) {
            const struct state_options o = {.slots = 1, .entries = 16 << e, .context = 64,
                                            .compute = DTYPE_BF16, .anchor = DTYPE_F32};
            const double bytes = (double)state_bytes(device, shape, layers, &o);
            assert_int_equal((int64_t)round(bytes / (1 << 20)), table[t].MiB[e]);
        }
    }
    device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),      cmocka_unit_test(environment),
        cmocka_unit_test(wrong_options), cmocka_unit_test(wrong_paths),
        cmocka_unit_test(demo_by_hand),  cmocka_unit_test(progress),
        cmocka_unit_test(every_allocation_fails),
        cmocka_unit_test(demo_states),   cmocka_unit_test(published_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

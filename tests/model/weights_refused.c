/* weights_refused.c: checkpoints that are damaged or belong to another model: the sentence names
 * file, tensor, what was found and what was needed, and nothing is left behind. */
#include "forge.h"

#include <sys/stat.h>

#include "base/file.h"

#define A_LOG "model.layers.0.linear_attn.A_log"
#define K_PROJ "model.layers.3.self_attn.k_proj.weight"

static void missing(void **state)
{
    (void)state;
    struct forge f;
    forge_open(&f, "q35-r1-tied");
    forge_drop(&f, A_LOG);
    forge_refused(&f, GDN_ERR_INPUT, A_LOG, "found nothing", "need [2]");
    forge_drop(&f, K_PROJ);
    forge_refused(&f, GDN_ERR_INPUT, A_LOG, "found nothing", "and 1 more: " K_PROJ);
    forge_close(&f);
    forge_open(&f, "q35-r1-tied");
    forge_drop(&f, "model.embed_tokens.weight");
    forge_refused(&f, GDN_ERR_INPUT, "embed_tokens.weight is missing", "known prefix",
                  "model.language_model.");
    forge_close(&f);
}

/* The first five are named, the rest is counted, however many there are. */
static void many_missing(void **state)
{
    (void)state;
    struct forge f;
    forge_open(&f, "q35-r1-tied");
    forge_rename(&f, "model.layers.", "model.blocks.");
    forge_refused(&f, GDN_ERR_INPUT, "model.layers.0.input_layernorm.weight: found nothing",
                  "and 52 more: model.layers.0.linear_attn.in_proj_qkv.weight, "
                  "model.layers.0.linear_attn.in_proj_z.weight, ", ", ...");
    forge_close(&f);
}

/* Each tensor of a model in turn: one longer, one axis more, and not there. */
static void every_tensor_counts(void **state)
{
    (void)state;
    static const char *const which[] = {"q35-r1-tied", "q35-k2-f16"};
    for (size_t m = 0; m < 2; m++) {
        struct forge f;
        forge_open(&f, which[m]);
        for (size_t i = 0; i < f.count; i++) {
            const struct forged whole = f.list[i];
            if (strncmp(whole.name, "mtp.", 4) == 0) continue;
            f.list[i].bytes -= f.list[i].bytes / (size_t)f.list[i].shape[0];
            f.list[i].shape[0]--;
            char found[40];
            snprintf(found, sizeof found, "found [%lld", (long long)whole.shape[0] - 1);
            forge_refused(&f, GDN_ERR_INPUT, whole.name, found, "need [");
            f.list[i] = whole;
            strcpy(f.list[i].name, "mtp.elsewhere");
            const char *name = strstr(whole.name, "embed_tokens") ? "embed_tokens" : whole.name;
            forge_refused(&f, GDN_ERR_INPUT, name, "", "");
            f.list[i] = whole;
        }
        forge_close(&f);
    }
}

static void wrong_shape(void **state)
{
    (void)state;
    struct forge f;
    forge_open(&f, "q35-r1-tied");
    struct forged *t = forge_find(&f, K_PROJ);
    const int64_t rows = t->shape[0];
    t->shape[0] = t->shape[1]; /* transposed: as many values, but another matrix */
    t->shape[1] = rows;
    forge_refused(&f, GDN_ERR_INPUT, K_PROJ, "found [40, 32]", "need [32, 40]");
    t->rank = 1;
    t->shape[0] = 1280;
    forge_refused(&f, GDN_ERR_INPUT, K_PROJ, "found [1280]", "need [32, 40]");
    forge_drop(&f, K_PROJ);
    t = forge_add(&f, K_PROJ, ST_BF16, 1);
    t->rank = 0;
    forge_refused(&f, GDN_ERR_INPUT, K_PROJ, "found []", "need [32, 40]");
    t->rank = ST_RANK;
    t->bytes = 0;
    for (int i = 0; i < ST_RANK; i++) t->shape[i] = i ? INT32_MAX / 2 : 0;
    t->shape[1] = t->shape[2] = 7;
    for (int i = 3; i < ST_RANK; i++) t->shape[i] = 100;
    forge_refused(&f, GDN_ERR_INPUT, K_PROJ, "found [0, 7, 7, 100, 100, 100, 100, 100]",
                  "need [32, 40]");
    forge_close(&f);
}

static void wrong_type(void **state)
{
    (void)state;
    static const struct {
        enum st_dtype dtype;
        int64_t times; /* bytes of it against those of BF16, in halves */
    } types[] = {{ST_I64, 8}, {ST_F8_E4M3, 1}, {ST_U8, 1}, {ST_F64, 8}, {ST_I32, 4}, {ST_BOOL, 1}};
    struct forge f;
    forge_open(&f, "q35-r1-tied");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct forged *t = forge_find(&f, K_PROJ);
        const struct forged whole = *t;
        t->dtype = types[i].dtype;
        t->bytes = 32 * 40 * (size_t)types[i].times;
        static const unsigned char zeros[32 * 40 * 8];
        t->data = zeros;
        char found[40];
        snprintf(found, sizeof found, "found %s", st_dtype_name(t->dtype));
        forge_refused(&f, GDN_ERR_UNSUPPORTED, K_PROJ, found, "need F32, BF16 or F16");
        *t = whole;
    }
    forge_close(&f);
}

static void unknown(void **state)
{
    (void)state;
    struct forge f;
    forge_open(&f, "q35-r1-tied");
    forge_add(&f, "model.layers.0.self_attn.k_proj.weight_scale", ST_F32, 3);
    forge_refused(&f, GDN_ERR_INPUT, "1 tensors have no place in this model", "k_proj.weight_scale",
                  "");
    forge_add(&f, "lm_head.weight_scale", ST_F32, 1);
    forge_refused(&f, GDN_ERR_INPUT, "2 tensors", "lm_head.weight_scale", "");
    for (int i = 0; i < 5; i++) {
        char name[64];
        snprintf(name, sizeof name, "extra.%d", i);
        forge_add(&f, name, ST_U8, 1);
    }
    forge_refused(&f, GDN_ERR_INPUT, "7 tensors", "extra.2, ...", "");
    forge_close(&f);
}

static void head_missing(void **state)
{
    (void)state;
    struct forge f;
    forge_open(&f, "q35-k2-f16");
    forge_drop(&f, "lm_head.weight");
    forge_refused(&f, GDN_ERR_INPUT, "lm_head.weight", "found nothing", "need [200, 32]");
    /* And the other way: without the tie there must be one. */
    forge_close(&f);
    forge_open(&f, "q35-r1-tied");
    f.config.tied = false;
    forge_refused(&f, GDN_ERR_INPUT, "lm_head.weight", "found nothing", "need [256, 40]");
    forge_close(&f);
}

/* A config that belongs to another checkpoint. */
static void config_disagrees(void **state)
{
    (void)state;
    struct forge f;
    forge_open(&f, "q35-r1-tied");
    const struct config whole = f.config;
    f.config.D = 48;
    forge_refused(&f, GDN_ERR_INPUT, "model.embed_tokens.weight", "found [256, 40]",
                  "need [256, 48]; and ");
    f.config = whole;
    f.config.layers = 3;
    forge_refused(&f, GDN_ERR_INPUT, "11 tensors have no place", "model.layers.3.", "");
    f.config = whole;
    f.config.kind[f.config.layers++] = LAYER_DELTA;
    forge_refused(&f, GDN_ERR_INPUT, "model.layers.4.input_layernorm.weight", "found nothing",
                  "and 13 more");
    f.config = whole;
    f.config.kind[3] = LAYER_DELTA;
    forge_refused(&f, GDN_ERR_INPUT, "model.layers.3.linear_attn.in_proj_qkv.weight",
                  "found nothing", "and 8 more");
    f.config = whole;
    f.config.taps = 3;
    forge_refused(&f, GDN_ERR_INPUT, "model.layers.0.linear_attn.conv1d.weight",
                  "found [96, 1, 4]", "need [96, 3]; and 2 more");
    f.config = whole;
    f.config.vocab = 1 << 24; /* nothing is sized by the config alone */
    forge_refused(&f, GDN_ERR_INPUT, "model.embed_tokens.weight", "found [256, 40]",
                  "need [16777216, 40]");
    forge_close(&f);
}

static void truncated(void **state)
{
    (void)state;
    struct forge f;
    struct stat st;
    forge_open(&f, "q35-r1-tied");
    forge_write(&f);
    assert_int_equal(stat(forge_path(&f, "model.safetensors"), &st), 0);
    for (off_t n = st.st_size - 1; n >= 0; n -= 1 + n / 40) {
        struct weights w;
        struct gdn_error err = {0};
        assert_int_equal(truncate(forge_path(&f, "model.safetensors"), n), 0);
        const int64_t live = mem_counted().live_blocks;
        assert_int_equal(weights_open(&w, &f.config, f.folder, &err), GDN_ERR_INPUT);
        assert_int_equal(mem_counted().live_blocks, live);
        assert_non_null(strstr(err.text, "model.safetensors"));
    }
    forge_close(&f);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Every allocation of opening a model fails, once and from then on. */
static void memory_fails(const char *model, bool forever)
{
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/%s", GDN_SOURCE_DIR, model);
    for (int64_t n = 1;; n++) {
        struct config c;
        struct weights w;
        struct gdn_error err = {0};
        const int64_t live = mem_counted().live_blocks;
        mem_fail_after(n, forever);
        enum gdn_status status = config_open(&c, path, &err);
        if (status == GDN_OK) status = weights_open(&w, &c, path, &err);
        mem_fail_after(0, false);
        if (status == GDN_OK) {
            assert_true(n > 50); /* a name for each tensor, and more */
            weights_close(&w);
            assert_int_equal(mem_counted().live_blocks, live);
            return;
        }
        assert_int_equal(status, GDN_ERR_MEMORY);
        assert_int_equal(err.status, GDN_ERR_MEMORY);
        assert_non_null(strstr(err.text, "no memory"));
        assert_int_equal(mem_counted().live_blocks, live);
    }
}

static void every_allocation_fails(void **state)
{
    (void)state;
    memory_fails("q35-r1-tied", false);
    memory_fails("q35-r1-tied", true);
    memory_fails("q35-r4-odd", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing),          cmocka_unit_test(many_missing),
        cmocka_unit_test(every_tensor_counts), cmocka_unit_test(wrong_shape),
        cmocka_unit_test(wrong_type),       cmocka_unit_test(unknown),
        cmocka_unit_test(head_missing),     cmocka_unit_test(config_disagrees),
        cmocka_unit_test(truncated),        cmocka_unit_test(every_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

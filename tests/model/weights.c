/* weights.c: checkpoints that are right, in every spelling: they open, and compute the same. */
#include "forge.h"

#include "base/file.h"

static const char *const models[] = {"q35-r1-tied", "q35-r2-untied", "q35-r4-odd", "q35-k2-f16"};
enum { MODELS = sizeof models / sizeof *models };

/* Opens the forged model and the golden it comes from: the same logits, in bits. */
static void same_as_golden(struct forge *f, const char *model)
{
    struct config config;
    struct weights golden, forged;
    struct gdn_error err = {0};
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/%s", GDN_SOURCE_DIR, model);
    if (config_open(&config, path, &err) != GDN_OK ||
        weights_open(&golden, &config, path, &err) != GDN_OK)
        fail_msg("%s", err.text);
    forge_accepted(f, &forged);
    assert_int_equal(forged.parameters, golden.parameters);
    float *a = forge_logits(&config, &golden), *b = forge_logits(&f->config, &forged);
    float largest = 0;
    for (int32_t i = 0; i < FORGE_TOKENS * config.vocab; i++)
        largest = a[i] > largest ? a[i] : largest;
    assert_true(largest > 0.01f); /* something was computed */
    assert_memory_equal(a, b, sizeof *a * FORGE_TOKENS * (size_t)config.vocab);
    mem_give(a);
    mem_give(b);
    weights_close(&golden);
    weights_close(&forged);
}

/* Taken apart and put together, sharded or whole: nothing is lost on the way. */
static void forged_is_golden(void **state)
{
    (void)state;
    for (size_t i = 0; i < MODELS; i++) {
        struct forge f;
        forge_open(&f, models[i]);
        same_as_golden(&f, models[i]);
        forge_close(&f);
    }
}

/* The three spellings of the body's prefix, and none; the head stands beside it or with it. */
static void every_prefix(void **state)
{
    (void)state;
    static const struct {
        const char *body, *head;
    } spellings[] = {
        {"model.", "lm_head.weight"},
        {"model.language_model.", "lm_head.weight"},
        {"language_model.model.", "language_model.lm_head.weight"},
        {"", "lm_head.weight"},
    };
    static const char *const which[] = {"q35-r1-tied", "q35-k2-f16"};
    for (size_t m = 0; m < 2; m++) {
        for (size_t i = 0; i < 4; i++) {
            struct forge f;
            forge_open(&f, which[m]);
            if (!f.config.tied)
                strcpy(forge_find(&f, "lm_head.weight")->name, spellings[i].head);
            forge_rename(&f, "model.", spellings[i].body);
            same_as_golden(&f, which[m]);
            struct weights w;
            forge_accepted(&f, &w);
            assert_string_equal(w.prefix, spellings[i].body);
            weights_close(&w);
            forge_close(&f);
        }
    }
}

/* An embedding at an odd address: its values are copied, since nothing may load it from there. */
static void odd_addresses(void **state)
{
    (void)state;
    for (size_t i = 0; i < MODELS; i++) {
        struct forge f;
        struct weights whole, odd;
        forge_open(&f, models[i]);
        forge_accepted(&f, &whole);
        const int64_t copied = whole.copied_bytes;
        const int32_t mtp = whole.mtp;
        weights_close(&whole);
        struct forged *pad = forge_add(&f, "mtp.pad", ST_U8, 1), last = *pad;
        memmove(f.list + 1, f.list, sizeof *f.list * (f.count - 1));
        f.list[0] = last;
        same_as_golden(&f, models[i]);
        forge_accepted(&f, &odd);
        assert_int_equal((size_t)shards_find(&odd.shards, f.list[1].name)->entry->data % 2, 1);
        assert_int_equal(odd.mtp, mtp + 1);
        assert_true(odd.copied_bytes > copied);
        for (int32_t t = 0; t < odd.count; t++) {
            const struct tensor *w = &odd.list[t].tensor;
            assert_int_equal((size_t)w->data % dtype_size(w->dtype), 0);
            assert_non_null(odd.list[t].copy);
        }
        weights_close(&odd);
        forge_close(&f);
    }
}

/* What we know and do not use is counted and left alone, whatever its type and shape. */
static void known_and_unused(void **state)
{
    (void)state;
    struct forge f;
    struct weights w;
    forge_open(&f, "q35-r2-untied");
    forge_accepted(&f, &w);
    const int32_t mtp = w.mtp, vision = w.vision;
    const int64_t bytes = w.file_bytes;
    weights_close(&w);
    forge_add(&f, "mtp.fc.weight", ST_BF16, 12);
    forge_add(&f, "model.mtp.layers.0.x", ST_F8_E4M3, 5);
    forge_add(&f, "language_model.mtp.norm.weight", ST_I64, 0);
    forge_add(&f, "model.visual.blocks.9.norm1.bias", ST_BF16, 3);
    forge_add(&f, "vision_tower.pos_embed.weight", ST_U8, 7);
    same_as_golden(&f, "q35-r2-untied");
    forge_accepted(&f, &w);
    assert_int_equal(w.mtp, mtp + 3);
    assert_int_equal(w.vision, vision + 2);
    assert_int_equal(w.file_bytes, bytes + 24 + 5 + 0 + 6 + 7);
    weights_close(&w);
    forge_close(&f);
}

/* A tied model may carry a head, of any shape: the embedding is the head all the same. */
static void tied_head_is_ignored(void **state)
{
    (void)state;
    static const char *const names[] = {"lm_head.weight", "language_model.lm_head.weight"};
    for (size_t i = 0; i < 2; i++) {
        struct forge f;
        forge_open(&f, "q35-r1-tied");
        forge_add(&f, names[i], ST_BF16, 77);
        same_as_golden(&f, "q35-r1-tied");
        forge_close(&f);
    }
}

/* Axes of length 1 do not count: a convolution [C, W] is the same as [C, 1, W]. */
static void flat_convolution(void **state)
{
    (void)state;
    struct forge f;
    forge_open(&f, "q35-r1-tied");
    struct forged *t = forge_find(&f, "model.layers.0.linear_attn.conv1d.weight");
    assert_int_equal(t->rank, 3);
    t->rank = 2;
    t->shape[1] = t->shape[2];
    t = forge_find(&f, "model.norm.weight");
    t->rank = 2;
    t->shape[1] = t->shape[0];
    t->shape[0] = 1;
    same_as_golden(&f, "q35-r1-tied");
    forge_close(&f);
}

/* A file of its own, and a folder, mean the same. */
static void one_file(void **state)
{
    (void)state;
    struct forge f;
    struct weights w;
    struct gdn_error err = {0};
    forge_open(&f, "q35-r1-tied");
    forge_write(&f);
    const char *path = forge_path(&f, "model.safetensors");
    assert_int_equal(weights_open(&w, &f.config, path, &err), GDN_OK);
    assert_int_equal(w.layers, f.config.layers);
    assert_int_equal(w.file_bytes, w.parameters * 2);
    /* Norms, convolution and gates are f32 copies, all else is used where it lies. */
    for (int32_t i = 0; i < w.count; i++) {
        const struct weight *t = &w.list[i];
        assert_int_equal(t->tensor.dtype, t->copy ? DTYPE_F32 : DTYPE_BF16);
        assert_ptr_equal(t->tensor.data, t->copy ? t->copy : t->origin[0]->entry->data);
        assert_string_equal(t->name, t->origin[0]->entry->name);
    }
    weights_close(&w);
    weights_close(&w);
    forge_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forged_is_golden),     cmocka_unit_test(every_prefix),
        cmocka_unit_test(odd_addresses),        cmocka_unit_test(known_and_unused),
        cmocka_unit_test(tied_head_is_ignored), cmocka_unit_test(flat_convolution),
        cmocka_unit_test(one_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

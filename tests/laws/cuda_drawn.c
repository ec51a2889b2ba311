/* cuda_drawn.c: weights that a GPU draws are those of the file that is drawn on the host, for every
 * family: equal logits, to the last bit. Skipped, and said to be, without a GPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "stage/play.h"

enum { T = 20, SEED = 3 };

static char folder[] = "/tmp/gdn-drawn-XXXXXX";

static void must(enum gdn_status status, const struct gdn_error *err)
{
    if (status != GDN_OK) fail_msg("%s", err->text);
}

static void hear(gdn_model *model, struct record *record)
{
    struct gdn_model_info info;
    int32_t ids[T];
    gdn_model_describe(model, &info);
    struct play play = {model, info.vocab};
    play_ids(&play, 1, ids, T);
    record_open(record, &play, T);
    play_feed(play_session(&play), ids, T, NULL, 0, record);
    gdn_model_close(model);
}

static void drawn_of(const char *golden)
{
    struct gdn_error err = {0};
    struct gdn_options o = gdn_options_default();
    struct record filed, drawn;
    char path[512], *config;
    size_t len;
    gdn_model *model;
    o.device = "cuda";
    o.compute = GDN_BF16;
    snprintf(path, sizeof path, GDN_SOURCE_DIR "/tests/golden/%s/config.json", golden);
    must(file_read(path, 1 << 20, &config, &len, &err), &err);
    must(gdn_random_model(config, len, folder, SEED, &err), &err);
    must(gdn_model_open(folder, &o, &model, &err), &err);
    hear(model, &filed);
    must(gdn_model_open_random(config, len, SEED, &o, &model, &err), &err);
    hear(model, &drawn);
    same_rows(&filed, 0, &drawn, 0, T, golden);
    record_close(&drawn);
    must(gdn_model_open_random(config, len, SEED + 1, &o, &model, &err), &err);
    hear(model, &drawn);
    assert_memory_not_equal(filed.at, drawn.at, sizeof(float) * (size_t)filed.vocab);
    record_close(&drawn);
    record_close(&filed);
    mem_give(config);
}

static void drawn_is_filed(void **state)
{
    static const char *const golden[] = {"q35-r1-tied", "q35moe-stacked", "next-plain",
                                         "kimi-released", "olmo-released"};
    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) drawn_of(golden[i]);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int drop_folder(void **state)
{
    static const char *const files[] = {"config.json", "model.safetensors"};
    char path[64];
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (file_join(path, sizeof path, folder, files[i])) unlink(path);
    return rmdir(folder);
}

int main(void)
{
    enum { SKIPPED = 77 };
    if (!play_has("cuda")) return SKIPPED;
    const struct CMUnitTest tests[] = {cmocka_unit_test(drawn_is_filed)};
    return cmocka_run_group_tests_name("drawn", tests, make_folder, drop_folder);
}

/* founding_text.c: founding behaviours of whole models that need no more than their files: what is
 * taken for a model (S2-03), what it says (S4-14), and that it ends (S0-23). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "formats/safetensors.h"
#include "founding.h"
#include "gdn/gdn.h"

#define MODEL GDN_SOURCE_DIR "/tests/golden/q35-r1-tied"

/* ---- what only looks like a gated-delta layer ------------------------------------------------ */

/* `old`, if it is given, becomes `new` all along, which is as long. */
static void replace(char *data, size_t len, const char *old, const char *new)
{
    const size_t n = strlen(old);
    if (n == 0) return;
    for (char *at = data; (at = memmem(at, len - (size_t)(at - data), old, n)); at += n)
        memcpy(at, new, n);
}

static bool copy_file(const char *folder, const char *name, const char *old, const char *new)
{
    char from[512], to[512];
    char *data;
    size_t len;
    struct file_out out;
    if (!file_join(from, sizeof from, MODEL, name) || !file_join(to, sizeof to, folder, name) ||
        file_read(from, 1 << 26, &data, &len, NULL) != GDN_OK)
        return false;
    replace(data, len, old, new);
    bool good = file_create(&out, to, NULL) == GDN_OK;
    if (good) file_write(&out, data, len);
    good = good && file_commit(&out, NULL) == GDN_OK;
    mem_give(data);
    return good;
}

static void drop(const char *folder)
{
    static const char *const names[] = {"config.json", "model.safetensors"};
    char path[512];
    for (int i = 0; i < 2; i++)
        if (file_join(path, sizeof path, folder, names[i])) unlink(path);
    rmdir(folder);
}

/* A small model in whose config or weights something is called otherwise, is refused with a
 * sentence that has these two parts. */
static bool refused(const char *config_old, const char *config_new, const char *weights_old,
                    const char *weights_new, const char *one, const char *two)
{
    char folder[] = "/tmp/gdn-ssm-XXXXXX";
    struct gdn_error err = {0};
    gdn_model *model = NULL;
    if (!mkdtemp(folder)) return false;
    bool good = copy_file(folder, "config.json", config_old, config_new) &&
                copy_file(folder, "model.safetensors", weights_old, weights_new) &&
                gdn_model_open(folder, NULL, &model, &err) != GDN_OK;
    good = good && strstr(err.text, one) && strstr(err.text, two);
    if (!good) fprintf(stderr, "need ...%s...%s...: \"%s\"\n", one, two, err.text);
    gdn_model_close(model);
    drop(folder);
    return good;
}

/* Mamba's mixers have A_log, dt_bias, conv1d, in_proj and out_proj as well. What decides is the
 * family, the kind of each layer and the whole name of each tensor, never one of these. */
bool ssm_is_not_taken(void)
{
    return refused("qwen3_5_text", "falcon_h1_xx", "", "", "model_type", "falcon_h1_xx") &&
           refused("linear_attention", "mamba_mixer_long", "", "", "layer_types[0]",
                   "mamba_mixer_long") &&
           refused("", "", "linear_attn", "mamba_mixer", "linear_attn", "found nothing");
}

/* ---- what the families say ------------------------------------------------------------------- */

/* Greedy tokens behind the first 20 ids of the golden file, as the official code drew them, up to
 * one that rounding could decide. */
static bool says_the_same(const char *name)
{
    char folder[512], path[512];
    struct safetensors file;
    struct gdn_error err = {0};
    gdn_model *model = NULL;
    gdn_session *session = NULL;
    const struct gdn_sampling greedy = {.size = sizeof greedy, .temperature = 0};
    int64_t said = 0;
    snprintf(folder, sizeof folder, "%s/tests/golden/%s", GDN_SOURCE_DIR, name);
    if (!file_join(path, sizeof path, folder, "golden.safetensors") ||
        safetensors_open(&file, path, &err) != GDN_OK)
        return false;
    const struct st_entry *tokens = safetensors_find(&file, "greedy");
    const int32_t *ids = (const void *)safetensors_find(&file, "ids")->data;
    const int32_t *want = (const void *)tokens->data;
    const float *margin = (const void *)safetensors_find(&file, "greedy_margin")->data;
    bool good = gdn_model_open(folder, NULL, &model, &err) == GDN_OK &&
                gdn_session_new(model, &session, &err) == GDN_OK &&
                gdn_session_feed(session, ids, 20, &err) == GDN_OK;
    for (; good && said < tokens->shape[0] && margin[said] >= 1e-3f; said++) {
        int32_t id = -1;
        good = gdn_session_sample(session, &greedy, &id, &err) == GDN_OK && id == want[said] &&
               gdn_session_feed(session, &id, 1, &err) == GDN_OK;
    }
    if (!good) fprintf(stderr, "%s, token %lld: %s\n", name, (long long)said, err.text);
    gdn_model_close(model);
    safetensors_close(&file);
    return good && said > 10;
}

bool families_say_the_same(void)
{
    static const char *const names[] = {
        "q35-r1-tied", "q35-r2-untied", "q35-r4-odd", "q35-k2-f16", "q35-mlx", "q35moe-stacked",
        "q35moe-experts", "next-grouped", "next-plain", "kimi-released", "kimi-groups",
        "kimi-saved", "kimi-state", "kimi-mlx", "olmo-released", "olmo-rope", "olmo-saved",
        "olmo-state"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!says_the_same(names[i])) return false;
    return true;
}

/* ---- an answer that ends --------------------------------------------------------------------- */

static bool is_end(const struct gdn_model_info *info, int32_t id)
{
    for (int32_t i = 0; i < info->eos_count; i++)
        if (info->eos[i] == id) return true;
    return false;
}

/* The demo model ends a short answer itself, long before the 256 tokens a caller would allow. */
bool short_answers_stop(void)
{
    static const char *const questions[] = {"What is the capital of France?", "What is 2+2?",
                                            "What is the capital of Italy?"};
    struct gdn_options o = gdn_options_default();
    const struct gdn_sampling greedy = {.size = sizeof greedy, .temperature = 0};
    struct gdn_error err = {0};
    struct gdn_model_info info;
    gdn_model *model;
    o.context = 512;
    if (gdn_model_open(GDN_SOURCE_DIR "/models/demo", &o, &model, &err) != GDN_OK) return false;
    gdn_model_describe(model, &info);
    bool all = true;
    for (int q = 0; all && q < 3; q++) {
        const struct gdn_message message = {"user", questions[q]};
        const struct gdn_chat_options chat = {.answer = true, .think = GDN_THINK_OFF};
        int32_t ids[256], id = -1;
        size_t n = 256;
        int said = 0;
        gdn_session *session = NULL;
        bool good = gdn_chat(model, &message, 1, &chat, ids, &n, &err) == GDN_OK && n <= 256 &&
                    gdn_session_new(model, &session, &err) == GDN_OK &&
                    gdn_session_feed(session, ids, n, &err) == GDN_OK;
        for (; good && said < 256; said++) {
            good = gdn_session_sample(session, &greedy, &id, &err) == GDN_OK;
            if (!good || is_end(&info, id)) break;
            good = gdn_session_feed(session, &id, 1, &err) == GDN_OK;
        }
        all = good && said > 0 && said < 256;
        gdn_session_free(session);
    }
    gdn_model_close(model);
    return all;
}

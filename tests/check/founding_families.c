/* founding_families.c: founding behaviours that hold for every family (S1-06, S4-11, S4-12), by the
 * tiny models of tests/golden. */
#include <stdio.h>

#include "base/hash.h"
#include "founding.h"
#include "gdn/gdn.h"

enum { T = 40, FAMILIES = 5 };

static const char *const family[FAMILIES] = {"q35-r2-untied", "q35moe-stacked", "next-grouped",
                                             "kimi-released", "olmo-released"};

static gdn_model *open_model(const char *folder, enum gdn_type state)
{
    char path[512];
    struct gdn_error err = {0};
    struct gdn_options o = gdn_options_default();
    gdn_model *model = NULL;
    o.state = state;
    snprintf(path, sizeof path, "%s/tests/golden/%s", GDN_SOURCE_DIR, folder);
    if (gdn_model_open(path, &o, &model, &err) != GDN_OK) fprintf(stderr, "%s\n", err.text);
    return model;
}

static bool describe(const char *folder, enum gdn_type state, struct gdn_model_info *info)
{
    gdn_model *model = open_model(folder, state);
    if (!model) return false;
    gdn_model_describe(model, info);
    gdn_model_close(model);
    return true;
}

/* Two bytes less for each entry of each anchor, in strips of 32 value columns, and nothing else. */
bool every_family_follows(void)
{
    for (int i = 0; i < FAMILIES; i++) {
        struct gdn_model_info wide, narrow;
        if (!describe(family[i], GDN_F32, &wide) || !describe(family[i], GDN_BF16, &narrow))
            return false;
        const int64_t columns = (wide.value_width + 31) / 32 * 32;
        const int64_t entries = columns * wide.key_width * wide.value_heads * wide.delta_layers;
        if (wide.delta_layers == 0 || wide.state_bytes - narrow.state_bytes != 2 * entries ||
            wide.kv_token_bytes != narrow.kv_token_bytes)
            return false;
    }
    return true;
}

static void on_logits(void *context, int feed, size_t row, const float *logits, int32_t vocab)
{
    uint64_t *hash = context;
    (void)feed, (void)row;
    *hash = hash64(logits, (size_t)vocab * sizeof *logits, *hash);
}

/* All rows of logits of a sequence fed in pieces of `piece` tokens; 0: a failure. */
static uint64_t rows_of(gdn_model *model, size_t piece)
{
    int32_t ids[T];
    uint64_t hash = 1;
    gdn_session *session = NULL;
    struct gdn_error err = {0};
    const struct gdn_sink sink = {.context = &hash, .logits = on_logits};
    for (int i = 0; i < T; i++) ids[i] = (i * 37 + 11) % 90;
    bool good = gdn_session_new(model, &session, &err) == GDN_OK;
    for (size_t at = 0; good && at < T; at += piece) {
        const struct gdn_feed feed = {.session = session, .ids = ids + at,
                                      .n = T - at < piece ? T - at : piece};
        good = gdn_step(&feed, 1, &sink, &err) == GDN_OK;
    }
    gdn_session_free(session);
    return good ? hash : 0;
}

static bool pieces_agree(const char *folder)
{
    static const size_t piece[] = {1, 2, 3, 15, 17, 39};
    gdn_model *model = open_model(folder, GDN_F32);
    const uint64_t whole = model ? rows_of(model, T) : 0;
    bool same = whole != 0;
    for (size_t i = 0; same && i < sizeof piece / sizeof *piece; i++)
        same = rows_of(model, piece[i]) == whole;
    gdn_model_close(model);
    return same;
}

bool every_family_keeps_its_past(void)
{
    for (int i = 0; i < FAMILIES; i++)
        if (!pieces_agree(family[i])) return false;
    return true;
}

/* Its three convolutions as one or as three in the file, with positions and without. */
bool olmo_keeps_its_past(void)
{
    return pieces_agree("olmo-released") && pieces_agree("olmo-state") &&
           pieces_agree("olmo-saved") && pieces_agree("olmo-rope");
}

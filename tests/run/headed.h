/* headed.h: the rig with a draft head, and a guess with all that it was chosen from. */
#ifndef TESTS_RUN_HEADED_H
#define TESTS_RUN_HEADED_H

#include "rig.h"

static const char *const models[] = {"q35-r4-odd", "q35moe-stacked", "next-plain"};
enum { MODELS = 3, CHAIN = 3, MOST_VOCAB = 256 };

struct stage {
    struct rig rig;
    struct mtp mtp;
};

static inline void stage_open(struct stage *st, const char *model, const char *device,
                              enum dtype compute, int32_t max_rows)
{
    struct rig *r = &st->rig;
    char path[512];
    rig_files(r, model, 1);
    device_close(r->device);
    r->device = device_open(device, 1, ~0u, &r->err);
    assert_non_null(r->device);
    snprintf(path, sizeof path, "%s/tests/golden/%s", GDN_SOURCE_DIR, model);
    if (mtp_open(&st->mtp, &r->config, &r->weights, path, &r->err) != GDN_OK)
        fail_msg("%s", r->err.text);
    const struct engine_options o = {.slots = 4, .entries = 2 * BLOCK, .context = 200,
                                     .compute = compute, .anchor = DTYPE_F32,
                                     .max_rows = max_rows, .mtp = &st->mtp};
    if (engine_open(&r->engine, &r->config, &r->weights, r->config.vocab, r->device, &o,
                    &r->err) != GDN_OK)
        fail_msg("%s", r->err.text);
}

static inline void stage_close(struct stage *st)
{
    engine_close(&st->rig.engine);
    mtp_close(&st->mtp);
    weights_close(&st->rig.weights);
    device_close(st->rig.device);
}

/* ---- a guess with all its logits ------------------------------------------------------------- */

struct told {
    const int32_t *tokens; /* [CHAIN] to go on with; NULL: the likeliest */
    int32_t likeliest[CHAIN];
    float logits[CHAIN][MOST_VOCAB];
};

static inline int32_t tell(void *context, int guess, int32_t at, const struct best *best)
{
    struct told *t = (struct told *)context + guess;
    const struct ranking *r = &best->model;
    for (int32_t i = 0; i < r->n; i++) t->logits[at][r->ids[i]] = r->values[i];
    t->likeliest[at] = r->ids[0];
    return t->tokens ? t->tokens[at] : r->ids[0];
}

static inline struct told guess(struct stage *st, int32_t slot, int32_t id, const int32_t *tokens)
{
    struct told told = {.tokens = tokens};
    int32_t out[CHAIN];
    struct guess g = {.slot = slot, .id = id, .most = CHAIN, .out = out};
    const int32_t before = rig_position(&st->rig, slot);
    const struct guess_ask ask = {.context = &told, .choose = tell, .best = ENGINE_BEST};
    if (engine_guess(&st->rig.engine, &g, 1, &ask, &st->rig.err) != GDN_OK)
        fail_msg("%s", st->rig.err.text);
    assert_int_equal(g.n, CHAIN);
    assert_int_equal(rig_position(&st->rig, slot), before);
    return told;
}

static inline void same_told(const struct told *a, const struct told *b, const char *what)
{
    if (memcmp(a->logits, b->logits, sizeof a->logits) != 0)
        fail_msg("%s: not the same bits", what);
}

#endif

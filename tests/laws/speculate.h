/* speculate.h: what is chosen with drafts against what is chosen without, in bits: greedily and
 * drawn, with and without changed logits, alone and beside others. */
#ifndef TESTS_LAWS_SPECULATE_H
#define TESTS_LAWS_SPECULATE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/rng.h"
#include "stage/play.h"

enum { TOGETHER = 3, PROMPT = 40 };
#ifdef GDN_CUDA_EMULATED
enum { ANSWER = 10, SKIP = 4, RIGHT = 0, WRONG = 9 }; /* kernels on the host: far slower */
#else
enum { ANSWER = 60, SKIP = 1, RIGHT = 50, WRONG = 20 };
#endif

static struct gdn_error err;

static inline void well(enum gdn_status status)
{
    if (status != GDN_OK) fail_msg("%s", err.text);
}

/* ---- ways to choose -------------------------------------------------------------------------- */

static const struct gdn_bias biases[] = {{3, 2.5f}, {50, -1}, {51, -INFINITY}};
static const struct gdn_bias few[] = {{3, 50}, {50, 52}, {51, 50}}; /* hardly any other token */
static const int32_t bans[] = {7, 8, 60};
static const struct gdn_sampling ways[] = {
    {.size = sizeof *ways},
    {.size = sizeof *ways, .temperature = 1, .seed = 3},
    {.size = sizeof *ways, .temperature = 0.7, .top_k = 20, .top_p = 0.9, .seed = 4},
    {.size = sizeof *ways, .repetition = 1.3, .presence = 0.1, .window = 24},
    {.size = sizeof *ways, .temperature = 1, .bias = few, .bias_count = 3, .seed = 6},
    {.size = sizeof *ways, .temperature = 0.5, .frequency = 0.2, .bias = biases, .bias_count = 3,
     .banned = bans, .banned_count = 3, .seed = 5, .min_p = 0.01},
};
enum { WAYS = sizeof ways / sizeof *ways };

/* A prompt that says things again, so that something can be looked up. */
static inline void prompt_of(const struct play *p, uint64_t seed, int32_t *ids)
{
    struct rng rng = {.seed = seed};
    play_ids(p, seed, ids, PROMPT);
    for (int i = 8; i < PROMPT; i++)
        if (rng_below(&rng, 8)) ids[i] = ids[i - 8];
}

/* Of a prompt so many tokens are fed by themselves: where a row has its bits alone only among a few
 * rows, all but the last. */
static int32_t fed_before;

/* One by one: sampled, fed, sampled .. */
static inline void plainly(struct play *p, const int32_t *prompt, const struct gdn_sampling *how,
                           int32_t *answer)
{
    gdn_session *s = play_session(p);
    if (fed_before > 0) play_feed(s, prompt, (size_t)fed_before, NULL, 0, NULL);
    play_feed(s, prompt + fed_before, (size_t)(PROMPT - fed_before), NULL, 0, NULL);
    for (int i = 0; i < ANSWER; i++) {
        well(gdn_session_sample(s, how, &answer[i], &err));
        well(gdn_session_feed(s, &answer[i], 1, &err));
    }
    gdn_session_free(s);
}

/* ---- the same with drafts -------------------------------------------------------------------- */

struct talk {
    gdn_session *session;
    int32_t prompt[PROMPT], want[ANSWER], got[ANSWER + GDN_TURN_TOKENS];
    int32_t said;
};

static inline struct gdn_turn turn_of(struct talk *t, const struct gdn_sampling *how,
                                      struct rng *rng)
{
    struct gdn_turn turn = {.session = t->session, .ids = t->prompt + fed_before,
                            .n = (size_t)(PROMPT - fed_before), .sampling = how};
    if (t->said > 0) {
        turn.ids = t->got + t->said - 1;
        turn.n = 1;
    }
    turn.most = (int32_t)rng_below(rng, GDN_TURN_TOKENS + 1);
    return turn;
}

static inline void one_round(struct talk *talk, int count, const struct gdn_sampling *how,
                             struct rng *rng)
{
    struct gdn_turn turns[TOGETHER];
    struct talk *of[TOGETHER];
    int n = 0;
    for (int i = 0; i < count; i++) {
        /* Some are absent, so that they come to be at different places. */
        if (talk[i].said >= ANSWER || (count > 1 && rng_below(rng, 4) == 0)) continue;
        of[n] = &talk[i];
        turns[n++] = turn_of(&talk[i], how, rng);
    }
    const struct mem_count before = mem_counted();
    well(gdn_next(turns, n, &err));
    assert_int_equal(mem_counted().takes, before.takes);
    for (int i = 0; i < n; i++) {
        const struct gdn_turn *t = &turns[i];
        assert_true(t->count >= 1 && t->count <= (t->most ? t->most : GDN_TURN_TOKENS));
        memcpy(of[i]->got + of[i]->said, t->id, sizeof *t->id * (size_t)t->count);
        of[i]->said += t->count;
        assert_int_equal(gdn_session_position(t->session), PROMPT + of[i]->said - 1);
    }
}

/* *stats: of all sessions. */
static inline void talk_together(struct play *drafting, struct talk *talk, int count,
                                 const struct gdn_sampling *how, const char *what,
                                 int64_t stats[3])
{
    struct rng rng = {.seed = 9};
    for (int i = 0; i < count; i++) {
        talk[i].said = 0;
        talk[i].session = play_session(drafting);
        if (fed_before > 0)
            play_feed(talk[i].session, talk[i].prompt, (size_t)fed_before, NULL, 0, NULL);
    }
    for (bool more = true; more;) {
        one_round(talk, count, how, &rng);
        more = false;
        for (int i = 0; i < count; i++) more |= talk[i].said < ANSWER;
    }
    for (int i = 0; i < count; i++) {
        struct gdn_draft_stats s;
        for (int k = 0; k < ANSWER; k++)
            if (talk[i].got[k] != talk[i].want[k])
                fail_msg("%s: session %d of %d, token %d: found %d, need %d", what, i, count, k,
                         talk[i].got[k], talk[i].want[k]);
        assert_memory_equal(gdn_session_tokens(talk[i].session), talk[i].prompt,
                            sizeof talk[i].prompt);
        assert_memory_equal(gdn_session_tokens(talk[i].session) + PROMPT, talk[i].got,
                            sizeof *talk[i].got * (size_t)(talk[i].said - 1));
        gdn_session_drafts(talk[i].session, &s);
        stats[0] += s.turns;
        for (int d = 0; d < GDN_TURN_TOKENS - 1; d++) {
            assert_true(s.accepted[d] <= s.drafted[d]);
            stats[1] += s.drafted[d];
            stats[2] += s.accepted[d];
        }
        gdn_session_free(talk[i].session);
    }
}

static inline void speculation_is_plain(const char *model, struct play_options options,
                                        enum gdn_draft draft)
{
    struct play plain, drafting;
    static struct talk talk[TOGETHER];
    int64_t stats[3] = {0};
    options.threads = 1;
    fed_before = strcmp(options.device, "cuda") == 0 ? PROMPT - 1 : 0;
    play_open(&plain, model, &options);
    options.sessions = TOGETHER;
    options.draft = draft;
    options.depth = draft == GDN_DRAFT_MTP ? 4 : 15;
    play_open(&drafting, model, &options);
    for (int w = 0; w < WAYS; w += SKIP) {
        char what[80];
        snprintf(what, sizeof what, "%s, way %d", model, w);
        for (int i = 0; i < TOGETHER; i++) {
            prompt_of(&plain, 20 + (uint64_t)i, talk[i].prompt);
            plainly(&plain, talk[i].prompt, &ways[w], talk[i].want);
        }
        talk_together(&drafting, talk, 1, &ways[w], what, stats);
        talk_together(&drafting, talk, TOGETHER, &ways[w], what, stats);
    }
    /* Drafts were right, and wrong. */
    if (stats[2] < RIGHT || stats[1] - stats[2] < WRONG)
        fail_msg("%s: %lld of %lld drafts were right", model, (long long)stats[2],
                 (long long)stats[1]);
    play_close(&plain);
    play_close(&drafting);
}

#endif

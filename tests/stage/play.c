#include "stage/play.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/rng.h"

static void must(enum gdn_status status, const struct gdn_error *err)
{
    if (status != GDN_OK) fail_msg("%s", err->text);
}

void play_open(struct play *p, const char *model, const struct play_options *o)
{
    struct gdn_error err = {0};
    struct gdn_options options = gdn_options_default();
    options.device = o->device ? o->device : "cpu";
    options.compute = o->compute;
    options.state = o->state;
    options.threads = o->threads ? o->threads : 2;
    options.sessions = o->sessions ? o->sessions : 1;
    options.speculate = o->speculate;
    options.draft = o->draft;
    options.draft_depth = o->depth;
    options.fast = o->fast;
    options.quant = o->quant;
    options.context = o->context ? o->context : 512;
    if (o->prefix_bytes) options.prefix_bytes = o->prefix_bytes;
    char path[512];
    const bool demo = strchr(model, '/') != NULL;
    snprintf(path, sizeof path, "%s/%s%s", *model == '/' ? "" : GDN_SOURCE_DIR,
             demo ? "" : "tests/golden/", model);
    must(gdn_model_open(path, &options, &p->model, &err), &err);
    struct gdn_model_info info;
    gdn_model_describe(p->model, &info);
    p->vocab = info.vocab;
}

bool play_has(const char *device)
{
    struct gdn_error err = {0};
    struct gdn_options o = gdn_options_default();
    gdn_model *m;
    o.device = device;
    const enum gdn_status status =
        gdn_model_open(GDN_SOURCE_DIR "/tests/golden/q35-r1-tied", &o, &m, &err);
    if (status == GDN_OK) gdn_model_close(m);
    if (status != GDN_OK && status != GDN_ERR_UNSUPPORTED) fail_msg("%s", err.text);
    if (status == GDN_ERR_UNSUPPORTED) print_message("skipped: %s\n", err.text);
    return status == GDN_OK;
}

void play_close(struct play *p) { gdn_model_close(p->model); }

gdn_session *play_session(struct play *p)
{
    struct gdn_error err = {0};
    gdn_session *s;
    must(gdn_session_new(p->model, &s, &err), &err);
    return s;
}

void record_open(struct record *r, const struct play *p, size_t rows)
{
    *r = (struct record){.room = rows, .vocab = p->vocab};
    r->at = mem_take_array(rows, sizeof(float) * (size_t)p->vocab);
    assert_non_null(r->at);
}

void record_close(struct record *r)
{
    mem_give(r->at);
    *r = (struct record){0};
}

static void keep_row(void *context, int feed, size_t row, const float *logits, int32_t vocab)
{
    (void)feed;
    (void)row;
    struct record *r = context;
    assert_true(r->rows < r->room);
    memcpy(r->at + r->rows++ * (size_t)vocab, logits, sizeof(float) * (size_t)vocab);
}

void play_feed(gdn_session *s, const int32_t *ids, size_t n, const int32_t *cuts, size_t cut_count,
               struct record *r)
{
    struct gdn_error err = {0};
    const struct gdn_sink sink = {.context = r, .logits = r ? keep_row : NULL};
    for (size_t at = 0, i = 0; at < n; i++) {
        size_t piece = n - at;
        if (cut_count > 0) {
            const size_t cut = (size_t)cuts[i < cut_count ? i : cut_count - 1];
            if (cut < piece) piece = cut;
        }
        const struct gdn_feed feed = {.session = s, .ids = ids + at, .n = piece};
        must(gdn_step(&feed, 1, &sink, &err), &err);
        at += piece;
    }
}

void play_draft(gdn_session *s, const int32_t *ids, size_t n, int32_t keep, struct record *r)
{
    struct gdn_error err = {0};
    const struct gdn_sink sink = {.context = r, .logits = r ? keep_row : NULL};
    must(gdn_session_draft(s, ids, n, &sink, &err), &err);
    assert_int_equal(gdn_session_commit(s, keep), keep < 0 ? 0 : keep);
}

void same_rows(const struct record *one, size_t a, const struct record *other, size_t b, size_t n,
               const char *what)
{
    const size_t v = (size_t)one->vocab;
    assert_true(a + n <= one->rows && b + n <= other->rows);
    for (size_t i = 0; i < n; i++) {
        const float *x = one->at + (a + i) * v, *y = other->at + (b + i) * v;
        if (memcmp(x, y, sizeof(float) * v) == 0) continue;
        size_t c = 0;
        while (memcmp(x + c, y + c, sizeof(float)) == 0) c++;
        fail_msg("%s: row %zu against row %zu: logit %zu is %.9g and %.9g", what, a + i, b + i, c,
                 (double)x[c], (double)y[c]);
    }
}

void play_ids(const struct play *p, uint64_t seed, int32_t *ids, size_t n)
{
    struct rng rng = {.seed = seed};
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)rng_below(&rng, (uint64_t)p->vocab);
}

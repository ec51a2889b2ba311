#include "harness/laws.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"

/* One stream, what one way of feeding it gives, and what it must give. */
struct track {
    struct stream stream;
    unsigned char *want, *got;
    struct bytes want_state, got_state;
};

static size_t output_row(const struct machine *m) { return machine_row(m, m->fields - 1); }

static bool track_open(struct track *b, struct machine *m, int tokens, uint64_t seed)
{
    *b = (struct track){0};
    b->want = mem_take_array((size_t)tokens, output_row(m));
    b->got = mem_take_array((size_t)tokens, output_row(m));
    return stream_open(&b->stream, m, tokens, seed) &&
           EXPECT(m->v, b->want && b->got, "no memory for a stream");
}

static void track_close(struct track *b)
{
    stream_close(&b->stream);
    mem_give(b->want);
    mem_give(b->got);
    bytes_free(&b->want_state);
    bytes_free(&b->got_state);
}

/* Doubles of the reference within 1e-12 of the largest. */
static bool doubles_close(const unsigned char *a, const unsigned char *b, size_t bytes)
{
    double top = 0, off = 0;
    for (size_t i = 0; i + sizeof(double) <= bytes; i += sizeof(double)) {
        const double x = number_read(a + i, DTYPE_F64), y = number_read(b + i, DTYPE_F64);
        if (isnan(x) || isnan(y)) return false;
        top = fmax(top, fabs(y));
        off = fmax(off, fabs(x - y));
    }
    return off <= 1e-12 * top;
}

static bool same(const struct machine *m, const void *a, const void *b, size_t bytes)
{
    return memcmp(a, b, bytes) == 0 || (m->wide && doubles_close(a, b, bytes));
}

/* Rows [from, from + count) are as they must be. */
static bool expect_rows(const struct machine *m, const struct track *b, int from, int count,
                        const char *how, int x, int y, int z)
{
    const size_t row = output_row(m);
    for (int i = from; i < from + count; i++)
        if (!EXPECT(m->v, same(m, b->got + (size_t)i * row, b->want + (size_t)i * row, row),
                    "row %d differs: %s (%d, %d, %d)", i, how, x, y, z))
            return false;
    return true;
}

static bool expect_state(struct machine *m, struct track *b, int slot, int pos, const char *how,
                         int x, int y, int z)
{
    machine_download(m);
    b->got_state.len = 0;
    m->form->canon(m, slot, pos, &b->got_state);
    return EXPECT(m->v, b->got_state.len == b->want_state.len &&
                            same(m, b->got_state.at, b->want_state.at, b->want_state.len),
                  "the state at %d differs: %s (%d, %d, %d)", pos, how, x, y, z);
}

/* The stream in one call, into `want`. */
static bool feed_whole(struct machine *m, struct track *b, int slot)
{
    machine_reset(m);
    if (!machine_feed_one(m, &b->stream, b->want, slot, 0, b->stream.tokens, false)) return false;
    machine_download(m);
    b->want_state.len = 0;
    m->form->canon(m, slot, b->stream.tokens, &b->want_state);
    return true;
}

/* ---- cuts ------------------------------------------------------------------------------------ */

/* Feeds pieces until the stream is at its end; `length` says how long the next one is. */
static bool feed_pieces(struct machine *m, struct track *b, struct rng *rng, int first, int most)
{
    int at = 0;
    machine_reset(m);
    while (at < b->stream.tokens) {
        int n = at == 0 && first ? first : most;
        if (rng) n = 1 + (int)rng_below(rng, (uint64_t)most);
        if (n > b->stream.tokens - at) n = b->stream.tokens - at;
        if (!machine_feed_one(m, &b->stream, b->got, 1, at, n, false)) return false;
        at += n;
    }
    return true;
}

void law_cuts(struct machine *m, struct extent extent)
{
    const int T = extent.tokens;
    struct track b;
    struct rng rng = {5, 0};
    if (track_open(&b, m, T, 1) && feed_whole(m, &b, 1)) {
        bool go = true;
        for (int cut = 1; cut < T && go; cut++)
            go = feed_pieces(m, &b, NULL, cut, T) &&
                 expect_rows(m, &b, 0, T, "cut in two at", cut, 0, 0) &&
                 expect_state(m, &b, 1, T, "cut in two at", cut, 0, 0);
        for (int n = 1; n <= 4 && go; n++)
            go = feed_pieces(m, &b, NULL, 0, n) &&
                 expect_rows(m, &b, 0, T, "in pieces of", n, 0, 0) &&
                 expect_state(m, &b, 1, T, "in pieces of", n, 0, 0);
        for (int i = 0; i < extent.partitions && go; i++)
            go = feed_pieces(m, &b, &rng, 0, i % 2 ? T / 2 : 7) &&
                 expect_rows(m, &b, 0, T, "partition", i, 0, 0) &&
                 expect_state(m, &b, 1, T, "partition", i, 0, 0);
    }
    track_close(&b);
}

void law_sizes(struct machine *m, struct extent extent)
{
    static const int size[] = {1, 2, 3, 4, 5, 16, 63, 64, 65, 128, 1000};
    const int T = m->wide ? 140 : extent.tokens; /* the reference takes its time */
    struct track b;
    bool go = track_open(&b, m, T, 9) && feed_whole(m, &b, 1);
    for (size_t i = 0; i < sizeof size / sizeof *size && go; i++)
        go = feed_pieces(m, &b, NULL, 0, size[i]) &&
             expect_rows(m, &b, 0, T, "in calls of", size[i], 0, 0) &&
             expect_state(m, &b, 1, T, "in calls of", size[i], 0, 0);
    track_close(&b);
}

/* ---- drafts ---------------------------------------------------------------------------------- */

/* Feeds a draft of T rows at `from` of which n are the stream's and the others somebody else's:
 * what is rejected must leave nothing behind, so it may not resemble what comes later. */
static bool draft(struct machine *m, struct track *b, struct track *wrong, int from, int T, int n)
{
    for (int i = 0; i < m->fields - 1; i++) {
        const size_t row = machine_row(m, i);
        memcpy(wrong->stream.row[i] + (size_t)from * row, b->stream.row[i] + (size_t)from * row,
               (size_t)n * row);
    }
    return machine_feed_one(m, &wrong->stream, b->got, 2, from, T, true) &&
           expect_rows(m, b, from, n, "drafted (position, draft, good)", from, T, n);
}

/* After the commit of n rows the stream goes on plainly to its end. */
static bool go_on(struct machine *m, struct track *b, int from, int T, int n)
{
    const int at = from + n, rest = b->stream.tokens - at;
    return machine_feed_one(m, &b->stream, b->got, 2, at, rest, false) &&
           expect_rows(m, b, at, rest, "after (position, draft, commit)", from, T, n) &&
           expect_state(m, b, 2, b->stream.tokens, "after (position, draft, commit)", from, T, n);
}

/* 0, step, 2 step ... and always `last`. */
static int next_of(int at, int step, int last)
{
    return at < last && at + step > last ? last : at + step;
}

static bool drafts_from(struct machine *m, struct track *b, int from, int step)
{
    struct bytes before = {0};
    bool go = true;
    machine_reset(m);
    if (from > 0) go = machine_feed_one(m, &b->stream, b->got, 2, 0, from, false);
    go = go && machine_save(m, &before);
    for (int T = 1; T <= BLOCK && go; T = next_of(T, step, BLOCK))
        for (int n = 0; n <= T && go; n = next_of(n, step, T)) {
            struct track wrong;
            machine_load(m, &before);
            go = track_open(&wrong, m, b->stream.tokens, 77) && draft(m, b, &wrong, from, T, n) &&
                 go_on(m, b, from, T, n);
            track_close(&wrong);
        }
    bytes_free(&before);
    return go;
}

/* Positions 0, first, first + stride, .. last. */
struct places {
    int first, stride, last;
};

static void drafts_at(struct machine *m, int tokens, struct places p, int step)
{
    struct track b;
    bool go = track_open(&b, m, tokens, 2) && feed_whole(m, &b, 2);
    for (int from = 0; from <= p.last && go; from += from < p.first ? p.first : p.stride)
        go = drafts_from(m, &b, from, step);
    track_close(&b);
}

void law_drafts(struct machine *m, struct extent extent)
{
    (void)extent;
    drafts_at(m, 4 * BLOCK + 3, (struct places){BLOCK, 1, 2 * BLOCK},
              HARNESS_SANITIZED || m->wide ? 5 : 1);
}

void law_short_drafts(struct machine *m, struct extent extent)
{
    (void)extent;
    drafts_at(m, 2 * BLOCK - 1, (struct places){3, 4, 11}, 5);
}

void law_rounds(struct machine *m, struct extent extent)
{
    struct track b, wrong;
    struct rng rng = {8, 0};
    int at = 0;
    const int T = FORM_ROOM < 5 * extent.rounds ? FORM_ROOM : 5 * extent.rounds;
    bool go = track_open(&b, m, T, 3) && feed_whole(m, &b, 2);
    machine_reset(m);
    for (int round = 0; round < extent.rounds && go; round++) {
        int n = 1 + (int)rng_below(&rng, BLOCK);
        if (n > T - at) n = T - at;
        const int good = (int)rng_below(&rng, (uint64_t)n + 1);
        go = track_open(&wrong, m, T, 100 + (uint64_t)round) && draft(m, &b, &wrong, at, n, good);
        track_close(&wrong);
        at += good;
        if (round % 5 == 4 && at < T && go) { /* a plain step between */
            go = machine_feed_one(m, &b.stream, b.got, 2, at, 1, false) &&
                 expect_rows(m, &b, at, 1, "plain after round", round, 0, 0);
            at++;
        }
    }
    if (go && at < T) go_on(m, &b, at, 0, 0);
    track_close(&b);
}

/* ---- sequences together ---------------------------------------------------------------------- */

static bool all_zero(const unsigned char *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (at[i]) return false;
    return true;
}

/* Three streams and an absent one through calls of ragged pieces. */
static bool feed_ragged(struct machine *m, struct track *b, int tokens)
{
    static const int length[][3] = {{5, 0, 1}, {1, 17, 0}, {0, 1, 30}, {16, 2, 1}, {1, 1, 1}};
    int at[3] = {0};
    bool go = true;
    machine_reset(m);
    for (int call = 0; (at[0] < tokens || at[1] < tokens || at[2] < tokens) && go; call++) {
        struct leg leg[4];
        for (int i = 0; i < 3; i++) {
            const int left = tokens - at[i], n = length[call % 5][i];
            leg[i] = (struct leg){&b[i].stream, b[i].got, 3 - i, at[i], n < left ? n : left};
            at[i] += leg[i].count;
        }
        leg[3] = leg[1];
        leg[1] = (struct leg){&b[3].stream, b[3].got, -1, 4, 3};
        go = machine_feed(m, leg, 4, false) &&
             EXPECT(m->v, all_zero(b[3].got + 4 * output_row(m), 3 * output_row(m)),
                    "rows of slot -1 are not 0");
    }
    return go;
}

/* From row `from` on the stream is NaN, whatever its types are. */
static void spoil(const struct machine *m, struct stream *s, int from)
{
    for (int i = 0; i < m->fields - 1; i++) {
        const size_t row = machine_row(m, i);
        memset(s->row[i] + (size_t)from * row, 0xff, (size_t)(s->tokens - from) * row);
    }
}

/* A call of absent sequences only leaves every byte as it was. */
static void expect_untouched(struct machine *m, struct track *b)
{
    struct bytes before = {0}, after = {0};
    const struct leg leg[2] = {{&b[0].stream, b[0].got, -1, 0, 7},
                               {&b[1].stream, b[1].got, -1, 9, 1}};
    if (machine_save(m, &before) && machine_feed(m, leg, 2, false) && machine_save(m, &after))
        EXPECT(m->v, memcmp(before.at, after.at, before.len) == 0, "slot -1 touched the state");
    bytes_free(&before);
    bytes_free(&after);
}

void law_together(struct machine *m, struct extent extent)
{
    struct track b[4];
    const int T = extent.tokens;
    bool go = true;
    for (int i = 0; i < 4; i++) go = track_open(&b[i], m, T, 10 + (uint64_t)i) && go;
    for (int i = 0; i < 3 && go; i++) go = feed_whole(m, &b[i], 3 - i);
    if (go && feed_ragged(m, b, T)) {
        for (int i = 0; i < 3; i++)
            if (expect_rows(m, &b[i], 0, T, "in a batch, sequence", i, 0, 0))
                expect_state(m, &b[i], 3 - i, T, "in a batch, sequence", i, 0, 0);
        expect_untouched(m, b);
        spoil(m, &b[0].stream, T / 3);
        go = feed_ragged(m, b, T);
        for (int i = 1; i < 3 && go; i++)
            if (expect_rows(m, &b[i], 0, T, "beside one with NaN, sequence", i, 0, 0))
                expect_state(m, &b[i], 3 - i, T, "beside one with NaN, sequence", i, 0, 0);
    }
    for (int i = 0; i < 4; i++) track_close(&b[i]);
}

void law_empty(struct machine *m, struct extent extent)
{
    struct track b;
    struct bytes before = {0}, after = {0};
    if (track_open(&b, m, extent.tokens, 4) && feed_whole(m, &b, 1) && machine_save(m, &before) &&
        machine_feed_one(m, &b.stream, b.got, 1, extent.tokens, 0, false) &&
        machine_save(m, &after))
        EXPECT(m->v, memcmp(before.at, after.at, before.len) == 0, "a call of no rows wrote");
    bytes_free(&before);
    bytes_free(&after);
    track_close(&b);
}

/* ---- running --------------------------------------------------------------------------------- */

void law_each(struct lab *lab, struct verdict *v, const struct law *law)
{
    struct extent less = law->extent;
    less.partitions /= 10;
    less.rounds /= 4;
    for (int i = 0; i < law->shapes; i++) {
        struct machine m;
        v->cases++;
        struct station *at = &lab->under[i % LAB_STATIONS];
        if (!machine_open(&m, law->form, &law->shape[i], at, false, v)) continue;
        law->holds(&m, law->extent);
        machine_close(&m);
        if (i > 1 || !machine_open(&m, law->form, &law->shape[i], &lab->ref, true, v)) continue;
        law->holds(&m, less);
        machine_close(&m);
    }
}

void law_under(struct lab *lab, struct verdict *v, const struct law *law)
{
    for (int i = 0; i < law->shapes; i++) {
        struct machine m;
        v->cases++;
        if (!machine_open(&m, law->form, &law->shape[i], &lab->under[0], false, v)) continue;
        law->holds(&m, law->extent);
        machine_close(&m);
    }
}

static double *rows_as_doubles(const struct machine *m, const unsigned char *rows, int64_t n)
{
    const enum dtype dtype = m->field[m->fields - 1].t.dtype;
    double *x = mem_take_array((size_t)n, sizeof *x);
    for (int64_t i = 0; x && i < n; i++)
        x[i] = number_read(rows + (size_t)i * dtype_size(dtype), dtype);
    return x;
}

static void compare_to_reference(struct machine *m, const struct track *b, struct machine *ref,
                                 const struct track *r)
{
    const struct want *w = &m->want[m->fields - 1];
    struct tensor t = m->field[m->fields - 1].t;
    t.dim[0] = b->stream.tokens;
    const int64_t n = tensor_elements(&t);
    double *got = rows_as_doubles(m, b->want, n), *want = rows_as_doubles(ref, r->want, n);
    /* Where both round a state, a value between two bf16 numbers may go either way: one in some
     * thousand elements is off by 2^-8. Without rounding at every edge it is 2e-3. */
    const double l2 = (ref->wide ? 2e-6 : 3e-4) + limit_made(w, m->at->device, t.dtype);
    if (EXPECT(m->v, got && want, "no memory"))
        verdict_compare(m->v, w->name, &t, got, want, limit_of(t.dtype, l2, 1));
    mem_give(got);
    mem_give(want);
}

static void reference_of(struct lab *lab, struct verdict *v, const struct form *form,
                         const struct shape *shape, int tokens)
{
    struct machine m, ref;
    struct track b, r, again;
    if (!machine_open(&m, form, shape, &lab->under[0], false, v)) return;
    const bool fed = track_open(&b, &m, tokens, 6) && feed_whole(&m, &b, 0);
    const bool wide = shape->weight == DTYPE_F32;
    if (fed && machine_open(&ref, form, shape, &lab->ref, wide, v)) {
        if (track_open(&r, &ref, tokens, 6) && feed_whole(&ref, &r, 0))
            compare_to_reference(&m, &b, &ref, &r);
        track_close(&r);
        machine_close(&ref);
    }
    machine_close(&m);
    for (int i = 1; i < LAB_STATIONS && fed; i++) {
        if (!machine_open(&m, form, shape, &lab->under[i], false, v)) break;
        if (track_open(&again, &m, tokens, 6) && feed_whole(&m, &again, 0)) {
            memcpy(b.got, again.want, (size_t)tokens * output_row(&m));
            if (expect_rows(&m, &b, 0, tokens, "with more threads", i + 1, 0, 0))
                EXPECT(v, memcmp(again.want_state.at, b.want_state.at, b.want_state.len) == 0,
                       "the state differs with %d threads", i + 1);
        }
        track_close(&again);
        machine_close(&m);
    }
    track_close(&b);
}

void law_reference(struct lab *lab, struct verdict *v, const struct law *law)
{
    for (int i = 0; i < law->shapes; i++) {
        v->cases++;
        v->shape = law->shape[i];
        reference_of(lab, v, law->form, &law->shape[i], law->extent.tokens);
    }
}

/* ---- prompts --------------------------------------------------------------------------------- */

/* A stream as pieces; below 0: a draft of so many rows, all of them taken. */
enum { PROMPT_PIECES = 5 };
static const int prompt_cuts[][PROMPT_PIECES] = {
    {1, 33}, {5, 40, 16}, {16, 32, 1, 32}, {16, -16, 65}, {31, -9, 50, 17}, {64, 1, 1}};

/* Feeds them and what is left behind them. */
static bool feed_cut(struct machine *m, struct track *b, const int *cut)
{
    int at = 0;
    bool go = true;
    machine_reset(m);
    for (int i = 0; i <= PROMPT_PIECES && at < b->stream.tokens && go; i++) {
        const int left = b->stream.tokens - at, asked = i < PROMPT_PIECES ? cut[i] : 0;
        const int n = asked == 0 ? left : abs(asked);
        if (asked < 0 && m->shape.slots < 2 * BLOCK) continue;
        go = machine_feed_one(m, &b->stream, b->want, 1, at, n, asked < 0);
        at += n;
    }
    return go;
}

/* Two prompts, one row and an absent prompt in one call: bits as alone. */
static void expect_company(struct machine *m, struct track *b, int tokens)
{
    const int n[3] = {tokens, 1, tokens / 2};
    struct leg leg[4] = {{&b[2].stream, b[2].got, -1, 0, n[0]}};
    bool go = true;
    for (int i = 0; i < 3 && go; i++) {
        machine_reset(m);
        go = machine_feed_one(m, &b[i].stream, b[i].want, 1, 0, n[i], false);
        leg[i + 1] = (struct leg){&b[i].stream, b[i].got, i + 1, 0, n[i]};
    }
    machine_reset(m);
    if (!go || !machine_feed(m, leg + 1, 3, false)) return;
    for (int i = 0; i < 3; i++) expect_rows(m, &b[i], 0, n[i], "beside others", i, 0, 0);
    machine_reset(m);
    if (!machine_feed(m, leg, 2, false)) return;
    EXPECT(m->v, all_zero(b[2].got, (size_t)n[0] * output_row(m)), "rows of slot -1 are not 0");
    expect_rows(m, &b[0], 0, n[0], "beside an absent one", 0, 0, 0);
}

static void prompts_of(struct lab *lab, struct verdict *v, const struct law *law,
                       const struct shape *shape)
{
    struct machine m, ref;
    struct track b[3], r;
    const int tokens = law->extent.tokens;
    bool go = true;
    if (!machine_open(&m, law->form, shape, &lab->under[0], false, v)) return;
    for (int i = 0; i < 3; i++) go = track_open(&b[i], &m, tokens, 20 + (uint64_t)i) && go;
    const bool wide = shape->weight == DTYPE_F32;
    if (go && machine_open(&ref, law->form, shape, &lab->ref, wide, v)) {
        go = track_open(&r, &ref, tokens, 20) && feed_whole(&ref, &r, 0);
        for (size_t i = 0; i < sizeof prompt_cuts / sizeof *prompt_cuts && go; i++)
            if (feed_cut(&m, &b[0], prompt_cuts[i])) compare_to_reference(&m, &b[0], &ref, &r);
        track_close(&r);
        machine_close(&ref);
    }
    if (go) expect_company(&m, b, tokens);
    for (int i = 0; i < 3; i++) track_close(&b[i]);
    machine_close(&m);
}

void law_prompts(struct lab *lab, struct verdict *v, const struct law *law)
{
    for (int i = 0; i < law->shapes; i++) {
        v->cases++;
        v->shape = law->shape[i];
        prompts_of(lab, v, law, &law->shape[i]);
    }
}

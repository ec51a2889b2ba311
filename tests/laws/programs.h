/* programs.h: random programs over sessions, against the slowest oracle there is.
 *
 * The oracle of a session is its list of tokens. At random moments the list is replayed, token by
 * token, in a fresh session of another model handle that cannot speculate; the next row of logits,
 * every layer's S and the token drawn must be the same in bits, however the session came to where
 * it is: through pieces, batches, drafts, rewinds, forks, snapshots, files, or a store of snapshots
 * whose budget holds a few of them. */
#ifndef TESTS_LAWS_PROGRAMS_H
#define TESTS_LAWS_PROGRAMS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/handles.h"
#include "base/memory.h"
#include "base/rng.h"
#include "stage/play.h"
#include "state/store.h"

enum { SESSIONS = 4, ENTRIES = 8, SNAPSHOTS = 3, FILES = 2 };
enum { MOST = 170, PIECE = 40, DRAFT = 16, NAME = 32 };

/* What something is in truth. */
struct past {
    int32_t n, ids[MOST];
};

struct program {
    struct play play, oracle;
    struct rng rng;
    gdn_session *session[SESSIONS];
    gdn_snapshot *snapshot[SNAPSHOTS];
    char file[FILES][NAME];
    struct past of_session[SESSIONS], of_snapshot[SNAPSHOTS], of_file[FILES];
    struct store store;
    struct record row, want; /* one row each */
    int checks, puts, kept, found, guessed; /* guessed: tokens that drafts had right */
    struct gdn_error err;
};

static inline int32_t below(struct program *p, int32_t n)
{
    return (int32_t)rng_below(&p->rng, (uint64_t)n);
}

static inline void well(struct program *p, enum gdn_status status)
{
    if (status != GDN_OK) fail_msg("%s", p->err.text);
}

static inline void refuse(struct program *p, enum gdn_status status)
{
    assert_int_not_equal(status, GDN_OK);
    assert_true(p->err.text[0]);
    p->err = (struct gdn_error){0};
}

/* Of the play's state, which is opened with its first session. Room for three or four entries. */
static inline void open_store(struct program *p)
{
    gdn_session *first = play_session(&p->play);
    struct state *st = &p->play.model->engine.state;
    const int64_t one = (int64_t)snapshot_bytes(st, MOST, BLOCK) + 3 * st->page_bytes;
    well(p, store_open(&p->store, st, 4 * one, ENTRIES, &p->err));
    gdn_session_free(first);
}

static inline void program_open(struct program *p, const char *model, struct play_options o,
                                uint64_t seed)
{
    memset(p, 0, sizeof *p);
    p->rng.seed = seed;
    o.context = 448; /* several times MOST: snapshots hold pages */
    o.threads = 1;
    o.sessions = 1;
    play_open(&p->oracle, model, &o);
    o.sessions = SESSIONS;
    o.speculate = true;
    play_open(&p->play, model, &o);
    open_store(p);
    record_open(&p->row, &p->play, 1);
    record_open(&p->want, &p->play, 1);
    for (int i = 0; i < FILES; i++) {
        strcpy(p->file[i], "/tmp/gdn-program-XXXXXX");
        const int fd = mkstemp(p->file[i]);
        assert_true(fd >= 0);
        close(fd);
    }
}

static inline void program_close(struct program *p)
{
    for (int i = 0; i < SESSIONS; i++) gdn_session_free(p->session[i]);
    for (int i = 0; i < SNAPSHOTS; i++) gdn_snapshot_free(p->snapshot[i]);
    for (int i = 0; i < FILES; i++) unlink(p->file[i]);
    store_close(&p->store);
    record_close(&p->row);
    record_close(&p->want);
    play_close(&p->play);
    play_close(&p->oracle);
}

/* Draws n tokens behind a past; how many were drawn is what fits. */
static inline int32_t draw(struct program *p, const struct past *past, int32_t n, int32_t *ids)
{
    if (n > MOST - past->n) n = MOST - past->n;
    for (int32_t i = 0; i < n; i++) ids[i] = below(p, p->play.vocab);
    return n;
}

static inline void append(struct past *past, const int32_t *ids, int32_t n)
{
    memcpy(past->ids + past->n, ids, sizeof *ids * (size_t)n);
    past->n += n;
}

/* ---- the oracle ------------------------------------------------------------------------------ */

static inline void same_state(const gdn_session *a, const gdn_session *b)
{
    const struct state *sa = &a->model->engine.state, *sb = &b->model->engine.state;
    assert_int_equal(state_length(sa, a->slot), state_length(sb, b->slot));
    for (int32_t i = 0; i < sa->layers; i++) {
        const struct layer_shape *l = &sa->layer[i].shape;
        if (l->kind != LAYER_DELTA) continue;
        const size_t n = (size_t)l->Hv * (size_t)l->Dv * (size_t)l->Dk;
        double *x = mem_take_array(n, sizeof *x), *y = mem_take_array(n, sizeof *y);
        assert_true(x && y);
        state_export(sa, a->slot, i, x);
        state_export(sb, b->slot, i, y);
        assert_memory_equal(x, y, n * sizeof *x);
        mem_give(x);
        mem_give(y);
    }
}

/* Replays the past of session i, then both get the same next token. */
static inline void check(struct program *p, int i)
{
    struct past *past = &p->of_session[i];
    gdn_session *s = p->session[i], *o = play_session(&p->oracle);
    static const struct gdn_sampling how = {.size = sizeof how, .temperature = 1, .seed = 5};
    int32_t next, mine, its;
    assert_int_equal(gdn_session_position(s), past->n);
    assert_memory_equal(gdn_session_tokens(s), past->ids, sizeof *past->ids * (size_t)past->n);
    play_feed(o, past->ids, (size_t)past->n, (int32_t[]){1}, 1, NULL);
    if (gdn_session_sample(s, &how, &mine, &p->err) == GDN_OK) {
        well(p, gdn_session_sample(o, &how, &its, &p->err));
        assert_int_equal(mine, its);
    } else {
        p->err = (struct gdn_error){0};
    }
    if (draw(p, past, 1, &next) == 1) {
        p->row.rows = p->want.rows = 0;
        play_feed(s, &next, 1, NULL, 0, &p->row);
        play_feed(o, &next, 1, NULL, 0, &p->want);
        same_rows(&p->want, 0, &p->row, 0, 1, "a replayed session");
        append(past, &next, 1);
        same_state(s, o);
    }
    gdn_session_free(o);
    p->checks++;
}

/* ---- operations; i is a live session --------------------------------------------------------- */

static inline void do_feed(struct program *p, int i, int32_t most)
{
    int32_t ids[PIECE];
    const int32_t n = draw(p, &p->of_session[i], 1 + below(p, most), ids);
    well(p, gdn_session_feed(p->session[i], ids, (size_t)n, &p->err));
    append(&p->of_session[i], ids, n);
}

/* A ragged batch of all that are alive, some with nothing to say. */
static inline void do_batch(struct program *p)
{
    struct gdn_feed feeds[SESSIONS];
    int32_t ids[SESSIONS][PIECE];
    int count = 0;
    for (int i = 0; i < SESSIONS; i++) {
        if (!p->session[i]) continue;
        const int32_t n = draw(p, &p->of_session[i], below(p, 4) ? below(p, 20) : 1, ids[i]);
        feeds[count++] = (struct gdn_feed){.session = p->session[i], .ids = ids[i],
                                           .n = (size_t)n};
        append(&p->of_session[i], ids[i], n);
    }
    well(p, gdn_step(feeds, count, NULL, &p->err));
}

static inline void do_draft(struct program *p, int i)
{
    int32_t ids[DRAFT];
    const int32_t n = draw(p, &p->of_session[i], 1 + below(p, DRAFT), ids);
    if (n == 0) return;
    well(p, gdn_session_draft(p->session[i], ids, (size_t)n, NULL, &p->err));
    const int32_t keep = below(p, n + 4) - 1, kept = keep < 0 ? 0 : keep > n ? n : keep;
    if (below(p, 8) == 0) return; /* never decided: the next pass writes over it */
    assert_int_equal(gdn_session_commit(p->session[i], keep), kept);
    append(&p->of_session[i], ids, kept);
}

/* What session i chose behind its past is what the oracle chooses one by one. */
static inline void check_turn(struct program *p, int i, const struct gdn_turn *t)
{
    const struct past *past = &p->of_session[i];
    gdn_session *o = play_session(&p->oracle);
    play_feed(o, past->ids, (size_t)past->n, NULL, 0, NULL);
    for (int32_t k = 0, id; k < t->count; k++) {
        well(p, gdn_session_sample(o, t->sampling, &id, &p->err));
        assert_int_equal(t->id[k], id);
        well(p, gdn_session_feed(o, &id, 1, &p->err));
    }
    gdn_session_free(o);
}

/* Some that are alive talk: a prompt, then turns of one token and what is guessed behind it. */
static inline void do_turns(struct program *p)
{
    static const struct gdn_bias few[] = {{3, 40}, {5, 41}, {8, 40}}; /* so that texts repeat */
    const struct gdn_sampling how = {.size = sizeof how, .temperature = below(p, 3) ? 1 : 0,
                                     .seed = (uint64_t)below(p, 9), .presence = 0.5, .window = 9,
                                     .bias = few, .bias_count = 3};
    int32_t ids[SESSIONS][PIECE], n[SESSIONS];
    for (int i = 0; i < SESSIONS; i++) {
        n[i] = p->session[i] && below(p, 3) ? 1 + below(p, PIECE) : 0;
        for (int32_t k = 0; k < n[i]; k++) ids[i][k] = few[below(p, 3)].id;
    }
    for (int rounds = 1 + below(p, 4); rounds > 0; rounds--) {
        struct gdn_turn turns[SESSIONS];
        int of[SESSIONS], count = 0;
        for (int i = 0; i < SESSIONS; i++) {
            struct past *past = &p->of_session[i];
            if (n[i] == 0 || past->n + n[i] + GDN_TURN_TOKENS > MOST) continue;
            of[count] = i;
            turns[count++] = (struct gdn_turn){.session = p->session[i], .ids = ids[i],
                                               .n = (size_t)n[i], .sampling = &how,
                                               .most = below(p, GDN_TURN_TOKENS + 1)};
            append(past, ids[i], n[i]);
        }
        well(p, gdn_next(turns, count, &p->err));
        const int one = count > 0 ? below(p, count) : 0;
        for (int k = 0; k < count; k++) {
            const struct gdn_turn *t = &turns[k];
            assert_true(t->count > 0);
            if (k == one) check_turn(p, of[k], t);
            append(&p->of_session[of[k]], t->id, t->count - 1);
            ids[of[k]][0] = t->id[t->count - 1];
            n[of[k]] = 1;
            p->guessed += t->count - 1;
        }
    }
}

static inline void do_rewind(struct program *p, int i)
{
    const int32_t can = gdn_session_rewindable(p->session[i]), n = below(p, can + 1);
    assert_true(can >= 0 && can < 2 * DRAFT && can <= p->of_session[i].n);
    well(p, gdn_session_rewind(p->session[i], n, &p->err));
    p->of_session[i].n -= n;
    if (below(p, 4) == 0) refuse(p, gdn_session_rewind(p->session[i], can - n + 1, &p->err));
}

static inline void do_new(struct program *p, int to, int from)
{
    if (p->session[to]) {
        refuse(p, to == from ? gdn_session_rewind(p->session[to], -1, &p->err)
                             : gdn_step((struct gdn_feed[]){{.session = p->session[to]},
                                                            {.session = p->session[to]}},
                                        2, NULL, &p->err));
        return;
    }
    p->of_session[to].n = 0;
    if (below(p, 2)) {
        well(p, gdn_session_new(p->play.model, &p->session[to], &p->err));
    } else {
        well(p, gdn_session_fork(p->session[from], &p->session[to], &p->err));
        p->of_session[to] = p->of_session[from];
    }
}

static inline void do_snapshot(struct program *p, int i)
{
    const int k = below(p, SNAPSHOTS);
    gdn_snapshot_free(p->snapshot[k]);
    well(p, gdn_session_snapshot(p->session[i], &p->snapshot[k], &p->err));
    p->of_snapshot[k] = p->of_session[i];
    assert_int_equal(gdn_snapshot_position(p->snapshot[k]), p->of_session[i].n);
}

static inline void do_restore(struct program *p, int i)
{
    const int k = below(p, SNAPSHOTS);
    if (!p->snapshot[k]) return;
    well(p, gdn_session_restore(p->session[i], p->snapshot[k], &p->err));
    p->of_session[i] = p->of_snapshot[k];
}

static inline void do_save(struct program *p, int i)
{
    const int k = below(p, FILES);
    if (p->of_session[i].n == 0) {
        refuse(p, gdn_session_save(p->session[i], p->file[k], &p->err));
        return;
    }
    well(p, gdn_session_save(p->session[i], p->file[k], &p->err));
    p->of_file[k] = p->of_session[i];
}

static inline void do_load(struct program *p, int to)
{
    const int k = below(p, FILES);
    gdn_session *made;
    if (p->of_file[k].n == 0) {
        gdn_session_free(p->session[to]);
        p->session[to] = NULL;
        refuse(p, gdn_session_load(p->play.model, p->file[k], &made, NULL, &p->err));
        assert_null(made);
        return;
    }
    gdn_session_free(p->session[to]);
    well(p, gdn_session_load(p->play.model, p->file[k], &p->session[to], NULL, &p->err));
    p->of_session[to] = p->of_file[k];
}

/* ---- the store ------------------------------------------------------------------------------- */

static inline void do_put(struct program *p, int i)
{
    const struct past *past = &p->of_session[i];
    const struct store_note note = {.tokens = past->ids, .kind = (enum store_kind)below(p, 3),
                                    .extra = &past->n, .extra_bytes = sizeof past->n};
    int32_t entry;
    well(p, session_settle(p->session[i], &p->err));
    arena_reset(&p->play.model->engine.data);
    well(p, store_put(&p->store, p->session[i]->slot, &note, &p->play.model->engine.data, &entry,
                      &p->err));
    assert_true(p->store.bytes <= p->store.budget);
    p->puts++;
    if (entry < 0) return;
    assert_int_equal(p->store.entry[entry].snapshot.position, past->n);
    p->kept++;
}

/* The session becomes the longest beginning of some tokens that the store has: of a session's, or
 * of those of an entry, which some session once had. */
static inline void do_find(struct program *p, int i)
{
    struct past past = p->of_session[below(p, SESSIONS)];
    const struct store_entry *some = &p->store.entry[below(p, ENTRIES)];
    if (below(p, 2) && some->live) {
        past.n = 0;
        append(&past, some->tokens, some->snapshot.position);
    }
    const int32_t entry = store_find(&p->store, past.ids, past.n);
    gdn_session *s = p->session[i];
    if (entry < 0) return;
    well(p, store_restore(&p->store, entry, &s->slot, &p->err));
    memcpy(&past.n, p->store.entry[entry].extra, sizeof past.n);
    assert_int_equal(gdn_session_position(s), past.n);
    memcpy(s->tokens, past.ids, sizeof *s->tokens * (size_t)past.n);
    s->ready = false;
    p->of_session[i] = past;
    p->found++;
}

/* ---- programs -------------------------------------------------------------------------------- */

/* A session that is alive and not nearly full. */
static inline int some_session(struct program *p)
{
    for (int i = 0; i < SESSIONS; i++) {
        if (!p->session[i] || p->of_session[i].n < MOST) continue;
        check(p, i);
        gdn_session_free(p->session[i]);
        p->session[i] = NULL;
    }
    for (int first = below(p, SESSIONS), i = 0; i < SESSIONS; i++)
        if (p->session[(first + i) % SESSIONS]) return (first + i) % SESSIONS;
    well(p, gdn_session_new(p->play.model, &p->session[0], &p->err));
    p->of_session[0].n = 0;
    return 0;
}

static inline void operation(struct program *p)
{
    const int i = some_session(p), other = below(p, SESSIONS);
    /* What the store holds is in nobody's way. */
    assert_true(store_free_pages(&p->store, 2 * SESSIONS));
    switch (below(p, 29)) {
    case 0: case 1: case 2: do_feed(p, i, PIECE); break;
    case 3: case 4: case 5: case 6: do_feed(p, i, 1); break;
    case 7: case 8: do_batch(p); break;
    case 9: case 10: case 11: case 12: do_draft(p, i); break;
    case 13: case 14: do_rewind(p, i); break;
    case 15: case 16: do_new(p, other, i); break;
    case 17: do_snapshot(p, i); break;
    case 18: do_restore(p, i); break;
    case 19: do_save(p, i); break;
    case 20: do_load(p, other); break;
    case 21: case 22: do_put(p, i); break;
    case 23: case 24: do_find(p, i); break;
    case 25: store_release(&p->store, below(p, ENTRIES)); break;
    case 26: case 27: do_turns(p); break;
    default:
        gdn_session_free(p->session[i]);
        p->session[i] = NULL;
    }
}

/* `every`: operations between two checks, on average. Nothing may be alive afterwards. */
static inline void program_run(const char *model, struct play_options o, uint64_t seed,
                               int operations, int every)
{
    const struct mem_count before = mem_counted();
    struct program *p = mem_take(sizeof *p);
    assert_non_null(p);
    program_open(p, model, o, seed);
    for (int n = 0; n < operations; n++) {
        operation(p);
        if (below(p, every) == 0) check(p, some_session(p));
    }
    for (int i = 0; i < SESSIONS; i++)
        if (p->session[i]) check(p, i);
    assert_true(p->checks > operations / every / 2);
    /* Entries were found again, and there were more than fit. */
    assert_true(operations < 500 || (p->found > 4 && p->kept > ENTRIES));
    /* What is looked up is right at times, in a short program perhaps never, like a random head. */
    if (o.draft == GDN_DRAFT_OFF) assert_int_equal(p->guessed, 0);
    if (o.draft == GDN_DRAFT_LOOKUP) assert_true(operations < 500 || p->guessed > 0);
    program_close(p);
    mem_give(p);
    assert_int_equal(mem_counted().live_blocks, before.live_blocks);
    assert_int_equal(mem_counted().live_bytes, before.live_bytes);
}

#endif

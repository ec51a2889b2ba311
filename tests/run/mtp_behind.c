/* mtp_behind.c: a draft head that is left behind by any number of rows, and caught up with at every
 * boundary: what it guesses is that of a sequence that was never behind. */
#include "headed.h"

#include "run/head.h"
#include "state/snapshot.h"

enum { SEEN = 33, FAR = 120 }; /* rows the head may be behind, the next token's among them */

struct lag {
    struct stage st;
    struct told want[FAR]; /* [position] behind the token NEXT */
    bool have[FAR];
};

enum { NEXT = 7 };

/* Of a sequence that was fed in one go, in this stage. */
static const struct told *wanted(struct lag *l, int32_t position)
{
    if (!l->have[position]) {
        const int32_t slot = rig_sequence(&l->st.rig, position);
        l->want[position] = guess(&l->st, slot, NEXT, NULL);
        l->have[position] = true;
        state_slot_give(&l->st.rig.engine.state, slot);
    }
    return &l->want[position];
}

static void guesses_right(struct lag *l, int32_t slot, const char *what)
{
    const struct told got = guess(&l->st, slot, NEXT, NULL);
    same_told(wanted(l, rig_position(&l->st.rig, slot)), &got, what);
}

static int32_t fork_of(struct lag *l, int32_t slot)
{
    const int32_t fork = state_fork(&l->st.rig.engine.state, slot);
    assert_true(fork >= 0);
    return fork;
}

static void feed_more(struct lag *l, int32_t slot, int32_t n)
{
    rig_feed(&l->st.rig, slot, l->st.rig.ids + rig_position(&l->st.rig, slot), n);
}

/* Its past up to `first` in one go, the rest token by token, and nobody asks: the head rests as
 * long as there is room for one more row, and else has run before it comes. */
static int32_t behind(struct lag *l, int32_t first, int32_t late)
{
    const struct engine *e = &l->st.rig.engine;
    const int32_t slot = rig_sequence(&l->st.rig, first);
    for (int32_t i = 0; i < late; i++) {
        const int32_t due = head_due(e, slot);
        feed_more(l, slot, 1);
        assert_int_equal(head_due(e, slot), due < SEEN ? due + 1 : 2);
    }
    return slot;
}

/* ---- boundaries: each gets a fork to do as it likes with ------------------------------------- */

static void asked(struct lag *l, int32_t *slot) { guesses_right(l, *slot, "asked"); }

static void settled(struct lag *l, int32_t *slot)
{
    struct engine *e = &l->st.rig.engine;
    assert_int_equal(engine_settle(e, *slot, &l->st.rig.err), GDN_OK);
    assert_int_equal(head_due(e, *slot), 1);
    guesses_right(l, *slot, "settled");
}

static void put_aside(struct lag *l, int32_t *slot)
{
    struct rig *r = &l->st.rig;
    struct snapshot taken;
    const int32_t at = rig_position(r, *slot);
    assert_int_equal(engine_settle(&r->engine, *slot, &r->err), GDN_OK);
    arena_reset(&r->engine.data);
    assert_int_equal(snapshot_take(&taken, &r->engine.state, *slot, &r->engine.data, NULL,
                                   &r->err), GDN_OK);
    feed_more(l, *slot, 3);
    assert_int_equal(snapshot_restore(&taken, &r->engine.state, slot, at, &r->err), GDN_OK);
    snapshot_release(&taken, true);
    guesses_right(l, *slot, "restored");
    feed_more(l, *slot, 2);
    assert_int_equal(state_rewind(&r->engine.state, *slot, 1, &r->err), GDN_OK);
    guesses_right(l, *slot, "restored, moved on and rewound");
}

static void taken_back(struct lag *l, int32_t *slot)
{
    struct rig *r = &l->st.rig;
    struct state *st = &r->engine.state;
    for (int32_t length; (length = state_length(st, *slot)) > 0;) {
        const int32_t n = length > 5 && rig_position(r, *slot) > 6 ? 5 : 1;
        if (rig_position(r, *slot) <= n) return;
        assert_int_equal(state_rewind(st, *slot, n, &r->err), GDN_OK);
        const int32_t fork = fork_of(l, *slot);
        guesses_right(l, fork, "rewound");
        state_slot_give(st, fork);
    }
    const int32_t elsewhere[] = {80, 81, 82};
    rig_feed(r, *slot, elsewhere, 3);
    guess(&l->st, *slot, NEXT, NULL);
    assert_int_equal(state_rewind(st, *slot, 3, &r->err), GDN_OK);
    feed_more(l, *slot, 3);
    guesses_right(l, *slot, "asked elsewhere and back");
}

static void long_piece(struct lag *l, int32_t *slot)
{
    feed_more(l, *slot, BLOCK + 1);
    guesses_right(l, *slot, "behind a long piece");
}

/* 16 drafts write over the oldest vectors that a head may be behind by. */
static void drafted(struct lag *l, int32_t *slot)
{
    struct rig *r = &l->st.rig;
    for (int32_t keep = 0; keep <= BLOCK; keep += 3) {
        const int32_t fork = fork_of(l, *slot), at = rig_position(r, fork);
        int32_t draft[BLOCK];
        for (int32_t i = 0; i < BLOCK; i++) draft[i] = i < keep ? r->ids[at + i] : 3;
        const struct piece piece = {.slot = fork, .ids = draft, .n = BLOCK, .first_logits = BLOCK};
        rig_step(r, &piece, 1, true);
        state_commit(&r->engine.state, fork, keep);
        guesses_right(l, fork, "behind drafts");
        state_slot_give(&r->engine.state, fork);
    }
}

/* The row of the token that was asked behind stands when it is that token that comes. */
static void asked_before(struct lag *l, int32_t *slot)
{
    struct rig *r = &l->st.rig;
    const int32_t at = rig_position(r, *slot);
    for (int right = 0; right < 2; right++) {
        const int32_t fork = fork_of(l, *slot);
        guess(&l->st, fork, right ? r->ids[at] : (r->ids[at] + 1) % 90, NULL);
        assert_int_equal(r->engine.state.slot[fork].head, at);
        feed_more(l, fork, 1);
        assert_int_equal(head_due(&r->engine, fork), right ? 1 : 2);
        guesses_right(l, fork, right ? "the token that was asked behind" : "another token");
        guess(&l->st, fork, r->ids[at + 1], NULL);
        assert_int_equal(state_rewind(&r->engine.state, fork, 1, &r->err), GDN_OK);
        feed_more(l, fork, 1);
        guesses_right(l, fork, "asked, rewound, fed");
        state_slot_give(&r->engine.state, fork);
    }
}

static void at_every_boundary(void **state)
{
    (void)state;
    static void (*const boundary[])(struct lag *, int32_t *) = {
        asked, settled, put_aside, taken_back, long_piece, drafted, asked_before};
    static const int32_t first[] = {1, 17, 50};
    static struct lag l;
    for (int m = 0; m < MODELS; m++) {
        l = (struct lag){0};
        stage_open(&l.st, models[m], "cpu", m == 1 ? DTYPE_BF16 : DTYPE_F32, m == 2 ? 24 : 0);
        for (size_t f = 0; f < sizeof first / sizeof *first; f++) {
            for (int32_t late = 0; late <= SEEN + 2; late += 1 + (m > 0)) {
                const int32_t slot = behind(&l, first[f], late);
                for (size_t i = 0; i < sizeof boundary / sizeof *boundary; i++) {
                    int32_t fork = fork_of(&l, slot);
                    boundary[i](&l, &fork);
                    state_slot_give(&l.st.rig.engine.state, fork);
                }
                guesses_right(&l, slot, "what the forks came from");
                state_slot_give(&l.st.rig.engine.state, slot);
            }
        }
        stage_close(&l.st);
    }
}

/* One goes along with a long piece, one is full and one has room, in one step; then a guess of all
 * three is each alone. With passes of 24 rows they are cut. */
static void together(void **state)
{
    (void)state;
    static struct lag l;
    for (int32_t rows = 0; rows <= 24; rows += 12) {
        l = (struct lag){0};
        stage_open(&l.st, models[0], "cpu", DTYPE_F32, rows);
        struct rig *r = &l.st.rig;
        const int32_t more[3] = {40, 1, 2};
        struct piece piece[3];
        struct guess g[3];
        struct told all[3] = {0};
        int32_t out[3][CHAIN];
        for (int i = 0; i < 3; i++) {
            const int32_t slot = behind(&l, 20, i == 1 ? SEEN - 1 : 11);
            piece[i] = piece_of(slot, r->ids + rig_position(r, slot), more[i]);
            g[i] = (struct guess){.slot = slot, .id = NEXT, .most = CHAIN, .out = out[i]};
        }
        rig_step(r, piece, 3, false);
        const struct mem_count before = mem_counted();
        const struct guess_ask ask = {.context = all, .choose = tell, .best = ENGINE_BEST};
        assert_int_equal(engine_guess(&r->engine, g, 3, &ask, &r->err), GDN_OK);
        assert_int_equal(mem_counted().takes, before.takes);
        for (int i = 0; i < 3; i++)
            same_told(wanted(&l, rig_position(r, g[i].slot)), &all[i], "together");
        stage_close(&l.st);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_every_boundary),
        cmocka_unit_test(together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

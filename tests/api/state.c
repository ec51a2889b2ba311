/* state.c: gdn/state.h: however rows reach a slot, what comes out is the same in bits. */
#include "api/state_lab.h"

static void cuts_and_batches(struct bench *b)
{
    static float out[T][LAYERS][WIDE];
    int32_t slot[3];
    for (int i = 0; i < 3; i++) slot[i] = gdn_state_slot_take(b->state);
    assert_int_equal(gdn_state_slot_take(b->state), -1);
    pass(b, &(struct part){slot[0], 1, 0, T}, 1, false, out);
    assert_memory_equal(out, b->want, sizeof out);
    /* Between two others, in the middle of their own. */
    pass(b, (struct part[]){{slot[2], 3, 0, 7}, {slot[1], 1, 0, 30}}, 2, false, out);
    assert_memory_equal(out[7], b->want[0], sizeof *out * 30);
    pass(b, (struct part[]){{slot[2], 3, 7, 1}, {slot[1], 1, 30, 5}}, 2, false, out);
    assert_memory_equal(out[1], b->want[30], sizeof *out * 5);
    goes_on(b, slot[1]);
}

static void drafts_and_rewinds(struct bench *b)
{
    static float out[T][LAYERS][WIDE];
    const int32_t slot = gdn_state_slot_take(b->state);
    int at = 0;
    for (int n = 0; at < T - 32; n++) {
        const int rows = 1 + n * 5 % 16, keep = n * 3 % (rows + 2);
        pass(b, &(struct part){slot, 1, at, rows}, 1, true, out);
        assert_memory_equal(out, b->want[at], sizeof *out * (size_t)rows);
        assert_int_equal(gdn_state_position(b->state, slot), at);
        assert_int_equal(gdn_state_commit(b->state, slot, keep), keep > rows ? rows : keep);
        at += keep > rows ? rows : keep;
        if (n % 4 == 3) {
            const int back = gdn_state_rewindable(b->state, slot) / 2;
            assert_int_equal(gdn_state_rewind(b->state, slot, back, &b->err), GDN_OK);
            at -= back;
        }
        assert_int_equal(gdn_state_position(b->state, slot), at);
    }
    goes_on(b, slot);
}

static void forks_and_snapshots(struct bench *b)
{
    for (int at = 1; at < 60; at += 13) {
        int32_t slot = gdn_state_slot_take(b->state), fork;
        gdn_state_copy *copy;
        pass(b, &(struct part){slot, 1, 0, at}, 1, false, NULL);
        fork = gdn_state_fork(b->state, slot);
        assert_int_equal(gdn_state_snapshot(b->state, slot, &copy, &b->err), GDN_OK);
        assert_true(gdn_state_copy_bytes(copy) > 0);
        pass(b, &(struct part){slot, 7, at, 20}, 1, false, NULL);
        goes_on(b, fork);
        assert_int_equal(gdn_state_restore(b->state, &slot, copy, at + 1, &b->err), GDN_ERR_USAGE);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(gdn_state_restore(b->state, &slot, copy, at, &b->err), GDN_OK);
            goes_on(b, slot);
        }
        gdn_state_copy_free(copy);
        gdn_state_slot_give(b->state, slot);
        gdn_state_slot_give(b->state, fork);
    }
}

static void files(struct bench *b)
{
    static const unsigned char mine[32] = {1}, other[32] = {2};
    char path[] = "/tmp/gdn-state-XXXXXX";
    close(mkstemp(path));
    int32_t slot = gdn_state_slot_take(b->state), loaded;
    bool converted = true;
    assert_int_equal(gdn_state_save(b->state, slot, mine, path, &b->err), GDN_ERR_USAGE);
    pass(b, &(struct part){slot, 1, 0, 37}, 1, false, NULL);
    assert_int_equal(gdn_state_save(b->state, slot, mine, path, &b->err), GDN_OK);
    assert_int_equal(gdn_state_load(b->state, path, other, &loaded, NULL, &b->err), GDN_ERR_INPUT);
    assert_int_equal(gdn_state_load(b->state, path, mine, &loaded, &converted, &b->err), GDN_OK);
    assert_false(converted);
    goes_on(b, loaded);
    unlink(path);
}

/* A dense state taken to another slot goes on near the one it came from: the log is then in S. */
static void dense(struct bench *b)
{
    static float out[T][LAYERS][WIDE];
    enum { AT = 41 };
    const int32_t slot = gdn_state_slot_take(b->state), other = gdn_state_slot_take(b->state);
    pass(b, &(struct part){slot, 1, 0, AT}, 1, false, NULL);
    assert_int_equal(gdn_state_place(b->state, other, AT, &b->err), GDN_OK);
    for (int l = 0; l < LAYERS; l++) {
        const struct layer_size s = size_of(l);
        double S[4 * 24 * 16 + 640], again[4 * 24 * 16 + 640];
        float x[3 * WIDE];
        const int history = layers[l].taps - 1;
        for (int r = 0; r < history; r++)
            for (size_t i = 0; i < s.C; i++)
                x[(size_t)r * s.C + i] = input(1, l, AT - history + r, 0, i);
        assert_int_equal(gdn_state_export(b->state, slot, l, S, &b->err), GDN_OK);
        assert_int_equal(gdn_state_import(b->state, other, l, S, x, &b->err), GDN_OK);
        assert_int_equal(gdn_state_export(b->state, other, l, again, &b->err), GDN_OK);
        for (size_t i = 0; i < (size_t)layers[l].Dk * s.v; i++)
            assert_true(fabs(S[i] - again[i]) <= 4e-3 * (1 + fabs(S[i])));
    }
    assert_int_equal(gdn_state_position(b->state, other), AT);
    assert_int_equal(gdn_state_rewindable(b->state, other), 0);
    pass(b, &(struct part){other, 1, AT, T - AT}, 1, false, out);
    double worst = 0;
    for (int t = 0; t < T - AT; t++)
        for (int l = 0; l < LAYERS; l++)
            for (size_t i = 0; i < size_of(l).v; i++)
                worst = fmax(worst, fabs((double)(out[t][l][i] - b->want[AT + t][l][i])) /
                                        (1 + fabs((double)b->want[AT + t][l][i])));
    assert_true(worst < 0.05);
    assert_int_equal(gdn_state_place(b->state, other, 3, &b->err), GDN_ERR_USAGE);
    double S[4 * 24 * 16];
    assert_int_equal(gdn_state_import(b->state, other, 0, S, NULL, &b->err), GDN_ERR_USAGE);
}

LAW(cuts_and_batches)
LAW(drafts_and_rewinds)
LAW(forks_and_snapshots)
LAW(files)
LAW(dense)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuts_and_batches),    cmocka_unit_test(test_drafts_and_rewinds),
        cmocka_unit_test(test_forks_and_snapshots), cmocka_unit_test(test_files),
        cmocka_unit_test(test_dense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

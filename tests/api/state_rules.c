/* state_rules.c: gdn/state.h: what is refused, what is absent, what is lost, and storage types. */
#include "api/state_lab.h"
#include "base/status.h"

static void refusals(struct bench *b)
{
    const int32_t slot = gdn_state_slot_take(b->state);
    float x[WIDE] = {0};
    struct gdn_state_piece piece[] = {{slot, 1}, {slot, 1}};
    assert_int_equal(gdn_state_delta(b->state, 0, x, x, x, x, x, x, &b->err), GDN_ERR_USAGE);
    assert_int_equal(gdn_state_end(b->state, &b->err), GDN_ERR_USAGE);
    assert_int_equal(gdn_state_begin(b->state, piece, 2, false, &b->err), GDN_ERR_USAGE);
    piece[0].slot = 2;
    assert_int_equal(gdn_state_begin(b->state, piece, 1, false, &b->err), GDN_ERR_USAGE);
    piece[0] = (struct gdn_state_piece){slot, 17};
    assert_int_equal(gdn_state_begin(b->state, piece, 1, true, &b->err), GDN_ERR_USAGE);
    piece[0].rows = 513;
    assert_int_equal(gdn_state_begin(b->state, piece, 1, false, &b->err), GDN_ERR_USAGE);
    piece[0].slot = -2;
    assert_int_equal(gdn_state_begin(b->state, piece, 1, false, &b->err), GDN_ERR_USAGE);
    piece[0].slot = slot;
    /* A pass without all of its layers: one row is as if it had not come. */
    pass(b, &(struct part){slot, 1, 0, 20}, 1, false, NULL);
    piece[0].rows = 1;
    assert_int_equal(gdn_state_begin(b->state, piece, 1, false, &b->err), GDN_OK);
    assert_int_equal(gdn_state_begin(b->state, piece, 1, false, &b->err), GDN_ERR_USAGE);
    assert_int_equal(gdn_state_rewind(b->state, slot, 1, &b->err), GDN_ERR_USAGE);
    assert_int_equal(gdn_state_end(b->state, &b->err), GDN_ERR_USAGE);
    goes_on(b, slot);
    assert_int_equal(gdn_state_begin(b->state, &(struct gdn_state_piece){slot, 2}, 1, false,
                                     &b->err), GDN_OK);
    assert_int_equal(gdn_state_end(b->state, &b->err), GDN_ERR_USAGE);
    b->err = (struct gdn_error){0};
    assert_int_equal(gdn_state_begin(b->state, piece, 1, false, &b->err), GDN_ERR_USAGE);
    assert_non_null(strstr(b->err.text, "half-way"));
    gdn_state_slot_give(b->state, slot);
    gdn_state_slot_give(b->state, slot);
}

/* The layers of a pass without their convolutions, or with one of them twice. */
static void each_call_once(struct bench *b)
{
    static double zeros[T * WIDE], out[T * WIDE];
    static const float weights[T * WIDE];
    const int32_t slot = gdn_state_slot_take(b->state);
    pass(b, &(struct part){slot, 1, 0, 20}, 1, false, NULL);
    for (int with = 0; with < LAYERS; with++) {
        const struct gdn_state_piece piece = {slot, 1};
        assert_int_equal(gdn_state_begin(b->state, &piece, 1, false, &b->err), GDN_OK);
        for (int l = 0; l < LAYERS; l++) {
            if (l == with)
                for (int i = 0; i < 2; i++)
                    assert_int_equal(gdn_state_conv(b->state, l, zeros, weights, out, &b->err),
                                     i ? GDN_ERR_USAGE : GDN_OK);
            for (int i = 0; i < 2; i++)
                assert_int_equal(gdn_state_delta(b->state, l, zeros, zeros, zeros, weights, weights,
                                                 out, &b->err), i ? GDN_ERR_USAGE : GDN_OK);
        }
        b->err = (struct gdn_error){0};
        assert_int_equal(gdn_state_end(b->state, &b->err), GDN_ERR_USAGE);
        assert_non_null(strstr(b->err.text, with ? "without layer 0" : "without layer 1"));
    }
    goes_on(b, slot);
}

static void is_zero(float (*out)[LAYERS][WIDE], int n)
{
    for (int r = 0; r < n; r++)
        for (int l = 0; l < LAYERS; l++)
            for (size_t i = 0; i < size_of(l).v; i++) assert_true(out[r][l][i] == 0);
}

/* Padding before and behind, in a plain pass and in a draft: nothing of it is kept. */
static void absent_rows(struct bench *b)
{
    static float out[T][LAYERS][WIDE];
    const int32_t slot = gdn_state_slot_take(b->state);
    for (int at = 0; at < 40; at += 10) {
        const bool draft = at % 20;
        pass(b, (struct part[]){{-1, NOT_FINITE, 0, 5}, {slot, 1, at, 10}, {-1, 4, 0, 3}}, 3, draft,
             out);
        is_zero(out, 5);
        assert_memory_equal(out[5], b->want[at], sizeof *out * 10);
        is_zero(out + 15, 3);
        if (draft) assert_int_equal(gdn_state_commit(b->state, slot, 10), 10);
        assert_int_equal(gdn_state_position(b->state, slot), at + 10);
    }
    pass(b, &(struct part){-1, 4, 0, 20}, 1, false, out);
    is_zero(out, 20);
    goes_on(b, slot);
}

/* What is not finite makes its sequence unusable, says so, and touches no other one. */
static void not_finite(struct bench *b)
{
    static float out[T][LAYERS][WIDE];
    int32_t bad = gdn_state_slot_take(b->state);
    const int32_t good = gdn_state_slot_take(b->state), was = bad;
    const uint32_t generation = gdn_state_generation(b->state, bad);
    gdn_state_copy *copy, *none;
    pass(b, (struct part[]){{bad, 1, 0, 20}, {good, 1, 0, 20}}, 2, false, NULL);
    assert_int_equal(gdn_state_snapshot(b->state, bad, &copy, &b->err), GDN_OK);
    pass(b, &(struct part){bad, NOT_FINITE, 20, 4}, 1, true, NULL);
    assert_int_equal(gdn_state_commit(b->state, bad, 0), 0); /* not accepted: it never was */
    pass(b, &(struct part){bad, 1, 20, 1}, 1, false, out);
    assert_memory_equal(out, b->want[20], sizeof *out);
    pass(b, (struct part[]){{bad, NOT_FINITE, 21, 3}, {good, 1, 20, 9}}, 2, false, out);
    assert_memory_equal(out[3], b->want[20], sizeof *out * 9);
    b->err = (struct gdn_error){0};
    assert_int_equal(gdn_state_snapshot(b->state, bad, &none, &b->err), GDN_ERR_USAGE);
    assert_non_null(strstr(b->err.text, "no finite numbers"));
    assert_int_equal(gdn_state_rewind(b->state, bad, 1, &b->err), GDN_ERR_USAGE);
    assert_int_equal(gdn_state_commit(b->state, bad, 1), 0);
    assert_int_equal(gdn_state_fork(b->state, bad), -1);
    goes_on(b, good);
    /* Back to where it was finite; and the slot it had is a fresh one for the next. */
    assert_int_equal(gdn_state_restore(b->state, &bad, copy, 20, &b->err), GDN_OK);
    goes_on(b, bad);
    gdn_state_copy_free(copy);
    const int32_t next = gdn_state_slot_take(b->state);
    assert_int_equal(next, was);
    assert_int_equal(gdn_state_generation(b->state, next), generation + 1);
    goes_on(b, next);
}

/* All numbers of a slot's layers, one after the other. */
static void export_all(struct bench *b, int32_t slot, double *S)
{
    for (int l = 0; l < LAYERS; l++, S += T * WIDE)
        assert_int_equal(gdn_state_export(b->state, slot, l, S, &b->err), GDN_OK);
}

/* There and back while sequences live: told, near, and exact where nothing is lost. */
static void anchors_change_their_type(struct bench *b)
{
    static double before[LAYERS * T * WIDE], after[LAYERS * T * WIDE];
    char path[] = "/tmp/gdn-state-XXXXXX";
    int32_t slot = gdn_state_slot_take(b->state), loaded;
    gdn_state_copy *copy;
    bool converted = true;
    if (b->ref) return; /* the_reference_keeps_double */
    close(mkstemp(path));
    pass(b, &(struct part){slot, 1, 0, 37}, 1, false, NULL);
    assert_int_equal(gdn_state_save(b->state, slot, NULL, path, &b->err), GDN_OK);
    assert_int_equal(gdn_state_snapshot(b->state, slot, &copy, &b->err), GDN_OK);
    export_all(b, slot, before);
    assert_int_equal(gdn_state_convert(b->state, b->anchors, &converted, &b->err), GDN_OK);
    assert_false(converted);
    const enum gdn_type other = b->anchors == GDN_F32 ? GDN_BF16 : GDN_F32;
    const int64_t bytes = gdn_state_bytes(b->state);
    assert_int_equal(gdn_state_convert(b->state, other, &converted, &b->err), GDN_OK);
    assert_true(converted && (gdn_state_bytes(b->state) > bytes) == (other == GDN_F32));
    assert_int_equal(gdn_state_position(b->state, slot), 37);
    export_all(b, slot, after);
    for (size_t i = 0; i < LAYERS * T * WIDE; i++)
        assert_true(fabs(after[i] - before[i]) <=
                    (other == GDN_F32 ? 0 : fabs(before[i]) / 64 + 1e-2));
    /* The copy's bytes are of the other type: refused. The file says what it is: converted. */
    assert_int_equal(gdn_state_restore(b->state, &slot, copy, 37, &b->err), GDN_ERR_USAGE);
    assert_int_equal(gdn_state_load(b->state, path, NULL, &loaded, &converted, &b->err), GDN_OK);
    assert_true(converted);
    export_all(b, loaded, before);
    assert_memory_equal(before, after, sizeof before);
    pass(b, (struct part[]){{slot, 1, 37, 20}, {loaded, 1, 37, 20}}, 2, false, NULL);
    export_all(b, slot, before);
    export_all(b, loaded, after);
    assert_memory_equal(before, after, sizeof before);
    gdn_state_copy_free(copy);
    unlink(path);
    const struct gdn_state_piece piece = {slot, 1};
    assert_int_equal(gdn_state_convert(b->state, GDN_F64, NULL, &b->err), GDN_ERR_USAGE);
    assert_int_equal(gdn_state_begin(b->state, &piece, 1, false, &b->err), GDN_OK);
    assert_int_equal(gdn_state_convert(b->state, GDN_F32, NULL, &b->err), GDN_ERR_USAGE);
    assert_int_equal(gdn_state_end(b->state, &b->err), GDN_ERR_USAGE);
}

static enum gdn_status put_aside(struct bench *b, int32_t *slot, const char *path)
{
    gdn_state_copy *copy;
    bool converted;
    const int32_t fork = gdn_state_fork(b->state, *slot); /* takes no memory */
    assert_true(fork >= 0);
    gdn_state_slot_give(b->state, fork);
    TRY(gdn_state_snapshot(b->state, *slot, &copy, &b->err));
    const enum gdn_status status = gdn_state_restore(b->state, slot, copy, 37, &b->err);
    gdn_state_copy_free(copy);
    assert_int_equal(status, GDN_OK); /* nor does this */
    TRY(gdn_state_save(b->state, *slot, NULL, path, &b->err));
    int32_t loaded;
    TRY(gdn_state_load(b->state, path, NULL, &loaded, NULL, &b->err));
    gdn_state_slot_give(b->state, loaded);
    if (b->ref) return GDN_OK;
    return gdn_state_convert(b->state, b->anchors, &converted, &b->err);
}

/* Each allocation of every call that puts aside fails, once and from then on: a sentence, nothing
 * kept, and the sequence is what it was. */
static void every_allocation(struct bench *b)
{
    static double before[LAYERS * T * WIDE], after[LAYERS * T * WIDE];
    char path[] = "/tmp/gdn-state-XXXXXX";
    close(mkstemp(path));
    int32_t slot = gdn_state_slot_take(b->state);
    pass(b, &(struct part){slot, 1, 0, 37}, 1, false, NULL);
    export_all(b, slot, before);
    for (int forever = 0; forever < 2; forever++) {
        int64_t n = 1;
        for (;; n++) {
            const struct mem_count counted = mem_counted();
            b->err = (struct gdn_error){0};
            mem_fail_after(n, forever);
            const enum gdn_status status = put_aside(b, &slot, path);
            mem_fail_after(0, false);
            assert_int_equal(mem_counted().live_bytes, counted.live_bytes);
            export_all(b, slot, after);
            assert_memory_equal(before, after, sizeof before);
            assert_int_equal(gdn_state_position(b->state, slot), 37);
            if (status == GDN_OK) break;
            assert_true(status == GDN_ERR_MEMORY && b->err.status == status && b->err.text[0]);
        }
        assert_true(n > 10);
    }
    unlink(path);
    goes_on(b, slot);
}

LAW(refusals)
LAW(each_call_once)
LAW(absent_rows)
LAW(not_finite)
LAW(anchors_change_their_type)
LAW(every_allocation)

static void no_slots_count_as_one(void **state)
{
    (void)state;
    struct gdn_error err = {0};
    for (int32_t n = -5; n < 2; n++) {
        gdn_state *s;
        const struct gdn_state_options o = {.layers = layers, .count = LAYERS, .slots = n};
        assert_int_equal(gdn_state_open(&o, &s, &err), GDN_OK);
        assert_int_equal(gdn_state_slot_take(s), 0);
        assert_int_equal(gdn_state_slot_take(s), -1);
        gdn_state_close(s);
    }
}

static void the_reference_keeps_double(void **state)
{
    (void)state;
    struct gdn_error err = {0};
    gdn_state *s;
    bool converted = true;
    const struct gdn_state_options o = {.layers = layers, .count = LAYERS, .device = "ref"};
    assert_int_equal(gdn_state_open(&o, &s, &err), GDN_OK);
    assert_int_equal(gdn_state_convert(s, GDN_BF16, &converted, &err), GDN_ERR_UNSUPPORTED);
    assert_false(converted);
    gdn_state_close(s);
}

static void options_are_checked(void **state)
{
    (void)state;
    struct gdn_error err = {0};
    gdn_state *s;
    struct gdn_state_layer bad = layers[0];
    struct gdn_state_options o = {.layers = &bad, .count = 1, .slots = 1};
    bad.Hv = 3;
    assert_int_equal(gdn_state_open(&o, &s, &err), GDN_ERR_USAGE);
    bad.Hv = 4;
    o.slots = 65536;
    assert_int_equal(gdn_state_open(&o, &s, NULL), GDN_ERR_USAGE);
    o.slots = 1;
    o.compute = GDN_F64;
    assert_int_equal(gdn_state_open(&o, &s, &err), GDN_ERR_USAGE);
    o.compute = GDN_F32;
    o.device = "abacus";
    assert_int_not_equal(gdn_state_open(&o, &s, &err), GDN_OK);
    assert_null(s);
    o.device = NULL;
    const struct mem_count before = mem_counted();
    for (int64_t n = 1;; n++) {
        mem_fail_after(n, false);
        const enum gdn_status status = gdn_state_open(&o, &s, &err);
        mem_fail_after(0, false);
        if (status == GDN_OK) break;
        assert_int_equal(mem_counted().live_blocks, before.live_blocks);
    }
    const int64_t f32 = gdn_state_bytes(s);
    gdn_state_close(s);
    o.state = GDN_BF16;
    assert_int_equal(gdn_state_open(&o, &s, &err), GDN_OK);
    assert_true(gdn_state_bytes(s) < f32);
    gdn_state_close(s);
    gdn_state_close(NULL);
    assert_int_equal(mem_counted().live_blocks, before.live_blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_each_call_once),
        cmocka_unit_test(test_absent_rows),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_anchors_change_their_type),
        cmocka_unit_test(test_every_allocation),
        cmocka_unit_test(no_slots_count_as_one),
        cmocka_unit_test(the_reference_keeps_double),
        cmocka_unit_test(options_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

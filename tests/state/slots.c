/* slots.c: assignment, pages, positions: the host side of what a sequence remembers. */
#include "lab.h"
#include "state/snapshot.h"

static const struct state_options options = {.slots = 3, .entries = 32, .context = 300,
                                             .compute = DTYPE_F32, .anchor = DTYPE_F32};

static bool all_zero(const void *data, size_t bytes)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < bytes; i++)
        if (p[i]) return false;
    return true;
}

static void slots_are_cleared_and_counted(void **state)
{
    (void)state;
    struct state_lab lab;
    lab_open(&lab, options);
    struct state *st = &lab.state;
    int32_t slot[3];
    for (int i = 0; i < 3; i++) slot[i] = state_slot_take(st);
    assert_int_equal(state_slot_take(st), -1);
    const uint32_t generation = st->slot[slot[1]].generation;
    struct layer_state *l = &st->layer[0];
    lab_random(l->delta.anchor, DTYPE_F32, lab_anchors(l), 1);
    lab_random(l->conv.x, DTYPE_F32, lab_ring(l), 2);
    st->layer[2].delta.base[slot[1]] = 48;
    state_slot_give(st, slot[1]);
    state_slot_give(st, slot[1]);
    /* Nothing of the old sequence is left, and the neighbours are untouched. */
    const size_t bytes = (size_t)l->delta.anchor_elements * 4;
    const char *anchor = l->delta.anchor;
    assert_true(all_zero(anchor + bytes * (size_t)slot[1], bytes));
    assert_false(all_zero(anchor + bytes * (size_t)slot[0], bytes));
    assert_int_equal(state_slot_take(st), slot[1]);
    assert_int_equal(st->slot[slot[1]].generation, generation + 1);
    assert_int_equal(st->slot[slot[1]].position, 0);
    assert_int_equal(state_length(st, slot[1]), 0);
    lab_close(&lab);
}

static int32_t held(const struct state *st, int32_t slot)
{
    int32_t n = 0;
    for (int32_t i = 0; i < st->row_pages; i++) n += st->table[slot * st->row_pages + i] >= 0;
    return n;
}

static void pages_come_and_go(void **state)
{
    (void)state;
    struct state_lab lab;
    struct gdn_error err = {0};
    lab_open(&lab, options);
    struct state *st = &lab.state;
    const int32_t a = state_slot_take(st), all = st->free_pages;
    assert_int_equal(state_reserve(st, a, 1, &err), GDN_OK);
    assert_int_equal(held(st, a), 1);
    assert_int_equal(state_reserve(st, a, 64, &err), GDN_OK);
    assert_int_equal(held(st, a), 1);
    state_advance(st, a, 64);
    assert_int_equal(state_reserve(st, a, 65, &err), GDN_OK);
    assert_int_equal(held(st, a), 3);
    state_advance(st, a, 65);
    /* The device reads the same row. */
    const int64_t row = (int64_t)a * st->row_pages;
    assert_memory_equal(st->table + row, st->table_on + row,
                        sizeof *st->table * (size_t)st->row_pages);
    /* 300 positions are asked for, 5 pages hold 320. */
    assert_int_equal(state_reserve(st, a, 192, &err), GDN_ERR_USAGE);
    assert_non_null(strstr(err.text, "321"));
    assert_int_equal(held(st, a), 3);
    state_slot_give(st, a);
    assert_int_equal(st->free_pages, all);
    lab_close(&lab);
}

/* A fork shares every page until one of the two writes; then only the written page is copied. */
static void forks_copy_on_write(void **state)
{
    (void)state;
    struct state_lab lab;
    struct gdn_error err = {0};
    lab_open(&lab, options);
    struct state *st = &lab.state;
    const int32_t a = state_slot_take(st), all = st->free_pages;
    assert_int_equal(state_reserve(st, a, 100, &err), GDN_OK);
    state_advance(st, a, 100);
    const struct kv_pages *kv = &st->layer[1].kv;
    const size_t page = PAGE * (size_t)kv->Hkv * (size_t)kv->D;
    lab_random(kv->k, DTYPE_F32, page * (size_t)kv->pages, 4);
    const int32_t b = state_fork(st, a), free_before = st->free_pages;
    const int32_t *ra = st->table + a * st->row_pages, *rb = st->table + b * st->row_pages;
    assert_int_equal(free_before, all - 2);
    assert_int_equal(ra[0], rb[0]);
    assert_int_equal(ra[1], rb[1]);
    assert_int_equal(st->slot[b].position, 100);
    assert_int_equal(state_reserve(st, b, 1, &err), GDN_OK);
    assert_int_equal(ra[0], rb[0]);
    assert_int_not_equal(ra[1], rb[1]);
    assert_memory_equal((float *)kv->k + page * (size_t)ra[1], (float *)kv->k + page * (size_t)rb[1],
                        page * sizeof(float));
    assert_int_equal(state_reserve(st, a, 1, &err), GDN_OK); /* alone on it again: no copy */
    assert_int_equal(st->free_pages, free_before - 1);
    state_slot_give(st, a);
    state_slot_give(st, b);
    assert_int_equal(st->free_pages, all);
    lab_close(&lab);
}

/* A fork shares the anchor until a pass may fold into it; whoever comes first gets one of its own. */
static void forks_share_anchors(void **state)
{
    (void)state;
    struct state_lab lab;
    struct gdn_error err = {0};
    lab_open(&lab, options);
    struct state *st = &lab.state;
    const struct delta_slots *d = &st->layer[0].delta;
    const size_t bytes = (size_t)d->anchor_elements * sizeof(float);
    const int32_t a = state_slot_take(st);
    state_advance(st, a, 10);
    lab_random(delta_anchor(d, a), DTYPE_F32, (size_t)d->anchor_elements, 3);
    const int32_t b = state_fork(st, a);
    assert_ptr_equal(delta_anchor(d, a), delta_anchor(d, b));
    assert_int_equal(state_reserve(st, b, 6, &err), GDN_OK); /* entry 16: nothing folds */
    assert_ptr_equal(delta_anchor(d, a), delta_anchor(d, b));
    assert_int_equal(state_reserve(st, b, 7, &err), GDN_OK);
    assert_ptr_not_equal(delta_anchor(d, a), delta_anchor(d, b));
    assert_memory_equal(delta_anchor(d, a), delta_anchor(d, b), bytes);
    const void *own = delta_anchor(d, a);
    assert_int_equal(state_reserve(st, a, 7, &err), GDN_OK); /* alone on it again: no copy */
    assert_ptr_equal(delta_anchor(d, a), own);
    lab_close(&lab);
}

static void commit_is_clamped(void **state)
{
    (void)state;
    struct state_lab lab;
    lab_open(&lab, options);
    struct state *st = &lab.state;
    const int32_t a = state_slot_take(st);
    assert_int_equal(state_commit(st, a, 3), 0); /* nothing was drafted */
    state_drafted(st, a, 5);
    assert_int_equal(state_commit(st, a, 0), 0);
    assert_int_equal(st->slot[a].position, 0);
    assert_int_equal(state_commit(st, a, 1), 0); /* decided once */
    state_drafted(st, a, 5);
    assert_int_equal(state_commit(st, a, -4), 0);
    state_drafted(st, a, 5);
    assert_int_equal(state_commit(st, a, 9), 5);
    assert_int_equal(st->slot[a].position, 5);
    state_drafted(st, a, 5);
    assert_int_equal(state_commit(st, a, 2), 2);
    assert_int_equal(st->slot[a].position, 7);
    lab_close(&lab);
}

static void rewind_is_bounded(void **state)
{
    (void)state;
    struct state_lab lab;
    struct gdn_error err = {0};
    lab_open(&lab, options);
    struct state *st = &lab.state;
    const int32_t a = state_slot_take(st);
    state_advance(st, a, 20);
    st->layer[0].delta.base[a] = 16;
    st->layer[2].delta.base[a] = 16;
    assert_int_equal(state_length(st, a), 4);
    assert_int_equal(state_rewind(st, a, 5, &err), GDN_ERR_USAGE);
    assert_int_equal(state_rewind(st, a, -1, &err), GDN_ERR_USAGE);
    assert_int_equal(st->slot[a].position, 20);
    assert_int_equal(state_rewind(st, a, 4, &err), GDN_OK);
    assert_int_equal(st->slot[a].position, 16);
    assert_int_equal(state_length(st, a), 0);
    lab_close(&lab);
}

/* Every byte of every slot and page is zero. */
static bool nothing_left(const struct state *st)
{
    const size_t slots = (size_t)st->slots, pages = (size_t)st->pages;
    bool zero = true;
    for (int32_t i = 0; i < st->layers; i++) {
        const struct layer_state *l = &st->layer[i];
        const struct delta_slots *d = &l->delta;
        const size_t n = slots * (size_t)d->entries * sizeof(float);
        const size_t kv = pages * PAGE * (size_t)l->kv.Hkv * (size_t)l->kv.D * sizeof(float);
        if (l->shape.kind == LAYER_ATTN)
            zero = zero && all_zero(l->kv.k, kv) && all_zero(l->kv.v, kv);
        else
            zero = zero && all_zero(d->anchor, lab_anchors(l) * sizeof(float)) &&
                   all_zero(d->k, n * (size_t)(d->Hk * d->Dk)) &&
                   all_zero(d->u, n * (size_t)(d->Hv * d->Dv)) &&
                   all_zero(d->G, n * (size_t)d->Hv) &&
                   all_zero(l->conv.x, lab_ring(l) * sizeof(float)) &&
                   all_zero(d->base, slots * sizeof *d->base);
    }
    return zero;
}

/* What a slot has, written full: log, ring, anchor, and the pages it holds. */
static void write_all(struct state *st, int32_t slot)
{
    for (int32_t i = 0; i < st->layers; i++) {
        struct layer_state *l = &st->layer[i];
        struct delta_slots *d = &l->delta;
        const size_t s = (size_t)slot, n = (size_t)d->entries;
        const size_t page = PAGE * (size_t)l->kv.Hkv * (size_t)l->kv.D;
        if (l->shape.kind == LAYER_ATTN) {
            for (int32_t p = 0; p < st->row_pages; p++) {
                const int32_t at = st->table[slot * st->row_pages + p];
                if (at < 0) continue;
                lab_random((float *)l->kv.k + page * (size_t)at, DTYPE_F32, page, 1);
                lab_random((float *)l->kv.v + page * (size_t)at, DTYPE_F32, page, 2);
            }
            continue;
        }
        const size_t k = n * (size_t)(d->Hk * d->Dk), u = n * (size_t)(d->Hv * d->Dv);
        const size_t G = n * (size_t)d->Hv, ring = (size_t)(l->conv.ring * l->conv.C);
        lab_random(delta_anchor(d, slot), DTYPE_F32, (size_t)d->anchor_elements, 3);
        lab_random((float *)d->k + k * s, DTYPE_F32, k, 4);
        lab_random((float *)d->u + u * s, DTYPE_F32, u, 5);
        lab_random((float *)d->G + G * s, DTYPE_F32, G, 6);
        lab_random((float *)l->conv.x + ring * s, DTYPE_F32, ring, 7);
    }
}

/* The last one who lets go of it zeroes it: slots, forks, and snapshots that hold pages. */
static void nothing_is_left(void **state)
{
    (void)state;
    struct state_lab lab;
    struct gdn_error err = {0};
    struct snapshot snapshot;
    struct arena scratch;
    lab_open(&lab, options);
    struct state *st = &lab.state;
    assert_true(nothing_left(st) && arena_open(&scratch, 1 << 20));
    const int32_t a = state_slot_take(st);
    assert_int_equal(state_reserve(st, a, 200, &err), GDN_OK);
    state_advance(st, a, 200);
    write_all(st, a);
    for (int32_t i = 0; i < st->layers; i++)
        if (st->layer[i].delta.base) st->layer[i].delta.base[a] = 192;
    const int32_t b = state_fork(st, a);
    assert_int_equal(state_reserve(st, b, 20, &err), GDN_OK);
    state_advance(st, b, 20);
    write_all(st, b);
    assert_int_equal(snapshot_take(&snapshot, st, a, &scratch, NULL, &err), GDN_OK);
    state_slot_give(st, a);
    state_slot_give(st, b);
    assert_false(nothing_left(st)); /* the pages of the snapshot */
    assert_int_equal(st->free_pages, st->pages - 4);
    snapshot_release(&snapshot, true);
    assert_true(nothing_left(st));
    assert_int_equal(st->free_pages, st->pages);
    arena_close(&scratch);
    lab_close(&lab);
}

/* What is reported is what the allocator gave, but for tables whose length is that of the slots and
 * pages, whatever stands in them; and a copy is as long as it says. */
static void bytes_are_the_allocators(void **state)
{
    (void)state;
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16};
    int64_t tables = 0;
    for (int k = 0; k < 8; k++) {
        struct state_lab lab;
        struct gdn_error err = {0};
        struct snapshot snapshot;
        struct arena scratch;
        struct state_options o = options;
        o.entries = k & 4 ? 16 : 32;
        o.compute = types[k & 1];
        o.anchor = types[k >> 1 & 1];
        struct device *device = device_open("cpu", 1, ~0u, &err);
        const int64_t before = mem_counted().live_bytes;
        assert_int_equal(state_open(&lab.state, device, lab_shape, LAB_LAYERS, &o, &err), GDN_OK);
        const int64_t more = mem_counted().live_bytes - before - lab.state.bytes;
        assert_true(more > 0 && more < 4096 && (k == 0 || more == tables));
        tables = more;
        lab.device = device;
        const int32_t slot = state_slot_take(&lab.state);
        assert_true(arena_open(&scratch, 1 << 20));
        assert_int_equal(state_reserve(&lab.state, slot, 9, &err), GDN_OK);
        state_advance(&lab.state, slot, 9);
        const struct mem_count all = mem_counted();
        assert_int_equal(snapshot_take(&snapshot, &lab.state, slot, &scratch, NULL, &err), GDN_OK);
        assert_int_equal(mem_counted().live_bytes - all.live_bytes, snapshot.bytes);
        assert_int_equal(snapshot_bytes(&lab.state, 9, 9), snapshot.bytes);
        assert_int_equal(snapshot_weight(&snapshot),
                         (int64_t)snapshot.bytes + lab.state.page_bytes / 2); /* held by two */
        snapshot_release(&snapshot, true);
        assert_int_equal(mem_counted().live_blocks, all.live_blocks);
        arena_close(&scratch);
        lab_close(&lab);
        assert_int_equal(mem_counted().live_bytes, 0);
    }
}

/* Every allocation of state_open fails once: an error, and nothing is left behind. */
static void open_survives_every_failure(void **state)
{
    (void)state;
    struct gdn_error err = {0};
    struct device *device = device_open("cpu", 1, ~0u, &err);
    for (int64_t n = 1;; n++) {
        const struct mem_count before = mem_counted();
        struct state st;
        err = (struct gdn_error){0};
        mem_fail_after(n, false);
        const enum gdn_status status = state_open(&st, device, lab_shape, LAB_LAYERS, &options,
                                                  &err);
        mem_fail_after(0, false);
        if (status == GDN_OK) {
            assert_true(n > 10);
            assert_int_equal(st.bytes, state_bytes(device, lab_shape, LAB_LAYERS, &options));
            state_close(&st);
            assert_int_equal(mem_counted().live_blocks, before.live_blocks);
            break;
        }
        assert_int_equal(status, GDN_ERR_MEMORY);
        assert_true(err.text[0]);
        assert_int_equal(mem_counted().live_blocks, before.live_blocks);
    }
    device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_cleared_and_counted),
        cmocka_unit_test(pages_come_and_go),
        cmocka_unit_test(forks_copy_on_write),
        cmocka_unit_test(forks_share_anchors),
        cmocka_unit_test(commit_is_clamped),
        cmocka_unit_test(rewind_is_bounded),
        cmocka_unit_test(nothing_is_left),
        cmocka_unit_test(bytes_are_the_allocators),
        cmocka_unit_test(open_survives_every_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

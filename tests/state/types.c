/* types.c: the storage types of a live state change one at a time, by value, and never to zero. */
#include "lab.h"

static const struct state_options options = {.slots = 2, .entries = 16, .context = 200,
                                             .compute = DTYPE_BF16, .anchor = DTYPE_F32};

static void fill(struct state *st)
{
    for (int32_t i = 0; i < st->layers; i++) {
        struct layer_state *l = &st->layer[i];
        if (l->shape.kind != LAYER_DELTA) continue;
        lab_random(l->conv.x, l->conv.dtype, lab_ring(l), 1 + (uint64_t)i);
        lab_random(l->delta.anchor, l->delta.anchor_type, lab_anchors(l), 9 + (uint64_t)i);
    }
}

/* Asking again and again for what is there: same memory, same bytes, nothing reported. */
static void matching_types_touch_nothing(void **state)
{
    (void)state;
    struct state_lab lab;
    struct gdn_error err = {0};
    lab_open(&lab, options);
    fill(&lab.state);
    struct layer_state *l = &lab.state.layer[0];
    const void *ring = l->conv.x, *anchor = l->delta.anchor;
    const size_t ring_bytes = lab_ring(l) * 2, anchor_bytes = lab_anchors(l) * 4;
    void *ring_before = mem_take(ring_bytes), *anchor_before = mem_take(anchor_bytes);
    memcpy(ring_before, ring, ring_bytes);
    memcpy(anchor_before, anchor, anchor_bytes);
    for (int i = 0; i < 10000; i++) {
        struct state_change change;
        assert_int_equal(state_ensure(&lab.state, DTYPE_BF16, DTYPE_F32, &change, &err), GDN_OK);
        assert_false(change.conv || change.anchor);
    }
    assert_ptr_equal(l->conv.x, ring);
    assert_ptr_equal(l->delta.anchor, anchor);
    assert_memory_equal(l->conv.x, ring_before, ring_bytes);
    assert_memory_equal(l->delta.anchor, anchor_before, anchor_bytes);
    mem_give(ring_before);
    mem_give(anchor_before);
    lab_close(&lab);
}

/* A new type of the anchors leaves the ring alone, to the byte and the address. */
static void anchor_changes_alone(void **state)
{
    (void)state;
    struct state_lab lab;
    struct gdn_error err = {0};
    struct state_change change;
    lab_open(&lab, options);
    fill(&lab.state);
    struct layer_state *l = &lab.state.layer[2];
    const void *ring = l->conv.x;
    const size_t bytes = lab_ring(l) * 2, n = lab_anchors(l);
    void *ring_before = mem_take(bytes);
    float *anchor_before = mem_take_array(n, sizeof(float));
    memcpy(ring_before, ring, bytes);
    memcpy(anchor_before, l->delta.anchor, n * sizeof(float));
    const int64_t bytes_before = lab.state.bytes;
    assert_int_equal(state_ensure(&lab.state, DTYPE_BF16, DTYPE_BF16, &change, &err), GDN_OK);
    assert_true(change.anchor && !change.conv);
    assert_true(lab.state.bytes < bytes_before);
    assert_ptr_equal(l->conv.x, ring);
    assert_memory_equal(l->conv.x, ring_before, bytes);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(((uint16_t *)l->delta.anchor)[i], f32_to_bf16(anchor_before[i]));
    /* And back: wider is exact. */
    assert_int_equal(state_ensure(&lab.state, DTYPE_BF16, DTYPE_F32, &change, &err), GDN_OK);
    for (size_t i = 0; i < n; i++) {
        const float want = bf16_to_f32(f32_to_bf16(anchor_before[i]));
        assert_memory_equal(&((float *)l->delta.anchor)[i], &want, sizeof want);
    }
    assert_int_equal(lab.state.bytes, bytes_before);
    mem_give(ring_before);
    mem_give(anchor_before);
    lab_close(&lab);
}

/* A new type of the ring leaves the anchors alone. */
static void ring_changes_alone(void **state)
{
    (void)state;
    struct state_lab lab;
    struct gdn_error err = {0};
    struct state_change change;
    lab_open(&lab, options);
    fill(&lab.state);
    struct layer_state *l = &lab.state.layer[0];
    const void *anchor = l->delta.anchor;
    const size_t bytes = lab_anchors(l) * 4, n = lab_ring(l);
    void *anchor_before = mem_take(bytes);
    uint16_t *ring_before = mem_take_array(n, sizeof(uint16_t));
    memcpy(anchor_before, anchor, bytes);
    memcpy(ring_before, l->conv.x, n * sizeof *ring_before);
    assert_int_equal(state_ensure(&lab.state, DTYPE_F32, DTYPE_F32, &change, &err), GDN_OK);
    assert_true(change.conv && !change.anchor);
    assert_ptr_equal(l->delta.anchor, anchor);
    assert_memory_equal(l->delta.anchor, anchor_before, bytes);
    for (size_t i = 0; i < n; i++) {
        const float want = bf16_to_f32(ring_before[i]);
        assert_memory_equal(&((float *)l->conv.x)[i], &want, sizeof want);
    }
    mem_give(anchor_before);
    mem_give(ring_before);
    lab_close(&lab);
}

/* Keys and values are nobody's business here. */
static void pages_stay(void **state)
{
    (void)state;
    struct state_lab lab;
    struct gdn_error err = {0};
    struct state_change change;
    lab_open(&lab, options);
    const struct kv_pages *kv = &lab.state.layer[1].kv;
    const size_t n = (size_t)kv->pages * PAGE * (size_t)kv->Hkv * (size_t)kv->D;
    lab_random(kv->k, kv->dtype, n, 3);
    void *before = mem_take(n * 2);
    const void *address = kv->k;
    memcpy(before, kv->k, n * 2);
    assert_int_equal(state_ensure(&lab.state, DTYPE_BF16, DTYPE_BF16, &change, &err), GDN_OK);
    assert_ptr_equal(kv->k, address);
    assert_memory_equal(kv->k, before, n * 2);
    mem_give(before);
    lab_close(&lab);
}

struct arrays {
    struct {
        const void *ring, *anchor;
        enum dtype ring_type, anchor_type;
    } of[LAB_LAYERS];
};

static struct arrays arrays_of(const struct state *st)
{
    struct arrays a = {0};
    for (int i = 0; i < LAB_LAYERS; i++) {
        a.of[i].ring = st->layer[i].conv.x;
        a.of[i].anchor = st->layer[i].delta.anchor;
        a.of[i].ring_type = st->layer[i].conv.dtype;
        a.of[i].anchor_type = st->layer[i].delta.anchor_type;
    }
    return a;
}

/* Without memory for one of the new arrays all old ones are there, in their types. */
static void failure_changes_nothing(void **state)
{
    (void)state;
    struct state_lab lab;
    struct gdn_error err = {0};
    struct state_change change;
    lab_open(&lab, options);
    fill(&lab.state);
    const struct mem_count before = mem_counted();
    const int64_t bytes = lab.state.bytes;
    const struct arrays all = arrays_of(&lab.state);
    int failed = 0;
    for (;; failed++) {
        mem_fail_after(failed + 1, false);
        const enum gdn_status status = state_ensure(&lab.state, DTYPE_F32, DTYPE_BF16, &change,
                                                    &err);
        mem_fail_after(0, false);
        if (status == GDN_OK) break;
        const struct arrays now = arrays_of(&lab.state);
        assert_int_equal(status, GDN_ERR_MEMORY);
        assert_false(change.anchor || change.conv);
        assert_memory_equal(&now, &all, sizeof all);
        assert_int_equal(lab.state.bytes, bytes);
        assert_int_equal(mem_counted().live_bytes, before.live_bytes);
    }
    assert_int_equal(failed, 5); /* the list, and two arrays for each of two layers */
    assert_true(change.anchor && change.conv);
    assert_int_equal(mem_counted().live_bytes - before.live_bytes, lab.state.bytes - bytes);
    lab_close(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matching_types_touch_nothing),
        cmocka_unit_test(anchor_changes_alone),
        cmocka_unit_test(ring_changes_alone),
        cmocka_unit_test(pages_stay),
        cmocka_unit_test(failure_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

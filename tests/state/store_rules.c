/* store_rules.c: the store's promises one by one, and every failure of memory. */
#include "store_lab.h"

static const int64_t PLENTY = (int64_t)1 << 40;

static void equal_tokens_are_kept_once(void **state)
{
    (void)state;
    struct bench *b = bench_open(PLENTY, MOST);
    int32_t entry;
    grow(b, 0, 300, 1);
    const int32_t first = put(b, 0, STORE_DISTANCE);
    const int64_t bytes = b->store.bytes;
    b->slot[1] = state_fork(&b->lab.state, b->slot[0]);
    memcpy(b->tokens[1], b->tokens[0], 4 * 300);
    assert_int_equal(put(b, 1, STORE_MESSAGE), first);
    assert_int_equal(b->store.entry[first].kind, STORE_MESSAGE);
    assert_int_equal(put(b, 1, STORE_DISTANCE), first);
    assert_int_equal(b->store.entry[first].kind, STORE_MESSAGE);
    assert_int_equal(b->store.bytes, bytes);
    /* An empty sequence is nothing to keep; a sequence that failed is refused. */
    grow(b, 2, 1, 2);
    assert_int_equal(state_rewind(&b->lab.state, b->slot[2], 1, NULL), GDN_OK);
    assert_int_equal(put(b, 2, STORE_MESSAGE), -1);
    state_judge(&b->lab.state, b->slot[0], false);
    const struct store_note note = {.tokens = b->tokens[0], .kind = STORE_MESSAGE};
    assert_int_equal(store_put(&b->store, b->slot[0], &note, &b->scratch, &entry, &b->err),
                     GDN_ERR_USAGE);
    assert_int_equal(entry, -1);
    bench_close(b);
}

static void distances_thin_out(void **state)
{
    (void)state;
    struct bench *b = bench_open(PLENTY, 64);
    for (int i = 0; i < 23040 / 128; i++) {
        grow(b, 0, 128, (uint64_t)i);
        put(b, 0, STORE_DISTANCE);
    }
    int32_t near = 0, middle = 0, far = 0;
    for (int32_t i = 0; i < 64; i++) {
        if (!b->store.entry[i].live) continue;
        const int32_t behind = 23040 - b->store.entry[i].snapshot.position;
        near += behind <= 4096;
        middle += behind > 4096 && behind <= 16384;
        far += behind > 16384;
    }
    /* Every 256, every 1,024, every 4,096. */
    assert_int_equal(near, 17);
    assert_int_equal(middle, 12);
    assert_int_equal(far, 1);
    bench_close(b);
}

static void shared_pages_count_once(void **state)
{
    (void)state;
    struct bench *b = bench_open(PLENTY, MOST);
    grow(b, 0, 6400, 1);
    const int32_t first = put(b, 0, STORE_MESSAGE);
    const int64_t alone = b->store.bytes;
    grow(b, 0, 10, 2);
    const int32_t second = put(b, 0, STORE_MESSAGE);
    const int64_t page = b->lab.state.page_bytes;
    assert_true(b->store.bytes - alone < alone - 99 * page); /* its own bytes and one page */
    assert_int_equal(store_entry_bytes(&b->store, first) + store_entry_bytes(&b->store, second),
                     b->store.bytes);
    const int64_t both = b->store.bytes;
    store_release(&b->store, first);
    assert_true(b->store.bytes > both - alone + 99 * page);
    assert_int_equal(store_entry_bytes(&b->store, second), b->store.bytes);
    bench_close(b);
}

/* store->bytes is what the allocator gave for the entries, and the pages that they hold. */
static void bytes_are_the_allocators(void **state)
{
    (void)state;
    struct bench *b = bench_open(PLENTY, MOST);
    const struct mem_count before = mem_counted();
    for (int i = 0; i < 5; i++) {
        grow(b, i % 2, 300 + 70 * i, (uint64_t)i);
        put(b, i % 2, STORE_MESSAGE);
        int64_t pages = 0;
        for (int32_t p = 0; p < b->lab.state.pages; p++) pages += b->store.held[p] > 0;
        assert_int_equal(mem_counted().live_bytes - before.live_bytes,
                         b->store.bytes - pages * b->lab.state.page_bytes);
    }
    for (int32_t i = 0; i < MOST; i++) store_release(&b->store, i);
    assert_int_equal(mem_counted().live_bytes, before.live_bytes);
    assert_int_equal(b->store.bytes, 0);
    bench_close(b);
}

static void pinned_entries_stay(void **state)
{
    (void)state;
    struct bench *b = bench_open(400000, MOST);
    grow(b, 0, 1000, 1);
    const int32_t pinned = put(b, 0, STORE_DISTANCE);
    store_pin(&b->store, pinned);
    for (int i = 0; i < 40; i++) {
        state_slot_give(&b->lab.state, b->slot[1]);
        b->slot[1] = -1;
        grow(b, 1, 800, 100 + (uint64_t)i);
        assert_int_not_equal(put(b, 1, STORE_MESSAGE), -1);
        assert_true(b->store.bytes <= 400000);
    }
    assert_int_equal(store_find(&b->store, b->tokens[0], 1000), pinned);
    /* What would not fit beside it evicts nobody. */
    const int32_t live = b->store.live;
    grow(b, 2, 20000, 3);
    assert_int_equal(put(b, 2, STORE_MESSAGE), -1);
    assert_int_equal(b->store.live, live);
    assert_false(store_free_pages(&b->store, b->lab.state.pages));
    assert_int_equal(b->store.live, 1);
    store_unpin(&b->store, pinned);
    for (int i = 0; i < 3; i++) state_slot_give(&b->lab.state, b->slot[i]);
    assert_true(store_free_pages(&b->store, b->lab.state.pages));
    assert_int_equal(b->store.bytes, 0);
    bench_close(b);
}

static void merged_and_split(void **state)
{
    (void)state;
    struct bench *b = bench_open(PLENTY, MOST);
    int32_t left = 7, right;
    grow(b, 0, 300, 1);
    const int32_t parent = put(b, 0, STORE_MESSAGE);
    grow(b, 0, 40, 2);
    const int32_t child = put(b, 0, STORE_MESSAGE);
    assert_int_equal(store_merge(&b->store, -1, parent), parent);
    assert_int_equal(store_merge(&b->store, parent, child), child);
    assert_int_equal(b->store.live, 1);
    assert_int_equal(store_find(&b->store, b->tokens[0], 339), -1);
    store_split(&b->store, child, &left, &right);
    assert_int_equal(left, -1);
    assert_int_equal(right, child);
    assert_int_equal(store_find(&b->store, b->tokens[0], 340), child);
    bench_close(b);
}

/* A snapshot says how its bytes are to be read: after a change of types nobody does. */
static void old_types_are_refused(void **state)
{
    (void)state;
    struct bench *b = bench_open(PLENTY, MOST);
    struct state_change change;
    int32_t slot = -1;
    grow(b, 0, 300, 1);
    const int32_t entry = put(b, 0, STORE_MESSAGE);
    assert_int_equal(state_ensure(&b->lab.state, DTYPE_F32, DTYPE_BF16, &change, &b->err), GDN_OK);
    assert_int_equal(store_find(&b->store, b->tokens[0], 300), -1);
    assert_int_equal(store_restore(&b->store, entry, &slot, &b->err), GDN_ERR_USAGE);
    assert_non_null(strstr(b->err.text, "types"));
    assert_int_equal(slot, -1);
    const int32_t again = put(b, 0, STORE_MESSAGE);
    assert_int_not_equal(again, entry);
    assert_int_equal(store_restore(&b->store, again, &slot, &b->err), GDN_OK);
    bench_close(b);
}

/* Each allocation fails once: a sentence, nothing lost that was there, nothing leaked. */
static void every_failure_of_memory(void **state)
{
    (void)state;
    struct bench *b = bench_open(PLENTY, MOST);
    struct gdn_error err = {0};
    struct store store;
    grow(b, 0, 300, 1);
    const struct store_note note = {.tokens = b->tokens[0], .kind = STORE_MESSAGE, .extra = &PLENTY,
                                    .extra_bytes = sizeof PLENTY};
    int failed = 0;
    for (int64_t n = 1; failed == n - 1; n++) {
        const struct mem_count before = mem_counted();
        const int32_t pages = b->lab.state.free_pages;
        int32_t entry = -1;
        mem_fail_after(n, false);
        enum gdn_status status = store_open(&store, &b->lab.state, PLENTY, MOST, &err);
        if (status == GDN_OK) {
            status = store_put(&store, b->slot[0], &note, &b->scratch, &entry, &err);
            assert_int_equal(store.live, status == GDN_OK);
            assert_true(status == GDN_OK || store.bytes == 0);
        }
        mem_fail_after(0, false);
        if (status != GDN_OK) {
            assert_int_equal(status, GDN_ERR_MEMORY);
            assert_true(err.text[0] && entry == -1);
            failed++;
        }
        err = (struct gdn_error){0};
        store_close(&store);
        assert_int_equal(b->lab.state.free_pages, pages);
        assert_int_equal(mem_counted().live_blocks, before.live_blocks);
    }
    assert_int_equal(failed, 5);
    bench_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_tokens_are_kept_once), cmocka_unit_test(distances_thin_out),
        cmocka_unit_test(shared_pages_count_once),    cmocka_unit_test(bytes_are_the_allocators),
        cmocka_unit_test(pinned_entries_stay),        cmocka_unit_test(merged_and_split),
        cmocka_unit_test(old_types_are_refused),      cmocka_unit_test(every_failure_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* store.c: snapshots under one budget, against a list that is searched and summed the slow way. */
#include <stdlib.h>

#include "store_lab.h"

enum { PROGRAM = 4000 };

/* ---- the same, slowly ------------------------------------------------------------------------ */

struct known {
    int32_t number, n, kind, pins, slot, pages;
    uint32_t generation;
    uint64_t used, anchor; /* anchor: hash of what the first layer's was */
    int64_t own;
    int32_t tokens[CONTEXT], page[CONTEXT / PAGE + 1];
};

struct naive {
    struct known *list[MOST];
    int count;
    uint64_t clock;
    int64_t budget;
};

static uint64_t anchor_hash(const struct bench *b, int32_t slot)
{
    const struct delta_slots *d = &b->lab.state.layer[0].delta;
    return hash64(delta_anchor(d, slot), 4 * (size_t)d->anchor_elements, 0);
}

static bool begins(const int32_t *tokens, int32_t n, const struct known *k)
{
    for (int32_t i = 0; i < k->n; i++)
        if (i >= n || k->tokens[i] != tokens[i]) return false;
    return true;
}

static struct known *longest(const struct naive *o, const int32_t *tokens, int32_t n)
{
    struct known *best = NULL;
    for (int i = 0; i < o->count; i++)
        if (begins(tokens, n, o->list[i]) && (!best || o->list[i]->n > best->n)) best = o->list[i];
    return best;
}

/* Bytes of the entries for which `of` holds, and of `one`; pages once. */
static int64_t sum(const struct bench *b, const struct naive *o, bool pinned_only,
                   const struct known *but, const struct known *one)
{
    static bool seen[1 << 16];
    memset(seen, 0, sizeof seen);
    int64_t bytes = 0;
    for (int i = 0; i <= o->count; i++) {
        const struct known *k = i < o->count ? o->list[i] : one;
        if (!k || k == but || (i < o->count && pinned_only && k->pins == 0)) continue;
        bytes += k->own;
        for (int32_t p = 0; p < k->pages; p++) {
            if (!seen[k->page[p]]) bytes += b->lab.state.page_bytes;
            seen[k->page[p]] = true;
        }
    }
    return bytes;
}

static void forget(struct naive *o, struct known *k)
{
    int i = 0;
    while (o->list[i] != k) i++;
    mem_give(k);
    o->list[i] = o->list[--o->count];
}

static void evict_one(const struct bench *b, struct naive *o)
{
    static const double weight[] = {1, 2, 4};
    struct known *least = NULL;
    double value = 0;
    for (int i = 0; i < o->count; i++) {
        struct known *k = o->list[i];
        if (k->pins > 0) continue;
        const struct known *before = longest(o, k->tokens, k->n - 1);
        const double saved = k->n - (before ? before->n : 0);
        const int64_t bytes = sum(b, o, false, NULL, NULL) - sum(b, o, false, k, NULL);
        const double age = (double)(1 + o->clock - k->used);
        const double v = saved * weight[k->kind] / ((double)bytes * age);
        if (least && (v > value || (v == value && k->number > least->number))) continue;
        least = k;
        value = v;
    }
    assert_non_null(least);
    forget(o, least);
}

static int by_length(const void *a, const void *b)
{
    const struct known *const *x = a, *const *y = b;
    return ((*x)->n > (*y)->n) - ((*x)->n < (*y)->n);
}

static void thin_out(struct naive *o, const struct known *newest)
{
    struct known *chain[MOST];
    int n = 0;
    for (int i = 0; i < o->count; i++)
        if (o->list[i]->kind == STORE_DISTANCE && o->list[i] != newest &&
            begins(newest->tokens, newest->n, o->list[i]))
            chain[n++] = o->list[i];
    qsort(chain, (size_t)n, sizeof *chain, by_length);
    for (int i = 0, kept = 0; i < n; i++) {
        const int32_t behind = newest->n - chain[i]->n;
        const int32_t step = behind <= 4096 ? 256 : behind <= 16384 ? 1024 : 4096;
        if (chain[i]->n - kept < step && chain[i]->pins == 0)
            forget(o, chain[i]);
        else
            kept = chain[i]->n;
    }
}

static struct known *describe(const struct bench *b, int i, enum store_kind kind)
{
    const struct state *st = &b->lab.state;
    const int32_t slot = b->slot[i], n = position_of(b, i);
    struct known *k = mem_take(sizeof *k);
    *k = (struct known){.n = n, .kind = (int32_t)kind, .slot = slot,
                        .generation = st->slot[slot].generation, .pages = (n + PAGE - 1) / PAGE,
                        .anchor = anchor_hash(b, slot)};
    memcpy(k->tokens, b->tokens[i], sizeof(int32_t) * (size_t)n);
    memcpy(k->page, st->table + slot * st->row_pages, sizeof(int32_t) * (size_t)k->pages);
    k->own = (int64_t)snapshot_bytes(st, n, state_length(st, slot)) + 4 * n + 8;
    return k;
}

/* What store_put should do; false when it should keep nothing. Room is made before the number of
 * the new entry is known, so that comes with `number`. */
static struct known *naive_put(const struct bench *b, struct naive *o, int i, enum store_kind kind)
{
    const int32_t n = position_of(b, i);
    struct known *near = n > 0 ? longest(o, b->tokens[i], n) : NULL;
    if (n == 0) return NULL;
    o->clock++;
    if (near && near->n == n) {
        near->used = o->clock;
        if ((int32_t)kind > near->kind) near->kind = (int32_t)kind;
        return near;
    }
    if (kind == STORE_DISTANCE && n - (near ? near->n : 0) < 256) return NULL;
    struct known *k = describe(b, i, kind);
    int pinned = 0;
    for (int e = 0; e < o->count; e++) pinned += o->list[e]->pins > 0;
    if (pinned == MOST || sum(b, o, true, NULL, k) > o->budget) {
        mem_give(k);
        return NULL;
    }
    while (o->count == MOST || sum(b, o, false, NULL, k) > o->budget) evict_one(b, o);
    k->used = o->clock;
    o->list[o->count++] = k;
    if (kind == STORE_DISTANCE) thin_out(o, k);
    return k;
}

static void compare(struct bench *b, const struct naive *o, bool sums)
{
    int64_t bytes = 0;
    assert_int_equal(b->store.live, o->count);
    for (int i = 0; i < o->count; i++) {
        const struct known *k = o->list[i];
        const struct store_entry *e = &b->store.entry[k->number];
        assert_true(e->live);
        assert_int_equal(e->snapshot.position, k->n);
        assert_int_equal(e->pins, k->pins);
        assert_int_equal(e->kind, k->kind);
        assert_memory_equal(e->tokens, k->tokens, sizeof(int32_t) * (size_t)k->n);
        if (sums) bytes += store_entry_bytes(&b->store, k->number);
    }
    if (sums) assert_int_equal(bytes, b->store.bytes);
    assert_int_equal(b->store.bytes, sum(b, o, false, NULL, NULL));
    assert_true(b->store.bytes <= o->budget);
}

/* ---- random programs ------------------------------------------------------------------------- */

struct run {
    struct bench *b;
    struct naive o;
    struct rng rng;
    int restored, kept, distrusted;
};

static int32_t below(struct run *r, int32_t n) { return (int32_t)rng_below(&r->rng, (uint64_t)n); }

static struct known *any(struct run *r)
{
    return r->o.count ? r->o.list[below(r, r->o.count)] : NULL;
}

static void run_put(struct run *r, int i)
{
    if (r->b->slot[i] < 0) return;
    const enum store_kind kind = below(r, 3) ? STORE_DISTANCE : 1 + (enum store_kind)below(r, 2);
    struct known *k = naive_put(r->b, &r->o, i, kind);
    const int32_t entry = put(r->b, i, kind);
    if (!k) assert_int_equal(entry, -1);
    if (!k) return;
    r->kept++;
    k->number = entry;
}

static void run_restore(struct run *r, int i)
{
    struct bench *b = r->b;
    struct known *k = any(r);
    if (!k) return;
    const int32_t found = store_find(&b->store, k->tokens, k->n);
    assert_int_equal(found, k->number);
    uint64_t about;
    memcpy(&about, b->store.entry[found].extra, sizeof about);
    assert_true(about == hash64(k->tokens, 4 * (size_t)k->n, 0));
    if (store_restore(&b->store, found, &b->slot[i], &b->err) != GDN_OK) {
        b->err = (struct gdn_error){0}; /* no slot is free */
        return;
    }
    k->used = ++r->o.clock;
    memcpy(b->tokens[i], k->tokens, 4 * (size_t)k->n);
    assert_int_equal(position_of(b, i), k->n);
    assert_true(anchor_hash(b, b->slot[i]) == k->anchor);
    r->restored++;
}

/* Tokens were committed that nobody looked at, and the next row was not finite. */
static void run_distrust(struct run *r, int i)
{
    struct bench *b = r->b;
    if (b->slot[i] < 0) return;
    struct slot *s = &b->lab.state.slot[b->slot[i]];
    if (below(r, 2)) s->finite -= below(r, s->finite < 600 ? s->finite + 1 : 600);
    state_judge(&b->lab.state, b->slot[i], false);
    assert_int_equal(s->status, SLOT_INVALID);
    store_distrust(&b->store, b->slot[i]);
    for (int e = r->o.count - 1; e >= 0; e--) {
        struct known *k = r->o.list[e];
        if (k->slot != b->slot[i] || k->generation != s->generation || k->n <= s->finite) continue;
        forget(&r->o, k);
        r->distrusted++;
    }
    state_slot_give(&b->lab.state, b->slot[i]);
    b->slot[i] = -1;
}

static void run_fork(struct run *r, int i, int from)
{
    struct bench *b = r->b;
    if (b->slot[from] < 0 || i == from) return;
    if (b->slot[i] >= 0) state_slot_give(&b->lab.state, b->slot[i]);
    b->slot[i] = state_fork(&b->lab.state, b->slot[from]);
    memcpy(b->tokens[i], b->tokens[from], 4 * (size_t)position_of(b, i));
}

static void run_pins(struct run *r)
{
    struct known *k = any(r);
    if (!k) return;
    if (k->pins > 0 && below(r, 4)) {
        k->pins--;
        store_unpin(&r->b->store, k->number);
    } else if (below(r, 3) == 0) {
        k->pins++;
        store_pin(&r->b->store, k->number);
    }
}

static void operation(struct run *r)
{
    const int i = below(r, SLOTS - 1);
    const int32_t n = below(r, 4) ? 1 + below(r, 700) : 1 + below(r, 3000);
    switch (below(r, 12)) {
    case 0: case 1: case 2: case 3:
        if (position_of(r->b, i) + n <= CONTEXT && r->b->lab.state.free_pages > n / PAGE + 2)
            grow(r->b, i, n, r->rng.counter);
        run_put(r, i);
        break;
    case 4: case 5: run_put(r, i); break;
    case 6: run_restore(r, i); break;
    case 7: run_fork(r, i, below(r, SLOTS - 1)); break;
    case 8: run_pins(r); break;
    case 9:
        if (below(r, 4) == 0) run_distrust(r, i);
        break;
    case 10: {
        struct known *k = any(r);
        if (!k || below(r, 4)) break;
        store_release(&r->b->store, k->number);
        forget(&r->o, k);
        break;
    }
    default: {
        const int32_t most = position_of(r->b, i), p = most ? 1 + below(r, most) : 0;
        const struct known *k = longest(&r->o, r->b->tokens[i], p);
        assert_int_equal(store_find(&r->b->store, r->b->tokens[i], p), k ? k->number : -1);
    }
    }
}

static void random_programs(void **state)
{
    (void)state;
    static const int64_t budgets[] = {200000, 1000000, 4000000};
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        const struct mem_count before = mem_counted();
        struct run r = {.b = bench_open(budgets[i], MOST), .o.budget = budgets[i],
                        .rng.seed = 1 + i};
        for (int n = 0; n < PROGRAM; n++) {
            operation(&r);
            compare(r.b, &r.o, n % 100 == 0);
        }
        assert_true(r.restored > 20 && r.kept > 100 && r.distrusted > 5);
        while (r.o.count) forget(&r.o, r.o.list[0]);
        for (int s = 0; s < SLOTS; s++)
            if (r.b->slot[s] >= 0) state_slot_give(&r.b->lab.state, r.b->slot[s]);
        for (int32_t e = 0; e < MOST; e++) store_release(&r.b->store, e);
        assert_int_equal(r.b->store.bytes, 0);
        assert_int_equal(r.b->lab.state.free_pages, r.b->lab.state.pages);
        bench_close(r.b);
        assert_int_equal(mem_counted().live_blocks, before.live_blocks);
        assert_int_equal(mem_counted().live_bytes, before.live_bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_programs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "state/store.h"

#include <string.h>

#include "base/check.h"
#include "base/memory.h"

enum gdn_status store_open(struct store *store, struct state *st, int64_t budget, int32_t most,
                           struct gdn_error *err)
{
    *store = (struct store){.state = st, .most = most, .budget = budget};
    store->entry = mem_take_array((size_t)most, sizeof *store->entry);
    store->held = mem_take_array((size_t)st->pages, sizeof *store->held);
    if (store->entry && store->held) return GDN_OK;
    mem_give(store->entry);
    mem_give(store->held);
    *store = (struct store){0};
    return error_set(err, GDN_ERR_MEMORY, "no memory for a store of %d snapshots", most);
}

void store_close(struct store *store)
{
    for (int32_t i = 0; i < store->most; i++) store_release(store, i);
    mem_give(store->entry);
    mem_give(store->held);
    *store = (struct store){0};
}

static struct store_entry *at(const struct store *store, int32_t entry)
{
    GDN_CHECK(entry >= 0 && entry < store->most && store->entry[entry].live,
              "snapshot %d of a store is not there", entry);
    return &store->entry[entry];
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static int64_t own_bytes(const struct store_entry *e)
{
    return (int64_t)(e->snapshot.bytes + e->extra_bytes) +
           (int64_t)sizeof *e->tokens * e->snapshot.position;
}

/* Bytes of those pages that so many entries hold: 1, the entry alone; 0, nobody yet. */
static int64_t page_bytes(const struct store *store, const int32_t *page, int32_t n,
                          int32_t holders)
{
    int64_t sum = 0;
    for (int32_t i = 0; i < n; i++)
        if (store->held[page[i]] == holders) sum += store->state->page_bytes;
    return sum;
}

static bool holds(const struct store_entry *e, int32_t page)
{
    for (int32_t i = 0; i < e->snapshot.pages; i++)
        if (e->snapshot.page[i] == page) return true;
    return false;
}

int64_t store_entry_bytes(const struct store *store, int32_t entry)
{
    const struct store_entry *e = at(store, entry);
    int64_t sum = own_bytes(e);
    for (int32_t i = 0; i < e->snapshot.pages; i++) {
        int32_t first = 0;
        while (!store->entry[first].live || !holds(&store->entry[first], e->snapshot.page[i]))
            first++;
        if (first == entry) sum += store->state->page_bytes;
    }
    return sum;
}

/* ---- finding --------------------------------------------------------------------------------- */

/* Snapshots from before a change of storage types cannot be restored any more. */
static bool is_prefix(const struct store *store, int32_t entry, const int32_t *tokens, int32_t n)
{
    const struct store_entry *e = &store->entry[entry];
    const int32_t p = e->snapshot.position;
    return e->live && e->snapshot.types == store->state->types && p <= n &&
           e->tokens[p - 1] == tokens[p - 1] &&
           memcmp(e->tokens, tokens, sizeof *tokens * (size_t)p) == 0;
}

int32_t store_find(const struct store *store, const int32_t *tokens, int32_t n)
{
    int32_t best = -1, position = 0;
    for (int32_t i = 0; i < store->most; i++) {
        if (store->entry[i].snapshot.position <= position || !is_prefix(store, i, tokens, n))
            continue;
        position = store->entry[i].snapshot.position;
        best = i;
    }
    return best;
}

static int32_t prefix_length(const struct store *store, const int32_t *tokens, int32_t n)
{
    const int32_t entry = store_find(store, tokens, n);
    return entry < 0 ? 0 : store->entry[entry].snapshot.position;
}

/* ---- letting go ------------------------------------------------------------------------------ */

void store_release(struct store *store, int32_t entry)
{
    struct store_entry *e = &store->entry[entry];
    if (!e->live) return;
    for (int32_t i = 0; i < e->snapshot.pages; i++)
        if (--store->held[e->snapshot.page[i]] == 0) store->bytes -= store->state->page_bytes;
    store->bytes -= own_bytes(e);
    mem_wipe(e->tokens);
    mem_wipe(e->extra);
    snapshot_release(&e->snapshot, true);
    *e = (struct store_entry){0};
    store->live--;
}

/* What is lost with it for each byte that is won. The weights are a guess: a boundary of messages
 * is where most conversations are taken up again. */
static double worth(const struct store *store, const struct store_entry *e)
{
    static const double weight[] = {[STORE_DISTANCE] = 1, [STORE_THINKING] = 2,
                                    [STORE_MESSAGE] = 4};
    const int32_t p = e->snapshot.position;
    if (e->snapshot.types != store->state->types) return 0;
    const double saved = p - prefix_length(store, e->tokens, p - 1);
    const int64_t bytes = own_bytes(e) + page_bytes(store, e->snapshot.page, e->snapshot.pages, 1);
    return saved * weight[e->kind] / ((double)bytes * (double)(1 + store->clock - e->used));
}

/* False when all that is left is pinned. */
static bool evict(struct store *store)
{
    int32_t least = -1;
    double value = 0;
    for (int32_t i = 0; i < store->most; i++) {
        const struct store_entry *e = &store->entry[i];
        if (!e->live || e->pins > 0) continue;
        const double v = worth(store, e);
        if (least >= 0 && v >= value) continue;
        least = i;
        value = v;
    }
    if (least < 0) return false;
    store_release(store, least);
    return true;
}

bool store_free_pages(struct store *store, int32_t pages)
{
    while (store->state->free_pages < pages)
        if (!evict(store)) return false;
    return true;
}

void store_distrust(struct store *store, int32_t slot)
{
    const struct slot *s = &store->state->slot[slot];
    for (int32_t i = 0; i < store->most; i++) {
        const struct store_entry *e = &store->entry[i];
        if (e->live && e->slot == slot && e->generation == s->generation &&
            e->snapshot.position > s->finite)
            store_release(store, i);
    }
}

/* ---- putting in ------------------------------------------------------------------------------ */

int32_t store_spacing(int32_t behind)
{
    return behind <= STORE_SPANS * STORE_MIDDLE ? STORE_NEAR
         : behind <= STORE_SPANS * STORE_FAR    ? STORE_MIDDLE
                                                : STORE_FAR;
}

/* Walks the distances of one sequence from its begin and drops what stands too close to the one
 * before. */
static void thin(struct store *store, const int32_t *tokens, int32_t position)
{
    for (int32_t kept = 0, from = 0;;) {
        int32_t next = -1;
        for (int32_t i = 0; i < store->most; i++) {
            const struct store_entry *e = &store->entry[i];
            if (!e->live || e->kind != STORE_DISTANCE || e->snapshot.position <= from ||
                !is_prefix(store, i, tokens, position - 1))
                continue;
            if (next < 0 || e->snapshot.position < store->entry[next].snapshot.position) next = i;
        }
        if (next < 0) return;
        from = store->entry[next].snapshot.position;
        if (from - kept >= store_spacing(position - from) || store->entry[next].pins > 0)
            kept = from;
        else
            store_release(store, next);
    }
}

/* Bytes that would be in use if only what is pinned were there, and the snapshot that needs `own`
 * bytes and these pages. */
static int64_t least_bytes(const struct store *store, int64_t own, const int32_t *page,
                           int32_t pages)
{
    int64_t sum = own + store->state->page_bytes * pages;
    for (int32_t i = 0; i < store->most; i++) {
        const struct store_entry *e = &store->entry[i];
        if (!e->live || e->pins == 0) continue;
        sum += own_bytes(e);
        for (int32_t p = 0; p < e->snapshot.pages; p++) {
            bool counted = false;
            for (int32_t k = 0; k < pages && !counted; k++)
                counted = page[k] == e->snapshot.page[p];
            for (int32_t j = 0; j < i && !counted; j++)
                counted = store->entry[j].pins > 0 && holds(&store->entry[j], e->snapshot.page[p]);
            if (!counted) sum += store->state->page_bytes;
        }
    }
    return sum;
}

/* False when it cannot be had: then nothing was evicted. */
static bool make_room(struct store *store, int64_t own, const int32_t *page, int32_t pages)
{
    int32_t pinned = 0;
    for (int32_t i = 0; i < store->most; i++) pinned += store->entry[i].pins > 0;
    if (pinned == store->most || least_bytes(store, own, page, pages) > store->budget) return false;
    while (store->live == store->most ||
           store->bytes + own + page_bytes(store, page, pages, 0) > store->budget)
        GDN_CHECK(evict(store), "a store of %lld bytes finds no room", (long long)store->budget);
    return true;
}

static void keep(struct store *store, struct store_entry *e)
{
    struct store_entry *to = store->entry;
    while (to->live) to++;
    *to = *e;
    for (int32_t i = 0; i < e->snapshot.pages; i++)
        if (store->held[e->snapshot.page[i]]++ == 0) store->bytes += store->state->page_bytes;
    store->bytes += own_bytes(e);
    store->live++;
}

static enum gdn_status take(struct store *store, int32_t slot, const struct store_note *note,
                            struct arena *scratch, struct store_entry *e, struct gdn_error *err)
{
    const size_t bytes = sizeof *e->tokens * (size_t)store->state->slot[slot].position;
    *e = (struct store_entry){.kind = note->kind, .live = true, .slot = slot, .used = store->clock,
                              .generation = store->state->slot[slot].generation,
                              .extra_bytes = note->extra_bytes};
    e->tokens = mem_take_dirty(bytes);
    if (note->extra_bytes) e->extra = mem_take_dirty(note->extra_bytes);
    enum gdn_status status = GDN_ERR_MEMORY;
    if (!e->tokens || (note->extra_bytes && !e->extra))
        error_set(err, status, "no memory for a stored snapshot");
    else
        status = snapshot_take(&e->snapshot, store->state, slot, scratch, NULL, err);
    if (status == GDN_OK) {
        memcpy(e->tokens, note->tokens, bytes);
        if (note->extra_bytes) memcpy(e->extra, note->extra, note->extra_bytes);
        return GDN_OK;
    }
    mem_give(e->tokens);
    mem_give(e->extra);
    return status;
}

enum gdn_status store_put(struct store *store, int32_t slot, const struct store_note *note,
                          struct arena *scratch, int32_t *entry, struct gdn_error *err)
{
    struct state *st = store->state;
    *entry = -1;
    if (st->slot[slot].status != SLOT_LIVE)
        return error_set(err, GDN_ERR_USAGE, "a snapshot of a sequence that is not usable");
    const int32_t position = st->slot[slot].position;
    if (position == 0) return GDN_OK;
    const int32_t near = store_find(store, note->tokens, position);
    const int32_t length = near < 0 ? 0 : store->entry[near].snapshot.position;
    store->clock++;
    if (length == position) {
        struct store_entry *e = &store->entry[near];
        e->used = store->clock;
        if (note->kind > e->kind) e->kind = note->kind;
        *entry = near;
        return GDN_OK;
    }
    if (note->kind == STORE_DISTANCE && position - length < STORE_NEAR) return GDN_OK;
    TRY(state_settle(st, slot, scratch, err)); /* so that the bytes are known */
    int32_t pages;
    const int32_t *page = snapshot_pages(st, slot, &pages);
    const int64_t own = (int64_t)(snapshot_bytes(st, position, state_length(st, slot)) +
                                  note->extra_bytes) +
                        (int64_t)sizeof *note->tokens * position;
    if (!make_room(store, own, page, pages)) return GDN_OK;
    struct store_entry e;
    TRY(take(store, slot, note, scratch, &e, err));
    keep(store, &e);
    if (note->kind == STORE_DISTANCE) thin(store, note->tokens, position);
    *entry = store_find(store, note->tokens, position);
    return GDN_OK;
}

/* ---- use ------------------------------------------------------------------------------------- */

enum gdn_status store_restore(struct store *store, int32_t entry, int32_t *slot,
                              struct gdn_error *err)
{
    struct store_entry *e = at(store, entry);
    TRY(snapshot_restore(&e->snapshot, store->state, slot, e->snapshot.position, err));
    e->used = ++store->clock;
    return GDN_OK;
}

void store_pin(struct store *store, int32_t entry) { at(store, entry)->pins++; }

void store_unpin(struct store *store, int32_t entry)
{
    GDN_CHECK(at(store, entry)->pins > 0, "snapshot %d of a store has no pin", entry);
    store->entry[entry].pins--;
}

int32_t store_merge(struct store *store, int32_t parent, int32_t child)
{
    if (parent >= 0) store_release(store, parent);
    return child;
}

void store_split(const struct store *store, int32_t entry, int32_t *left, int32_t *right)
{
    at(store, entry);
    *left = -1;
    *right = entry;
}

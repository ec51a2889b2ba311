/* pages.c: which page of keys and values belongs to whom.
 *
 * A page is 64 positions of one sequence in every attention layer at once. Slots that share a past
 * share its pages; a slot that is about to write into a shared page gets its own copy first. */
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "state/state.h"

enum gdn_status pages_open(struct state *st, struct gdn_error *err)
{
    const size_t pages = (size_t)st->pages, rows = (size_t)st->slots * (size_t)st->row_pages;
    st->table = mem_take_array(rows, sizeof *st->table);
    st->shared = mem_take_array(pages, sizeof *st->shared);
    st->free_page = mem_take_array(pages, sizeof *st->free_page);
    st->table_on = st->device->take(st->device, rows * sizeof *st->table_on);
    if (!st->table || !st->shared || !st->free_page || !st->table_on)
        return error_set(err, GDN_ERR_MEMORY, "no memory for %d pages", st->pages);
    for (size_t i = 0; i < rows; i++) st->table[i] = -1;
    for (int32_t i = 0; i < st->pages; i++) st->free_page[i] = st->pages - 1 - i;
    st->free_pages = st->pages;
    return GDN_OK;
}

void pages_close(struct state *st)
{
    mem_give(st->table);
    mem_give(st->shared);
    mem_give(st->free_page);
    st->device->give(st->device, st->table_on);
}

static int32_t *row_of(const struct state *st, int32_t slot)
{
    return st->table + (int64_t)slot * st->row_pages;
}

static void upload_row(struct state *st, int32_t slot)
{
    st->device->upload(st->device, st->table_on + (int64_t)slot * st->row_pages, row_of(st, slot),
                       sizeof(int32_t) * (size_t)st->row_pages);
}

/* Of one page its keys, or its values; 0 bytes where those are the front of the keys. */
static size_t page_bytes(const struct kv_pages *kv, bool values)
{
    return kv->k ? PAGE * kv_row_bytes(kv, values) : 0;
}

static char *page_at(const struct kv_pages *kv, bool values, int32_t page)
{
    return (char *)(values ? kv->v : kv->k) + page_bytes(kv, values) * (size_t)page;
}

/* The last owner zeroes it: nothing of one user is left for the next. */
static void let_go(struct state *st, int32_t page)
{
    if (page < 0 || --st->shared[page] > 0) return;
    for (int32_t i = 0; i < 2 * st->layers; i++) {
        const struct kv_pages *kv = &st->layer[i / 2].kv;
        const size_t bytes = page_bytes(kv, i % 2);
        if (bytes > 0) st->device->clear(st->device, page_at(kv, i % 2, page), bytes);
    }
    st->free_page[st->free_pages++] = page;
}

/* Every slot may fill its whole row without sharing: only snapshots can use up the pages. */
static int32_t take_page(struct state *st)
{
    if (st->free_pages == 0) return -1;
    const int32_t page = st->free_page[--st->free_pages];
    st->shared[page] = 1;
    return page;
}

static void copy_page(struct state *st, int32_t from, int32_t to)
{
    for (int32_t i = 0; i < 2 * st->layers; i++) {
        const struct kv_pages *kv = &st->layer[i / 2].kv;
        const size_t bytes = page_bytes(kv, i % 2);
        if (bytes > 0)
            st->device->copy(st->device, page_at(kv, i % 2, to), page_at(kv, i % 2, from), bytes);
    }
}

enum gdn_status state_reserve(struct state *st, int32_t slot, int32_t rows, struct gdn_error *err)
{
    const struct slot *s = &st->slot[slot];
    GDN_CHECK(s->status == SLOT_LIVE, "slot %d is not live", slot);
    const int32_t first = state_first(st, slot);
    if (rows <= 0 && first >= s->position) return GDN_OK;
    if ((int64_t)s->position + rows > (int64_t)st->row_pages * PAGE)
        return error_set(err, GDN_ERR_USAGE,
                         "the sequence would have %lld tokens, the context holds %lld",
                         (long long)s->position + rows, (long long)st->row_pages * PAGE);
    int32_t *row = row_of(st, slot);
    enum gdn_status status = GDN_OK;
    bool changed = false;
    for (int32_t i = first / PAGE; i <= (s->position + rows - 1) / PAGE; i++) {
        const int32_t page = row[i];
        if (page >= 0 && st->shared[page] == 1) continue;
        const int32_t own = take_page(st);
        if (own < 0) {
            status = error_set(err, GDN_ERR_MEMORY, "all %d pages are in use: snapshots hold those "
                               "that no session has", st->pages);
            break;
        }
        row[i] = own;
        changed = true;
        if (page >= 0) {
            copy_page(st, page, own);
            st->shared[page]--;
        }
    }
    if (changed) upload_row(st, slot);
    /* Conservative: a draft that would cross the edge folds nothing, but may own its anchor. */
    if (status == GDN_OK && anchor_is_shared(st, slot) && state_length(st, slot) + rows > BLOCK)
        anchor_own(st, slot);
    return status;
}

void pages_drop(struct state *st, int32_t slot)
{
    int32_t *row = row_of(st, slot);
    for (int32_t i = 0; i < st->row_pages; i++) {
        let_go(st, row[i]);
        row[i] = -1;
    }
}

void pages_share(struct state *st, int32_t from, int32_t to)
{
    const int32_t *source = row_of(st, from);
    int32_t *row = row_of(st, to);
    for (int32_t i = 0; i < st->row_pages; i++) {
        row[i] = source[i];
        if (row[i] >= 0) st->shared[row[i]]++;
    }
    upload_row(st, to);
}

void pages_hold(struct state *st, int32_t slot, int32_t *page, int32_t n)
{
    memcpy(page, row_of(st, slot), sizeof *page * (size_t)n);
    for (int32_t i = 0; i < n; i++) st->shared[page[i]]++;
}

void pages_lend(struct state *st, int32_t slot, const int32_t *page, int32_t n)
{
    memcpy(row_of(st, slot), page, sizeof *page * (size_t)n);
    for (int32_t i = 0; i < n; i++) st->shared[page[i]]++;
    upload_row(st, slot);
}

void pages_let_go(struct state *st, const int32_t *page, int32_t n)
{
    for (int32_t i = 0; i < n; i++) let_go(st, page[i]);
}

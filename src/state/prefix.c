#include "state/prefix.h"

int32_t prefix_agreed(const int32_t *a, int32_t a_len, const int32_t *b, int32_t b_len)
{
    const int32_t most = a_len < b_len ? a_len : b_len;
    int32_t i = 0;
    while (i < most && a[i] == b[i]) i++;
    return i;
}

int32_t prefix_reach(int32_t position, int32_t length, int32_t agreed, int32_t n, bool ready)
{
    if (agreed == n && position == n && ready) return n;
    const int32_t to = agreed < n ? agreed : n - 1;
    return to > 0 && position - to <= length ? to : 0;
}

struct prefix_found prefix_find(const struct store *store, const int32_t *tokens, int32_t n)
{
    struct prefix_found found = {.entry = -1};
    for (int32_t i = 0; i < store->most; i++) {
        const struct store_entry *e = &store->entry[i];
        /* Snapshots from before a change of storage types cannot be restored any more. */
        if (!e->live || e->snapshot.types != store->state->types) continue;
        const int32_t agreed = prefix_agreed(e->tokens, e->snapshot.position, tokens, n);
        const int32_t reach = prefix_reach(e->snapshot.position, e->snapshot.length, agreed, n,
                                           e->extra != NULL);
        if (agreed > found.agreed) found.agreed = agreed;
        if (reach <= found.position) continue;
        found.position = reach;
        found.entry = i;
    }
    return found;
}

/* ---- stops ----------------------------------------------------------------------------------- */

static int32_t block_end(int32_t position) { return (position + BLOCK - 1) / BLOCK * BLOCK; }

/* Far behind the end short messages share a stop, for each one also cuts a pass: four times as
 * dense as distances are. */
static bool is_worth(int32_t position, int32_t from, int32_t n)
{
    const int32_t behind = n - position;
    return behind <= STORE_NEAR || position - from >= store_spacing(behind) / 4;
}

struct prefix_stop prefix_next(const unsigned char *mark, int32_t from, int32_t n)
{
    int32_t p = from + 1;
    while (p < n && p - from < store_spacing(n - p) && !(mark[p] && is_worth(p, from, n))) p++;
    if (p < n && !mark[p]) return (struct prefix_stop){p, STORE_DISTANCE};
    /* The last one wanted in this block serves all. */
    int32_t last = p, why = p < n ? mark[p] : PREFIX_MESSAGE;
    for (int32_t q = p + 1; q <= n && q <= block_end(p); q++) {
        if (!mark[q] && q < n) continue;
        last = q;
        if (mark[q] > why || q == n) why = q == n ? PREFIX_MESSAGE : mark[q];
    }
    return (struct prefix_stop){last, why == PREFIX_MESSAGE ? STORE_MESSAGE : STORE_THINKING};
}

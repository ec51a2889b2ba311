#include "text/bpe.h"

#include <string.h>

#include "base/checked.h"
#include "base/memory.h"
#include "text/hash.h"

enum {
    SHORT_WORD = 40, /* up to here scanning beats the heap */
    KNOWN_WORDS = 4096,
    KNOWN_BYTES = 30,
    KNOWN_IDS = 8
};

#define NO_RANK UINT32_MAX
#define NOBODY UINT32_MAX

/* One token of a long word, named by the offset of its first byte. */
struct bpe_node {
    uint32_t id;
    uint32_t rank1; /* of the merge with `next`; NO_RANK when there is none, or when swallowed */
    uint32_t before, next;
};

/* A node and two entries of the heap. */
enum { NODE_BYTES = sizeof(struct bpe_node) + 2 * sizeof(uint64_t) };

struct bpe_known {
    uint8_t len, count;
    unsigned char word[KNOWN_BYTES];
    int32_t ids[KNOWN_IDS];
};

bool bpe_open(struct bpe *bpe, size_t merges)
{
    size_t slots = 16, need;
    *bpe = (struct bpe){0};
    if (!checked_add(merges, merges / 2, &need)) return false;
    while (slots < need) {
        if (!checked_mul(slots, 2, &slots)) return false;
    }
    bpe->slots = mem_take_array(slots, sizeof *bpe->slots);
    bpe->mask = slots - 1;
    return bpe->slots != NULL;
}

void bpe_close(struct bpe *bpe)
{
    mem_give(bpe->slots);
    *bpe = (struct bpe){0};
}

static inline size_t first_slot(const struct bpe *bpe, uint32_t left, uint32_t right)
{
    uint64_t pair = (uint64_t)left << 32 | right;
    return (size_t)hash_mix(pair ^ UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0xbf58476d1ce4e5b9)) &
           bpe->mask;
}

enum bpe_added bpe_add(struct bpe *bpe, struct bpe_merge merge)
{
    size_t at = first_slot(bpe, merge.left, merge.right);
    for (int probe = 0; probe < HASH_PROBE_MAX; probe++, at = (at + 1) & bpe->mask) {
        struct bpe_merge *slot = &bpe->slots[at];
        if (slot->rank1 == 0) {
            *slot = merge;
            return BPE_ADDED;
        }
        if (slot->left == merge.left && slot->right == merge.right) return BPE_TWICE;
    }
    return BPE_CROWDED;
}

static inline const struct bpe_merge *find(const struct bpe *bpe, uint32_t left, uint32_t right)
{
    size_t at = first_slot(bpe, left, right);
    for (;; at = (at + 1) & bpe->mask) {
        const struct bpe_merge *slot = &bpe->slots[at];
        if (slot->rank1 == 0) return NULL;
        if (slot->left == left && slot->right == right) return slot;
    }
}

static inline uint32_t rank_of(const struct bpe *bpe, uint32_t left, uint32_t right)
{
    const struct bpe_merge *merge = find(bpe, left, right);
    return merge ? merge->rank1 : NO_RANK;
}

static void encode_short(const struct bpe *bpe, const unsigned char *word, size_t len,
                         struct ids *out)
{
    uint32_t ids[SHORT_WORD], ranks[SHORT_WORD];
    for (size_t i = 0; i < len; i++) ids[i] = (uint32_t)bpe->byte_id[word[i]];
    for (size_t i = 0; i + 1 < len; i++) ranks[i] = rank_of(bpe, ids[i], ids[i + 1]);
    while (len > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < len; i++) {
            if (ranks[i] < ranks[best]) best = i;
        }
        if (ranks[best] == NO_RANK) break;
        ids[best] = find(bpe, ids[best], ids[best + 1])->made;
        len--;
        memmove(ids + best + 1, ids + best + 2, (len - best - 1) * sizeof *ids);
        memmove(ranks + best, ranks + best + 1, (len - best - 1) * sizeof *ranks);
        if (best + 1 < len) ranks[best] = rank_of(bpe, ids[best], ids[best + 1]);
        if (best > 0) ranks[best - 1] = rank_of(bpe, ids[best - 1], ids[best]);
    }
    for (size_t i = 0; i < len; i++) out->at[out->len++] = (int32_t)ids[i];
}

/* The heap holds rank << 32 | offset, smallest first; an entry whose rank is no longer that of its
 * node is stale and dropped when it comes up. Four children a node: fewer cache lines a level. */
static void heap_down(uint64_t *heap, size_t count, size_t at)
{
    uint64_t moved = heap[at];
    for (;;) {
        size_t child = 4 * at + 1, end = child + 4 < count ? child + 4 : count, least = child;
        if (child >= count) break;
        for (size_t i = child + 1; i < end; i++) {
            if (heap[i] < heap[least]) least = i;
        }
        if (heap[least] >= moved) break;
        heap[at] = heap[least];
        at = least;
    }
    heap[at] = moved;
}

static void heap_up(uint64_t *heap, size_t at)
{
    uint64_t moved = heap[at];
    while (at > 0 && heap[(at - 1) / 4] > moved) {
        heap[at] = heap[(at - 1) / 4];
        at = (at - 1) / 4;
    }
    heap[at] = moved;
}

static void work_release(struct bpe_work *work)
{
    mem_unreserve(work->nodes, work->room * NODE_BYTES);
    work->nodes = NULL;
    work->heap = NULL;
    work->room = 0;
}

/* A word of n bytes has n - 1 pairs at first, and each merge takes at least one entry out and puts
 * at most two in: 2n entries always suffice. Reserved, not taken: most of it is never touched, and
 * nothing has to be cleared. */
static bool work_reserve(struct bpe_work *work, size_t len)
{
    size_t room = work->room < 1024 ? 1024 : work->room, bytes;
    if (len <= work->room) return true;
    while (room < len) {
        if (!checked_mul(room, 2, &room)) return false;
    }
    if (!checked_mul(room, NODE_BYTES, &bytes)) return false;
    work_release(work);
    work->nodes = mem_reserve(bytes);
    if (!work->nodes) return false;
    work->room = room;
    work->heap = (uint64_t *)(work->nodes + room);
    return true;
}

static size_t chain_up(const struct bpe *bpe, struct bpe_work *work, const unsigned char *word,
                       uint32_t len)
{
    size_t count = 0;
    struct bpe_node *nodes = work->nodes;
    for (uint32_t i = 0; i < len; i++) {
        nodes[i] = (struct bpe_node){.id = (uint32_t)bpe->byte_id[word[i]],
                                     .rank1 = NO_RANK,
                                     .before = i ? i - 1 : NOBODY,
                                     .next = i + 1 < len ? i + 1 : NOBODY};
    }
    for (uint32_t i = 0; i + 1 < len; i++) {
        nodes[i].rank1 = rank_of(bpe, nodes[i].id, nodes[i + 1].id);
        if (nodes[i].rank1 != NO_RANK) work->heap[count++] = (uint64_t)nodes[i].rank1 << 32 | i;
    }
    for (size_t i = count / 4 + 1; i-- > 0;) {
        if (i < count) heap_down(work->heap, count, i);
    }
    return count;
}

/* Sets the rank of the pair that begins at `at` and, if it can merge, puts it into the heap. */
static size_t push_pair(const struct bpe *bpe, struct bpe_work *work, uint32_t at, size_t count)
{
    struct bpe_node *node = &work->nodes[at];
    node->rank1 = node->next == NOBODY ? NO_RANK
                                       : rank_of(bpe, node->id, work->nodes[node->next].id);
    if (node->rank1 == NO_RANK) return count;
    work->heap[count] = (uint64_t)node->rank1 << 32 | at;
    heap_up(work->heap, count);
    return count + 1;
}

static void encode_long(const struct bpe *bpe, struct bpe_work *work, const unsigned char *word,
                        uint32_t len, struct ids *out)
{
    struct bpe_node *nodes = work->nodes;
    size_t count = chain_up(bpe, work, word, len);
    while (count > 0) {
        uint64_t top = work->heap[0];
        uint32_t at = (uint32_t)top;
        struct bpe_node *node = &nodes[at], *gone;
        work->heap[0] = work->heap[--count];
        if (count > 1) heap_down(work->heap, count, 0);
        if (node->rank1 != top >> 32) continue;
        gone = &nodes[node->next];
        node->id = find(bpe, node->id, gone->id)->made;
        gone->rank1 = NO_RANK;
        node->next = gone->next;
        if (node->next != NOBODY) nodes[node->next].before = at;
        count = push_pair(bpe, work, at, count);
        if (node->before != NOBODY) count = push_pair(bpe, work, node->before, count);
    }
    for (uint32_t i = 0; i != NOBODY; i = nodes[i].next) out->at[out->len++] = (int32_t)nodes[i].id;
}

bool bpe_work_open(struct bpe_work *work, bool remember)
{
    *work = (struct bpe_work){0};
    if (!remember) return true;
    work->known = mem_take_array(KNOWN_WORDS, sizeof *work->known);
    return work->known != NULL;
}

void bpe_work_close(struct bpe_work *work)
{
    work_release(work);
    mem_give(work->known);
    *work = (struct bpe_work){0};
}

static void remember(struct bpe_known *known, const unsigned char *word, size_t len,
                     const int32_t *ids, size_t count)
{
    if (count > KNOWN_IDS) return;
    known->len = (uint8_t)len;
    known->count = (uint8_t)count;
    memcpy(known->word, word, len);
    memcpy(known->ids, ids, count * sizeof *ids);
}

bool bpe_encode(const struct bpe *bpe, struct bpe_work *work, const unsigned char *word,
                size_t len, struct ids *out)
{
    struct bpe_known *known = NULL;
    size_t begin = out->len;
    if (!ids_reserve(out, len)) return false;
    if (len == 1) {
        out->at[out->len++] = bpe->byte_id[word[0]];
        return true;
    }
    if (len > SHORT_WORD) {
        if (len >= NOBODY || !work_reserve(work, len)) return false;
        encode_long(bpe, work, word, (uint32_t)len, out);
        return true;
    }
    if (work->known && len <= sizeof known->word) {
        known = &work->known[hash_bytes(word, len) % KNOWN_WORDS];
        if (known->len == len && memcmp(known->word, word, len) == 0) {
            memcpy(out->at + begin, known->ids, known->count * sizeof *known->ids);
            out->len += known->count;
            return true;
        }
    }
    encode_short(bpe, word, len, out);
    if (known) remember(known, word, len, out->at + begin, out->len - begin);
    return true;
}

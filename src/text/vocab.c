#include "text/vocab.h"

#include <string.h>

#include "base/checked.h"
#include "base/memory.h"
#include "text/hash.h"
#include "text/utf8.h"

static uint32_t hash_of(const char *text, size_t len, bool raw)
{
    return (uint32_t)hash_bytes(text, len) ^ (raw ? 0x55555555u : 0);
}

static bool is_it(const struct vocab *vocab, const struct vocab_entry *entry, const char *text,
                  size_t len, bool raw)
{
    const size_t head = len < VOCAB_HEAD ? len : VOCAB_HEAD;
    if (entry->len != len || entry->raw != raw || memcmp(entry->head, text, head) != 0)
        return false;
    return len == head ||
           memcmp(vocab->text.at + entry->at + head, text + head, len - head) == 0;
}

/* The slot of the text, or the free one where it belongs; SIZE_MAX when too many fall together. */
static size_t slot_of(const struct vocab *vocab, uint32_t hash, const char *text, size_t len,
                      bool raw)
{
    size_t at = hash & vocab->mask;
    for (int probe = 0; probe < HASH_PROBE_MAX; probe++, at = (at + 1) & vocab->mask) {
        const struct vocab_slot slot = vocab->slots[at];
        if (slot.entry == 0) return at;
        if (slot.hash == hash && is_it(vocab, &vocab->entries[slot.entry - 1], text, len, raw))
            return at;
    }
    return SIZE_MAX;
}

static enum vocab_added grow(struct vocab *vocab)
{
    size_t room = vocab->room ? 2 * vocab->room : 512, size;
    while (!vocab->room && room < vocab->expected) room *= 2;
    if (!checked_mul(room, sizeof *vocab->entries, &size)) return VOCAB_NO_MEMORY;
    struct vocab_entry *entries = mem_resize(vocab->entries, size);
    if (!entries) return VOCAB_NO_MEMORY;
    vocab->entries = entries;
    struct vocab_slot *slots = mem_take_array(2 * room, sizeof *slots);
    if (!slots) return VOCAB_NO_MEMORY;
    mem_give(vocab->slots);
    vocab->slots = slots;
    vocab->mask = 2 * room - 1;
    vocab->room = room;
    for (size_t i = 0; i < vocab->count; i++) {
        size_t at = entries[i].hash & vocab->mask;
        for (int probe = 0; slots[at].entry != 0; at = (at + 1) & vocab->mask) {
            if (++probe == HASH_PROBE_MAX) return VOCAB_CROWDED;
        }
        slots[at] = (struct vocab_slot){entries[i].hash, (uint32_t)i + 1};
    }
    return VOCAB_ADDED;
}

enum vocab_added vocab_add(struct vocab *vocab, const char *text, size_t len, bool raw, int32_t id)
{
    uint32_t hash = hash_of(text, len, raw);
    if (vocab->count == vocab->room) {
        enum vocab_added grown = grow(vocab);
        if (grown != VOCAB_ADDED) return grown;
    }
    size_t slot = slot_of(vocab, hash, text, len, raw), at = vocab->text.len;
    if (slot == SIZE_MAX) return VOCAB_CROWDED;
    if (vocab->slots[slot].entry != 0) return VOCAB_TWICE;
    bytes_add(&vocab->text, text, len);
    if (vocab->text.failed) return VOCAB_NO_MEMORY;
    vocab->entries[vocab->count] = (struct vocab_entry){
        .at = (uint32_t)at, .hash = hash, .id = id, .len = (uint16_t)len, .raw = raw};
    memcpy(vocab->entries[vocab->count].head, text, len < VOCAB_HEAD ? len : VOCAB_HEAD);
    vocab->slots[slot] = (struct vocab_slot){hash, (uint32_t)++vocab->count};
    return VOCAB_ADDED;
}

struct vocab_entry *vocab_find(const struct vocab *vocab, const char *text, size_t len, bool raw)
{
    if (vocab->count == 0) return NULL;
    size_t slot = slot_of(vocab, hash_of(text, len, raw), text, len, raw);
    if (slot == SIZE_MAX || vocab->slots[slot].entry == 0) return NULL;
    return &vocab->entries[vocab->slots[slot].entry - 1];
}

uint32_t vocab_hash(const char *text, size_t len) { return hash_of(text, len, false); }

void vocab_fetch_slot(const struct vocab *vocab, uint32_t hash)
{
    if (vocab->count > 0) __builtin_prefetch(&vocab->slots[hash & vocab->mask]);
}

/* Mostly the first slot is the one. */
void vocab_fetch_entry(const struct vocab *vocab, uint32_t hash)
{
    if (vocab->count == 0) return;
    const struct vocab_slot slot = vocab->slots[hash & vocab->mask];
    if (slot.entry > 0) __builtin_prefetch(&vocab->entries[slot.entry - 1]);
}

struct vocab_entry *vocab_find_hashed(const struct vocab *vocab, uint32_t hash, const char *text,
                                      size_t len)
{
    if (vocab->count == 0) return NULL;
    const size_t slot = slot_of(vocab, hash, text, len, false);
    if (slot == SIZE_MAX || vocab->slots[slot].entry == 0) return NULL;
    return &vocab->entries[vocab->slots[slot].entry - 1];
}

struct vocab_entry *vocab_find_near(const struct vocab *vocab, size_t *hint, const char *text,
                                    size_t len)
{
    struct vocab_entry *near = *hint < vocab->count ? &vocab->entries[*hint] : NULL;
    if (!near || !is_it(vocab, near, text, len, false))
        near = vocab_find(vocab, text, len, false);
    if (near) *hint = (size_t)(near - vocab->entries) + 1;
    return near;
}

void vocab_close(struct vocab *vocab)
{
    bytes_free(&vocab->text);
    mem_give(vocab->entries);
    mem_give(vocab->slots);
    *vocab = (struct vocab){0};
}

void alphabet_open(struct alphabet *alphabet)
{
    int next = 0x100;
    memset(alphabet->byte_of, 0xFF, sizeof alphabet->byte_of);
    for (int byte = 0; byte < 256; byte++) {
        bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
        alphabet->byte_of[printable ? byte : next++] = (int16_t)byte;
    }
}

bool alphabet_read(const struct alphabet *alphabet, const char *text, size_t len, char *out,
                   size_t *out_len)
{
    size_t n, count = 0;
    for (size_t i = 0; i < len; i += n) {
        uint32_t c = utf8_read((const unsigned char *)text + i, &n);
        if (c >= ALPHABET_END || alphabet->byte_of[c] < 0) return false;
        out[count++] = (char)alphabet->byte_of[c];
    }
    *out_len = count;
    return true;
}

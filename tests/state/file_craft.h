/* file_craft.h: damage that no checksum sees: the bytes of a state file are whole again after they
 * were changed. What lies behind the checksums must hold by itself. */
#ifndef TESTS_STATE_FILE_CRAFT_H
#define TESTS_STATE_FILE_CRAFT_H

#include <string.h>

#include "base/hash.h"
#include "state/file.h"
#include "state/file_layout.h"

/* Both kinds of layer and both kinds of gate, as small as they come. tests/fuzz/state_seeds.py
 * writes files of it. */
static const struct layer_shape file_small[] = {
    {.kind = LAYER_DELTA, .Hk = 1, .Hv = 2, .Dk = 4, .Dv = 8, .taps = 2},
    {.kind = LAYER_ATTN, .Hkv = 1, .D = 4},
    {.kind = LAYER_DELTA, .Hk = 1, .Hv = 1, .Dk = 4, .Dv = 4, .taps = 4, .channel_gate = true},
};
enum { FILE_SMALL = sizeof file_small / sizeof *file_small };

/* The fingerprint of the model, in all 32 bytes. */
enum { FILE_MODEL = 7 };

enum { FILE_LEAST = sizeof(struct file_prologue) + 8 }; /* nothing but a prologue and a seal */

/* Bytes of a file whose payload has so many. */
static inline size_t sealed_bytes(size_t payload)
{
    const size_t blocks = (payload + STATE_FILE_BLOCK - 1) / STATE_FILE_BLOCK;
    return sizeof(struct file_prologue) + payload + 8 * (blocks + 1);
}

/* Seals the payload that stands at byte 64: writes what comes before and behind it. */
static inline void reseal(void *file, size_t payload)
{
    struct file_prologue head = {.version = STATE_FILE_VERSION, .block = STATE_FILE_BLOCK,
                                 .payload = payload, .total = sealed_bytes(payload)};
    memcpy(head.magic, "gdnstate", sizeof head.magic);
    head.blocks = (payload + STATE_FILE_BLOCK - 1) / STATE_FILE_BLOCK;
    head.hash = hash64(&head, sizeof head - sizeof head.hash, 0);
    memcpy(file, &head, sizeof head);
    char *data = (char *)file + sizeof head, *table = data + payload;
    for (size_t i = 0; i < head.blocks; i++) {
        const size_t at = i * STATE_FILE_BLOCK, left = payload - at;
        const uint64_t hash = hash64(data + at, left < STATE_FILE_BLOCK ? left : STATE_FILE_BLOCK, 0);
        memcpy(table + 8 * i, &hash, sizeof hash);
    }
    const uint64_t seal = hash64(table, 8 * head.blocks, head.hash);
    memcpy(table + 8 * head.blocks, &seal, sizeof seal);
}

/* The payload that a file of `len` bytes has room for. */
static inline size_t payload_of(size_t len)
{
    size_t payload = len < FILE_LEAST ? 0 : len - FILE_LEAST;
    while (payload > 0 && sealed_bytes(payload) > len) payload--;
    return payload;
}

#endif

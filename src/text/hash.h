/* hash.h: a fast hash of short byte strings. It is not keyed: tables that hold strings from a file
 * bound the length of a probe instead (HASH_PROBE_MAX) and refuse what exceeds it. */
#ifndef TEXT_HASH_H
#define TEXT_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* In a table at most two thirds full an honest file stays below 100. */
enum { HASH_PROBE_MAX = 1024 };

static inline uint64_t hash_mix(uint64_t a, uint64_t b)
{
    unsigned __int128 m = (unsigned __int128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static inline uint64_t hash_bytes(const void *data, size_t len)
{
    const unsigned char *at = data;
    uint64_t h = UINT64_C(0x9e3779b97f4a7c15) ^ len, word;
    for (; len >= 8; at += 8, len -= 8) {
        memcpy(&word, at, 8);
        h = hash_mix(h ^ word, UINT64_C(0xbf58476d1ce4e5b9));
    }
    word = 0;
    for (size_t i = 0; i < len; i++) word = word << 8 | at[i];
    h = hash_mix(h ^ word, UINT64_C(0x94d049bb133111eb));
    return h ^ h >> 29;
}

#endif

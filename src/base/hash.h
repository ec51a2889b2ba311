/* hash.h: a fast 64-bit hash against accidents, and SHA-256 for identities. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* XXH64 of the bytes: detects damage, not malice. */
uint64_t hash64(const void *data, size_t len, uint64_t seed);

struct sha256 {
    uint32_t h[8];
    uint64_t bytes;
    unsigned char block[64];
};
void sha256_open(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t len);
/* The digest; the struct is used up. */
void sha256_close(struct sha256 *s, unsigned char digest[32]);

#endif

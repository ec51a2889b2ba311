/* bytes.h: little-endian numbers in byte buffers, and a growing text. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t bytes_u64(const void *at)
{
    const unsigned char *p = at;
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

static inline void bytes_put_u64(void *at, uint64_t v)
{
    unsigned char *p = at;
    for (int i = 0; i < 8; i++, v >>= 8) p[i] = (unsigned char)v;
}

/* A growing run of bytes, always followed by a zero byte. A growth that fails sets `failed` and
 * drops the bytes: callers look once at the end. Start with {0}. */
struct bytes {
    char *at;
    size_t len, room;
    bool failed;
};

void bytes_add(struct bytes *b, const void *data, size_t len);
void bytes_add_text(struct bytes *b, const char *text);
void bytes_addf(struct bytes *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void bytes_free(struct bytes *b);

#endif

/* checked.h: arithmetic on sizes that come from outside. Every product and sum of such a size goes
 * through here; a wrapped value is never formed. */
#ifndef BASE_CHECKED_H
#define BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool checked_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool checked_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

/* Up to the next multiple of `to`, a power of two. */
static inline bool checked_align(size_t a, size_t to, size_t *out)
{
    size_t up;
    if (!checked_add(a, to - 1, &up)) return false;
    *out = up & ~(to - 1);
    return true;
}

/* The signed 64-bit numbers of JSON as a size. */
static inline bool checked_size(int64_t a, size_t *out)
{
    if (a < 0 || (uint64_t)a > SIZE_MAX) return false;
    *out = (size_t)a;
    return true;
}

#endif

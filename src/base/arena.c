#include "base/arena.h"

#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/checked.h"
#include "base/memory.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ADDRESS_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) && !defined(ADDRESS_SANITIZER)
#define ADDRESS_SANITIZER 1
#endif

#if defined(GDN_POISON) && GDN_POISON && defined(ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
enum { FENCE = 64 };
static void fence(void *at, size_t bytes) { ASAN_POISON_MEMORY_REGION(at, bytes); }
static void unfence(void *at, size_t bytes) { ASAN_UNPOISON_MEMORY_REGION(at, bytes); }
#else
enum { FENCE = 0 };
static void fence(void *at, size_t bytes) { (void)at, (void)bytes; }
static void unfence(void *at, size_t bytes) { (void)at, (void)bytes; }
#endif

enum { ALIGN = 64 };

bool arena_open(struct arena *arena, size_t bytes)
{
    *arena = (struct arena){0};
    if (!checked_align(bytes, 4096, &bytes)) return false;
    arena->base = mem_reserve(bytes);
    if (!arena->base) {
        arena->failed = true;
        return false;
    }
    arena->size = bytes;
    fence(arena->base, bytes);
    return true;
}

void arena_close(struct arena *arena)
{
    if (arena->base) unfence(arena->base, arena->size);
    mem_unreserve(arena->base, arena->size);
    *arena = (struct arena){0};
}

void arena_over(struct arena *arena, void *memory, size_t bytes)
{
    const size_t lead = (ALIGN - (uintptr_t)memory % ALIGN) % ALIGN;
    *arena = (struct arena){.failed = lead > bytes || !memory};
    if (arena->failed) return;
    arena->base = (unsigned char *)memory + lead;
    arena->size = (bytes - lead) / ALIGN * ALIGN;
    fence(arena->base, arena->size);
}

void arena_leave(struct arena *arena)
{
    if (arena->base) unfence(arena->base, arena->size);
    *arena = (struct arena){0};
}

void arena_remote(struct arena *arena, void *memory, size_t bytes)
{
    *arena = (struct arena){.base = memory, .size = bytes, .failed = !memory, .remote = true};
}

void arena_measure(struct arena *arena) { *arena = (struct arena){0}; }

void *arena_take(struct arena *arena, size_t bytes)
{
    size_t whole, end;
    if (!checked_add(bytes, FENCE, &whole) || !checked_align(whole, ALIGN, &whole) ||
        !checked_add(arena->used, whole, &end))
        end = SIZE_MAX;
    if (end > arena->size) {
        arena->failed = true;
        if (!arena->base) arena->used = end;
        if (arena->used > arena->high) arena->high = arena->used;
        return NULL;
    }
    unsigned char *at = arena->base + arena->used;
    if (!arena->remote) {
        unfence(at, bytes);
#if defined(GDN_POISON) && GDN_POISON
        memset(at, 0xff, bytes); /* NaN in every float type: nothing is read before it is written */
#endif
    }
    arena->used = end;
    if (end > arena->high) arena->high = end;
    return at;
}

void *arena_take_zeroed(struct arena *arena, size_t bytes)
{
    GDN_CHECK(!arena->remote, "a device's memory is not zeroed by the host");
    void *at = arena_take(arena, bytes);
    if (at) memset(at, 0, bytes);
    return at;
}

size_t arena_mark(const struct arena *arena) { return arena->used; }

void arena_release(struct arena *arena, size_t mark)
{
    GDN_CHECK(mark <= arena->used, "an arena was released to a mark ahead of it");
    if (arena->base && !arena->remote) fence(arena->base + mark, arena->used - mark);
    arena->used = mark;
}

void arena_reset(struct arena *arena)
{
    arena_release(arena, 0);
    arena->failed = arena->base == NULL;
}

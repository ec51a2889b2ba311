/* arena.h: scratch that is taken in order and given back all at once.
 *
 *   base                      used              high             size
 *    |##########################|.................|................|
 *      taken since the reset      touched before    address space only
 *
 * The space is reserved once; a take is an addition. A take that does not fit returns NULL and
 * leaves `failed` set: callers may go on with the chain of calls and look once at the end. Taken
 * in the same order after a reset, the addresses repeat: that is what lets a device capture a pass.
 * In poison builds everything not taken is fenced off for the address sanitizer. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

struct arena {
    unsigned char *base;
    size_t used, high, size;
    bool failed;
    bool remote; /* memory that the host cannot touch */
};

/* Reserves `bytes`; false (and an arena that fails every take) when the system refuses. */
bool arena_open(struct arena *arena, size_t bytes);
void arena_close(struct arena *arena);

/* Over memory of somebody else's, at any address: up to 63 bytes in front and behind are lost.
 * arena_leave gives it back as it was found but for its contents. */
void arena_over(struct arena *arena, void *memory, size_t bytes);
void arena_leave(struct arena *arena);

/* Over memory of a device, which nobody touches here. Its owner gives it back. */
void arena_remote(struct arena *arena, void *memory, size_t bytes);

/* Has no memory: every take fails, but `used` and `high` move as if it had not (SIZE_MAX: more than
 * an address space). What takes all it needs before it looks for a failure says so how much. */
void arena_measure(struct arena *arena);

/* `bytes` aligned to 64, NOT zeroed; NULL and `failed` when it does not fit. */
void *arena_take(struct arena *arena, size_t bytes);
/* The same, zeroed. */
void *arena_take_zeroed(struct arena *arena, size_t bytes);

/* Give back everything taken since the mark. */
size_t arena_mark(const struct arena *arena);
void arena_release(struct arena *arena, size_t mark);
/* Give back everything and clear `failed`. */
void arena_reset(struct arena *arena);

#endif

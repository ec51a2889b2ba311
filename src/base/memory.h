/* memory.h: the one door to the heap. It counts, can be told to fail, and knows when allocation is
 * forbidden because a step is running. */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed bytes, aligned to 64; NULL when memory does not suffice. Size 0 gives a valid pointer. */
void *mem_take(size_t bytes);
/* The same, not zeroed: for what is written over at once. */
void *mem_take_dirty(size_t bytes);
/* count * size, checked for overflow; otherwise as mem_take. */
void *mem_take_array(size_t count, size_t size);
/* Grows or shrinks; new bytes are not zeroed; on failure NULL and the old block stays. */
void *mem_resize(void *block, size_t bytes);
/* Releases; NULL is fine. */
void mem_give(void *block);
/* The same, zeroed before: for what was of a user. */
void mem_wipe(void *block);
/* A copy of a zero-ended text. */
char *mem_text(const char *text);

/* Address space for an arena: pages are zero and cost memory only once touched. */
void *mem_reserve(size_t bytes);
void mem_unreserve(void *block, size_t bytes);

struct mem_count {
    int64_t live_blocks;
    int64_t live_bytes;
    int64_t peak_bytes;
    int64_t takes;          /* successful calls of mem_take, mem_resize and mem_reserve */
    int64_t guarded_takes;  /* those made while a guard was up: must stay 0 */
};
struct mem_count mem_counted(void);

/* Between these two the process promises not to allocate (a step of the engine). A breach is
 * counted, and in poison builds it ends the process with a sentence. Guards nest. */
void mem_guard_raise(void);
void mem_guard_lower(void);

/* Test hook: the n-th take from now fails (1 = the next), and with `forever` all after it too.
 * 0 switches it off. */
void mem_fail_after(int64_t n, bool forever);

#endif

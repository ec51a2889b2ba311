#include "base/memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/checked.h"

/* Each block is preceded by one cache line that says what it is. Large blocks are mapped: their
 * pages are zero and cost memory only once touched, so room for what may come is nearly free. */
enum { HEAD = 64 };
#if defined(GDN_POISON) && GDN_POISON
static const size_t mapped_from = SIZE_MAX; /* sanitizers see into heap blocks only */
#else
static const size_t mapped_from = 1 << 16;
#endif

struct head {
    size_t bytes; /* asked for */
    size_t whole; /* taken, head included */
    bool mapped;
};

static _Atomic int64_t live_blocks, live_bytes, peak_bytes, takes, guarded_takes, guards;
static _Atomic int64_t fail_in;
static _Atomic bool fail_forever;

static bool told_to_fail(void)
{
    if (atomic_load(&fail_in) == 0) return false;
    int64_t left = atomic_fetch_sub(&fail_in, 1);
    if (left > 1) return false;
    atomic_store(&fail_in, atomic_load(&fail_forever) ? 1 : 0);
    return true;
}

static void count_take(int64_t blocks, int64_t bytes)
{
    atomic_fetch_add(&takes, 1);
    if (atomic_load(&guards) > 0) {
        atomic_fetch_add(&guarded_takes, 1);
#if defined(GDN_POISON) && GDN_POISON
        GDN_CHECK(false, "memory was taken inside a step (%lld bytes)", (long long)bytes);
#endif
    }
    atomic_fetch_add(&live_blocks, blocks);
    int64_t now = atomic_fetch_add(&live_bytes, bytes) + bytes;
    int64_t peak = atomic_load(&peak_bytes);
    while (now > peak && !atomic_compare_exchange_weak(&peak_bytes, &peak, now)) {
    }
}

static void *take(size_t bytes, bool zeroed)
{
    struct head head = {.bytes = bytes, .mapped = bytes >= mapped_from};
    if (!checked_add(bytes, HEAD, &head.whole) || !checked_align(head.whole, HEAD, &head.whole))
        return NULL;
    if (told_to_fail()) return NULL;
    unsigned char *block;
    if (head.mapped) {
        block = mmap(NULL, head.whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (block == MAP_FAILED) return NULL;
    } else {
        block = aligned_alloc(HEAD, head.whole);
        if (!block) return NULL;
        if (zeroed) memset(block, 0, head.whole);
    }
    memcpy(block, &head, sizeof head);
    count_take(1, (int64_t)bytes);
    return block + HEAD;
}

void *mem_take(size_t bytes) { return take(bytes, true); }

void *mem_take_dirty(size_t bytes) { return take(bytes, false); }

void *mem_take_array(size_t count, size_t size)
{
    size_t bytes;
    return checked_mul(count, size, &bytes) ? mem_take(bytes) : NULL;
}

static struct head head_of(const void *block)
{
    struct head head;
    memcpy(&head, (const unsigned char *)block - HEAD, sizeof head);
    return head;
}

void *mem_resize(void *block, size_t bytes)
{
    if (!block) return mem_take(bytes);
    void *grown = mem_take_dirty(bytes);
    if (!grown) return NULL;
    const size_t old = head_of(block).bytes;
    memcpy(grown, block, old < bytes ? old : bytes);
    mem_give(block);
    return grown;
}

void mem_wipe(void *block)
{
    /* Pages that were mapped are zeroed by the system. A memset before free would be left out. */
    if (block && !head_of(block).mapped) explicit_bzero(block, head_of(block).bytes);
    mem_give(block);
}

void mem_give(void *block)
{
    if (!block) return;
    const struct head head = head_of(block);
    atomic_fetch_sub(&live_blocks, 1);
    atomic_fetch_sub(&live_bytes, (int64_t)head.bytes);
    if (head.mapped)
        munmap((unsigned char *)block - HEAD, head.whole);
    else
        free((unsigned char *)block - HEAD);
}

char *mem_text(const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = mem_take(n);
    if (copy) memcpy(copy, text, n);
    return copy;
}

void *mem_reserve(size_t bytes)
{
    if (told_to_fail()) return NULL;
    void *block = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED) return NULL;
    count_take(1, (int64_t)bytes);
    return block;
}

void mem_unreserve(void *block, size_t bytes)
{
    if (!block) return;
    munmap(block, bytes ? bytes : 1);
    atomic_fetch_sub(&live_blocks, 1);
    atomic_fetch_sub(&live_bytes, (int64_t)bytes);
}

struct mem_count mem_counted(void)
{
    return (struct mem_count){
        .live_blocks = atomic_load(&live_blocks),
        .live_bytes = atomic_load(&live_bytes),
        .peak_bytes = atomic_load(&peak_bytes),
        .takes = atomic_load(&takes),
        .guarded_takes = atomic_load(&guarded_takes),
    };
}

void mem_guard_raise(void) { atomic_fetch_add(&guards, 1); }

void mem_guard_lower(void) { atomic_fetch_sub(&guards, 1); }

void mem_fail_after(int64_t n, bool forever)
{
    atomic_store(&fail_forever, forever);
    atomic_store(&fail_in, n);
}

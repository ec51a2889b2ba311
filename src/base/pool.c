/* pool.c: the thread team of pool.h.
 *
 * A job is published by raising `job`; every worker does its share and lowers `left`; the caller
 * does share 0 and waits for `left` to be zero. Both waits spin first and then sleep on the futex
 * of the word they watch. A sleeper announces itself before it sleeps and the waker looks after it
 * has changed the word (all sequentially consistent), so one of the two always sees the other. */
#include "base/pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cpu.h"
#include "base/memory.h"

/* About 50 to 150 us: longer than the gap between two ops of a step. */
enum { SPINS = 3000 };

struct worker {
    struct pool *pool;
    pthread_t id;
    int thread;
};

struct pool {
    /* Written by the caller between jobs only. */
    pool_work *work;
    void *context;
    int64_t count, grain;
    int threads, spins;
    bool closing;
    struct worker *workers; /* [threads - 1] */
    _Atomic bool running;
    /* Each watched word on its own cache line. */
    alignas(64) _Atomic uint32_t job;
    _Atomic uint32_t job_sleepers;
    alignas(64) _Atomic uint32_t left;
    _Atomic uint32_t left_sleepers;
};

static void spin_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Returns once *word is no longer `old`. */
static void wait_change(_Atomic uint32_t *word, uint32_t old, _Atomic uint32_t *sleepers, int spins)
{
    for (int i = 0; i < spins; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != old) return;
        spin_pause();
    }
    atomic_fetch_add(sleepers, 1);
    while (atomic_load(word) == old)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(sleepers, 1);
}

static void wake_all(_Atomic uint32_t *word, _Atomic uint32_t *sleepers)
{
    if (atomic_load(sleepers) > 0)
        syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* The share of one thread: whole grains, the first `units % threads` threads take one more. */
static void do_share(const struct pool *pool, int thread)
{
    int64_t units = (pool->count - 1) / pool->grain + 1;
    int64_t each = units / pool->threads, more = units % pool->threads;
    int64_t first = each * thread + (thread < more ? thread : more);
    int64_t last = first + each + (thread < more);
    if (first == last) return;
    int64_t end = last == units ? pool->count : last * pool->grain;
    pool->work(pool->context, first * pool->grain, end, thread);
}

static void *worker_main(void *argument)
{
    const struct worker *worker = argument;
    struct pool *pool = worker->pool;
    for (uint32_t seen = 0;; seen++) {
        wait_change(&pool->job, seen, &pool->job_sleepers, pool->spins);
        if (pool->closing) return NULL;
        do_share(pool, worker->thread);
        if (atomic_fetch_sub(&pool->left, 1) == 1) wake_all(&pool->left, &pool->left_sleepers);
    }
}

/* Starts the workers with all signals blocked, so that handlers run on the caller's threads.
 * Returns how many came up. */
static int start_workers(struct pool *pool, int count)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int n = 0;
    for (; n < count; n++) {
        struct worker *worker = &pool->workers[n];
        *worker = (struct worker){.pool = pool, .thread = n + 1};
        if (pthread_create(&worker->id, NULL, worker_main, worker) != 0) break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return n;
}

static void stop_workers(struct pool *pool, int count)
{
    pool->closing = true;
    atomic_fetch_add(&pool->job, 1);
    wake_all(&pool->job, &pool->job_sleepers);
    for (int i = 0; i < count; i++) pthread_join(pool->workers[i].id, NULL);
    mem_give(pool->workers);
    mem_give(pool);
}

struct pool *pool_open(int threads)
{
    GDN_CHECK(threads >= 1, "a pool of %d threads", threads);
    struct pool *pool = mem_take(sizeof *pool);
    if (!pool) return NULL;
    pool->workers = mem_take_array((size_t)threads - 1, sizeof *pool->workers);
    if (!pool->workers) {
        mem_give(pool);
        return NULL;
    }
    pool->threads = threads;
    /* More threads than cores: spinning would only keep a sibling from its work. */
    pool->spins = threads <= cpu_count() ? SPINS : 0;
    int started = start_workers(pool, threads - 1);
    if (started == threads - 1) return pool;
    stop_workers(pool, started);
    return NULL;
}

void pool_close(struct pool *pool)
{
    if (pool) stop_workers(pool, pool->threads - 1);
}

int pool_threads(const struct pool *pool) { return pool ? pool->threads : 1; }

void pool_run(struct pool *pool, int64_t count, int64_t grain, pool_work *work, void *context)
{
    GDN_CHECK(grain >= 1, "a grain of %lld", (long long)grain);
    if (count <= 0) return;
    if (!pool || pool->threads == 1 || count <= grain) {
        work(context, 0, count, 0);
        return;
    }
    GDN_CHECK(!atomic_exchange(&pool->running, true), "pool_run inside pool_run");
    pool->work = work;
    pool->context = context;
    pool->count = count;
    pool->grain = grain;
    atomic_store(&pool->left, (uint32_t)pool->threads - 1);
    atomic_fetch_add(&pool->job, 1);
    wake_all(&pool->job, &pool->job_sleepers);
    do_share(pool, 0);
    for (uint32_t left; (left = atomic_load(&pool->left)) != 0;)
        wait_change(&pool->left, left, &pool->left_sleepers, pool->spins);
    atomic_store(&pool->running, false);
}

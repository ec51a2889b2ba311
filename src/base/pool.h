/* pool.h: a persistent team of threads for splitting outputs.
 *
 * One job at a time; the caller is thread 0. Between jobs the others spin for a moment and then
 * sleep. Shares are cut by index alone, never by who is free: the same job always gives the same
 * thread the same outputs, and a reduction is never split. */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stdint.h>

struct pool;

/* `threads` >= 1 counts the caller. NULL when memory or threads do not suffice. */
struct pool *pool_open(int threads);
void pool_close(struct pool *pool);
int pool_threads(const struct pool *pool);

/* Calls work(context, begin, end, thread) for consecutive shares of [0, count), each a multiple of
 * `grain` long except the last; returns when all are done. `pool` may be NULL (one share, caller).
 * Must not be called from inside work. */
typedef void pool_work(void *context, int64_t begin, int64_t end, int thread);
void pool_run(struct pool *pool, int64_t count, int64_t grain, pool_work *work, void *context);

#endif

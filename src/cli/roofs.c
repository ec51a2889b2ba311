#include "cli/roofs.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/roof.h"

/* More than a cache that is shared with others is likely to keep. */
enum { MOST_SHARE = 256 << 20, LEAST_SHARE = 1 << 16, ROUNDS = 5 };

struct measuring {
    char *memory; /* [threads][share] */
    size_t share;
    const struct roof *roof;
    double flops[1024]; /* of each thread */
};

static void touch(void *context, int64_t begin, int64_t end, int thread)
{
    struct measuring *m = context;
    (void)thread;
    memset(m->memory + (size_t)begin * m->share, 0, (size_t)(end - begin) * m->share);
}

static void read_share(void *context, int64_t begin, int64_t end, int thread)
{
    struct measuring *m = context;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        roof_read((const float *)(m->memory + (size_t)i * m->share), m->share / sizeof(float));
}

static void multiply(void *context, int64_t begin, int64_t end, int thread)
{
    struct measuring *m = context;
    (void)thread;
    for (int64_t i = begin; i < end; i++) m->flops[i] = m->roof->multiply_adds();
}

static bool measure(struct pool *pool, struct measuring *m, int threads, struct machine_roofs *out)
{
    if (m) m->memory = mem_take_array((size_t)threads, m->share);
    if (!pool || !m || !m->memory) return false;
    pool_run(pool, threads, 1, touch, m);
    for (int i = 0; i < ROUNDS; i++) {
        double begin = clock_seconds(), flops = 0;
        pool_run(pool, threads, 1, read_share, m);
        const double read = (double)m->share * threads / (clock_seconds() - begin);
        begin = clock_seconds();
        pool_run(pool, threads, 1, multiply, m);
        const double seconds = clock_seconds() - begin;
        for (int t = 0; t < threads; t++) flops += m->flops[t];
        if (read > out->read) out->read = read;
        if (flops / seconds > out->flops) out->flops = flops / seconds;
    }
    mem_give(m->memory);
    return true;
}

enum gdn_status roofs_measure(uint32_t isa, int threads, double bytes, struct machine_roofs *found,
                              struct gdn_error *err)
{
    struct pool *pool = pool_open(threads);
    struct measuring *m = mem_take(sizeof *m);
    const double share = bytes / threads;
    if (m) {
        m->roof = roof_of(isa);
        m->share = share > MOST_SHARE    ? MOST_SHARE
                   : share < LEAST_SHARE ? LEAST_SHARE : (size_t)share / 64 * 64;
    }
    const bool good = measure(pool, m, threads, found);
    mem_give(m);
    pool_close(pool);
    if (good) return GDN_OK;
    return error_set(err, GDN_ERR_MEMORY, "the machine could not be measured: that takes up to %d "
                     "MB for each of %d threads", MOST_SHARE >> 20, threads);
}

/* ---- memory ---------------------------------------------------------------------------------- */

void peak_reset(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (!file) return;
    fputs("5", file);
    fclose(file);
}

int64_t peak_bytes(void)
{
    char line[128];
    long long kb = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmHWM: %lld kB", &kb) == 1) break;
    if (file) fclose(file);
    return (int64_t)kb * 1024;
}

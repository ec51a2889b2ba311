/* crash_kill.h: a process that saves two states in turn over one name is killed, n times. */
#ifndef TESTS_STATE_CRASH_KILL_H
#define TESTS_STATE_CRASH_KILL_H

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "file_lab.h"

/* What the process and its killer share. */
struct kill_shared {
    _Atomic int64_t saves; /* that have returned */
    _Atomic bool begun;
};

static int64_t kill_in; /* calls until the process ends itself; 0: it waits for its killer */

static void kill_self(void *context, const struct file_event *e)
{
    (void)context, (void)e;
    if (--kill_in == 0) raise(SIGKILL);
}

static inline void kill_child(struct file_lab *f, struct kill_shared *shared, int64_t calls)
{
    kill_in = calls;
    if (calls > 0) file_watch(kill_self, NULL);
    atomic_store(&shared->begun, true);
    for (int i = 0;; i++) {
        if (file_save(f, i % 2 ? OLD : NEW) != GDN_OK) abort(); /* not SIGKILL: the parent sees it */
        atomic_fetch_add(&shared->saves, 1);
    }
}

/* Every other time it is killed from outside, at no particular moment; else before a certain call. */
static inline void kill_once(struct file_lab *f, struct kill_shared *shared, struct rng *rng,
                             bool outside)
{
    const int64_t calls = outside ? 0 : 1 + (int64_t)rng_below(rng, 60);
    const useconds_t wait = (useconds_t)rng_below(rng, 4000);
    atomic_store(&shared->begun, false);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) kill_child(f, shared, calls);
    while (outside && !atomic_load(&shared->begun)) usleep(50);
    if (outside) {
        usleep(wait);
        kill(child, SIGKILL);
    }
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
}

static inline void kill_many(const struct layer_shape *shape, int32_t layers, int times)
{
    struct file_lab f;
    struct rng rng = {.seed = 3};
    int found[2] = {0}, left = 0;
    file_lab_open(&f, shape, layers);
    struct kill_shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    assert_int_equal(file_save(&f, OLD), GDN_OK);
    for (int i = 0; i < times; i++) {
        kill_once(&f, shared, &rng, i % 2);
        const int which = file_found(&f);
        assert_true(which == OLD || which == NEW);
        found[which]++;
        assert_int_equal(file_load(&f, f.image[which], f.len[which]), which);
        /* At most the one that the last writer left: the next one removed those before. */
        left += file_exists(f.temp);
        assert_int_equal(file_entries(&f), 1 + file_exists(f.temp));
    }
    assert_true(found[OLD] > 0 && found[NEW] > 0 && left > 0 && shared->saves > 0);
    assert_int_equal(file_save(&f, NEW), GDN_OK);
    assert_int_equal(file_entries(&f), 1);
    munmap(shared, sizeof *shared);
    file_lab_close(&f);
}

#endif

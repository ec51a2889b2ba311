/* What the system lends: its files as they are elsewhere, written here, and a limit of addresses. */
#include "base/machine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/gdn-machine-XXXXXX");
    if (!mkdtemp(root)) return -1;
    machine_set_root(root);
    return 0;
}

static int drop_root(void **state)
{
    (void)state;
    char command[128];
    machine_set_root(NULL);
    snprintf(command, sizeof command, "rm -r %s", root);
    return system(command);
}

/* A file below the root; its folders are made. NULL removes it. */
static void put(const char *path, const char *text)
{
    char whole[512];
    snprintf(whole, sizeof whole, "%s/%s", root, path);
    for (char *cut = whole + strlen(root) + 1; (cut = strchr(cut, '/')); cut++) {
        *cut = 0;
        mkdir(whole, 0700);
        *cut = '/';
    }
    if (!text) {
        unlink(whole);
        return;
    }
    FILE *file = fopen(whole, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void left(int64_t want, const char *by)
{
    const struct machine_memory m = machine_memory();
    assert_int_equal(m.left, want);
    assert_string_equal(m.by, by);
}

static void nothing_known(void **state)
{
    (void)state;
    left(INT64_MAX, "the machine has");
    assert_int_equal(machine_peak_bytes(), 0);
    put("proc/meminfo", "MemTotal: 5 kB\nMemAvailable: lots\n");
    left(INT64_MAX, "the machine has");
    put("proc/meminfo", "MemAvailable: 99999999999999999999999 kB\n");
    left(INT64_MAX, "the machine has");
}

static void of_the_machine(void **state)
{
    (void)state;
    put("proc/meminfo", "MemTotal:       16 kB\nMemFree: 1 kB\nMemAvailable:   12 kB\n");
    left(12 * 1024, "the machine has");
    put("proc/self/status", "Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t   77 kB\nVmSize:\t 40 kB\n");
    assert_int_equal(machine_peak_bytes(), 77 * 1024);
}

/* Version 2: the tightest of the group and all above it; what was read from files can go. */
static void of_groups(void **state)
{
    (void)state;
    put("proc/meminfo", "MemAvailable: 1000 kB\n");
    put("proc/self/cgroup", "0::/a/b\n");
    left(1000 * 1024, "the machine has");
    put("sys/fs/cgroup/a/b/memory.max", "max\n");
    left(1000 * 1024, "the machine has");
    put("sys/fs/cgroup/a/memory.max", "500000\n");
    left(1000 * 1024, "the machine has");
    put("sys/fs/cgroup/a/memory.current", "300000\n");
    left(200000, "the control group has");
    put("sys/fs/cgroup/a/memory.stat", "anon 1\nactive_file 1000\nfile 7\ninactive_file 20000\n");
    left(221000, "the control group has");
    put("sys/fs/cgroup/a/b/memory.max", "1000\n");
    put("sys/fs/cgroup/a/b/memory.current", "4000\n");
    left(0, "the control group has");
    put("sys/fs/cgroup/a/b/memory.max", "99999999999\n");
    put("proc/meminfo", "MemAvailable: 100 kB\n");
    left(100 * 1024, "the machine has");
    /* A container sees its own group at the root, under whatever path. */
    put("proc/self/cgroup", "0::/elsewhere\n");
    put("sys/fs/cgroup/memory.max", "50\n");
    put("sys/fs/cgroup/memory.current", "20\n");
    left(30, "the control group has");
    put("sys/fs/cgroup/memory.max", NULL);
}

static void of_groups_of_old(void **state)
{
    (void)state;
    put("proc/meminfo", "MemAvailable: 1000 kB\n");
    put("proc/self/cgroup", "9:cpu:/\n4:memory:/c\n0::/\n");
    put("sys/fs/cgroup/memory/c/memory.limit_in_bytes", "9223372036854771712\n");
    put("sys/fs/cgroup/memory/c/memory.usage_in_bytes", "5\n");
    left(1000 * 1024, "the machine has");
    put("sys/fs/cgroup/memory/c/memory.limit_in_bytes", "1000\n");
    put("sys/fs/cgroup/memory/c/memory.stat", "inactive_file 1\ntotal_inactive_file 3\n");
    left(998, "the control group has");
}

/* In a process of its own: the limit stays. */
static void of_addresses(void **state)
{
    (void)state;
    put("proc/self/status", "VmSize:\t 1000 kB\n");
    assert_int_equal(machine_memory().address, INT64_MAX);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit limit = {.rlim_cur = 1000 * 1024 + 77, .rlim_max = RLIM_INFINITY};
        const struct rlimit tight = {.rlim_cur = 999 * 1024, .rlim_max = RLIM_INFINITY};
        if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(1);
        if (machine_memory().address != 77) _exit(2);
        if (setrlimit(RLIMIT_AS, &tight) != 0) _exit(3);
        _exit(machine_memory().address == 0 ? 0 : 4);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* The real ones: whatever they are, they are numbers of a process that runs. */
static void of_this_machine(void **state)
{
    (void)state;
    machine_set_root(NULL);
    assert_in_range(machine_peak_bytes(), 1 << 16, (int64_t)1 << 40);
    assert_true(machine_memory().left > 0);
    machine_set_root(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_known),    cmocka_unit_test(of_the_machine),
        cmocka_unit_test(of_groups),        cmocka_unit_test(of_groups_of_old),
        cmocka_unit_test(of_addresses),     cmocka_unit_test(of_this_machine),
    };
    return cmocka_run_group_tests(tests, make_root, drop_root);
}

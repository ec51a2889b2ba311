#include "base/machine.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const char *root_folder = "/";

void machine_set_root(const char *root) { root_folder = root ? root : "/"; }

/* ---- files of the system --------------------------------------------------------------------- */

enum { SMALL = 16384 };

/* They have no length: what fits is read, zero-ended. */
static bool read_small(const char *path, char text[SMALL])
{
    char whole[4096];
    if (snprintf(whole, sizeof whole, "%s/%s", root_folder, path) >= (int)sizeof whole)
        return false;
    const int fd = open(whole, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    size_t len = 0;
    ssize_t n;
    while (len < SMALL - 1 && (n = read(fd, text + len, SMALL - 1 - len)) > 0) len += (size_t)n;
    close(fd);
    text[len] = 0;
    return len > 0;
}

/* The number behind `key` at the head of a line; -1: there is none. */
static int64_t number_of(const char *text, const char *key)
{
    const size_t n = strlen(key);
    while (text && strncmp(text, key, n) != 0) {
        text = strchr(text, '\n');
        if (text) text++;
    }
    if (!text) return -1;
    char *end;
    const long long value = strtoll(text + n, &end, 10);
    return end == text + n || value < 0 ? -1 : value;
}

static int64_t kilobytes(const char *text, const char *key)
{
    const int64_t value = number_of(text, key);
    return value < 0 || value > INT64_MAX / 1024 ? -1 : 1024 * value;
}

/* ---- groups ---------------------------------------------------------------------------------- */

/* Where the two versions of cgroups keep what. */
struct group_files {
    const char *line; /* of /proc/self/cgroup, up to the path */
    const char *folder, *most, *used, *active, *inactive;
};
static const struct group_files versions[] = {
    {"0::", "sys/fs/cgroup", "memory.max", "memory.current", "active_file ", "inactive_file "},
    {":memory:", "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
     "total_active_file ", "total_inactive_file "},
};

static bool read_group(const struct group_files *g, const char *path, const char *name,
                       char text[SMALL])
{
    char file[2048];
    const int n = snprintf(file, sizeof file, "%s%s/%s", g->folder, path, name);
    return n < (int)sizeof file && read_small(file, text);
}

/* What one group leaves: files that it has read can be dropped. INT64_MAX: it sets no limit. */
static int64_t group_left(const struct group_files *g, const char *path)
{
    char text[SMALL];
    if (!read_group(g, path, g->most, text)) return INT64_MAX;
    const int64_t most = number_of(text, "");
    if (most < 0 || !read_group(g, path, g->used, text)) return INT64_MAX;
    int64_t used = number_of(text, "");
    if (used < 0) return INT64_MAX;
    if (read_group(g, path, "memory.stat", text)) {
        const int64_t active = number_of(text, g->active), inactive = number_of(text, g->inactive);
        if (active > 0) used -= active;
        if (inactive > 0) used -= inactive;
    }
    if (used < 0) used = 0;
    return used < most ? most - used : 0;
}

/* The least of a group and all around it. Inside a container the path may be one that is not seen
 * there: its own group is then the root. */
static int64_t groups_left(const struct group_files *g, const char *list)
{
    char path[1024];
    const char *at = strstr(list, g->line);
    if (!at) return INT64_MAX;
    at += strlen(g->line);
    snprintf(path, sizeof path, "%.*s", (int)strcspn(at, "\n"), at);
    int64_t least = INT64_MAX;
    for (char *cut = path + strlen(path);; cut = strrchr(path, '/')) {
        if (!cut) break;
        *cut = 0;
        const int64_t left = group_left(g, path);
        if (left < least) least = left;
    }
    return least;
}

/* ---- together -------------------------------------------------------------------------------- */

static int64_t address_left(void)
{
    struct rlimit limit;
    char text[SMALL];
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return INT64_MAX;
    if (limit.rlim_cur > (rlim_t)INT64_MAX) return INT64_MAX;
    const int64_t most = (int64_t)limit.rlim_cur;
    const int64_t taken = read_small("proc/self/status", text) ? kilobytes(text, "VmSize:") : -1;
    return taken < 0 ? most : taken < most ? most - taken : 0;
}

struct machine_memory machine_memory(void)
{
    char text[SMALL];
    struct machine_memory m = {.left = INT64_MAX, .address = address_left(),
                               .by = "the machine has"};
    if (read_small("proc/meminfo", text)) {
        const int64_t left = kilobytes(text, "MemAvailable:");
        if (left >= 0) m.left = left;
    }
    if (!read_small("proc/self/cgroup", text)) return m;
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        const int64_t left = groups_left(&versions[i], text);
        if (left >= m.left) continue;
        m.left = left;
        m.by = "the control group has";
    }
    return m;
}

int64_t machine_peak_bytes(void)
{
    char text[SMALL];
    const int64_t peak = read_small("proc/self/status", text) ? kilobytes(text, "VmHWM:") : -1;
    return peak < 0 ? 0 : peak;
}

/* doctor.c: `gdn doctor`: what gdn finds on this machine, to read or to put into a report. Each
 * part reads what the system says; a part that is not there is told, never an error. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "base/cpu.h"
#include "cli/command.h"
#include "cli/settings.h"
#include "cli/output.h"
#include "cli/resolve.h"
#include "cli/setup.h"
#include "gdn/gdn.h"

enum { LINE = 512 };

/* The first line of a file that begins with `key`, behind it and what separates; false: none. */
static bool find_line(const char *path, const char *key, char line[LINE])
{
    FILE *file = fopen(path, "re");
    bool found = false;
    while (file && !found && fgets(line, LINE, file)) found = strncmp(line, key, strlen(key)) == 0;
    if (file) fclose(file);
    if (!found) return false;
    char *text = line + strlen(key);
    text += strspn(text, " \t:");
    text[strcspn(text, "\n")] = 0;
    memmove(line, text, strlen(text) + 1);
    return true;
}

static void add_row(struct bytes *out, const char *name, const char *text)
{
    bytes_addf(out, "  %-18s ", name);
    bytes_add_text(out, text);
    bytes_add_text(out, "\n");
}

/* ---- processor ------------------------------------------------------------------------------- */

static bool has_word(const char *path, const char *key, const char *word)
{
    char text[8192];
    FILE *file = fopen(path, "re");
    bool found = false;
    while (file && !found && fgets(text, sizeof text, file))
        found = strncmp(text, key, strlen(key)) == 0 && strstr(text, word);
    if (file) fclose(file);
    return found;
}

static void add_cpu(struct bytes *out)
{
    static const struct {
        uint32_t flag;
        const char *name;
    } known[] = {{CPU_AVX2, "avx2"}, {CPU_AVX512, "avx512"}, {CPU_AVX512_BF16, "avx512-bf16"},
                 {CPU_AVX512_VNNI, "avx512-vnni"}, {CPU_AMX, "amx"}};
    const uint32_t flags = cpu_flags();
    char line[LINE];
    bytes_add_text(out, "Processor\n");
    add_row(out, "name", find_line("/proc/cpuinfo", "model name", line) ? line : "not told");
    bytes_addf(out, "  %-18s %d\n  %-18s", "cores for gdn", cpu_count(), "instructions");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (flags & known[i].flag) bytes_addf(out, " %s", known[i].name);
    bytes_add_text(out, flags ? "\n" : " none that gdn has kernels for\n");
    const bool tiles = has_word("/proc/cpuinfo", "flags", " amx_tile");
    add_row(out, "amx", flags & CPU_AMX ? "permitted"
                        : tiles         ? "there, but the system does not permit it"
                                        : "not on this processor");
}

/* ---- memory and limits ----------------------------------------------------------------------- */

static void add_kilobytes(struct bytes *out, const char *name, const char *path, const char *key)
{
    char line[LINE];
    long long kb;
    if (find_line(path, key, line) && sscanf(line, "%lld", &kb) == 1)
        bytes_addf(out, "  %-18s %.1f GB\n", name, (double)kb * 1024 / 1e9);
    else
        add_row(out, name, "not told");
}

static void add_limit(struct bytes *out, const char *name, int which, double unit, const char *of)
{
    struct rlimit limit;
    if (getrlimit((__rlimit_resource_t)which, &limit) != 0) return;
    if (limit.rlim_cur == RLIM_INFINITY)
        add_row(out, name, "no limit");
    else
        bytes_addf(out, "  %-18s %.0f%s\n", name, (double)limit.rlim_cur / unit, of);
}

static void add_memory(struct bytes *out)
{
    char line[LINE];
    bytes_add_text(out, "\nMemory\n");
    add_kilobytes(out, "of the machine", "/proc/meminfo", "MemTotal:");
    add_kilobytes(out, "left", "/proc/meminfo", "MemAvailable:");
    if (find_line("/sys/fs/cgroup/memory.max", "", line) && strcmp(line, "max") != 0)
        bytes_addf(out, "  %-18s %.1f GB\n", "limit of the group", strtod(line, NULL) / 1e9);
    add_row(out, "huge pages",
            find_line("/sys/kernel/mm/transparent_hugepage/enabled", "", line) ? line : "not told");
    bytes_add_text(out, "\nLimits\n");
    add_limit(out, "address space", RLIMIT_AS, 1e6, " MB");
    add_limit(out, "locked memory", RLIMIT_MEMLOCK, 1e3, " kB");
    add_limit(out, "open files", RLIMIT_NOFILE, 1, "");
}

/* ---- GPU and libraries ----------------------------------------------------------------------- */

static void add_gpu(struct bytes *out)
{
    char line[LINE];
    bytes_add_text(out, "\nGPU\n");
    add_row(out, "driver", find_line("/proc/driver/nvidia/version", "NVRM version", line)
                               ? line : "no NVIDIA driver");
}

/* A library that this process has mapped is in use; one that is not may be part of the program. */
static void add_libraries(struct bytes *out)
{
    static const char *const needed[] = {"libjansson", "libpcre2-8", "libutf8proc"};
    static const struct {
        const char *file, *use;
    } optional[] = {{"libedit.so.2", "editing in gdn chat"}, {"libcuda.so.1", "GPUs"},
                    {"libcublasLt.so.13", "large products on GPUs"},
                    {"libnccl.so.2", "several GPUs"}};
    bytes_add_text(out, "\nLibraries\n");
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        add_row(out, needed[i], has_word("/proc/self/maps", "", needed[i]) ? "in use" : "built in");
    for (size_t i = 0; i < sizeof optional / sizeof *optional; i++) {
        /* Not closed: what it took for itself would be left behind, and we end soon. */
        const void *library = dlopen(optional[i].file, RTLD_LAZY | RTLD_LOCAL);
        bytes_addf(out, "  %-18s %s (for %s)\n", optional[i].file,
                   library ? "there" : "not there", optional[i].use);
    }
}

/* ---- gdn ------------------------------------------------------------------------------------- */

static void add_gdn(struct bytes *out, const char *models)
{
    struct utsname system;
    char path[1024];
    bytes_addf(out, "gdn %s", gdn_version());
    if (uname(&system) == 0)
        bytes_addf(out, " on %s %s, %s", system.sysname, system.release, system.machine);
    bytes_add_text(out, "\n\nFiles\n");
    if (settings_path(path, sizeof path, "XDG_CONFIG_HOME", ".config", "config"))
        add_row(out, "config", path);
    if (settings_path(path, sizeof path, "XDG_DATA_HOME", ".local/share", "models"))
        add_row(out, "models", path);
    bytes_add_text(out, "\nModels by name\n");
    const size_t before = out->len;
    resolve_list(models, out);
    if (out->len == before) bytes_add_text(out, "  none\n");
    bytes_add_text(out, "\n");
}

static enum gdn_status run(int argc, char **argv, struct gdn_error *err)
{
    struct options o = {0};
    struct setup setup = setup_defaults();
    bool done;
    setup_models_option(&o, &setup);
    TRY(command_line(&command_doctor, &o, argc, argv, &done, err));
    if (done) return GDN_OK;
    struct bytes out = {0};
    add_gdn(&out, setup.models);
    add_cpu(&out);
    add_memory(&out);
    add_gpu(&out);
    add_libraries(&out);
    return output_bytes(&out, err);
}

const struct command command_doctor = {
    .name = "doctor", .words = "", .least = 0, .most = 0, .run = run,
    .summary = "Tell what gdn finds on this machine",
    .examples = "doctor\ndoctor > report.txt",
    .notes = "It starts nothing and changes nothing; the page is for reports of faults.",
};

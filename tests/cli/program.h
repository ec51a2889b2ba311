/* program.h: the tests' way to the program: run it, see what it wrote and how it ended, and break
 * models for it in a folder of the test's own. */
#ifndef TESTS_CLI_PROGRAM_H
#define TESTS_CLI_PROGRAM_H

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"

#define DEMO GDN_SOURCE_DIR "/models/demo"
#define TINY GDN_SOURCE_DIR "/tests/golden/q35-r1-tied"

enum { TEXT = 1 << 17 };

/* How the last run ended. */
static struct outcome {
    int code;   /* of the exit, or 1000 + the signal */
    char out[TEXT], err[TEXT];
} ran;

static char work[64];

/* Tests stand in a new folder; every name without a slash in front lies there. */
static inline int make_work(void **state)
{
    (void)state;
    strcpy(work, "/tmp/gdn-cli-XXXXXX");
    if (!mkdtemp(work)) return -1;
    /* The user's own settings and models are no part of a test. */
    setenv("XDG_CONFIG_HOME", work, 1);
    setenv("XDG_DATA_HOME", work, 1);
    return chdir(work);
}

static inline void drop_folder(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir) return;
    for (struct dirent *e; (e = readdir(dir));) {
        char child[1024];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (!file_join(child, sizeof child, path, e->d_name)) continue;
        if (file_is_folder(child))
            drop_folder(child);
        else
            unlink(child);
    }
    closedir(dir);
    rmdir(path);
}

static inline int drop_work(void **state)
{
    (void)state;
    drop_folder(work);
    return chdir("/");
}

/* ---- files ----------------------------------------------------------------------------------- */

static inline void put_bytes(const char *path, const void *data, size_t len)
{
    FILE *file = fopen(path, "wb");
    if (!file) fail_msg("%s", path);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static inline const char *put(const char *name, const char *text)
{
    put_bytes(name, text, strlen(text));
    return name;
}

/* Zero-ended; the caller gives it back. */
static inline char *get(const char *path, size_t *len)
{
    char *data;
    struct gdn_error err = {0};
    if (file_read(path, (size_t)1 << 30, &data, len, &err) != GDN_OK) fail_msg("%s", err.text);
    return data;
}

/* A copy of a model, as folder `to`. */
static inline void copy_model(const char *from, const char *to)
{
    drop_folder(to);
    assert_int_equal(mkdir(to, 0700), 0);
    DIR *dir = opendir(from);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        char source[1024], target[1024];
        size_t len;
        if (e->d_name[0] == '.') continue;
        assert_true(file_join(source, sizeof source, from, e->d_name));
        assert_true(file_join(target, sizeof target, to, e->d_name));
        char *data = get(source, &len);
        put_bytes(target, data, len);
        mem_give(data);
    }
    closedir(dir);
}

/* Replaces `old` in a file, all along, by a text of the same length. */
static inline void edit(const char *name, const char *old, const char *new)
{
    size_t len, changed = 0;
    const size_t n = strlen(old);
    assert_int_equal(n, strlen(new));
    char *data = get(name, &len);
    for (size_t i = 0; i + n <= len; i++) {
        if (memcmp(data + i, old, n) != 0) continue;
        memcpy(data + i, new, n);
        changed++;
    }
    if (changed == 0) fail_msg("%s: no \"%s\"", name, old);
    put_bytes(name, data, len);
    mem_give(data);
}

/* Files of the test whose name contains `part`. */
static inline int count_files(const char *part)
{
    int n = 0;
    DIR *dir = opendir(".");
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) n += strstr(e->d_name, part) != NULL;
    closedir(dir);
    return n;
}

/* ---- the program ----------------------------------------------------------------------------- */

static inline void redirect(int fd, const char *path, int flags)
{
    const int file = open(path, flags, 0600);
    if (file < 0 || dup2(file, fd) < 0) _exit(126);
    close(file);
}

/* Starts it with standard streams in files; `out` may be another place for its answer. */
static inline pid_t start(const char *in, const char *out, const char *const *args)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0) return child;
    redirect(0, in, O_RDONLY);
    redirect(1, out, O_WRONLY | O_CREAT | O_TRUNC);
    redirect(2, "stderr", O_WRONLY | O_CREAT | O_TRUNC);
    execv(GDN_BIN_DIR "/gdn", (char *const *)(size_t)args);
    _exit(127);
}

static inline void take_text(char *to, const char *name)
{
    size_t len;
    char *data = get(name, &len);
    assert_true(len < TEXT);
    memcpy(to, data, len + 1);
    mem_give(data);
}

static inline void finish(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    ran.code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    ran.out[0] = 0;
    if (file_exists("stdout")) take_text(ran.out, "stdout");
    take_text(ran.err, "stderr");
}

static inline int run_with(const char *in, const char *out, const char *const *words)
{
    const char *args[40] = {"gdn"};
    for (int n = 1; words[n - 1]; n++) {
        assert_true(n < 39);
        args[n] = words[n - 1];
    }
    finish(start(in, out, args));
    return ran.code;
}

/* gdn("run", DEMO, ...) runs it with these arguments and returns its exit code; gdn_in also has a
 * file for standard input. */
#define gdn_in(in, ...) run_with(in, "stdout", (const char *const[]){__VA_ARGS__, NULL})
#define gdn(...) gdn_in("/dev/null", __VA_ARGS__)

/* It was refused: this exit code, one sentence from this command that has these parts, and nothing
 * on standard output. */
static inline void refused_(int code, int found, const char *const *parts, const char *file,
                            int line)
{
    bool good = found == code && ran.out[0] == 0 && strncmp(ran.err, "gdn", 3) == 0;
    for (; *parts; parts++) good = good && strstr(ran.err, *parts);
    if (!good)
        fail_msg("%s:%d: exit %d, need %d; stdout \"%s\", stderr \"%s\"", file, line, found, code,
                 ran.out, ran.err);
}
#define refused(code, run, ...) \
    refused_(code, run, (const char *const[]){__VA_ARGS__, NULL}, __FILE__, __LINE__)

/* It went well and said nothing on standard error. */
static inline void went_well_(int found, const char *file, int line)
{
    if (found != 0 || ran.err[0])
        fail_msg("%s:%d: exit %d, stderr \"%s\"", file, line, found, ran.err);
}
#define went_well(run) went_well_(run, __FILE__, __LINE__)

#endif

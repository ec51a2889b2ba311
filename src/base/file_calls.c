#include "base/file_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"

static _Atomic int64_t fail_in;
static _Atomic int fail_code;
static _Atomic bool fail_forever;
static void (*watcher)(void *context, const struct file_event *event);
static void *watcher_context;

void file_fail_after(int64_t n, int code, bool forever)
{
    atomic_store(&fail_code, code);
    atomic_store(&fail_forever, forever);
    atomic_store(&fail_in, n);
}

void file_watch(void (*watch)(void *context, const struct file_event *event), void *context)
{
    watcher_context = context;
    watcher = watch;
}

/* 0: go on. FILE_SHORT, or the errno to fail with. */
static int told_to_fail(const struct file_event *event)
{
    if (watcher) watcher(watcher_context, event);
    if (atomic_load(&fail_in) == 0 || atomic_fetch_sub(&fail_in, 1) > 1) return 0;
    atomic_store(&fail_in, atomic_load(&fail_forever) ? 1 : 0);
    return atomic_load(&fail_code);
}

/* True, with errno, when the call must not be made. *len (or NULL) becomes what it may move. */
static bool fails(const struct file_event *event, size_t *len)
{
    const int code = told_to_fail(event);
    if (code == FILE_SHORT && len && *len > 1) *len /= 2;
    if (code <= 0) return false;
    errno = code;
    return true;
}

/* `expression`, unless it is to fail; again when a signal came first. */
#define CALL(result, expression, len, ...)                                                  \
    do {                                                                                    \
        (result) = fails(&(struct file_event){__VA_ARGS__}, len) ? -1 : (expression);       \
    } while ((result) < 0 && errno == EINTR)

int call_open(const char *path, int flags)
{
    int fd;
    CALL(fd, open(path, flags | O_CLOEXEC, 0600), NULL, .call = FILE_OPEN, .path = path);
    return fd;
}

int call_stat(const char *path, struct stat *st)
{
    int result;
    CALL(result, stat(path, st), NULL, .call = FILE_STAT, .path = path);
    return result;
}

int call_lstat(const char *path, struct stat *st)
{
    int result;
    CALL(result, lstat(path, st), NULL, .call = FILE_STAT, .path = path);
    return result;
}

int call_fstat(int fd, const char *path, struct stat *st)
{
    int result;
    CALL(result, fstat(fd, st), NULL, .call = FILE_STAT, .path = path);
    return result;
}

FILE *call_stream(int fd, const char *path)
{
    return fails(&(struct file_event){.call = FILE_OPEN, .path = path}, NULL) ? NULL
                                                                              : fdopen(fd, "wb");
}

ssize_t call_read(int fd, const char *path, void *data, size_t len)
{
    ssize_t n;
    CALL(n, read(fd, data, len), &len, .call = FILE_READ, .path = path, .len = len);
    return n;
}

ssize_t call_write(int fd, const char *path, const void *data, size_t len)
{
    ssize_t n;
    CALL(n, write(fd, data, len), &len, .call = FILE_WRITE, .path = path, .data = data,
         .len = len);
    return n;
}

void *call_map(int fd, const char *path, size_t len)
{
    if (fails(&(struct file_event){.call = FILE_MAP, .path = path}, NULL)) return MAP_FAILED;
    return mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
}

int call_rename(const char *path, const char *to)
{
    int result;
    CALL(result, rename(path, to), NULL, .call = FILE_RENAME, .path = path, .to = to);
    return result;
}

int call_unlink(const char *path)
{
    int result;
    CALL(result, unlink(path), NULL, .call = FILE_UNLINK, .path = path);
    return result;
}

int call_lock(int fd, const char *path)
{
    int result;
    CALL(result, flock(fd, LOCK_EX | LOCK_NB), NULL, .call = FILE_LOCK, .path = path);
    return result;
}

int call_sync(int fd, const char *path)
{
    int result;
    CALL(result, fsync(fd), NULL, .call = FILE_SYNC, .path = path);
    return result;
}

void call_close(int fd, const char *path)
{
    told_to_fail(&(struct file_event){.call = FILE_CLOSE, .path = path});
    close(fd);
}

void call_close_stream(FILE *stream, const char *path)
{
    told_to_fail(&(struct file_event){.call = FILE_CLOSE, .path = path});
    fclose(stream);
}

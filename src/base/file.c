#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/file_calls.h"
#include "base/memory.h"

/* ---- reading --------------------------------------------------------------------------------- */

/* The name does not lead to a file that may be read; all else is a failure of the machine. */
static bool name_is_bad(int code)
{
    return code == ENOENT || code == ENOTDIR || code == EACCES || code == EPERM || code == ELOOP ||
           code == ENAMETOOLONG || code == ENXIO;
}

enum gdn_status file_open(struct file_in *in, const char *path, struct gdn_error *err)
{
    struct stat st;
    /* O_NONBLOCK: a pipe with no writer must not hang us before fstat has refused it. */
    *in = (struct file_in){.path = path, .fd = call_open(path, O_RDONLY | O_NONBLOCK)};
    if (in->fd < 0)
        return error_set(err, name_is_bad(errno) ? GDN_ERR_INPUT : GDN_ERR_IO,
                         "%s: cannot open: %s", path, strerror(errno));
    if (call_fstat(in->fd, path, &st) != 0) {
        error_set(err, GDN_ERR_IO, "%s: cannot stat: %s", path, strerror(errno));
        file_close(in);
        return GDN_ERR_IO;
    }
    if (!S_ISREG(st.st_mode)) {
        file_close(in);
        return error_set(err, GDN_ERR_INPUT, "%s: found %s, need a regular file", path,
                         S_ISDIR(st.st_mode) ? "a folder" : "a special file");
    }
    in->len = (size_t)st.st_size;
    return GDN_OK;
}

enum gdn_status file_take(struct file_in *in, void *data, size_t len, struct gdn_error *err)
{
    for (size_t have = 0; have < len;) {
        const ssize_t n = call_read(in->fd, in->path, (char *)data + have, len - have);
        if (n <= 0)
            return error_set(err, GDN_ERR_IO, "%s: read failed at byte %zu of %zu: %s", in->path,
                             in->at, in->len, n < 0 ? strerror(errno) : "the file became shorter");
        have += (size_t)n;
        in->at += (size_t)n;
    }
    return GDN_OK;
}

void file_close(struct file_in *in)
{
    if (in->fd >= 0) call_close(in->fd, in->path);
    in->fd = -1;
}

enum gdn_status file_read(const char *path, size_t limit, char **data, size_t *len,
                          struct gdn_error *err)
{
    struct file_in in;
    *data = NULL;
    *len = 0;
    TRY(file_open(&in, path, err));
    char *buffer = in.len <= limit ? mem_take_dirty(in.len + 1) : NULL;
    enum gdn_status status = GDN_OK;
    if (in.len > limit)
        status = error_set(err, GDN_ERR_INPUT, "%s: found %zu bytes, need at most %zu", path,
                           in.len, limit);
    else if (!buffer)
        status = error_set(err, GDN_ERR_MEMORY, "%s: no memory for %zu bytes", path, in.len);
    else
        status = file_take(&in, buffer, in.len, err);
    file_close(&in);
    if (status != GDN_OK) {
        mem_give(buffer);
        return status;
    }
    buffer[in.len] = 0;
    *data = buffer;
    *len = in.len;
    return GDN_OK;
}

enum gdn_status file_map_open(struct file_map *map, const char *path, struct gdn_error *err)
{
    struct file_in in;
    *map = (struct file_map){0};
    TRY(file_open(&in, path, err));
    enum gdn_status status = GDN_OK;
    if (in.len > 0) {
        void *at = call_map(in.fd, path, in.len);
        if (at == MAP_FAILED)
            status = error_set(err, GDN_ERR_IO, "%s: cannot map %zu bytes: %s", path, in.len,
                               strerror(errno));
        else
            *map = (struct file_map){.data = at, .len = in.len};
    }
    file_close(&in);
    return status;
}

void file_map_close(struct file_map *map)
{
    if (map->data) munmap((void *)(size_t)map->data, map->len);
    *map = (struct file_map){0};
}

void file_map_forget(const struct file_map *map, const void *at, size_t len)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), base = (size_t)map->data;
    const size_t first = ((size_t)at + page - 1) / page * page;
    const size_t end = ((size_t)at + len) / page * page;
    /* Nothing but a file's pages may be given up: elsewhere they would come back as zeros. */
    if (map->data && (size_t)at >= base && (size_t)at + len <= base + map->len && first < end)
        madvise((void *)first, end - first, MADV_DONTNEED);
}

/* ---- names ----------------------------------------------------------------------------------- */

bool file_exists(const char *path) { return access(path, F_OK) == 0; }

bool file_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool file_join(char *out, size_t room, const char *folder, const char *name)
{
    size_t n = strlen(folder);
    const char *slash = n && folder[n - 1] != '/' ? "/" : "";
    int len = snprintf(out, room, "%s%s%s", folder, slash, name);
    return len >= 0 && (size_t)len < room;
}

/* ---- writing --------------------------------------------------------------------------------- */

static enum gdn_status open_folder(struct file_out *out, struct gdn_error *err)
{
    char folder[4096] = ".";
    const char *slash = strrchr(out->path, '/');
    if (slash) {
        const size_t n = slash == out->path ? 1 : (size_t)(slash - out->path);
        memcpy(folder, out->path, n);
        folder[n] = 0;
    }
    out->folder = call_open(folder, O_RDONLY | O_DIRECTORY);
    if (out->folder >= 0) return GDN_OK;
    return error_set(err, GDN_ERR_IO, "%s: cannot open the folder: %s", folder, strerror(errno));
}

static enum gdn_status in_the_way(const struct file_out *out, struct gdn_error *err)
{
    return error_set(err, GDN_ERR_IO, "%s: is in the way: %s; remove it if nobody is writing it",
                     out->temp, strerror(errno));
}

/* Removes a temporary file that nobody writes. Its lock is held from before the last look at the
 * name until the name is gone, so it is never one that another writer has made meanwhile. */
static enum gdn_status drop_stale(const struct file_out *out, struct gdn_error *err)
{
    struct stat named, opened;
    enum gdn_status status = GDN_OK;
    const int fd = call_open(out->temp, O_WRONLY | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return errno == ENOENT ? GDN_OK : in_the_way(out, err);
    const bool locked = call_lock(fd, out->temp) == 0;
    if (!locked && errno == EWOULDBLOCK)
        status = error_set(err, GDN_ERR_REFUSED, "%s: another process is writing it now",
                           out->temp);
    else if (!locked || call_fstat(fd, out->temp, &opened) != 0)
        status = in_the_way(out, err);
    else if (call_lstat(out->temp, &named) != 0)
        status = errno == ENOENT ? GDN_OK : in_the_way(out, err);
    else if (opened.st_ino == named.st_ino && opened.st_dev == named.st_dev &&
             call_unlink(out->temp) != 0)
        status = in_the_way(out, err);
    call_close(fd, out->temp);
    return status;
}

/* fd of a new file that is locked and has its name; -1 with errno: EAGAIN, look again. */
static int create_locked(const struct file_out *out)
{
    struct stat st;
    const int fd = call_open(out->temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW);
    if (fd < 0) return -1;
    /* Between the two calls another writer may have taken it for one that was left. Where there are
     * no locks at all, O_EXCL alone keeps writers apart and nothing is ever taken for left. */
    const bool lost = call_lock(fd, out->temp) != 0 && errno == EWOULDBLOCK;
    const bool known = call_fstat(fd, out->temp, &st) == 0;
    if (known && !lost && st.st_nlink > 0) return fd;
    const int code = known ? EAGAIN : errno;
    if (!known) call_unlink(out->temp);
    call_close(fd, out->temp);
    errno = code;
    return -1;
}

static enum gdn_status open_temp(struct file_out *out, struct gdn_error *err)
{
    int fd = -1;
    for (int tries = 0; fd < 0 && tries < 16; tries++) {
        fd = create_locked(out);
        if (fd >= 0 || errno == EAGAIN) continue;
        if (errno != EEXIST) break;
        TRY(drop_stale(out, err));
        errno = EEXIST;
    }
    if (fd < 0)
        return error_set(err, GDN_ERR_IO, "%s: cannot create: %s", out->temp, strerror(errno));
    out->stream = call_stream(fd, out->temp);
    if (out->stream) return GDN_OK;
    const int code = errno;
    call_unlink(out->temp);
    call_close(fd, out->temp);
    return error_set(err, code == ENOMEM ? GDN_ERR_MEMORY : GDN_ERR_IO,
                     "%s: cannot open a stream: %s", out->path, strerror(code));
}

enum gdn_status file_create(struct file_out *out, const char *path, struct gdn_error *err)
{
    *out = (struct file_out){.folder = -1};
    const int n = snprintf(out->temp, sizeof out->temp, "%s.gdn-tmp", path);
    if (n < 0 || (size_t)n >= sizeof out->temp)
        return error_set(err, GDN_ERR_USAGE, "%s: the name is too long", path);
    memcpy(out->path, path, strlen(path) + 1);
    struct stat st;
    const bool there = call_stat(path, &st) == 0;
    if (!there && errno != ENOENT)
        return error_set(err, GDN_ERR_IO, "%s: cannot stat: %s", path, strerror(errno));
    if (there && !S_ISREG(st.st_mode))
        return error_set(err, GDN_ERR_IO, "%s: found something that is not a regular file, will "
                         "not replace it", path);
    TRY(open_folder(out, err));
    const enum gdn_status status = open_temp(out, err);
    if (status != GDN_OK) call_close(out->folder, path);
    return status;
}

void file_write(struct file_out *out, const void *data, size_t len)
{
    if (!out->stream || out->failed) return;
    for (size_t done = 0; done < len;) {
        const ssize_t n = call_write(fileno(out->stream), out->temp, (const char *)data + done,
                                     len - done);
        if (n <= 0) {
            out->code = n < 0 ? errno : ENOSPC;
            out->failed = true;
            return;
        }
        done += (size_t)n;
    }
}

/* The lock goes with the stream, after the last use of the temporary name. */
static void end(struct file_out *out)
{
    call_close_stream(out->stream, out->temp);
    call_close(out->folder, out->path);
    out->stream = NULL;
}

enum gdn_status file_commit(struct file_out *out, struct gdn_error *err)
{
    if (!out->stream) return error_set(err, GDN_ERR_IO, "%s: was never opened", out->path);
    enum gdn_status status = GDN_OK;
    const bool good = !out->failed && call_sync(fileno(out->stream), out->temp) == 0 &&
                      call_rename(out->temp, out->path) == 0;
    if (!good) {
        status = error_set(err, GDN_ERR_IO, "%s: writing failed: %s", out->path,
                           strerror(out->failed ? out->code : errno));
        call_unlink(out->temp);
    } else if (call_sync(out->folder, out->path) != 0) {
        status = error_set(err, GDN_ERR_IO, "%s: written whole, but a power cut may take it back: "
                           "cannot sync its folder: %s", out->path, strerror(errno));
    }
    end(out);
    return status;
}

void file_abandon(struct file_out *out)
{
    if (!out->stream) return;
    call_unlink(out->temp);
    end(out);
}

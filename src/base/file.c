#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

static enum gdn_status open_regular(const char *path, int *fd, size_t *len, struct gdn_error *err)
{
    /* O_NONBLOCK: a pipe with no writer must not hang us before fstat has refused it. */
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) return error_set(err, GDN_ERR_INPUT, "%s: cannot open: %s", path, strerror(errno));
    struct stat st;
    if (fstat(*fd, &st) != 0) {
        int code = errno;
        close(*fd);
        return error_set(err, GDN_ERR_IO, "%s: cannot stat: %s", path, strerror(code));
    }
    if (!S_ISREG(st.st_mode)) {
        close(*fd);
        return error_set(err, GDN_ERR_INPUT, "%s: found %s, need a regular file", path,
                         S_ISDIR(st.st_mode) ? "a folder" : "a special file");
    }
    *len = (size_t)st.st_size;
    return GDN_OK;
}

enum gdn_status file_read(const char *path, size_t limit, char **data, size_t *len,
                          struct gdn_error *err)
{
    int fd;
    *data = NULL;
    *len = 0;
    TRY(open_regular(path, &fd, len, err));
    if (*len > limit) {
        close(fd);
        return error_set(err, GDN_ERR_INPUT, "%s: found %zu bytes, need at most %zu", path, *len,
                         limit);
    }
    char *buffer = mem_take_dirty(*len + 1);
    if (!buffer) {
        close(fd);
        return error_set(err, GDN_ERR_MEMORY, "%s: no memory for %zu bytes", path, *len);
    }
    size_t have = 0;
    while (have < *len) {
        ssize_t n = read(fd, buffer + have, *len - have);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            int code = errno;
            close(fd);
            mem_give(buffer);
            return error_set(err, GDN_ERR_IO, "%s: read failed at byte %zu of %zu: %s", path, have,
                             *len, n < 0 ? strerror(code) : "the file became shorter");
        }
        have += (size_t)n;
    }
    close(fd);
    buffer[*len] = 0;
    *data = buffer;
    return GDN_OK;
}

enum gdn_status file_map_open(struct file_map *map, const char *path, struct gdn_error *err)
{
    int fd;
    *map = (struct file_map){0};
    size_t len = 0;
    TRY(open_regular(path, &fd, &len, err));
    if (len > 0) {
        void *at = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
        int code = errno;
        close(fd);
        if (at == MAP_FAILED)
            return error_set(err, GDN_ERR_IO, "%s: cannot map %zu bytes: %s", path, len,
                             strerror(code));
        map->data = at;
    } else {
        close(fd);
    }
    map->len = len;
    return GDN_OK;
}

void file_map_close(struct file_map *map)
{
    if (map->data) munmap((void *)(size_t)map->data, map->len);
    *map = (struct file_map){0};
}

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

enum gdn_status file_create(struct file_out *out, const char *path, struct gdn_error *err)
{
    *out = (struct file_out){0};
    int a = snprintf(out->path, sizeof out->path, "%s", path);
    int b = snprintf(out->temp, sizeof out->temp, "%s.tmp.%ld", path, (long)getpid());
    if (a < 0 || b < 0 || (size_t)b >= sizeof out->temp)
        return error_set(err, GDN_ERR_USAGE, "%s: the name is too long", path);
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return error_set(err, GDN_ERR_IO, "%s: found something that is not a regular file, will "
                         "not replace it", path);
    unlink(out->temp);
    int fd = open(out->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_set(err, GDN_ERR_IO, "%s: cannot create: %s", out->temp, strerror(errno));
    out->stream = fdopen(fd, "wb");
    if (!out->stream) {
        close(fd);
        unlink(out->temp);
        return error_set(err, GDN_ERR_MEMORY, "%s: no memory for a stream", path);
    }
    return GDN_OK;
}

void file_write(struct file_out *out, const void *data, size_t len)
{
    if (!out->stream || out->failed || len == 0) return;
    if (fwrite(data, 1, len, out->stream) != len) out->failed = true;
}

static enum gdn_status sync_folder(const char *path, struct gdn_error *err)
{
    char folder[4096];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (!slash) {
        memcpy(folder, ".", 2);
    } else if (n == 0) {
        memcpy(folder, "/", 2);
    } else {
        memcpy(folder, path, n);
        folder[n] = 0;
    }
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        int code = errno;
        if (fd >= 0) close(fd);
        return error_set(err, GDN_ERR_IO, "%s: cannot sync the folder: %s", folder, strerror(code));
    }
    close(fd);
    return GDN_OK;
}

enum gdn_status file_commit(struct file_out *out, struct gdn_error *err)
{
    if (!out->stream) return error_set(err, GDN_ERR_IO, "%s: was never opened", out->path);
    bool good = !out->failed && fflush(out->stream) == 0 && fsync(fileno(out->stream)) == 0;
    int code = errno;
    if (fclose(out->stream) != 0 && good) {
        good = false;
        code = errno;
    }
    out->stream = NULL;
    if (good && rename(out->temp, out->path) != 0) {
        good = false;
        code = errno;
    }
    if (!good) {
        unlink(out->temp);
        return error_set(err, GDN_ERR_IO, "%s: writing failed: %s", out->path, strerror(code));
    }
    return sync_folder(out->path, err);
}

void file_abandon(struct file_out *out)
{
    if (!out->stream) return;
    fclose(out->stream);
    out->stream = NULL;
    unlink(out->temp);
}

#include "base/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

enum gdn_status folder_create(struct folder_out *out, const char *path, struct gdn_error *err)
{
    *out = (struct folder_out){0};
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    if (n == 0 || n + sizeof ".gdn-tmp" > sizeof out->temp)
        return error_set(err, GDN_ERR_USAGE, "%.200s: not a name for a folder", path);
    snprintf(out->path, sizeof out->path, "%.*s", (int)n, path);
    snprintf(out->temp, sizeof out->temp, "%.*s.gdn-tmp", (int)n, path);
    if (file_exists(out->path))
        return error_set(err, GDN_ERR_REFUSED, "%s: exists already, need the name of a new folder",
                         out->path);
    if (mkdir(out->temp, 0777) != 0)
        return error_set(err, errno == EEXIST ? GDN_ERR_REFUSED : GDN_ERR_IO,
                         errno == EEXIST ? "%s: found it there: somebody writes it, or died "
                                           "writing it and it can be removed"
                                         : "%s: cannot make this folder: %s",
                         out->temp, strerror(errno));
    out->open = true;
    return GDN_OK;
}

/* What was renamed or made in a folder is there after a loss of power. */
static bool sync_folder(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return false;
    const bool synced = fsync(fd) == 0;
    close(fd);
    return synced;
}

static bool sync_parent(const char *path)
{
    char parent[4096] = ".";
    const char *slash = strrchr(path, '/');
    if (slash)
        snprintf(parent, sizeof parent, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    return sync_folder(parent);
}

enum gdn_status folder_commit(struct folder_out *out, struct gdn_error *err)
{
    enum gdn_status status = GDN_OK;
    if (!sync_folder(out->temp) || rename(out->temp, out->path) != 0)
        status = error_set(err, GDN_ERR_IO, "%s: cannot be given its name: %s", out->path,
                           strerror(errno));
    if (status != GDN_OK) {
        folder_abandon(out);
        return status;
    }
    out->open = false;
    if (sync_parent(out->path)) return GDN_OK;
    return error_set(err, GDN_ERR_IO, "%s: is there, but its folder could not be synced: %s",
                     out->path, strerror(errno));
}

static enum gdn_status remove_file(void *context, const char *name, struct gdn_error *err)
{
    const struct folder_out *out = context;
    char path[4096 + 300];
    (void)err;
    if (file_join(path, sizeof path, out->temp, name)) unlink(path);
    return GDN_OK;
}

void folder_abandon(struct folder_out *out)
{
    if (!out->open) return;
    out->open = false;
    folder_walk(out->temp, remove_file, out, NULL);
    rmdir(out->temp);
}

enum gdn_status folder_walk(const char *path, folder_visit *visit, void *context,
                            struct gdn_error *err)
{
    DIR *dir = opendir(path);
    enum gdn_status status = GDN_OK;
    if (!dir) return error_set(err, GDN_ERR_IO, "%s: cannot be listed: %s", path, strerror(errno));
    for (struct dirent *e; status == GDN_OK && (e = readdir(dir));) {
        char file[4096 + 300];
        struct stat st;
        if (e->d_name[0] == '.' || !file_join(file, sizeof file, path, e->d_name) ||
            stat(file, &st) != 0 || !S_ISREG(st.st_mode))
            continue;
        status = visit(context, e->d_name, err);
    }
    closedir(dir);
    return status;
}

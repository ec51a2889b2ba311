/* file.h: whole files in, whole files out, and files mapped for reading. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

/* A regular file, read from its begin to its end. */
struct file_in {
    const char *path; /* the caller's */
    int fd;
    size_t len, at;
};
enum gdn_status file_open(struct file_in *in, const char *path, struct gdn_error *err);
/* The next `len` bytes, all of them: a file that has become shorter is an error. */
enum gdn_status file_take(struct file_in *in, void *data, size_t len, struct gdn_error *err);
void file_close(struct file_in *in);

/* Reads all of `path` (a regular file of at most `limit` bytes) into mem_take memory; a zero byte
 * follows the last one. The caller gives *data back. */
enum gdn_status file_read(const char *path, size_t limit, char **data, size_t *len,
                          struct gdn_error *err);

/* A regular file mapped read-only; the pages stay the system's. Lengths 0 maps to data == NULL. */
struct file_map {
    const unsigned char *data;
    size_t len;
};
enum gdn_status file_map_open(struct file_map *map, const char *path, struct gdn_error *err);
void file_map_close(struct file_map *map);
/* Bytes [at, at + len) of the map will not be read soon: their pages need not stay in memory. They
 * are read again from the file when they are. */
void file_map_forget(const struct file_map *map, const void *at, size_t len);

/* True when `path` exists (any kind). */
bool file_exists(const char *path);
bool file_is_folder(const char *path);
/* "folder/name" into out; false when it does not fit. */
bool file_join(char *out, size_t room, const char *folder, const char *name);

/* A new file that appears under its name only when it is complete: written beside it as
 * PATH.gdn-tmp (O_EXCL, 0600 & ~umask, locked), synced, renamed, the folder synced. A temporary
 * file whose writer has died is removed by the next one; one whose writer lives is REFUSED. A name
 * that is a symbolic link is replaced, never followed.
 *
 * After a failure the file under the name is the old one, to the byte, and the temporary one is
 * gone if it could be removed. One failure comes too late for that, and its sentence says so: when
 * the folder cannot be synced, the whole new file has the name already. */
struct file_out {
    char path[4096], temp[4096];
    FILE *stream; /* unbuffered: for a caller that writes at offsets of its own (fileno) */
    int folder;   /* open from the begin: nothing is written where it could not be synced */
    int code;     /* errno of the first write that failed */
    bool failed;
};
enum gdn_status file_create(struct file_out *out, const char *path, struct gdn_error *err);
/* Not buffered. A write that fails is remembered and reported by file_commit. */
void file_write(struct file_out *out, const void *data, size_t len);
enum gdn_status file_commit(struct file_out *out, struct gdn_error *err);
/* Drops the temporary file; harmless after a commit. */
void file_abandon(struct file_out *out);

/* ---- test hooks: every system call of file.c passes here ------------------------------------- */

enum file_call {
    FILE_OPEN, FILE_STAT, FILE_LOCK, FILE_READ, FILE_MAP, FILE_WRITE, FILE_SYNC, FILE_RENAME,
    FILE_UNLINK, FILE_CLOSE,
};
struct file_event {
    enum file_call call;
    const char *path; /* of the file or folder; rename: the old name */
    const char *to;   /* rename */
    const void *data; /* write */
    size_t len;       /* read and write: as asked for */
};

/* The n-th call from now fails with errno `code` (1 = the next), and with `forever` all after it
 * too. FILE_SHORT: a read or write does half of what it was asked to; other calls take no notice. A
 * close that fails has closed all the same. 0 switches it off. */
enum { FILE_SHORT = -1 };
void file_fail_after(int64_t n, int code, bool forever);

/* Shows every call before it is made, and before file_fail_after looks at it. NULL: no more. */
void file_watch(void (*watch)(void *context, const struct file_event *event), void *context);

#endif

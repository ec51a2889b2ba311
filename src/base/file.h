/* file.h: whole files in, whole files out, and files mapped for reading. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/status.h"

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

/* True when `path` exists (any kind). */
bool file_exists(const char *path);
bool file_is_folder(const char *path);
/* "folder/name" into out; false when it does not fit. */
bool file_join(char *out, size_t room, const char *folder, const char *name);

/* A new file that appears under its name only when it is complete: written beside it under a
 * temporary name (O_EXCL, 0600 & ~umask), synced, renamed, the folder synced. Writes are
 * buffered; a write that fails is remembered and reported by file_commit. */
struct file_out {
    char path[4096], temp[4096];
    FILE *stream;
    bool failed;
};
enum gdn_status file_create(struct file_out *out, const char *path, struct gdn_error *err);
void file_write(struct file_out *out, const void *data, size_t len);
enum gdn_status file_commit(struct file_out *out, struct gdn_error *err);
/* Drops the temporary file; harmless after a commit. */
void file_abandon(struct file_out *out);

#endif

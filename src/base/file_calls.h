/* file_calls.h: the system calls behind file.c. Each is shown to file_watch, fails when
 * file_fail_after says so, and is made again when a signal came first. */
#ifndef BASE_FILE_CALLS_H
#define BASE_FILE_CALLS_H

#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>

/* As the calls of these names, errno included. `path` is for the watcher where a call has none. */
int call_open(const char *path, int flags); /* O_CLOEXEC; a new file has mode 0600 */
FILE *call_stream(int fd, const char *path);
int call_stat(const char *path, struct stat *st);
int call_lstat(const char *path, struct stat *st);
int call_fstat(int fd, const char *path, struct stat *st);
ssize_t call_read(int fd, const char *path, void *data, size_t len);
ssize_t call_write(int fd, const char *path, const void *data, size_t len);
void *call_map(int fd, const char *path, size_t len); /* private, to read */
int call_rename(const char *path, const char *to);
int call_unlink(const char *path);
/* An exclusive lock, now or not at all (EWOULDBLOCK). */
int call_lock(int fd, const char *path);
/* Once a sync has failed the kernel may have dropped the data: only a signal is a reason to ask
 * again. */
int call_sync(int fd, const char *path);
/* What is to be kept was synced before: a close that fails takes nothing away. It is never made
 * again: after a signal the number may be another file's. */
void call_close(int fd, const char *path);
void call_close_stream(FILE *stream, const char *path);

#endif

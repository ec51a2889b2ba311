/* folder.h: a new folder that appears under its name only when all its files are written. */
#ifndef BASE_FOLDER_H
#define BASE_FOLDER_H

#include <stdbool.h>

#include "base/status.h"

/* Files are put into `temp` (PATH.gdn-tmp, made here) until the commit gives it its name. Neither
 * may exist before. */
struct folder_out {
    char path[4096], temp[4096];
    bool open;
};
enum gdn_status folder_create(struct folder_out *out, const char *path, struct gdn_error *err);
/* After a failure everything is gone again. */
enum gdn_status folder_commit(struct folder_out *out, struct gdn_error *err);
/* Drops the folder with its files; harmless after a commit. */
void folder_abandon(struct folder_out *out);

/* Calls visit for each regular file of a folder that has no name beginning with a dot, until one
 * fails. */
typedef enum gdn_status folder_visit(void *context, const char *name, struct gdn_error *err);
enum gdn_status folder_walk(const char *path, folder_visit *visit, void *context,
                            struct gdn_error *err);

#endif

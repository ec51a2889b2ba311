/* resolve.h: which folder is meant by MODEL: a folder, a file in one, or the name of one. */
#ifndef CLI_RESOLVE_H
#define CLI_RESOLVE_H

#include <stddef.h>

#include "base/bytes.h"
#include "base/status.h"

enum { RESOLVE_BYTES = 4096 };

/* Names are looked up in `folder` (--models; NULL: not given), in the user's models
 * ($XDG_DATA_HOME/gdn/models or ~/.local/share/gdn/models), and among those that come with the
 * program. A name that is nowhere is told with the nearest there is. */
enum gdn_status resolve_model(const char *model, const char *folder, char path[RESOLVE_BYTES],
                              struct gdn_error *err);

/* One line for each name: "  demo   FOLDER". */
void resolve_list(const char *folder, struct bytes *out);

#endif

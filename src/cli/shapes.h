/* shapes.h: published models as shapes to be measured with random weights. */
#ifndef CLI_SHAPES_H
#define CLI_SHAPES_H

#include <stddef.h>

#include "base/status.h"

/* Makes a folder for files that nobody else needs and a model in it: `shape` is a name of the list,
 * or the path of a config.json. */
enum { SHAPE_FOLDER = 256 };
enum gdn_status shape_make(const char *shape, char folder[SHAPE_FOLDER], struct gdn_error *err);
/* The text of its config alone, to be given back. */
enum gdn_status shape_config(const char *shape, char **text, size_t *len, struct gdn_error *err);
/* Removes it. A model that is open stays usable. */
void shape_drop(const char *folder);

/* "qwen3.5-0.8b, ...": for help. */
const char *shape_names(void);

#endif

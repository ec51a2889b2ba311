/* output.h: standard output, which carries the answer and nothing else. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"
#include "base/status.h"

/* Writes and flushes: an answer is seen as it comes. */
void output_text(const char *text);
/* Writes what was collected and releases it; GDN_ERR_MEMORY when collecting failed. */
enum gdn_status output_bytes(struct bytes *text, struct gdn_error *err);
/* False when nobody reads any more or writing has failed: time to stop. */
bool output_open(void);
/* What became of all the writing. A reader that went away got what it wanted: GDN_OK. */
enum gdn_status output_end(struct gdn_error *err);

#endif

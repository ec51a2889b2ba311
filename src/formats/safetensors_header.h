/* safetensors_header.h: private to the safetensors reader. */
#ifndef FORMATS_SAFETENSORS_HEADER_H
#define FORMATS_SAFETENSORS_HEADER_H

#include "formats/safetensors.h"

/* Reads the header_len bytes after the length field of st->data. Fills st->count and st->metadata,
 * and *name_bytes with what all names need including their zeros. Where st->entries and st->names
 * are there (sized by an earlier pass over the same bytes) they are filled too. */
enum gdn_status st_header_pass(struct safetensors *st, size_t header_len, size_t *name_bytes,
                               struct gdn_error *err);

#endif

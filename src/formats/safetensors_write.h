/* safetensors_write.h: a safetensors file written front to back.
 *
 * First every tensor is declared, then the header is written, then the bytes come in the order of
 * declaration and in pieces of any size (a row of logits at a time). The file appears under its
 * name only when every tensor has got exactly its bytes.
 *
 *   st_write_create, st_write_metadata*, st_write_declare*, st_write_header,
 *   st_write_data*, st_write_commit
 *
 * The first failure is kept, makes the calls after it do nothing, and is what commit returns. */
#ifndef FORMATS_SAFETENSORS_WRITE_H
#define FORMATS_SAFETENSORS_WRITE_H

#include "base/bytes.h"
#include "formats/safetensors.h"

struct st_writer {
    struct file_out out;
    struct gdn_error error;
    struct bytes metadata, header; /* JSON without the outer braces */
    struct bytes names;            /* of the tensors, each with its zero */
    struct bytes tensors;          /* struct st_written [count] */
    size_t count, data_len;
    size_t current, filled; /* the tensor that is being written, and its bytes so far */
    bool open, begun;
};

enum gdn_status st_write_create(struct st_writer *w, const char *path, struct gdn_error *err);

/* One text of __metadata__. The caller sees to it that no key comes twice. */
void st_write_metadata(struct st_writer *w, const char *key, const char *value);

/* The next tensor, number 0, 1, 2 ... in order of the calls. */
void st_write_declare(struct st_writer *w, const char *name, enum st_dtype dtype, int rank,
                      const int64_t *shape);

/* Ends the declarations; refuses what the reader would refuse. */
enum gdn_status st_write_header(struct st_writer *w, struct gdn_error *err);

/* The next `len` bytes of tensor number `tensor`, little-endian elements in row-major order. */
void st_write_data(struct st_writer *w, size_t tensor, const void *data, size_t len);

/* Makes the file appear, or drops it and says why. Either way the writer is closed. */
enum gdn_status st_write_commit(struct st_writer *w, struct gdn_error *err);

/* Drops everything; harmless after a commit. */
void st_write_abandon(struct st_writer *w);

#endif

/* tensor_file.h: a safetensors file of f32 matrices whose rows come in any order.
 *
 *   | n (u64) | {"logits":{...},"hidden.0":{...}} and spaces, n bytes | logits | hidden.0 | ...
 *
 * All shapes are known before the first row, so every row has its place from the start and goes
 * there directly: nothing is held in memory. The file appears when it is complete. */
#ifndef CLI_TENSOR_FILE_H
#define CLI_TENSOR_FILE_H

#include "base/bytes.h"
#include "base/file.h"

struct tensor_place {
    char name[32];
    int64_t rows, width;
    int64_t begin; /* of its bytes, from the end of the header */
};

struct tensor_file {
    struct file_out out;
    struct gdn_error error; /* the first write that failed */
    struct tensor_place *tensors;
    int count, room;
    int64_t data, header; /* bytes */
    int64_t rows_left;    /* that have not been written yet */
};

/* `tensors`: how many there will be at most. After a failure there is nothing to abandon. */
enum gdn_status tensor_file_create(struct tensor_file *f, const char *path, struct gdn_error *err);
/* Then the tensors, numbered 0, 1, ... in order of the calls; then the header. */
enum gdn_status tensor_file_shape(struct tensor_file *f, const char *name, int64_t rows,
                                  int64_t width, struct gdn_error *err);
enum gdn_status tensor_file_begin(struct tensor_file *f, struct gdn_error *err);
/* Every row once. A failure is kept for commit. */
void tensor_file_row(struct tensor_file *f, int tensor, int64_t row, const float *x);
enum gdn_status tensor_file_commit(struct tensor_file *f, struct gdn_error *err);
/* Drops everything; harmless after a commit. */
void tensor_file_abandon(struct tensor_file *f);

#endif

/* ops_frame.h: a call of gdn/ops.h on its way.
 *
 * A call is checked whole and then walks through its sequences in groups. A group's rows become
 * tensors: in place where their type and strides suit the kernels, else copied into the workspace
 * (masked rows are left out there), and results are copied back. The same walk over an arena
 * without memory says how large the workspace must be, so the two cannot differ. */
#ifndef API_OPS_FRAME_H
#define API_OPS_FRAME_H

#include "api/ops_array.h"
#include "tensor/device.h"

struct gdn_ops {
    struct device *device;
};

struct frame {
    struct device *device;
    struct arena arena; /* the workspace */
    bool measuring;     /* there is none: only sizes are found, no data is touched */
};

/* Walks through a checked call. */
typedef void frame_body(struct frame *f, const void *call);

enum gdn_status frame_size(const struct gdn_ops *ops, frame_body *body, const void *call,
                           size_t *bytes, struct gdn_error *err);
/* Runs it, when the workspace is large enough. */
enum gdn_status frame_run(const struct gdn_ops *ops, frame_body *body, const void *call,
                          void *workspace, size_t bytes, struct gdn_error *err);

/* ---- checks that calls share ----------------------------------------------------------------- */

/* `ops` and `call` are there. */
enum gdn_status frame_check(const struct gdn_ops *ops, const void *call, struct gdn_error *err);
enum gdn_status frame_check_size(size_t *bytes, struct gdn_error *err);
enum gdn_status frame_check_gradient(const void *gradient, struct gdn_error *err);
/* A gradient that is wanted of `like`: in its type or f32. Its name is "gradient." and like's. */
enum gdn_status gradient_check(const struct gdn_array *given, const char *name,
                               const struct array *like, int rank, struct array *a,
                               struct gdn_error *err);
/* A count within low..high. */
enum gdn_status count_check(const char *name, int64_t found, int64_t low, int64_t high,
                            struct gdn_error *err);
enum gdn_status number_check(const char *name, double found, struct gdn_error *err);
/* B and T of arrays without rows: both within the limits, and their product. */
enum gdn_status rows_check_plain(int32_t B, int32_t T, struct gdn_error *err);
enum gdn_status rows_check(const struct gdn_rows *rows, struct gdn_error *err);
/* The types that the device's activations may have. */
unsigned frame_types(const struct gdn_ops *ops);

/* Limits of arguments: products of them cannot overflow in a kernel. */
enum { MOST_HEADS = 1 << 14, MOST_WIDTH = 1 << 14, MOST_CHANNELS = 1 << 24, MOST_ROWS = 1 << 30 };

/* ---- groups of sequences --------------------------------------------------------------------- */

enum { GROUP = 256 };

struct group {
    int32_t first, count;
    int32_t start[GROUP + 1]; /* of each sequence among the group's rows; absent rows are out */
    int64_t rows;
    struct pick pick;         /* where the rows stand in the caller's arrays */
    bool scattered;           /* not one after another */
};

typedef void group_work(struct frame *f, const struct group *g, const void *call);
void frame_walk(struct frame *f, const struct gdn_rows *rows, group_work *work, const void *call);
/* All rows of arrays [B, T] as one group without sequences. */
struct group frame_whole(int32_t B, int32_t T);

/* Sequences of a group whose states stand one after another, as a kernel wants them. */
struct run {
    int32_t from, to; /* in the group; from == to before the first one */
    int64_t state;    /* of sequence `from` */
    int64_t row, n;   /* its rows among the group's */
    struct rows rows;
    int32_t start[GROUP + 1];
};
/* The next one; false: that was all. Absent sequences are in none. */
bool frame_next(const struct gdn_rows *rows, const struct group *g, struct run *run);
/* Zeroes the group's rows of an output that are absent, and after the last group those that are
 * nobody's. */
void frame_zero_absent(struct frame *f, const struct gdn_rows *rows, const struct group *g,
                       const struct array *out);

/* ---- arrays as tensors ----------------------------------------------------------------------- */

/* f32, or what the device sums in where the caller has something else. */
static inline enum dtype frame_wide(const struct frame *f, const struct array *a)
{
    return a->type == DTYPE_F32 ? DTYPE_F32 : f->device->wide;
}

/* A tensor of the workspace, [n, H, width] or, of rank 2, [n, width]. */
struct tensor frame_tensor(struct frame *f, enum dtype type, int rank, int64_t n, int64_t H,
                           int64_t width);
void frame_zero(struct frame *f, const struct tensor *t);
/* The group's rows times `scale`. */
struct tensor frame_in(struct frame *f, const struct group *g, const struct array *a, int rank,
                       enum dtype type, double scale);
/* States first..first+n-1, [n, H, rows, width] or, of rank 3, [n, rows, width]. */
struct tensor frame_state(struct frame *f, const struct array *a, int rank, int64_t first,
                          int64_t n, enum dtype type);

/* Where a kernel writes, and where that belongs. */
struct place {
    struct tensor tensor;
    const struct array *array; /* NULL: there is none */
    struct pick pick;  /* its rows there */
    int64_t rows;
    struct array copy; /* what the tensor is when it was copied */
    bool copied;
};
struct place frame_out(struct frame *f, const struct group *g, const struct array *a, int rank,
                       enum dtype type);
/* Rows row..row+n-1 of the place, times `scale`, go where they belong. */
void frame_deliver(struct frame *f, const struct place *p, int64_t row, int64_t n, double scale);
/* The gradient of an input, when it is wanted (a->data): a place of zeros for kernels to add to, in
 * f32. frame_settle delivers it, when there is one. Of rank 1, [width]. */
void frame_attach(struct frame *f, const struct group *g, const struct array *a, int rank,
                  struct place *p, struct tensor *input);
void frame_attach_state(struct frame *f, const struct array *a, int rank, int64_t first, int64_t n,
                        struct place *p, struct tensor *input);
void frame_settle(struct frame *f, const struct place *p, double scale);

/* Rows row..row+n-1 of a tensor, or its states. */
struct tensor tensor_part(const struct tensor *t, int64_t row, int64_t n);
/* [1, width] to [width]. */
void tensor_flatten(struct tensor *t);

/* ---- kernels --------------------------------------------------------------------------------- */

enum way { FORWARD, BACKWARD };

/* One that takes scratch before it does anything else (tensor/device.h); measured. */
void frame_kernel(struct frame *f, enum op op, enum way way, const void *args);
/* One of the small ones, over rows of this width; bounded. */
void frame_small(struct frame *f, enum op op, enum way way, const void *args, int64_t rows,
                 int64_t width);

#endif

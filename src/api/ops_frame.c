#include "api/ops_frame.h"

#include <math.h>


enum { ALIGN_SLACK = 63 }; /* the workspace may lie anywhere: arena_over */

enum gdn_status frame_size(const struct gdn_ops *ops, frame_body *body, const void *call,
                           size_t *bytes, struct gdn_error *err)
{
    struct frame f = {.device = ops->device, .measuring = true};
    arena_measure(&f.arena);
    body(&f, call);
    if (f.arena.high > (size_t)PTRDIFF_MAX - ALIGN_SLACK)
        return error_set(err, GDN_ERR_MEMORY,
                         "the workspace would be larger than the address space");
    *bytes = f.arena.high ? f.arena.high + ALIGN_SLACK : 0;
    return GDN_OK;
}

enum gdn_status frame_run(const struct gdn_ops *ops, frame_body *body, const void *call,
                          void *workspace, size_t bytes, struct gdn_error *err)
{
    size_t need = 0;
    TRY(frame_size(ops, body, call, &need, err));
    if (need > 0 && !workspace)
        return error_set(err, GDN_ERR_USAGE, "workspace: found NULL, need %zu bytes", need);
    if (bytes < need)
        return error_set(err, GDN_ERR_USAGE, "workspace: found %zu bytes, need %zu", bytes, need);
    struct frame f = {.device = ops->device};
    if (need > 0) arena_over(&f.arena, workspace, bytes);
    body(&f, call);
    const bool failed = f.arena.failed;
    arena_leave(&f.arena);
    if (failed)
        return error_set(err, GDN_ERR_INTERNAL, "a kernel took more workspace than it had said");
    if (ops->device->status != GDN_OK)
        return error_set(err, ops->device->status, "the device failed");
    return GDN_OK;
}

/* ---- checks ---------------------------------------------------------------------------------- */

enum gdn_status frame_check(const struct gdn_ops *ops, const void *call, struct gdn_error *err)
{
    if (!ops) return error_set(err, GDN_ERR_USAGE, "ops: found NULL, need an open context");
    if (!call) return error_set(err, GDN_ERR_USAGE, "call: found NULL, need its arguments");
    return GDN_OK;
}

enum gdn_status frame_check_size(size_t *bytes, struct gdn_error *err)
{
    if (!bytes)
        return error_set(err, GDN_ERR_USAGE, "bytes: found NULL, need a place for the size");
    *bytes = 0;
    return GDN_OK;
}

enum gdn_status frame_check_gradient(const void *gradient, struct gdn_error *err)
{
    if (gradient) return GDN_OK;
    return error_set(err, GDN_ERR_USAGE, "gradient: found NULL, need what is known and wanted");
}

enum gdn_status gradient_check(const struct gdn_array *given, const char *name,
                               const struct array *like, int rank, struct array *a,
                               struct gdn_error *err)
{
    struct want want = {.name = name, .rank = rank, .types = 1u << like->type | TYPE_F32,
                        .optional = true, .output = true};
    for (int i = 0; i < rank; i++) want.dim[i] = like->dim[array_axis(rank, i)];
    if (given->data && like->dim[3] == 0) /* as array_check leaves what is not there */
        return error_set(err, GDN_ERR_USAGE, "%s.data: found an array, need NULL: %s is not given",
                         name, name + sizeof "gradient");
    return array_check(given, &want, a, err);
}

enum gdn_status count_check(const char *name, int64_t found, int64_t low, int64_t high,
                            struct gdn_error *err)
{
    if (found >= low && found <= high) return GDN_OK;
    return error_set(err, GDN_ERR_USAGE, "%s: found %lld, need %lld to %lld", name,
                     (long long)found, (long long)low, (long long)high);
}

enum gdn_status number_check(const char *name, double found, struct gdn_error *err)
{
    if (isfinite(found)) return GDN_OK;
    return error_set(err, GDN_ERR_USAGE, "%s: found %g, need a finite number", name, found);
}

enum gdn_status rows_check_plain(int32_t B, int32_t T, struct gdn_error *err)
{
    TRY(count_check("B", B, 0, MOST_ROWS, err));
    TRY(count_check("T", T, 0, MOST_ROWS, err));
    return count_check("B * T", (int64_t)B * T, 0, MOST_ROWS, err);
}

static enum gdn_status check_starts(const struct gdn_rows *rows, struct gdn_error *err)
{
    const int32_t *s = rows->starts;
    if (s[0] != 0)
        return error_set(err, GDN_ERR_USAGE, "rows.starts[0]: found %d, need 0", s[0]);
    for (int32_t b = 0; b < rows->B; b++)
        if (s[b + 1] < s[b] || s[b + 1] > rows->T)
            return error_set(err, GDN_ERR_USAGE, "rows.starts[%d]: found %d, need %d to %d (T)",
                             b + 1, s[b + 1], s[b], rows->T);
    return GDN_OK;
}

enum gdn_status rows_check(const struct gdn_rows *rows, struct gdn_error *err)
{
    TRY(count_check("rows.B", rows->B, 0, MOST_ROWS, err));
    TRY(count_check("rows.T", rows->T, 0, MOST_ROWS, err));
    if (rows->starts)
        TRY(check_starts(rows, err));
    else
        TRY(count_check("rows.B * rows.T", (int64_t)rows->B * rows->T, 0, MOST_ROWS, err));
    if (!rows->slots) return GDN_OK;
    TRY(count_check("rows.pool", rows->pool, 0, INT32_MAX, err));
    for (int32_t b = 0; b < rows->B; b++)
        if (rows->slots[b] < -1 || rows->slots[b] >= rows->pool)
            return error_set(err, GDN_ERR_USAGE,
                             "rows.slots[%d]: found %d, need -1 to %d (of pool)", b,
                             rows->slots[b], rows->pool - 1);
    return GDN_OK;
}

unsigned frame_types(const struct gdn_ops *ops)
{
    const unsigned types = TYPE_F32 | TYPE_BF16 | TYPE_F16;
    return ops->device->wide == DTYPE_F64 ? types | TYPE_F64 : types;
}

/* ---- kernels --------------------------------------------------------------------------------- */

static bool runs(const struct frame *f) { return !f->arena.failed && !f->measuring; }

void frame_kernel(struct frame *f, enum op op, enum way way, const void *args)
{
    const size_t mark = arena_mark(&f->arena);
    op_kernel *kernel = way == FORWARD ? f->device->forward[op] : f->device->backward[op];
    if (f->measuring || runs(f)) kernel(f->device, &f->arena, args);
    arena_release(&f->arena, mark);
}

/* Every thread may have 8 rows in double, and all of them as many again; sums over rows are made of
 * parts, one for each 64 rows at most, for up to two weights. */
static size_t small_scratch(const struct frame *f, int64_t rows, int64_t width)
{
    const size_t row = (size_t)width * sizeof(double) + 64;
    return ((size_t)(pool_threads(f->device->pool) + 1) * 8 + (size_t)(rows / 64 + 1)) * row;
}

void frame_small(struct frame *f, enum op op, enum way way, const void *args, int64_t rows,
                 int64_t width)
{
    if (runs(f)) {
        frame_kernel(f, op, way, args);
        return;
    }
    const size_t mark = arena_mark(&f->arena);
    arena_take(&f->arena, small_scratch(f, rows, width));
    arena_release(&f->arena, mark);
}

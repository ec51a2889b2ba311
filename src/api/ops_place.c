/* ops_place.c: groups of sequences, and the caller's arrays as tensors (ops_frame.h). */
#include <string.h>

#include "api/ops_frame.h"

static bool runs(const struct frame *f) { return !f->arena.failed && !f->measuring; }

/* ---- groups of sequences --------------------------------------------------------------------- */

static int64_t begin_of(const struct gdn_rows *rows, int32_t b)
{
    return rows->starts ? rows->starts[b] : (int64_t)b * rows->T;
}

/* Lists the rows that are there. While measuring all are, so that no mask needs more. */
static void lay_group(struct frame *f, const struct gdn_rows *rows, struct group *g)
{
    const int64_t first = begin_of(rows, g->first);
    const int64_t all = begin_of(rows, g->first + g->count) - first;
    const bool masked = rows->mask && !f->measuring;
    int32_t *list = rows->mask ? arena_take(&f->arena, (size_t)all * sizeof *list) : NULL, n = 0;
    if (masked && !list) return;
    for (int32_t i = 0; i < g->count; i++) {
        const int64_t end = begin_of(rows, g->first + i + 1);
        int64_t row = begin_of(rows, g->first + i);
        g->start[i] = n;
        if (!masked) n += (int32_t)(end - row);
        for (; masked && row < end; row++)
            if (rows->mask[row]) list[n++] = (int32_t)row;
    }
    g->start[g->count] = n;
    g->rows = n;
    g->pick = (struct pick){.first = masked && n > 0 ? list[0] : first};
    g->scattered = rows->mask && (f->measuring || (n > 0 && list[n - 1] - list[0] != n - 1));
    if (g->scattered) g->pick.row = list;
}

void frame_walk(struct frame *f, const struct gdn_rows *rows, group_work *work, const void *call)
{
    struct group g = {0};
    do { /* once without sequences too: rows that are nobody's are still to be cleared */
        const size_t mark = arena_mark(&f->arena);
        g.count = rows->B - g.first < GROUP ? rows->B - g.first : GROUP;
        lay_group(f, rows, &g);
        if (f->measuring || !f->arena.failed) work(f, &g, call);
        arena_release(&f->arena, mark);
        g.first += g.count;
        if (f->measuring && !rows->starts) break; /* the others are not larger */
    } while (g.first < rows->B);
}

struct group frame_whole(int32_t B, int32_t T)
{
    return (struct group){.rows = (int64_t)B * T};
}

bool frame_next(const struct gdn_rows *rows, const struct group *g, struct run *run)
{
    static const int32_t zeros[GROUP];
    const int32_t *slot = rows->slots ? rows->slots + g->first : NULL;
    int32_t i = run->to;
    while (i < g->count && slot && slot[i] < 0) i++;
    if (i == g->count) return false;
    run->from = i++;
    while (i < g->count && (!slot || slot[i] == slot[i - 1] + 1)) i++;
    run->to = i;
    run->state = slot ? slot[run->from] : g->first + run->from;
    run->row = g->start[run->from];
    run->n = g->start[i] - run->row;
    for (int32_t b = run->from; b <= i; b++)
        run->start[b - run->from] = g->start[b] - g->start[run->from];
    run->rows = (struct rows){.B = i - run->from, .T = (int32_t)run->n, .start = run->start,
                              .pos = zeros};
    return true;
}

void frame_zero_absent(struct frame *f, const struct gdn_rows *rows, const struct group *g,
                       const struct array *out)
{
    if (!runs(f) || !out->data) return;
    struct pool *pool = f->device->pool;
    for (int32_t b = g->first; b < g->first + g->count; b++) {
        const int64_t begin = begin_of(rows, b), end = begin_of(rows, b + 1);
        if (rows->slots && rows->slots[b] < 0)
            array_zero(pool, out, (struct pick){.first = begin}, end - begin);
        for (int64_t row = begin; rows->mask && row < end; row++)
            if (!rows->mask[row]) array_zero(pool, out, (struct pick){.first = row}, 1);
    }
    if (!rows->starts || g->first + g->count < rows->B) return;
    const int64_t end = rows->starts[rows->B];
    array_zero(pool, out, (struct pick){.first = end}, rows->T - end);
}

/* ---- arrays as tensors ----------------------------------------------------------------------- */

static struct tensor tensor_of(void *data, enum dtype type, int rank, const int64_t *dim,
                               const int64_t *stride)
{
    struct tensor t = {.data = data, .dtype = type, .rank = rank};
    for (int i = 0; i < rank; i++) {
        t.dim[i] = dim[i];
        t.stride[i] = i < rank - 1 ? stride[i] : 1;
    }
    return t;
}

/* n rows of an array's H and width. */
static struct tensor rows_tensor(void *data, int rank, int64_t n, int64_t step,
                                 const struct array *like)
{
    if (rank == 2)
        return tensor_of(data, like->type, 2, (int64_t[]){n, like->dim[3]}, (int64_t[]){step});
    return tensor_of(data, like->type, 3, (int64_t[]){n, like->dim[2], like->dim[3]},
                     (int64_t[]){step, like->stride[2]});
}

struct tensor frame_tensor(struct frame *f, enum dtype type, int rank, int64_t n, int64_t H,
                           int64_t width)
{
    const struct array a = array_dense(type, n, H, width);
    return rows_tensor(arena_take(&f->arena, array_bytes(&a)), rank, n, H * width, &a);
}

void frame_zero(struct frame *f, const struct tensor *t)
{
    if (runs(f)) memset(t->data, 0, (size_t)tensor_elements(t) * dtype_size(t->dtype));
}

static void take_copy(struct frame *f, struct place *p, enum dtype type)
{
    p->copied = true;
    p->copy = array_dense(type, p->rows, p->array->dim[2], p->array->dim[3]);
    p->copy.data = arena_take(&f->arena, array_bytes(&p->copy));
}

static struct place place_rows(struct frame *f, const struct group *g, const struct array *a,
                               int rank, enum dtype type, bool copy)
{
    struct place p = {.array = a, .pick = g->pick, .rows = g->rows};
    if (!copy && a->type == type && !g->scattered && array_even(a, g->pick.first, g->rows)) {
        p.tensor = rows_tensor(array_row(a, g->pick.first), rank, g->rows, array_step(a), a);
    } else {
        take_copy(f, &p, type);
        p.tensor = rows_tensor(p.copy.data, rank, g->rows, p.copy.stride[1], &p.copy);
    }
    return p;
}

/* The rows of a state are its first two axes as one. */
static struct place place_states(struct frame *f, const struct array *a, int rank, int64_t first,
                                 int64_t n, enum dtype type)
{
    const int64_t rows = a->dim[1], inner = a->dim[2] * a->dim[3];
    struct place p = {.array = a, .pick = {.first = first * rows}, .rows = n * rows};
    int64_t dim[4] = {n, rows, a->dim[rank == 4 ? 2 : 3], a->dim[3]};
    if (a->type == type) {
        void *data = a->data + first * a->stride[0] * (int64_t)dtype_size(type);
        p.tensor = tensor_of(data, type, rank, dim, a->stride);
    } else {
        take_copy(f, &p, type);
        p.tensor = tensor_of(p.copy.data, type, rank, dim,
                             (int64_t[]){rows * inner, inner, a->dim[3]});
    }
    return p;
}

static struct tensor fill(struct frame *f, const struct place *p, double scale)
{
    if (p->copied && runs(f))
        array_copy(f->device->pool, &p->copy, (struct pick){0}, p->array, p->pick, p->rows, scale);
    return p->tensor;
}

struct tensor frame_in(struct frame *f, const struct group *g, const struct array *a, int rank,
                       enum dtype type, double scale)
{
    const struct place p = place_rows(f, g, a, rank, type, scale != 1.0);
    return fill(f, &p, scale);
}

struct tensor frame_state(struct frame *f, const struct array *a, int rank, int64_t first,
                          int64_t n, enum dtype type)
{
    const struct place p = place_states(f, a, rank, first, n, type);
    return fill(f, &p, 1.0);
}

struct place frame_out(struct frame *f, const struct group *g, const struct array *a, int rank,
                       enum dtype type)
{
    return place_rows(f, g, a, rank, type, false);
}

void frame_deliver(struct frame *f, const struct place *p, int64_t row, int64_t n, double scale)
{
    struct pick to = p->pick;
    if (!runs(f) || (!p->copied && scale == 1.0)) return;
    if (to.row)
        to.row += row;
    else
        to.first += row;
    const struct pick from = p->copied ? (struct pick){.first = row} : to;
    array_copy(f->device->pool, p->array, to, p->copied ? &p->copy : p->array, from, n, scale);
}

/* ---- gradients ------------------------------------------------------------------------------- */

static void clear(struct frame *f, const struct place *p)
{
    if (!runs(f)) return;
    if (p->copied)
        memset(p->copy.data, 0, array_bytes(&p->copy));
    else
        array_zero(f->device->pool, p->array, p->pick, p->rows);
}

void frame_attach(struct frame *f, const struct group *g, const struct array *a, int rank,
                  struct place *p, struct tensor *input)
{
    if (!a->data) return;
    *p = frame_out(f, g, a, rank == 1 ? 2 : rank, frame_wide(f, a));
    clear(f, p);
    if (rank == 1) tensor_flatten(&p->tensor);
    input->grad = &p->tensor;
}

void frame_attach_state(struct frame *f, const struct array *a, int rank, int64_t first, int64_t n,
                        struct place *p, struct tensor *input)
{
    if (!a->data) return;
    *p = place_states(f, a, rank, first, n, frame_wide(f, a));
    clear(f, p);
    input->grad = &p->tensor;
}

void frame_settle(struct frame *f, const struct place *p, double scale)
{
    if (p->array) frame_deliver(f, p, 0, p->rows, scale);
}

/* ---- tensors --------------------------------------------------------------------------------- */

struct tensor tensor_part(const struct tensor *t, int64_t row, int64_t n)
{
    struct tensor part = *t;
    if (t->data) part.data = tensor_at(t, row * t->stride[0]);
    part.dim[0] = n;
    return part;
}

void tensor_flatten(struct tensor *t)
{
    t->rank = 1;
    t->dim[0] = t->dim[1];
    t->stride[0] = 1;
}

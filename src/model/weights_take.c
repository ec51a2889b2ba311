#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "model/weights_load.h"
#include "tensor/quant.h"

/* ---- what is wrong --------------------------------------------------------------------------- */

enum dtype weight_dtype(enum st_dtype from)
{
    switch (from) {
    case ST_F32: return DTYPE_F32;
    case ST_BF16: return DTYPE_BF16;
    case ST_F16: return DTYPE_F16;
    default: return DTYPE_COUNT;
    }
}

/* "[3, 4]"; "[]" for a scalar. */
static void shape_text(char *out, size_t room, int rank, const int64_t *dim)
{
    size_t n = (size_t)snprintf(out, room, "[");
    for (int i = 0; i < rank && n < room; i++)
        n += (size_t)snprintf(out + n, room - n, "%s%lld", i ? ", " : "", (long long)dim[i]);
    if (n < room) snprintf(out + n, room - n, "]");
}

/* Middle axes of length 1 (the convolution's [C, 1, W]) do not count. */
static bool same_shape(const struct st_entry *e, int rank, const int64_t *dim)
{
    int i = 0;
    for (int j = 0; j < e->rank; j++) {
        if (i < rank && e->shape[j] == dim[i])
            i++;
        else if (e->shape[j] != 1)
            return false;
    }
    return i == rank;
}

void add_name(char *names, size_t room, const char *name)
{
    const size_t n = strlen(names);
    snprintf(names + n, room - n, "%s%.50s", n ? ", " : "", name);
}

static void fault(struct loader *l, enum gdn_status status, const char *where, const char *name,
                  const char *found, const char *need)
{
    if (l->faults == 0)
        error_set(&l->first, status, "%s: tensor %s: found %s, need %s", st_path_tail(where), name,
                  found, need);
    else if (l->faults < NAMED)
        add_name(l->others, sizeof l->others, name);
    l->faults++;
}

enum gdn_status faults_found(struct loader *l)
{
    if (l->faults == 0) return GDN_OK;
    if (l->faults == 1) return error_set(l->err, l->first.status, "%s", l->first.text);
    return error_set(l->err, l->first.status, "%s; and %zu more: %s%s", l->first.text,
                     l->faults - 1, l->others, l->faults > NAMED ? ", ..." : "");
}

/* ---- finding --------------------------------------------------------------------------------- */

const struct shard_tensor *weights_find(const struct weights *w, const char *name,
                                        enum dtype *dtype)
{
    const struct shard_tensor *found = shards_find(&w->shards, name);
    if (found) {
        *dtype = weight_dtype(found->entry->dtype);
        return found;
    }
    for (*dtype = DTYPE_Q8; *dtype <= DTYPE_Q4; (*dtype)++) {
        char stored[ST_NAME_BYTES + 4];
        snprintf(stored, sizeof stored, "%s.%s", name, dtype_name(*dtype));
        found = shards_find(&w->shards, stored);
        if (found) return found;
    }
    return NULL;
}

bool find_name(const struct loader *l, const char *prefix, const char *names,
               char full[ST_NAME_BYTES])
{
    enum dtype dtype;
    for (const char *at = names; at; at = strchr(at, '|')) {
        at += *at == '|';
        snprintf(full, ST_NAME_BYTES, "%s%.*s", prefix, (int)strcspn(at, "|"), at);
        if (weights_find(l->w, full, &dtype)) return true;
    }
    snprintf(full, ST_NAME_BYTES, "%s%.*s", prefix, (int)strcspn(names, "|"), names);
    return false;
}

/* What a tensor of these dims looks like in the file: rows of bytes when it is quantised. */
static void stored_dims(enum dtype dtype, int rank, const int64_t *dim, int64_t *stored)
{
    memcpy(stored, dim, (size_t)rank * sizeof *dim);
    if (dtype_quantised(dtype)) stored[rank - 1] = quant_row_bytes(dtype, dim[rank - 1]);
}

/* NULL after a fault, and when tensors are only told of. Small: what is not quantised. */
static const struct shard_tensor *find_entry(struct loader *l, const char *name, bool small,
                                             int rank, const int64_t *dim, enum dtype *dtype)
{
    if (l->wanted) {
        l->wanted(l->context, name, rank, dim);
        return NULL;
    }
    const struct shard_tensor *found = weights_find(l->w, name, dtype);
    int64_t stored[TENSOR_RANK];
    char need[120], have[160];
    if (found) stored_dims(*dtype, rank, dim, stored);
    shape_text(need, sizeof need, rank, found ? stored : dim);
    if (!found) {
        fault(l, GDN_ERR_INPUT, l->path, name, "nothing", need);
        return NULL;
    }
    const struct st_entry *e = found->entry;
    l->used[found - l->w->shards.tensors] = true;
    const bool quantised = dtype_quantised(*dtype);
    if (quantised ? small || e->dtype != ST_U8 : *dtype == DTYPE_COUNT) {
        fault(l, GDN_ERR_UNSUPPORTED, found->file->path, e->name, st_dtype_name(e->dtype),
              quantised && !small ? "U8" : "F32, BF16 or F16");
        return NULL;
    }
    if (same_shape(e, rank, stored)) return found;
    shape_text(have, sizeof have, e->rank, e->shape);
    fault(l, GDN_ERR_INPUT, found->file->path, e->name, have, need);
    return NULL;
}

static float value_at(const struct st_entry *e, size_t i)
{
    uint16_t half;
    float whole;
    if (e->dtype == ST_F32) {
        memcpy(&whole, e->data + 4 * i, sizeof whole);
        return whole;
    }
    memcpy(&half, e->data + 2 * i, sizeof half);
    return e->dtype == ST_BF16 ? bf16_to_f32(half) : f16_to_f32(half);
}

/* ---- taking ---------------------------------------------------------------------------------- */

enum gdn_status take_memory(struct loader *l, struct weight *weight, size_t bytes)
{
    weight->copy = mem_take_dirty(bytes);
    if (!weight->copy)
        return error_set(l->err, GDN_ERR_MEMORY, "no memory for tensor %s (%zu bytes)",
                         weight->name, bytes);
    l->w->copied_bytes += (int64_t)bytes;
    return GDN_OK;
}

static void copy_f32(float *to, const struct st_entry *e)
{
    const size_t n = e->bytes / st_dtype_size(e->dtype);
    for (size_t i = 0; i < n; i++) to[i] = value_at(e, i);
}

enum gdn_status new_weight(struct loader *l, const char *name, struct weight **out)
{
    struct weight *weight = &l->w->list[l->w->count];
    GDN_CHECK(l->w->count < l->w->room, "more tensors than were counted");
    weight->name = mem_text(name);
    if (!weight->name) return error_set(l->err, GDN_ERR_MEMORY, "no memory for a name");
    l->w->count++;
    *out = weight;
    return GDN_OK;
}

/* Small weights as f32, and what the file holds at an odd address as it is: copied. */
static enum gdn_status place_tensor(struct loader *l, struct weight *weight, enum dtype dtype,
                                    int rank, const int64_t *dim)
{
    const struct st_entry *e = weight->origin[0]->entry;
    const bool aligned = (size_t)e->data % dtype_size(dtype) == 0;
    if (weight->small) {
        TRY(take_memory(l, weight, e->bytes / st_dtype_size(e->dtype) * sizeof(float)));
        copy_f32(weight->copy, e);
        dtype = DTYPE_F32;
    } else if (!aligned) {
        TRY(take_memory(l, weight, e->bytes));
        memcpy(weight->copy, e->data, e->bytes);
    }
    void *data = weight->copy ? weight->copy : (void *)(size_t)e->data;
    weight->tensor = tensor_over(data, dtype, rank, dim);
    return GDN_OK;
}

enum gdn_status take_tensor(struct loader *l, const char *prefix, const char *names, bool small,
                            int rank, const int64_t *dim, struct tensor **out)
{
    char name[ST_NAME_BYTES];
    struct weight *weight = NULL;
    enum dtype dtype;
    find_name(l, prefix, names, name);
    if (l->drawn) return draw_tensor(l, name, small, rank, dim, out);
    const struct shard_tensor *found = find_entry(l, name, small, rank, dim, &dtype);
    if (!found) return GDN_OK;
    TRY(new_weight(l, name, &weight));
    weight->origin[0] = found;
    weight->origins = 1;
    weight->small = small;
    TRY(place_tensor(l, weight, dtype, rank, dim));
    l->w->parameters += tensor_elements(&weight->tensor);
    *out = &weight->tensor;
    return GDN_OK;
}

enum gdn_status take_vector(struct loader *l, const char *prefix, const char *names, int64_t n,
                            struct tensor **out)
{
    return take_tensor(l, prefix, names, true, 1, &n, out);
}

enum gdn_status take_norm(struct loader *l, const char *prefix, const char *names, int64_t n,
                          struct norm_weight *norm)
{
    *norm = (struct norm_weight){.eps = l->c->eps, .late = l->c->family->late,
                                 .centred = l->c->family->centred && !l->w->shifted};
    return take_vector(l, prefix, names, n, &norm->w);
}

struct tensor drawn_over(void *data, bool small, int rank, const int64_t *dim)
{
    return tensor_over(data, small ? DTYPE_F32 : DTYPE_BF16, rank, dim);
}

/* The rows of each as they are there, when they come to the same together: transformers 5 cuts a
 * convolution that it had put together into equal parts, whatever the parts were. */
static void find_rows(const struct loader *l, const char *prefix, const char *const *names,
                      int64_t *rows, int count)
{
    int64_t there[WEIGHT_ORIGINS], sum = 0, need = 0;
    char name[ST_NAME_BYTES];
    for (int i = 0; i < count; i++) {
        enum dtype dtype;
        if (!find_name(l, prefix, names[i], name)) return;
        const struct st_entry *e = weights_find(l->w, name, &dtype)->entry;
        if (e->rank < 2 || e->shape[0] > INT32_MAX) return;
        sum += there[i] = e->shape[0];
        need += rows[i];
    }
    for (int i = 0; sum == need && i < count; i++) rows[i] = there[i];
}

enum gdn_status take_stack(struct loader *l, const char *prefix, const char *const *names,
                           const int64_t *need, int count, int64_t width, struct tensor **out)
{
    const struct shard_tensor *found[WEIGHT_ORIGINS] = {NULL};
    int64_t rows[WEIGHT_ORIGINS];
    char name[ST_NAME_BYTES];
    struct weight *weight = NULL;
    enum dtype dtype;
    int64_t all = 0;
    GDN_CHECK(count <= WEIGHT_ORIGINS, "a stack of %d", count);
    if (l->drawn) return draw_stack(l, prefix, names, need, count, width, out);
    memcpy(rows, need, (size_t)count * sizeof *rows);
    find_rows(l, prefix, names, rows, count);
    for (int i = 0; i < count; i++) {
        find_name(l, prefix, names[i], name);
        found[i] = find_entry(l, name, true, 2, (int64_t[]){rows[i], width}, &dtype);
        all += rows[i];
    }
    for (int i = 0; i < count; i++)
        if (!found[i]) return GDN_OK;
    TRY(new_weight(l, found[0]->entry->name, &weight));
    weight->origins = count;
    weight->small = true;
    TRY(take_memory(l, weight, (size_t)(all * width) * sizeof(float)));
    float *to = weight->copy;
    for (int i = 0; i < count; i++, to += rows[i - 1] * width) {
        weight->origin[i] = found[i];
        copy_f32(to, found[i]->entry);
    }
    weight->tensor = tensor_over(weight->copy, DTYPE_F32, 2, (int64_t[]){all, width});
    l->w->parameters += all * width;
    *out = &weight->tensor;
    return GDN_OK;
}

struct linear_part *take_parts(struct loader *l, int64_t parts)
{
    struct linear_part *part = arena_take_zeroed(&l->w->parts, (size_t)parts * sizeof *part);
    if (!part) error_set(l->err, GDN_ERR_MEMORY, "no memory for %lld parts of projections",
                         (long long)parts);
    return part;
}

enum gdn_status take_linear(struct loader *l, const char *prefix, int64_t K, int parts,
                            const struct part *part, struct linear *linear)
{
    struct linear_part *made = take_parts(l, parts);
    if (!made) return GDN_ERR_MEMORY;
    *linear = (struct linear){.K = K, .parts = parts, .part = made};
    for (int i = 0; i < parts; i++) {
        made[i].row = linear->N;
        made[i].rows = part[i].rows;
        linear->N += part[i].rows;
        TRY(take_tensor(l, prefix, part[i].name, false, 2, (int64_t[]){part[i].rows, K},
                        &made[i].w));
    }
    return GDN_OK;
}

#include <string.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "state/file.h"
#include "state/file_layout.h"

_Static_assert(sizeof(struct file_prologue) == 64, "the prologue is 64 bytes");
_Static_assert(sizeof(struct file_identity) == 80, "no hidden padding");
_Static_assert(sizeof(struct file_shape) == 48, "no hidden padding");

/* Where the payload goes: first nowhere (only its length is wanted), then into the file, with a
 * hash for each block. */
struct target {
    struct device *device;
    struct file_out *out; /* NULL: count */
    uint64_t bytes;
    unsigned char *block; /* [STATE_FILE_BLOCK] */
    size_t filled;
    struct bytes table;
    double *dense; /* one head's anchor, and the same in its own type */
    void *packed;
};

static void end_block(struct target *t)
{
    const uint64_t hash = hash64(t->block, t->filled, 0);
    bytes_add(&t->table, &hash, sizeof hash);
    file_write(t->out, t->block, t->filled);
    t->filled = 0;
}

static void put(struct target *t, const void *data, size_t len)
{
    t->bytes += len;
    const unsigned char *p = data;
    while (t->out && len > 0) {
        const size_t room = STATE_FILE_BLOCK - t->filled, n = len < room ? len : room;
        memcpy(t->block + t->filled, p, n);
        t->filled += n;
        p += n;
        len -= n;
        if (t->filled == STATE_FILE_BLOCK) end_block(t);
    }
}

static void begin_section(struct target *t, const char *tag, size_t bytes)
{
    struct file_section head = {.bytes = bytes};
    memcpy(head.tag, tag, strnlen(tag, sizeof head.tag));
    put(t, &head, sizeof head);
}

static void end_section(struct target *t, size_t bytes)
{
    static const char zeros[16] = {0};
    put(t, zeros, (16 - bytes % 16) % 16);
}

static void section(struct target *t, const char *tag, const void *data, size_t bytes)
{
    begin_section(t, tag, bytes);
    put(t, data, bytes);
    end_section(t, bytes);
}

static void put_identity(struct target *t, const struct snapshot *s, const struct state_record *r)
{
    const struct state *st = s->state;
    struct file_identity id = {
        .compute = st->compute, .anchor = st->anchor_type, .wide = st->device->wide,
        .layers = (uint32_t)st->layers, .position = (uint32_t)s->position,
        .length = (uint32_t)s->length, .entries = (uint32_t)st->entries,
        .best = (uint32_t)r->best_count, .best_lse = r->best_lse};
    memcpy(id.model, r->model, sizeof id.model);
    section(t, "identity", &id, sizeof id);
    begin_section(t, "shapes", sizeof(struct file_shape) * (size_t)st->layers);
    for (int32_t i = 0; i < st->layers; i++) {
        const struct layer_shape *l = &st->layer[i].shape;
        const struct file_shape shape = {
            .kind = l->kind, .channel_gate = l->channel_gate, .Hk = (uint32_t)l->Hk,
            .Hv = (uint32_t)l->Hv, .Dk = (uint32_t)l->Dk, .Dv = (uint32_t)l->Dv,
            .taps = (uint32_t)l->taps, .Hkv = (uint32_t)l->Hkv, .D = (uint32_t)l->D,
            .latent = l->latent, .width = (uint32_t)l->width};
        put(t, &shape, sizeof shape);
    }
    end_section(t, sizeof(struct file_shape) * (size_t)st->layers);
}

/* The anchor as every device understands it. */
static void put_anchor(struct target *t, const struct layer_state *l,
                       const struct snapshot_part *part)
{
    const struct delta_slots heads = snapshot_heads(t->device, &l->delta, part);
    const size_t n = (size_t)heads.Dv * (size_t)heads.Dk, bytes = n * dtype_size(part->dtype);
    begin_section(t, "anchor", bytes * (size_t)l->delta.Hv);
    for (int32_t h = 0; h < l->delta.Hv; h++) {
        if (t->out) {
            t->device->anchor_unpack(&heads, h, t->dense);
            for (size_t i = 0; i < n; i++)
                dtype_store(t->packed, part->dtype, (int64_t)i, t->dense[i]);
        }
        put(t, t->packed, bytes);
    }
    end_section(t, bytes * (size_t)l->delta.Hv);
}

static void put_delta(struct target *t, const struct snapshot *s, int32_t layer, size_t *offset)
{
    static const char *const tag[SNAPSHOT_PARTS] = {"anchor", "log k", "log u", "log G", "ring"};
    struct snapshot_part part[SNAPSHOT_PARTS];
    snapshot_parts(s, s->state, layer, offset, part);
    put_anchor(t, &s->state->layer[layer], &part[SNAPSHOT_ANCHOR]);
    for (int p = SNAPSHOT_K; p < SNAPSHOT_PARTS; p++) section(t, tag[p], part[p].at, part[p].bytes);
}

/* Those that a draft head keeps. */
static void put_last_rows(struct target *t, const struct snapshot *s, int32_t layer,
                          size_t *offset)
{
    struct snapshot_part part[SNAPSHOT_PARTS];
    snapshot_parts(s, s->state, layer, offset, part);
    section(t, "ring", part[SNAPSHOT_RING].at, part[SNAPSHOT_RING].bytes);
}

static void put_pages(struct target *t, const struct snapshot *s, const struct layer_state *l,
                      bool values)
{
    const struct kv_pages *kv = &l->kv;
    const int32_t end = s->position - layer_lag(&l->shape);
    const size_t row = kv_row_bytes(kv, values), bytes = row * (size_t)end;
    const char *data = values ? kv->v : kv->k;
    struct device *device = s->state->device;
    begin_section(t, values ? "valuesof" : "keys", bytes);
    for (int32_t i = 0; row > 0 && i < s->pages; i++) {
        const int32_t left = end - i * PAGE, rows = left < PAGE ? left : PAGE;
        if (rows <= 0) break;
        const char *from = data + row * PAGE * (size_t)s->page[i];
        if (t->out) device->download(device, t->packed, from, row * (size_t)rows);
        put(t, t->packed, row * (size_t)rows);
    }
    end_section(t, bytes);
}

static void put_everything(struct target *t, const struct snapshot *s,
                           const struct state_record *r)
{
    const struct state *st = s->state;
    put_identity(t, s, r);
    section(t, "tokens", r->tokens, sizeof *r->tokens * (size_t)s->position);
    section(t, "ids", r->best_ids, sizeof *r->best_ids * (size_t)r->best_count);
    section(t, "values", r->best_values, sizeof *r->best_values * (size_t)r->best_count);
    size_t offset = snapshot_first(s);
    for (int32_t i = 0; i < st->layers; i++) {
        if (st->layer[i].shape.kind == LAYER_DELTA) {
            put_delta(t, s, i, &offset);
            continue;
        }
        if (layer_lag(&st->layer[i].shape)) put_last_rows(t, s, i, &offset);
        put_pages(t, s, &st->layer[i], false);
        put_pages(t, s, &st->layer[i], true);
    }
}

/* Buffers for the largest layer. */
static bool take_buffers(struct target *t, const struct state *st)
{
    size_t dense = 0, page = 0;
    for (int32_t i = 0; i < st->layers; i++) {
        const struct layer_shape *l = &st->layer[i].shape;
        const size_t d = (size_t)l->Dv * (size_t)l->Dk;
        const int32_t width = l->D > l->Dv ? l->D : l->Dv;
        const size_t p = (size_t)PAGE * (size_t)l->Hkv * (size_t)width;
        if (d > dense) dense = d;
        if (p > page) page = p;
    }
    t->block = mem_take_dirty(STATE_FILE_BLOCK);
    t->dense = mem_take_dirty(dense * sizeof(double));
    t->packed = mem_take_dirty((dense > page ? dense : page) * sizeof(double));
    return t->block && t->dense && t->packed;
}

/* A file knows one type of activations: rings that state_ensure gave another do not fit in. */
static enum gdn_status check_types(const struct state *st, const char *path, struct gdn_error *err)
{
    for (int32_t i = 0; i < st->layers; i++) {
        const struct layer_state *l = &st->layer[i];
        if (l->shape.kind == LAYER_DELTA && l->conv.dtype != st->compute)
            return error_set(err, GDN_ERR_USAGE, "%s: layer %d keeps its inputs in %s, the rest is "
                             "%s: a file has one type for both", path, i,
                             dtype_name(l->conv.dtype), dtype_name(st->compute));
    }
    return GDN_OK;
}

static enum gdn_status write_file(struct target *t, const struct snapshot *s,
                                  const struct state_record *r, const char *path,
                                  struct gdn_error *err)
{
    put_everything(t, s, r);
    struct file_prologue head = {.magic = "gdnstat", .version = STATE_FILE_VERSION,
                                 .block = STATE_FILE_BLOCK, .payload = t->bytes};
    head.magic[7] = 'e';
    head.blocks = (t->bytes + STATE_FILE_BLOCK - 1) / STATE_FILE_BLOCK;
    head.total = sizeof head + head.payload + 8 * (head.blocks + 1);
    head.hash = hash64(&head, sizeof head - sizeof head.hash, 0);
    struct file_out out;
    TRY(file_create(&out, path, err));
    t->out = &out;
    t->bytes = 0;
    file_write(&out, &head, sizeof head);
    put_everything(t, s, r);
    if (t->filled > 0) end_block(t);
    const uint64_t seal = hash64(t->table.at, t->table.len, head.hash);
    file_write(&out, t->table.at, t->table.len);
    file_write(&out, &seal, sizeof seal);
    const enum gdn_status device = s->state->device->status;
    if (!t->table.failed && device == GDN_OK) return file_commit(&out, err);
    file_abandon(&out);
    if (t->table.failed)
        return error_set(err, GDN_ERR_MEMORY, "%s: no memory for its table of hashes", path);
    return error_set(err, device, "%s: the device has failed: what it held is lost", path);
}

enum gdn_status state_save(const char *path, const struct snapshot *s, const struct state_record *r,
                           struct gdn_error *err)
{
    if (!s->state)
        return error_set(err, GDN_ERR_USAGE, "%s: an empty sequence has nothing to save", path);
    TRY(check_types(s->state, path, err));
    struct target t = {.device = s->state->device};
    enum gdn_status status = take_buffers(&t, s->state)
                                 ? write_file(&t, s, r, path, err)
                                 : error_set(err, GDN_ERR_MEMORY, "%s: no memory to save", path);
    bytes_free(&t.table);
    mem_wipe(t.block);
    mem_wipe(t.dense);
    mem_wipe(t.packed);
    return status;
}

#include <string.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "state/file.h"
#include "state/file_layout.h"

/* A file in memory, sealed and whole; `at` walks the sections of its payload. */
struct source {
    const char *path;
    struct gdn_error *err;
    char *data;
    size_t len, at, end;
    struct file_identity id;
    const struct file_shape *shape; /* [id.layers] */
};

/* ---- the file is what was written -------------------------------------------------------------------- */

static enum gdn_status bad(const struct source *f, const char *what)
{
    return error_set(f->err, GDN_ERR_INPUT, "%s: %s: the file is damaged", f->path, what);
}

static enum gdn_status check_prologue(struct source *f, struct file_prologue *head)
{
    if (f->len < sizeof *head) return bad(f, "shorter than its first 64 bytes");
    memcpy(head, f->data, sizeof *head);
    if (memcmp(head->magic, "gdnstate", 8) != 0)
        return error_set(f->err, GDN_ERR_INPUT, "%s: not a gdn state file", f->path);
    if (head->hash != hash64(head, sizeof *head - sizeof head->hash, 0))
        return bad(f, "bytes 0 to 63 do not match their checksum");
    if (head->version != STATE_FILE_VERSION || head->block != STATE_FILE_BLOCK)
        return error_set(f->err, GDN_ERR_UNSUPPORTED, "%s: state file version %u, this build reads "
                         "version %d", f->path, head->version, STATE_FILE_VERSION);
    const uint64_t blocks = head->payload / STATE_FILE_BLOCK +
                            (head->payload % STATE_FILE_BLOCK != 0);
    if (head->total != f->len || head->payload > f->len || head->blocks != blocks ||
        sizeof *head + head->payload + 8 * (blocks + 1) != f->len)
        return error_set(f->err, GDN_ERR_INPUT, "%s: found %zu bytes, need %llu: the file is "
                         "incomplete or damaged", f->path, f->len, (unsigned long long)head->total);
    return GDN_OK;
}

static enum gdn_status check_blocks(struct source *f, const struct file_prologue *head)
{
    const char *table = f->data + sizeof *head + head->payload;
    if (bytes_u64(table + 8 * head->blocks) != hash64(table, 8 * head->blocks, head->hash))
        return bad(f, "its table of checksums does not match its seal");
    for (uint64_t i = 0; i < head->blocks; i++) {
        const uint64_t at = i * STATE_FILE_BLOCK, left = head->payload - at;
        const size_t n = left < STATE_FILE_BLOCK ? (size_t)left : STATE_FILE_BLOCK;
        if (bytes_u64(table + 8 * i) != hash64(f->data + sizeof *head + at, n, 0)) {
            char what[80];
            snprintf(what, sizeof what, "block %llu of %llu does not match its checksum",
                     (unsigned long long)i, (unsigned long long)head->blocks);
            return bad(f, what);
        }
    }
    return GDN_OK;
}

/* ---- sections ------------------------------------------------------------------------------------------ */

/* The next section must have this tag and length (SIZE_MAX: any). */
static enum gdn_status section(struct source *f, const char *tag, size_t bytes, const char **data,
                               size_t *found)
{
    struct file_section head;
    char want[sizeof head.tag] = {0};
    memcpy(want, tag, strnlen(tag, sizeof want));
    if (f->end - f->at < sizeof head) return bad(f, "a section is missing");
    memcpy(&head, f->data + f->at, sizeof head);
    f->at += sizeof head;
    const size_t left = f->end - f->at;
    if (memcmp(head.tag, want, sizeof want) != 0 || head.bytes > left ||
        (bytes != SIZE_MAX && head.bytes != bytes) || (16 - head.bytes % 16) % 16 > left - head.bytes)
        return error_set(f->err, GDN_ERR_INPUT, "%s: byte %zu: found section %.8s of %llu bytes, "
                         "need %s of %zu", f->path, f->at, head.tag,
                         (unsigned long long)head.bytes, tag, bytes);
    *data = f->data + f->at;
    if (found) *found = (size_t)head.bytes;
    f->at += head.bytes + (16 - head.bytes % 16) % 16;
    return GDN_OK;
}

static enum gdn_status read_identity(struct source *f, struct state_record *r)
{
    const char *data, *ids, *values, *tokens;
    size_t shapes, token_bytes;
    TRY(section(f, "identity", sizeof f->id, &data, NULL));
    memcpy(&f->id, data, sizeof f->id);
    if (f->id.compute >= DTYPE_I32 || f->id.anchor >= DTYPE_I32 || f->id.wide >= DTYPE_I32 ||
        f->id.best > STATE_FILE_BEST || f->id.position > INT32_MAX || f->id.position == 0 ||
        f->id.length > BLOCK || f->id.length > f->id.position || f->id.layers > 65536)
        return bad(f, "its identity has impossible numbers");
    TRY(section(f, "shapes", SIZE_MAX, &data, &shapes));
    if (shapes != sizeof *f->shape * f->id.layers) return bad(f, "a wrong number of layers");
    f->shape = (const struct file_shape *)(const void *)data;
    *r = (struct state_record){.position = (int32_t)f->id.position,
                               .best_count = (int32_t)f->id.best, .best_lse = f->id.best_lse};
    memcpy(r->model, f->id.model, sizeof r->model);
    TRY(section(f, "tokens", SIZE_MAX, &tokens, &token_bytes));
    if (token_bytes != sizeof *r->tokens * f->id.position) return bad(f, "a wrong number of tokens");
    TRY(section(f, "ids", sizeof *r->best_ids * f->id.best, &ids, NULL));
    TRY(section(f, "values", sizeof *r->best_values * f->id.best, &values, NULL));
    memcpy(r->best_ids, ids, sizeof *r->best_ids * f->id.best);
    memcpy(r->best_values, values, sizeof *r->best_values * f->id.best);
    r->tokens = mem_take_dirty(token_bytes);
    if (!r->tokens)
        return error_set(f->err, GDN_ERR_MEMORY, "%s: no memory for %d tokens", f->path,
                         r->position);
    memcpy(r->tokens, tokens, token_bytes);
    return GDN_OK;
}

static enum gdn_status open_file(struct source *f, const char *path, struct state_record *record,
                                 struct gdn_error *err)
{
    *f = (struct source){.path = path, .err = err};
    *record = (struct state_record){0};
    TRY(file_read(path, SIZE_MAX - 1, &f->data, &f->len, err));
    struct file_prologue head;
    enum gdn_status status = check_prologue(f, &head);
    if (status == GDN_OK) status = check_blocks(f, &head);
    f->at = sizeof head;
    if (status == GDN_OK) {
        f->end = sizeof head + head.payload;
        status = read_identity(f, record);
    }
    return status;
}

enum gdn_status state_verify(const char *path, struct state_summary *sum, struct gdn_error *err)
{
    struct source f;
    *sum = (struct state_summary){0};
    const enum gdn_status status = open_file(&f, path, &sum->record, err);
    sum->compute = (enum dtype)f.id.compute;
    sum->anchor = (enum dtype)f.id.anchor;
    sum->wide = (enum dtype)f.id.wide;
    sum->layers = (int32_t)f.id.layers;
    sum->length = (int32_t)f.id.length;
    sum->bytes = (int64_t)f.len;
    mem_give(sum->record.tokens);
    sum->record.tokens = NULL;
    mem_give(f.data);
    return status;
}

/* ---- into a slot ----------------------------------------------------------------------------------------- */

static enum gdn_status check_fit(const struct source *f, const struct state *st,
                                 const unsigned char model[32])
{
    if (memcmp(f->id.model, model, 32) != 0)
        return error_set(f->err, GDN_ERR_INPUT, "%s: saved with another model (fingerprint "
                         "%02x%02x%02x%02x, this one has %02x%02x%02x%02x)", f->path,
                         f->id.model[0], f->id.model[1], f->id.model[2], f->id.model[3], model[0],
                         model[1], model[2], model[3]);
    if (f->id.compute != st->compute)
        return error_set(f->err, GDN_ERR_INPUT, "%s: saved with compute %s, this session has %s",
                         f->path, dtype_name((enum dtype)f->id.compute), dtype_name(st->compute));
    if (f->id.layers != (uint32_t)st->layers)
        return error_set(f->err, GDN_ERR_INPUT, "%s: found %u layers, the model has %d", f->path,
                         f->id.layers, st->layers);
    for (int32_t i = 0; i < st->layers; i++) {
        const struct layer_shape *l = &st->layer[i].shape;
        const struct file_shape *s = &f->shape[i];
        if (s->kind != l->kind || s->channel_gate != l->channel_gate ||
            s->Hk != (uint32_t)l->Hk || s->Hv != (uint32_t)l->Hv || s->Dk != (uint32_t)l->Dk ||
            s->Dv != (uint32_t)l->Dv || s->taps != (uint32_t)l->taps ||
            s->Hkv != (uint32_t)l->Hkv || s->D != (uint32_t)l->D)
            return error_set(f->err, GDN_ERR_INPUT, "%s: layer %d has another shape", f->path, i);
    }
    return GDN_OK;
}

/* n elements of one type into another; the same type is a copy. */
static void convert(void *to, enum dtype to_type, const void *from, enum dtype from_type, size_t n)
{
    if (to_type == from_type) {
        memcpy(to, from, n * dtype_size(to_type));
        return;
    }
    for (int64_t i = 0; i < (int64_t)n; i++)
        dtype_store(to, to_type, i, dtype_load(from, from_type, i));
}

static enum gdn_status load_delta(struct source *f, const struct snapshot *s, int32_t layer,
                                  size_t *offset)
{
    static const char *const tag[SNAPSHOT_PARTS] = {"anchor", "log k", "log u", "log G", "ring"};
    struct state *st = s->state;
    struct delta_slots one = st->layer[layer].delta;
    const enum dtype saved[SNAPSHOT_PARTS] = {f->id.anchor, f->id.compute, f->id.wide, f->id.wide,
                                              f->id.compute};
    struct snapshot_part part[SNAPSHOT_PARTS];
    snapshot_parts(s, st, layer, offset, part);
    const size_t n = (size_t)one.Hv * (size_t)one.Dv * (size_t)one.Dk;
    const char *data;
    TRY(section(f, tag[0], n * dtype_size(saved[0]), &data, NULL));
    double *dense = mem_take_dirty(n * sizeof *dense);
    if (!dense) return error_set(f->err, GDN_ERR_MEMORY, "%s: no memory for a layer", f->path);
    convert(dense, DTYPE_F64, data, saved[0], n);
    one.anchor = part[0].at;
    one.anchor_row = NULL;
    st->device->anchor_pack(&one, 0, dense);
    mem_give(dense);
    for (int p = SNAPSHOT_K; p < SNAPSHOT_PARTS; p++) {
        const size_t count = part[p].bytes / dtype_size(part[p].dtype);
        TRY(section(f, tag[p], count * dtype_size(saved[p]), &data, NULL));
        convert(part[p].at, part[p].dtype, data, saved[p], count);
    }
    return GDN_OK;
}

/* Keys and values go straight into the pages of the new slot. */
static enum gdn_status load_pages(struct source *f, struct state *st, int32_t slot, int32_t layer)
{
    const struct kv_pages *kv = &st->layer[layer].kv;
    const size_t row = dtype_size(kv->dtype) * (size_t)kv->Hkv * (size_t)kv->D;
    const int32_t position = (int32_t)f->id.position;
    for (int half = 0; half < 2; half++) {
        const char *data;
        TRY(section(f, half ? "valuesof" : "keys", row * (size_t)position, &data, NULL));
        for (int32_t p = 0; p < position; p += PAGE) {
            const int32_t rows = position - p < PAGE ? position - p : PAGE;
            const int32_t page = st->table[(int64_t)slot * st->row_pages + p / PAGE];
            char *to = (char *)(half ? kv->v : kv->k) + row * PAGE * (size_t)page;
            st->device->upload(st->device, to, data + row * (size_t)p, row * (size_t)rows);
        }
    }
    return GDN_OK;
}

/* Builds the snapshot's memory and the pages of `slot` from the sections. */
static enum gdn_status load_layers(struct source *f, struct snapshot *s, int32_t slot)
{
    struct state *st = s->state;
    TRY(state_reserve(st, slot, s->position, f->err));
    size_t offset = snapshot_first(s);
    for (int32_t i = 0; i < st->layers; i++)
        TRY(st->layer[i].shape.kind == LAYER_DELTA ? load_delta(f, s, i, &offset)
                                                   : load_pages(f, st, slot, i));
    if (f->at != f->end) return bad(f, "bytes behind its last section");
    return GDN_OK;
}

static enum gdn_status load_slot(struct source *f, struct state *st, int32_t *slot)
{
    struct snapshot s = {.state = st, .position = (int32_t)f->id.position,
                         .length = (int32_t)f->id.length};
    s.bytes = snapshot_bytes(st, s.position, s.length);
    s.memory = mem_take(s.bytes);
    if (!s.memory)
        return error_set(f->err, GDN_ERR_MEMORY, "%s: no memory for %.1f MB", f->path,
                         (double)s.bytes / 1e6);
    int32_t spare = state_slot_take(st);
    enum gdn_status status = spare < 0 ? error_set(f->err, GDN_ERR_MEMORY, "%s: no free slot to "
                                                   "load into (there are %d)", f->path, st->slots)
                                       : load_layers(f, &s, spare);
    if (status == GDN_OK) {
        snapshot_fill(&s, spare);
        *slot = spare;
    } else if (spare >= 0) {
        state_slot_give(st, spare);
    }
    mem_give(s.memory);
    return status;
}

enum gdn_status state_load(const char *path, struct state *st, const unsigned char model[32],
                           int32_t *slot, struct state_record *record, bool *converted,
                           struct gdn_error *err)
{
    struct source f;
    enum gdn_status status = open_file(&f, path, record, err);
    if (status == GDN_OK) status = check_fit(&f, st, model);
    if (status == GDN_OK) status = load_slot(&f, st, slot);
    if (status == GDN_OK)
        *converted = f.id.anchor != st->anchor_type || f.id.wide != st->device->wide;
    if (status != GDN_OK) {
        mem_give(record->tokens);
        *record = (struct state_record){0};
    }
    mem_give(f.data);
    return status;
}

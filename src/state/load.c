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
    const char *data;
    size_t len, at, end;
    struct file_identity id;
    const struct file_shape *shape; /* [id.layers] */
    double *dense;                  /* one head's anchor */
};

/* ---- the file is what was written ------------------------------------------------------------ */

static enum gdn_status bad(const struct source *f, const char *what)
{
    return error_set(f->err, GDN_ERR_INPUT, "%s: %s: the file is damaged", f->path, what);
}

static enum gdn_status check_prologue(const struct source *f, const struct file_prologue *head)
{
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

static enum gdn_status check_blocks(const struct source *f, const struct file_prologue *head)
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

/* ---- sections -------------------------------------------------------------------------------- */

/* The data of the next section, which must have this tag and length. */
static enum gdn_status section(struct source *f, const char *tag, size_t bytes, const char **data)
{
    struct file_section head = {0};
    char want[sizeof head.tag] = {0};
    const size_t at = f->at, pad = (16 - bytes % 16) % 16;
    memcpy(want, tag, strnlen(tag, sizeof want));
    if (f->end - at >= sizeof head) memcpy(&head, f->data + at, sizeof head);
    if (memcmp(head.tag, want, sizeof want) != 0 || head.bytes != bytes ||
        bytes > f->end - at - sizeof head || pad > f->end - at - sizeof head - bytes)
        return error_set(f->err, GDN_ERR_INPUT, "%s: byte %zu: need the section '%.8s' of %zu "
                         "bytes: the file is damaged", f->path, at, tag, bytes);
    *data = f->data + at + sizeof head;
    f->at = at + sizeof head + bytes + pad;
    return GDN_OK;
}

static enum gdn_status read_identity(struct source *f, struct state_record *r)
{
    struct file_identity *id = &f->id;
    const char *data, *ids, *values, *tokens;
    TRY(section(f, "identity", sizeof *id, &data));
    memcpy(id, data, sizeof *id);
    if (id->compute >= DTYPE_I32 || id->anchor >= DTYPE_I32 || id->wide >= DTYPE_I32 ||
        id->best > STATE_FILE_BEST || id->position > INT32_MAX || id->position == 0 ||
        id->length > BLOCK || id->length > id->position || id->layers > 65536)
        return bad(f, "its identity has impossible numbers");
    TRY(section(f, "shapes", sizeof *f->shape * id->layers, &data));
    f->shape = (const struct file_shape *)(const void *)data;
    const size_t token_bytes = sizeof *r->tokens * id->position;
    TRY(section(f, "tokens", token_bytes, &tokens));
    TRY(section(f, "ids", sizeof *r->best_ids * id->best, &ids));
    TRY(section(f, "values", sizeof *r->best_values * id->best, &values));
    *r = (struct state_record){.position = (int32_t)id->position, .best_count = (int32_t)id->best,
                               .best_lse = id->best_lse};
    memcpy(r->model, id->model, sizeof r->model);
    memcpy(r->best_ids, ids, sizeof *r->best_ids * id->best);
    memcpy(r->best_values, values, sizeof *r->best_values * id->best);
    r->tokens = mem_take_dirty(token_bytes);
    if (!r->tokens)
        return error_set(f->err, GDN_ERR_MEMORY, "%s: no memory for %d tokens", f->path,
                         r->position);
    memcpy(r->tokens, tokens, token_bytes);
    return GDN_OK;
}

/* Checks all of it, then takes the identity out. */
static enum gdn_status open_source(struct source *f, struct state_record *record)
{
    struct file_prologue head;
    *record = (struct state_record){0};
    if (f->len < sizeof head) return bad(f, "shorter than its first 64 bytes");
    memcpy(&head, f->data, sizeof head);
    TRY(check_prologue(f, &head));
    TRY(check_blocks(f, &head));
    f->at = sizeof head;
    f->end = sizeof head + head.payload;
    return read_identity(f, record);
}

/* All of a file. What is none of ours, or of another length than it says, is refused by its first
 * 64 bytes, before there is memory for the rest. */
static enum gdn_status read_open(const struct source *f, struct file_in *in, char **data)
{
    struct file_prologue head;
    if (in->len < sizeof head) return bad(f, "shorter than its first 64 bytes");
    TRY(file_take(in, &head, sizeof head, f->err));
    TRY(check_prologue(f, &head));
    *data = mem_take_dirty(in->len);
    if (!*data)
        return error_set(f->err, GDN_ERR_MEMORY, "%s: no memory for %.1f MB", f->path,
                         (double)in->len / 1e6);
    memcpy(*data, &head, sizeof head);
    return file_take(in, *data + sizeof head, in->len - sizeof head, f->err);
}

static enum gdn_status read_file(const char *path, char **data, size_t *len, struct gdn_error *err)
{
    struct file_in in;
    *data = NULL;
    TRY(file_open(&in, path, err));
    const struct source f = {.path = path, .err = err, .len = in.len};
    const enum gdn_status status = read_open(&f, &in, data);
    *len = in.len;
    file_close(&in);
    return status;
}

void state_record_free(struct state_record *record)
{
    mem_wipe(record->tokens);
    record->tokens = NULL;
}

enum gdn_status state_verify_memory(const char *name, const void *data, size_t len,
                                    struct state_summary *sum, struct gdn_error *err)
{
    struct source f = {.path = name, .err = err, .data = data, .len = len};
    *sum = (struct state_summary){0};
    const enum gdn_status status = open_source(&f, &sum->record);
    state_record_free(&sum->record);
    if (status != GDN_OK) return status;
    sum->compute = (enum dtype)f.id.compute;
    sum->anchor = (enum dtype)f.id.anchor;
    sum->wide = (enum dtype)f.id.wide;
    sum->layers = (int32_t)f.id.layers;
    sum->length = (int32_t)f.id.length;
    sum->bytes = (int64_t)f.len;
    return GDN_OK;
}

enum gdn_status state_verify(const char *path, struct state_summary *sum, struct gdn_error *err)
{
    char *data;
    size_t len;
    *sum = (struct state_summary){0};
    enum gdn_status status = read_file(path, &data, &len, err);
    if (status == GDN_OK) status = state_verify_memory(path, data, len, sum, err);
    mem_wipe(data);
    return status;
}

/* ---- into a slot ----------------------------------------------------------------------------- */

/* The last layer is a draft head's. */
static bool has_head(const struct source *f)
{
    return f->id.layers > 0 && f->shape[f->id.layers - 1].width > 0;
}

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
    const uint32_t more = (uint32_t)state_lag(st);
    const uint32_t body = (uint32_t)st->layers - more;
    if (f->id.layers != body + has_head(f))
        return error_set(f->err, GDN_ERR_INPUT, "%s: found %u layers, the model has %d", f->path,
                         f->id.layers, st->layers);
    for (int32_t i = 0; i < st->layers && i < (int32_t)f->id.layers; i++) {
        const struct layer_shape *l = &st->layer[i].shape;
        const struct file_shape *s = &f->shape[i];
        if (s->kind != l->kind || s->channel_gate != l->channel_gate ||
            s->Hk != (uint32_t)l->Hk || s->Hv != (uint32_t)l->Hv || s->Dk != (uint32_t)l->Dk ||
            s->Dv != (uint32_t)l->Dv || s->taps != (uint32_t)l->taps ||
            s->Hkv != (uint32_t)l->Hkv || s->D != (uint32_t)l->D || s->latent != l->latent ||
            s->width != (uint32_t)l->width)
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
    if (to_type == DTYPE_F64 && from_type == DTYPE_F32) { /* every anchor of a cpu */
        for (size_t i = 0; i < n; i++) ((double *)to)[i] = (double)((const float *)from)[i];
        return;
    }
    for (int64_t i = 0; i < (int64_t)n; i++)
        dtype_store(to, to_type, i, dtype_load(from, from_type, i));
}

/* Without a slot (-1) the sections are only looked at: so here, and below. */
static enum gdn_status load_delta(struct source *f, const struct snapshot *s, int32_t slot,
                                  int32_t layer, size_t *offset)
{
    static const char *const tag[SNAPSHOT_PARTS] = {"anchor", "log k", "log u", "log G", "ring"};
    struct state *st = s->state;
    const struct delta_slots *d = &st->layer[layer].delta;
    const enum dtype saved[SNAPSHOT_PARTS] = {f->id.anchor, f->id.compute, f->id.wide, f->id.wide,
                                              f->id.compute};
    struct snapshot_part part[SNAPSHOT_PARTS];
    snapshot_parts(s, st, layer, offset, part);
    const struct delta_slots heads = snapshot_heads(st->device, d, &part[SNAPSHOT_ANCHOR]);
    const size_t n = (size_t)d->Dv * (size_t)d->Dk, bytes = n * dtype_size(saved[0]);
    const char *data;
    TRY(section(f, tag[0], bytes * (size_t)d->Hv, &data));
    for (int32_t h = 0; slot >= 0 && h < d->Hv; h++) {
        convert(f->dense, DTYPE_F64, data + bytes * (size_t)h, saved[0], n);
        st->device->anchor_pack(&heads, h, f->dense);
    }
    for (int p = SNAPSHOT_K; p < SNAPSHOT_PARTS; p++) {
        const size_t count = part[p].bytes / dtype_size(part[p].dtype);
        TRY(section(f, tag[p], count * dtype_size(saved[p]), &data));
        if (slot >= 0) convert(part[p].at, part[p].dtype, data, saved[p], count);
    }
    return GDN_OK;
}

/* Keys and values go straight into the pages of the new slot. */
static enum gdn_status load_pages(struct source *f, struct state *st, int32_t slot, int32_t layer)
{
    const struct kv_pages *kv = &st->layer[layer].kv;
    const int32_t position = (int32_t)f->id.position - layer_lag(&st->layer[layer].shape);
    for (int half = 0; half < 2; half++) {
        const size_t row = kv_row_bytes(kv, half);
        const char *data;
        TRY(section(f, half ? "valuesof" : "keys", row * (size_t)position, &data));
        for (int32_t p = 0; slot >= 0 && row > 0 && p < position; p += PAGE) {
            const int32_t rows = position - p < PAGE ? position - p : PAGE;
            const int32_t page = st->table[(int64_t)slot * st->row_pages + p / PAGE];
            char *to = (char *)(half ? kv->v : kv->k) + row * PAGE * (size_t)page;
            st->device->upload(st->device, to, data + row * (size_t)p, row * (size_t)rows);
        }
    }
    return GDN_OK;
}

/* The rows that a draft head keeps, into the snapshot. */
static enum gdn_status load_last_rows(struct source *f, const struct snapshot *s, int32_t slot,
                                      int32_t layer, size_t *offset)
{
    struct snapshot_part part[SNAPSHOT_PARTS];
    const char *data;
    snapshot_parts(s, s->state, layer, offset, part);
    TRY(section(f, "ring", part[SNAPSHOT_RING].bytes, &data));
    if (slot >= 0) memcpy(part[SNAPSHOT_RING].at, data, part[SNAPSHOT_RING].bytes);
    return GDN_OK;
}

/* What a state without a draft head does not take from the file. */
static enum gdn_status pass_over(struct source *f, const char *tag)
{
    struct file_section head = {0};
    const char *data;
    if (f->end - f->at >= sizeof head) memcpy(&head, f->data + f->at, sizeof head);
    return section(f, tag, head.bytes, &data);
}

/* A draft head in the file, in the state, or in both: without one in the file its past is zeros,
 * which makes its guesses bad and nothing else. */
static enum gdn_status load_head(struct source *f, const struct snapshot *s, int32_t slot,
                                 size_t *offset)
{
    const int32_t last = s->state->layers - 1;
    if (!has_head(f)) return GDN_OK;
    if (state_lag(s->state)) {
        TRY(load_last_rows(f, s, slot, last, offset));
        return load_pages(f, s->state, slot, last);
    }
    TRY(pass_over(f, "ring"));
    TRY(pass_over(f, "keys"));
    return pass_over(f, "valuesof");
}

/* The snapshot's memory and the pages of the slot, from the sections. */
static enum gdn_status load_layers(struct source *f, const struct snapshot *s, int32_t slot)
{
    struct state *st = s->state;
    const size_t first = f->at;
    size_t offset = snapshot_first(s);
    for (int32_t i = 0; i < (int32_t)f->id.layers - has_head(f); i++)
        TRY(st->layer[i].shape.kind == LAYER_DELTA ? load_delta(f, s, slot, i, &offset)
                                                   : load_pages(f, st, slot, i));
    TRY(load_head(f, s, slot, &offset));
    if (f->at != f->end) return bad(f, "bytes behind its last section");
    f->at = first;
    return GDN_OK;
}

/* Elements of the largest anchor of one head. */
static size_t dense_size(const struct state *st)
{
    size_t most = 0;
    for (int32_t i = 0; i < st->layers; i++) {
        const struct layer_shape *l = &st->layer[i].shape;
        const size_t n = (size_t)l->Dv * (size_t)l->Dk;
        if (n > most) most = n;
    }
    return most;
}

/* Into a slot of its own, which is *slot only once everything is there. */
static enum gdn_status load_slot(struct source *f, const struct snapshot *s, int32_t *slot)
{
    struct state *st = s->state;
    TRY(load_layers(f, s, -1));
    const int32_t spare = state_slot_take(st);
    if (spare < 0)
        return error_set(f->err, GDN_ERR_MEMORY, "%s: no free slot to load into (there are %d)",
                         f->path, st->slots);
    enum gdn_status status = state_reserve(st, spare, s->position, f->err);
    if (status == GDN_OK) status = load_layers(f, s, spare);
    if (status == GDN_OK) {
        snapshot_fill(s, spare);
        status = st->device->status;
        if (status != GDN_OK) error_set(f->err, status, "%s: the device has failed", f->path);
    }
    if (status == GDN_OK)
        *slot = spare;
    else
        state_slot_give(st, spare);
    return status;
}

static enum gdn_status load_state(struct source *f, struct state *st, int32_t *slot)
{
    const size_t n = dense_size(st) * sizeof *f->dense;
    struct snapshot s = {.state = st, .position = (int32_t)f->id.position,
                         .length = (int32_t)f->id.length};
    s.bytes = snapshot_bytes(st, s.position, s.length);
    s.memory = mem_take(s.bytes);
    f->dense = mem_take_dirty(n);
    const enum gdn_status status =
        s.memory && f->dense ? load_slot(f, &s, slot)
                             : error_set(f->err, GDN_ERR_MEMORY, "%s: no memory for %.1f MB",
                                         f->path, (double)(s.bytes + n) / 1e6);
    mem_wipe(s.memory);
    mem_wipe(f->dense);
    return status;
}

enum gdn_status state_load_memory(const char *name, const void *data, size_t len, struct state *st,
                                  const unsigned char model[32], int32_t *slot,
                                  struct state_record *record, bool *converted,
                                  struct gdn_error *err)
{
    struct source f = {.path = name, .err = err, .data = data, .len = len};
    enum gdn_status status = open_source(&f, record);
    if (status == GDN_OK) status = check_fit(&f, st, model);
    if (status == GDN_OK) status = load_state(&f, st, slot);
    if (status == GDN_OK) {
        *converted = f.id.anchor != st->anchor_type || f.id.wide != st->device->wide;
    } else {
        state_record_free(record);
        *record = (struct state_record){0};
    }
    return status;
}

enum gdn_status state_load(const char *path, struct state *st, const unsigned char model[32],
                           int32_t *slot, struct state_record *record, bool *converted,
                           struct gdn_error *err)
{
    char *data;
    size_t len;
    *record = (struct state_record){0};
    enum gdn_status status = read_file(path, &data, &len, err);
    if (status == GDN_OK)
        status = state_load_memory(path, data, len, st, model, slot, record, converted, err);
    mem_wipe(data);
    return status;
}

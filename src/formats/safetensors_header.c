/* safetensors_header.c: one pass over the JSON header of a safetensors file.
 *
 * It checks everything that a single tensor can get wrong; what concerns two tensors (names,
 * overlaps, holes) is seen in safetensors.c, once all are known. */
#include "formats/safetensors_header.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/json.h"

/* Types of the reference implementation that gdn has no use for: valid, but not supported. */
static const char foreign_dtypes[][12] = {"C64",     "F4",          "F6_E2M3", "F6_E3M2",
                                          "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"};

/* One pass over the header. */
struct pass {
    struct json json;
    const struct safetensors *st;
    struct gdn_error *err;
    size_t header_len;
    size_t byte;                  /* of the last token, in the file */
    char name[ST_NAME_BYTES + 1]; /* of the tensor being read; empty before it is known */
};

/* FILE: byte N: tensor "x": sentence. */
__attribute__((format(printf, 3, 4))) static enum gdn_status
bad_as(struct pass *p, enum gdn_status status, const char *format, ...)
{
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *path = st_path_tail(p->st->path);
    if (!p->name[0]) return error_set(p->err, status, "%s: byte %zu: %s", path, p->byte, text);
    return error_set(p->err, status, "%s: byte %zu: tensor \"%.100s\": %s", path, p->byte, p->name,
                     text);
}
#define bad(p, ...) bad_as(p, GDN_ERR_INPUT, __VA_ARGS__)

static const char *const kind_names[] = {
    [JSON_ERROR] = "an error",     [JSON_END] = "the end",    [JSON_OBJECT] = "an object",
    [JSON_OBJECT_END] = "a }",     [JSON_ARRAY] = "an array", [JSON_ARRAY_END] = "a ]",
    [JSON_KEY] = "a key",          [JSON_STRING] = "a text",  [JSON_NUMBER] = "a number",
    [JSON_TRUE] = "true",          [JSON_FALSE] = "false",    [JSON_NULL] = "null",
};

static enum gdn_status next(struct pass *p, struct json_token *token)
{
    if (json_next(&p->json, token) == JSON_ERROR) {
        p->byte = 8 + json_offset(&p->json);
        return bad(p, "the header is not JSON: %s", p->json.error);
    }
    p->byte = 8 + (size_t)(token->text - p->json.begin);
    return GDN_OK;
}

static enum gdn_status next_is(struct pass *p, struct json_token *token, enum json_kind kind,
                               const char *field)
{
    TRY(next(p, token));
    if (token->kind == kind) return GDN_OK;
    return bad(p, "%s: found %s, need %s", field, kind_names[token->kind], kind_names[kind]);
}

static int shown(const struct json_token *token) { return token->len < 60 ? (int)token->len : 60; }

static enum gdn_status read_dtype(struct pass *p, struct st_entry *entry)
{
    struct json_token t;
    TRY(next_is(p, &t, JSON_STRING, "dtype"));
    for (int i = 0; i < ST_DTYPES; i++) {
        if (!json_is(&t, st_dtype_name((enum st_dtype)i))) continue;
        entry->dtype = (enum st_dtype)i;
        return GDN_OK;
    }
    for (size_t i = 0; i < sizeof foreign_dtypes / sizeof *foreign_dtypes; i++)
        if (json_is(&t, foreign_dtypes[i]))
            return bad_as(p, GDN_ERR_UNSUPPORTED, "dtype %s is not supported", foreign_dtypes[i]);
    return bad(p, "dtype: found \"%.*s\", need one of F64 F32 F16 BF16 F8_E4M3 F8_E5M2 I64 I32 I16 "
                  "I8 U64 U32 U16 U8 BOOL", shown(&t), t.text);
}

static enum gdn_status read_size(struct pass *p, const struct json_token *t, const char *field,
                                 int64_t *out)
{
    if (t->kind != JSON_NUMBER)
        return bad(p, "%s: found %s, need a number", field, kind_names[t->kind]);
    if (json_int(t, 0, INT64_MAX, out)) return GDN_OK;
    return bad(p, "%s: found %.*s, need a whole number from 0 to 2^63-1", field, shown(t), t->text);
}

static enum gdn_status read_shape(struct pass *p, struct st_entry *entry)
{
    struct json_token t;
    TRY(next_is(p, &t, JSON_ARRAY, "shape"));
    for (entry->rank = 0;; entry->rank++) {
        TRY(next(p, &t));
        if (t.kind == JSON_ARRAY_END) return GDN_OK;
        if (entry->rank == ST_RANK)
            return bad(p, "shape: found more than %d dimensions", (int)ST_RANK);
        TRY(read_size(p, &t, "shape", &entry->shape[entry->rank]));
    }
}

static enum gdn_status read_offsets(struct pass *p, int64_t offsets[2])
{
    struct json_token t;
    TRY(next_is(p, &t, JSON_ARRAY, "data_offsets"));
    for (int i = 0; i < 2; i++) {
        TRY(next(p, &t));
        TRY(read_size(p, &t, "data_offsets", &offsets[i]));
    }
    return next_is(p, &t, JSON_ARRAY_END, "data_offsets after two numbers");
}

/* Type, shape and place must tell the same length, and the file must have it. */
static enum gdn_status check_extent(struct pass *p, struct st_entry *entry,
                                    const int64_t offsets[2])
{
    size_t bytes = st_dtype_size(entry->dtype), dim, begin, end;
    for (int i = 0; i < entry->rank; i++)
        if (!checked_size(entry->shape[i], &dim) || !checked_mul(bytes, dim, &bytes))
            return bad(p, "shape: the product of the dimensions does not fit 64 bits");
    if (!checked_size(offsets[0], &begin) || !checked_size(offsets[1], &end) || begin > end)
        return bad(p, "data_offsets: found [%lld, %lld], need begin <= end", (long long)offsets[0],
                   (long long)offsets[1]);
    size_t data_at = 8 + p->header_len, data_len = p->st->len - data_at;
    if (end > data_len)
        return bad(p, "data_offsets: the tensor ends at byte %zu of the data and the file has only "
                      "%zu: it is damaged or incomplete", end, data_len);
    if (bytes != end - begin)
        return bad(p, "data_offsets: found %zu bytes, need %zu for dtype %s and this shape",
                   end - begin, bytes, st_dtype_name(entry->dtype));
    entry->bytes = bytes;
    entry->data = p->st->data + data_at + begin;
    return GDN_OK;
}

static enum gdn_status read_entry(struct pass *p, struct st_entry *entry)
{
    enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };
    struct json_token t;
    int64_t offsets[2];
    unsigned seen = 0;
    *entry = (struct st_entry){0};
    TRY(next_is(p, &t, JSON_OBJECT, "description"));
    for (;;) {
        TRY(next(p, &t));
        if (t.kind == JSON_OBJECT_END) break;
        unsigned field = json_is(&t, "dtype")          ? DTYPE
                         : json_is(&t, "shape")        ? SHAPE
                         : json_is(&t, "data_offsets") ? OFFSETS
                                                       : 0u;
        if (!field)
            return bad(p, "found a field \"%.*s\", need dtype, shape and data_offsets", shown(&t),
                       t.text);
        if (seen & field) return bad(p, "found \"%.*s\" twice", shown(&t), t.text);
        seen |= field;
        TRY(field == DTYPE   ? read_dtype(p, entry)
            : field == SHAPE ? read_shape(p, entry)
                             : read_offsets(p, offsets));
    }
    if (seen != (DTYPE | SHAPE | OFFSETS))
        return bad(p, "%s is missing", !(seen & DTYPE)   ? "dtype"
                                       : !(seen & SHAPE) ? "shape"
                                                         : "data_offsets");
    return check_extent(p, entry, offsets);
}

static enum gdn_status read_metadata(struct pass *p, struct safetensors *st)
{
    struct json_token t;
    if (st->metadata) return bad(p, "found __metadata__ twice");
    TRY(next_is(p, &t, JSON_OBJECT, "__metadata__"));
    st->metadata = t.text;
    for (;;) {
        TRY(next(p, &t));
        if (t.kind == JSON_OBJECT_END) break;
        TRY(next_is(p, &t, JSON_STRING, "__metadata__"));
    }
    st->metadata_len = (size_t)(t.text + t.len - st->metadata);
    return GDN_OK;
}

static enum gdn_status read_name(struct pass *p, const struct json_token *t)
{
    size_t len;
    bool fits = json_text(t, p->name, sizeof p->name, &len);
    if (fits && st_name_good(p->name, len)) return GDN_OK;
    p->name[0] = 0;
    if (fits)
        return bad(p, "found a control character in the tensor name \"%.*s\"", shown(t), t->text);
    return bad(p, "found a tensor name of more than %d bytes, \"%.*s...\"", (int)ST_NAME_BYTES,
               shown(t), t->text);
}

enum gdn_status st_header_pass(struct safetensors *st, size_t header_len, size_t *name_bytes,
                               struct gdn_error *err)
{
    struct pass p = {.st = st, .err = err, .header_len = header_len};
    struct json_token t;
    bool keep = st->entries != NULL;
    size_t count = 0, names = 0;
    st->metadata = NULL;
    json_open(&p.json, (const char *)st->data + 8, header_len);
    TRY(next_is(&p, &t, JSON_OBJECT, "the header"));
    for (;;) {
        struct st_entry entry;
        p.name[0] = 0;
        TRY(next(&p, &t));
        if (t.kind == JSON_OBJECT_END) break;
        if (json_is(&t, "__metadata__")) {
            TRY(read_metadata(&p, st));
            continue;
        }
        if (count == ST_TENSORS) return bad(&p, "found more than %d tensors", (int)ST_TENSORS);
        TRY(read_name(&p, &t));
        TRY(read_entry(&p, &entry));
        size_t room = strlen(p.name) + 1;
        if (keep) {
            entry.name = memcpy(st->names + names, p.name, room);
            st->entries[count] = entry;
        }
        count++;
        names += room;
    }
    TRY(next(&p, &t));
    st->count = count;
    *name_bytes = names;
    return GDN_OK;
}

/* The safetensors reader, and the index of shards: an input that begins with { is an index. What
 * is accepted must keep its promises: every tensor inside the file, no byte left over, each found
 * by its name, memory within its bound. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/memory.h"
#include "formats/shards_index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed);
/* Weak: the replay of a corpus has no libFuzzer. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room) __attribute__((weak));

/* Mostly sets the header length right: else no mutation would come past the first eight bytes. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed)
{
    size = LLVMFuzzerMutate(data, size, room);
    if (size < 10 || data[0] == '{' || seed % 8 == 0) return size;
    const uint8_t *last = memrchr(data + 8, '}', size - 8);
    if (last) bytes_put_u64(data, (uint64_t)(last + 1 - data - 8));
    return size;
}

static void must(bool holds)
{
    if (!holds) abort();
}

static void file_must_hold(const struct safetensors *st, size_t size)
{
    size_t header = (size_t)bytes_u64(st->data), total = 0, n;
    must((size_t)mem_counted().live_bytes <= 2 * header + (1 << 20));
    char text[64];
    safetensors_metadata(st, "format", text, sizeof text);
    for (size_t i = 0; i < st->count; i++) {
        const struct st_entry *entry = &st->entries[i];
        size_t at = safetensors_offset(st, entry);
        must(at >= 8 + header && entry->bytes <= size - at);
        must(entry->rank >= 0 && entry->rank <= ST_RANK);
        n = st_dtype_size(entry->dtype);
        for (int d = 0; d < entry->rank; d++) n *= (size_t)entry->shape[d];
        must(n == entry->bytes);
        must(safetensors_find(st, entry->name) == entry);
        must(st_name_good(entry->name, strlen(entry->name)));
        total += entry->bytes;
    }
    must(total == size - 8 - header);
}

static void fuzz_file(const uint8_t *data, size_t size)
{
    struct safetensors st;
    struct gdn_error err = {0};
    enum gdn_status status = safetensors_parse(&st, data, size, "f", &err);
    must(status == err.status);
    if (status == GDN_OK)
        file_must_hold(&st, size);
    else
        must(err.text[0] && (status == GDN_ERR_INPUT || status == GDN_ERR_UNSUPPORTED));
    safetensors_close(&st);
}

/* The index of a model that has the tensors "a" and "b", both in the first file that it names. */
static void fuzz_index(const uint8_t *data, size_t size)
{
    static const char header[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},"
                                 "\"b\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[1,2]}}";
    unsigned char file[8 + sizeof header + 1] = {0};
    struct safetensors st;
    struct shards_index index;
    struct gdn_error err = {0};
    bytes_put_u64(file, sizeof header - 1);
    memcpy(file + 8, header, sizeof header - 1);
    must(safetensors_parse(&st, file, sizeof file, "f", &err) == GDN_OK);
    struct shard_tensor tensors[2] = {{&st, &st.entries[0]}, {&st, &st.entries[1]}};
    uint32_t by_name[2] = {0, 1};
    struct shards shards = {.files = &st, .file_count = 1, .tensors = tensors, .count = 2,
                            .by_name = by_name};
    enum gdn_status status =
        shards_index_read(&index, "index", (const char *)data, size, &err);
    if (status == GDN_OK) {
        must(index.file_count <= index.tensor_count);
        for (size_t i = 0; i < index.file_count; i++) {
            must(index.files[i][0] && index.files[i][0] != '.' && !strchr(index.files[i], '/'));
            must(i == 0 || strcmp(index.files[i - 1], index.files[i]) < 0);
        }
        status = shards_index_match(&index, &shards, &err);
        must(status != GDN_OK || (index.tensor_count == 2 && index.file_count == 1));
    }
    must(status == err.status && (status == GDN_OK || status == GDN_ERR_INPUT));
    mem_give(index.files);
    safetensors_close(&st);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size && data[0] == '{')
        fuzz_index(data, size);
    else
        fuzz_file(data, size);
    must(mem_counted().live_blocks == 0);
    return 0;
}

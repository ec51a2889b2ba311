/* The state file: what its checksums would refuse is sealed again, so that the search gets past them.
 * Whatever the bytes say: a status and a sentence, or a slot that can be used; no memory kept, and a
 * refused file leaves every slot free. */
#include <stdlib.h>

#include "base/memory.h"
#include "state/file_craft.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed);
/* Weak: the replay of a corpus has no libFuzzer. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room) __attribute__((weak));

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed)
{
    if (seed % 8 == 0 || room < FILE_LEAST) return LLVMFuzzerMutate(data, size, room);
    const size_t payload = LLVMFuzzerMutate(data + sizeof(struct file_prologue), payload_of(size),
                                            payload_of(room));
    reseal(data, payload);
    return sealed_bytes(payload);
}

static void must(bool holds)
{
    if (!holds) abort();
}

struct stage {
    struct state state;
    struct arena scratch;
};

/* What was loaded is a sequence like any other: it can be read, put aside and taken back. */
static void use(struct stage *s, int32_t slot, const struct state_record *r)
{
    double dense[2 * 8 * 4];
    struct snapshot snapshot;
    struct state *st = &s->state;
    must(st->slot[slot].status == SLOT_LIVE && st->slot[slot].position == r->position);
    must(r->position > 0 && r->position <= 128 && r->best_count <= STATE_FILE_BEST && r->tokens);
    must(state_length(st, slot) >= 0 && state_length(st, slot) <= BLOCK);
    for (int32_t i = 0; i < st->layers; i++)
        if (st->layer[i].shape.kind == LAYER_DELTA) state_export(st, slot, i, dense);
    must(snapshot_take(&snapshot, st, slot, &s->scratch, NULL, NULL) == GDN_OK);
    snapshot_release(&snapshot, true);
    must(state_rewind(st, slot, state_length(st, slot), NULL) == GDN_OK);
    must(state_reserve(st, slot, 1, NULL) == GDN_OK || r->position == 128);
}

static void load(struct stage *s, const uint8_t *data, size_t size)
{
    unsigned char model[32];
    struct state_record r;
    struct gdn_error err = {0};
    int32_t slot = -1;
    bool converted;
    memset(model, FILE_MODEL, sizeof model);
    const enum gdn_status status = state_load_memory("f", data, size, &s->state, model, &slot, &r,
                                                     &converted, &err);
    must(status == err.status && (status == GDN_OK) == (slot >= 0));
    if (status == GDN_OK) {
        use(s, slot, &r);
        state_slot_give(&s->state, slot);
    } else {
        must(err.text[0] && !r.tokens && r.position == 0);
        must(status == GDN_ERR_INPUT || status == GDN_ERR_UNSUPPORTED || status == GDN_ERR_USAGE);
    }
    state_record_free(&r);
    for (int32_t i = 0; i < s->state.slots; i++) must(s->state.slot[i].status == SLOT_FREE);
    must(s->state.free_pages == s->state.pages);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum dtype type[2] = {DTYPE_F32, DTYPE_BF16};
    struct state_summary sum;
    struct gdn_error err = {0};
    struct device *device = device_open("cpu", 1, ~0u, NULL);
    must(device);
    const enum gdn_status status = state_verify_memory("f", data, size, &sum, &err);
    must(status == err.status && (status == GDN_OK || err.text[0]));
    must(status == GDN_OK ? sum.bytes == (int64_t)size && sum.record.position > 0 : sum.bytes == 0);
    for (int i = 0; i < 2; i++) {
        const struct state_options o = {.slots = 2, .entries = 32, .context = 128,
                                        .compute = type[i], .anchor = type[i]};
        struct stage s;
        must(state_open(&s.state, device, file_small, FILE_SMALL, &o, NULL) == GDN_OK);
        must(device->arena_open(device, &s.scratch, 1 << 12));
        load(&s, data, size);
        device->arena_close(device, &s.scratch);
        state_close(&s.state);
    }
    device_close(device);
    must(mem_counted().live_blocks == 0);
    return 0;
}

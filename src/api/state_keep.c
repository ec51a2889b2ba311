/* state_keep.c: gdn/state.h: storage types, dense states, snapshots and files. */
#include <string.h>

#include "api/state.h"
#include "base/memory.h"
#include "state/file.h"

enum gdn_status gdn_state_convert(gdn_state *s, enum gdn_type anchors, bool *converted,
                                  struct gdn_error *err)
{
    struct state_change change = {0};
    if (converted) *converted = false;
    if (s->open) return error_set(err, GDN_ERR_USAGE, "a pass is open: gdn_state_end it first");
    if (anchors != GDN_F32 && anchors != GDN_BF16)
        return error_set(err, GDN_ERR_USAGE, "anchors: need GDN_F32 or GDN_BF16");
    if (s->device->wide != DTYPE_F32)
        return error_set(err, GDN_ERR_UNSUPPORTED, "the device \"%s\" keeps its anchors in f64",
                         s->device->name);
    TRY(state_ensure(&s->state, s->state.compute, anchors == GDN_BF16 ? DTYPE_BF16 : DTYPE_F32,
                     &change, err));
    if (converted) *converted = change.anchor;
    return GDN_OK;
}

/* ---- dense ----------------------------------------------------------------------------------- */

static enum gdn_status check_layer(const gdn_state *s, int32_t slot, int32_t layer,
                                   struct gdn_error *err)
{
    TRY(state_slot_check(s, slot, err));
    if (layer >= 0 && layer < s->state.layers) return GDN_OK;
    return error_set(err, GDN_ERR_USAGE, "layer: found %d, need 0 to %d", layer,
                     s->state.layers - 1);
}

enum gdn_status gdn_state_export(const gdn_state *s, int32_t slot, int32_t layer, double *S,
                                 struct gdn_error *err)
{
    TRY(check_layer(s, slot, layer, err));
    state_export(&s->state, slot, layer, S);
    return GDN_OK;
}

enum gdn_status gdn_state_place(gdn_state *s, int32_t slot, int32_t position, struct gdn_error *err)
{
    TRY(state_slot_check(s, slot, err));
    return state_place(&s->state, slot, position, err);
}

enum gdn_status gdn_state_import(gdn_state *s, int32_t slot, int32_t layer, const double *S,
                                 const float *inputs, struct gdn_error *err)
{
    TRY(check_layer(s, slot, layer, err));
    return state_import(&s->state, slot, layer, S, inputs, err);
}

/* ---- snapshots ------------------------------------------------------------------------------- */

struct gdn_state_copy {
    struct snapshot snapshot;
};

enum gdn_status gdn_state_snapshot(gdn_state *s, int32_t slot, gdn_state_copy **copy,
                                   struct gdn_error *err)
{
    *copy = NULL;
    TRY(state_slot_check(s, slot, err));
    if (s->state.slot[slot].position == 0) return GDN_OK;
    gdn_state_copy *made = mem_take(sizeof *made);
    if (!made) return error_set(err, GDN_ERR_MEMORY, "no memory for a snapshot");
    arena_reset(&s->scratch);
    const enum gdn_status status = snapshot_take(&made->snapshot, &s->state, slot, &s->scratch,
                                                 NULL, err);
    if (status == GDN_OK)
        *copy = made;
    else
        mem_give(made);
    return status;
}

int64_t gdn_state_copy_bytes(const gdn_state_copy *copy)
{
    return copy ? snapshot_weight(&copy->snapshot) : 0;
}

void gdn_state_copy_free(gdn_state_copy *copy)
{
    if (!copy) return;
    snapshot_release(&copy->snapshot, true);
    mem_give(copy);
}

enum gdn_status gdn_state_restore(gdn_state *s, int32_t *slot, const gdn_state_copy *copy,
                                  int32_t position, struct gdn_error *err)
{
    if (s->open) return error_set(err, GDN_ERR_USAGE, "a pass is open: gdn_state_end it first");
    if (*slot < 0 || *slot >= s->state.slots || s->state.slot[*slot].status == SLOT_FREE)
        return error_set(err, GDN_ERR_USAGE, "slot %d: not one in use", *slot);
    if (copy) return snapshot_restore(&copy->snapshot, &s->state, slot, position, err);
    TRY(state_slot_check(s, *slot, err));
    if (s->state.slot[*slot].position == position) return GDN_OK;
    return error_set(err, GDN_ERR_USAGE, "restore without a snapshot: the slot stands at %d, found "
                     "%d", s->state.slot[*slot].position, position);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* A state knows no tokens: zeros stand for them. */
enum gdn_status gdn_state_save(gdn_state *s, int32_t slot, const unsigned char *model,
                               const char *path, struct gdn_error *err)
{
    gdn_state_copy *copy;
    TRY(gdn_state_snapshot(s, slot, &copy, err));
    if (!copy)
        return error_set(err, GDN_ERR_USAGE, "%s: an empty sequence has nothing to save", path);
    struct state_record r = {.position = copy->snapshot.position};
    if (model) memcpy(r.model, model, sizeof r.model);
    r.tokens = mem_take_array((size_t)r.position, sizeof *r.tokens);
    const enum gdn_status status =
        r.tokens ? state_save(path, &copy->snapshot, &r, err)
                 : error_set(err, GDN_ERR_MEMORY, "%s: no memory to save", path);
    mem_give(r.tokens);
    gdn_state_copy_free(copy);
    return status;
}

enum gdn_status gdn_state_load(gdn_state *s, const char *path, const unsigned char *model,
                               int32_t *slot, bool *converted, struct gdn_error *err)
{
    static const unsigned char none[32];
    struct state_record r;
    bool changed = false;
    *slot = -1;
    int32_t free = 0;
    for (int32_t i = 0; i < s->state.slots; i++) free += s->state.slot[i].status == SLOT_FREE;
    if (s->open || free < 2)
        return error_set(err, GDN_ERR_USAGE, "%s: %s", path, s->open ? "a pass is open"
                                                                     : "all slots are in use");
    TRY(state_load(path, &s->state, model ? model : none, slot, &r, &changed, err));
    state_record_free(&r);
    if (converted) *converted = changed;
    return GDN_OK;
}

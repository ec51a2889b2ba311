/* stage.h: the staging of a pass and what op_top left, for the files of this folder that run passes. */
#ifndef RUN_STAGE_H
#define RUN_STAGE_H

#include "run/engine.h"

static inline size_t stage_ints(const struct engine *e)
{
    return 3 * (size_t)e->max_rows + 9 * (size_t)e->state.slots + 2;
}

/* Places in e->stage, or in its copy on the device. */
static inline int32_t *ids_of(int32_t *base) { return base; }
static inline int32_t *wanted_of(const struct engine *e, int32_t *base)
{
    return base + e->max_rows;
}
static inline int32_t *targets_of(const struct engine *e, int32_t *base)
{
    return base + 2 * e->max_rows;
}
static inline int32_t *start_of(const struct engine *e, int32_t *base)
{
    return base + 3 * e->max_rows;
}
static inline int32_t *pos_of(const struct engine *e, int32_t *base)
{
    return start_of(e, base) + e->state.slots + 1;
}
static inline int32_t *slot_of(const struct engine *e, int32_t *base)
{
    return pos_of(e, base) + e->state.slots;
}

/* Of the draft head. */
static inline int32_t *head_start_of(const struct engine *e, int32_t *base)
{
    return slot_of(e, base) + e->state.slots;
}
static inline int32_t *head_pos_of(const struct engine *e, int32_t *base)
{
    return head_start_of(e, base) + 2 * e->state.slots + 1;
}
static inline int32_t *head_slot_of(const struct engine *e, int32_t *base)
{
    return head_pos_of(e, base) + 2 * e->state.slots;
}

static inline void upload(struct engine *e, const int32_t *from, size_t n)
{
    e->device->upload(e->device, e->on_device + (from - e->stage), from, n * sizeof *from);
}

/* Host copies of what op_top has found. */
struct found {
    int32_t ids[ENGINE_BEST];
    float values[ENGINE_BEST];
};

static inline struct ranking fetch_best(struct engine *e, struct found *f, int32_t row, int32_t n)
{
    e->device->download(e->device, f->ids, e->best_ids + row * n, sizeof *f->ids * (size_t)n);
    e->device->download(e->device, f->values, e->best_values + row * n,
                        sizeof *f->values * (size_t)n);
    return (struct ranking){.n = n, .ids = f->ids, .values = f->values};
}

#endif

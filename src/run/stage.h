/* stage.h: the staging of a pass and what op_top left, for the files here that run passes. */
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

/* What bounds the positions of a pass that ends before `end`, from few values, so that few
 * recordings serve many. */
static inline int32_t reach_of(int32_t end)
{
    int32_t reach = 4 * PAGE;
    while (reach < end && reach < INT32_MAX / 2) reach *= 2;
    return reach;
}

/* Why a pass went wrong. */
static inline const char *pass_failed(enum gdn_status status)
{
    return status == GDN_ERR_MEMORY ? "its scratch memory did not suffice"
                                    : "the device reported an error";
}

static inline void upload(struct engine *e, const int32_t *from, size_t n)
{
    e->device->upload(e->device, e->on_device + (from - e->stage), from, n * sizeof *from);
}

/* The best k of some rows into device memory: ids [n][k], logits [n][k], logsumexp [n]. */
static inline void find_best(struct pass *pass, struct tensor *logits, int32_t vocab, int32_t k,
                             int32_t *at)
{
    const int32_t n = (int32_t)logits->dim[0];
    op_top(pass, logits, vocab, k, at, (float *)(at + n * k), (float *)(at + 2 * n * k));
}

/* The same on the host, in one copy. */
static inline void fetch_best(struct engine *e, int32_t *to, const int32_t *from, int32_t n,
                              int32_t k)
{
    e->device->download(e->device, to, from, (size_t)n * (2 * (size_t)k + 1) * sizeof *to);
}

static inline struct best best_of(const int32_t *found, int32_t n, int32_t k, int32_t row)
{
    const float *values = (const float *)(found + n * k);
    const struct ranking model = {.n = k, .ids = found + row * k, .values = values + row * k};
    return (struct best){.model = model, .choice = model, .lse = values[n * k + row]};
}

#endif

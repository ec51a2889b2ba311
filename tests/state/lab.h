/* lab.h: a small state with one layer of each kind, on the cpu device. */
#ifndef TESTS_STATE_LAB_H
#define TESTS_STATE_LAB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/rng.h"
#include "state/state.h"

struct state_lab {
    struct device *device;
    struct state state;
};

static const struct layer_shape lab_shape[] = {
    {.kind = LAYER_DELTA, .Hk = 2, .Hv = 4, .Dk = 8, .Dv = 40, .taps = 4},
    {.kind = LAYER_ATTN, .Hkv = 2, .D = 8},
    {.kind = LAYER_DELTA, .Hk = 1, .Hv = 1, .Dk = 16, .Dv = 24, .taps = 2},
};
enum { LAB_LAYERS = sizeof lab_shape / sizeof *lab_shape };

static inline void lab_open(struct state_lab *lab, struct state_options o)
{
    struct gdn_error err = {0};
    lab->device = device_open("cpu", 1, ~0u, &err);
    assert_non_null(lab->device);
    if (state_open(&lab->state, lab->device, lab_shape, LAB_LAYERS, &o, &err) != GDN_OK)
        fail_msg("%s", err.text);
}

static inline void lab_close(struct state_lab *lab)
{
    state_close(&lab->state);
    device_close(lab->device);
}

static inline void lab_random(void *data, enum dtype dtype, size_t n, uint64_t seed)
{
    struct rng rng = {.seed = seed};
    for (size_t i = 0; i < n; i++) {
        const float x = (float)rng_normal(&rng);
        if (dtype == DTYPE_F32)
            ((float *)data)[i] = x;
        else
            ((uint16_t *)data)[i] = f32_to_bf16(x);
    }
}

static inline size_t lab_ring(const struct layer_state *l)
{
    return (size_t)l->conv.slots * (size_t)l->conv.ring * (size_t)l->conv.C;
}

static inline size_t lab_anchors(const struct layer_state *l)
{
    return (size_t)l->delta.slots * (size_t)l->delta.anchor_elements;
}

#endif

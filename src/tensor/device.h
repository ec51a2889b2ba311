/* device.h: memory, threads and one table of kernels.
 *
 * The table is filled from weak to strong: first the references, then portable code, then what the
 * machine's instruction sets allow; a mask takes steps away again, so every implementation can be
 * reached on one machine. The parts in call.h have no empty forward slot; a fused op may. */
#ifndef TENSOR_DEVICE_H
#define TENSOR_DEVICE_H

#include "base/pool.h"
#include "base/status.h"
#include "tensor/call.h"

struct device;

/* Forward computes the outputs. Backward reads the gradients of the outputs (NULL: zero) and ADDS
 * to the gradients of the inputs and weights that have one. `scratch` is device memory that is
 * given back when the kernel returns; when it fails the kernel returns at once and the pass sees
 * the arena's flag.
 *
 * gdn/ops.h tells its callers beforehand how much that is. So delta, and the backward of conv, take
 * all they need before they look at a tensor's data or at a failure (arena_measure counts it), and
 * the other small ops stay below the bounds in api/ops_frame.c. */
typedef void op_kernel(struct device *device, struct arena *scratch, const void *args);

/* How long the calls of each op took, summed up. */
struct op_clock {
    double seconds[OP_COUNT];
    int64_t calls[OP_COUNT];
};

struct device {
    const char *name; /* "ref", "cpu" */
    uint32_t isa;     /* cpu flags that its kernels use: those of the machine, after the mask */
    op_kernel *forward[OP_COUNT], *backward[OP_COUNT];
    struct pool *pool; /* NULL: the caller alone */
    struct op_clock *clock; /* NULL: nobody wants to know */

    /* Memory of the device; take gives zeroed bytes or NULL. */
    void *(*take)(struct device *device, size_t bytes);
    void (*give)(struct device *device, void *block);
    void (*upload)(struct device *device, void *to, const void *from, size_t bytes);
    void (*download)(struct device *device, void *to, const void *from, size_t bytes);
    void (*copy)(struct device *device, void *to, const void *from, size_t bytes); /* within it */
    void (*clear)(struct device *device, void *to, size_t bytes);
    bool (*arena_open)(struct device *device, struct arena *arena, size_t bytes);
    void (*arena_close)(struct device *device, struct arena *arena);

    /* The state at the edges is dense [Hv, Dv, Dk] in double; inside, the device packs the anchor
     * its own way, one head behind the other. unpack: the bare anchor; pack: anchor := dense,
     * rounded to its type. */
    int64_t (*anchor_elements)(int32_t Hv, int32_t Dv, int32_t Dk);
    void (*anchor_pack)(const struct delta_slots *slots, int32_t slot, const double *dense);
    void (*anchor_unpack)(const struct delta_slots *slots, int32_t slot, double *dense);

    enum dtype wide; /* what gates, u and G are kept in: f32, or f64 on the reference */
    enum gdn_status status; /* sticky: the first failure since device_open */
};

/* "cpu" or "ref". `mask` clears cpu flags (base/cpu.h); ~0 allows all. NULL with a sentence when the
 * name is unknown or the device cannot be had. Defined in kernels/open.c. */
struct device *device_open(const char *name, int threads, uint32_t mask, struct gdn_error *err);
void device_close(struct device *device);

#endif

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
#include "tensor/draw.h"

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
    const char *name; /* "ref", "cpu", "cuda" */
    uint32_t isa;     /* cpu flags that its kernels use: those of the machine, after the mask */
    op_kernel *forward[OP_COUNT], *backward[OP_COUNT];
    struct pool *pool; /* NULL: the caller alone */
    struct op_clock *clock; /* NULL: nobody wants to know */

    /* Memory of the device; take gives zeroed bytes or NULL. `host`: it is the host's own, so what
     * lies there need not be placed. stage gives host memory from which an upload is quickest. */
    bool host;
    void *(*take)(struct device *device, size_t bytes);
    void (*give)(struct device *device, void *block);
    size_t (*room)(struct device *device); /* bytes that are free; host: 0, nobody knows */
    void *(*stage)(struct device *device, size_t bytes);
    void (*unstage)(struct device *device, void *block);

    /* What is asked for happens in order, and may still be under way when a call returns;
     * `download` waits for all of it, and so does `finish`. `upload` has read its source when it
     * returns, unless that came from stage: then it may be changed after the next wait. */
    void (*finish)(struct device *device);
    void (*upload)(struct device *device, void *to, const void *from, size_t bytes);
    void (*download)(struct device *device, void *to, const void *from, size_t bytes);
    void (*copy)(struct device *device, void *to, const void *from, size_t bytes); /* within it */
    void (*clear)(struct device *device, void *to, size_t bytes);
    void (*draw)(struct device *device, void *to, const struct draw *draw, int64_t n); /* bf16 */
    bool (*arena_open)(struct device *device, struct arena *arena, size_t bytes);
    void (*arena_close)(struct device *device, struct arena *arena);

    /* What the kernel of experts wants to have in device memory about weights that are there
     * already: to be given back; NULL when memory is short. Not on a host device. */
    void *(*experts_place)(struct device *device, const struct experts *experts);

    /* The state at the edges is dense [Hv, Dv, Dk] in double; inside, the device packs the anchor
     * its own way, one head behind the other. unpack: the bare anchor; pack: anchor := dense,
     * rounded to its type. */
    int64_t (*anchor_elements)(int32_t Hv, int32_t Dv, int32_t Dk);
    void (*anchor_pack)(const struct delta_slots *slots, int32_t slot, const double *dense);
    void (*anchor_unpack)(const struct delta_slots *slots, int32_t slot, double *dense);

    /* A device that works through a queue can note a sequence of calls and run it again. record:
     * from here to record_end nothing runs. record_end gives what play runs, or NULL when something
     * was asked for that cannot be noted, or memory is short. All NULL on a device without a
     * queue. */
    void (*record)(struct device *device);
    void *(*record_end)(struct device *device);
    void (*play)(struct device *device, void *recording);
    void (*forget)(struct device *device, void *recording);
    size_t recording_bytes; /* of the device's memory that one of them may take */

    int32_t pass_rows; /* so many rows of a prompt suit it at once; 0: any number does */
    void *own;       /* what the device keeps for itself */
    enum dtype wide; /* what gates, u and G are kept in: f32, or f64 on the reference */
    enum gdn_status status; /* sticky: the first failure since device_open */
};

/* "cpu", "ref" or "cuda". `mask` clears cpu flags (base/cpu.h); ~0 allows all. NULL with a sentence
 * when the name is unknown or the device cannot be had. Defined in kernels/open.c. */
struct device *device_open(const char *name, int threads, uint32_t mask, struct gdn_error *err);
void device_close(struct device *device);

#endif

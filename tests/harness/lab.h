/* lab.h: the devices of a proof. The reference judges; the device under test is open several
 * times with different numbers of threads, sharing memory. */
#ifndef HARNESS_LAB_H
#define HARNESS_LAB_H

#include "harness/verdict.h"
#include "tensor/device.h"

struct station {
    struct device *device;
    struct arena scratch;
};

/* Scratch is address space; the first run finds the pattern in its first POISONED bytes, later ones
 * wherever an earlier one wrote. */
enum { LAB_STATIONS = 3, SCRATCH_BYTES = 512 << 20, POISONED = 4 << 20 };

struct lab {
    struct station ref;
    struct station under[LAB_STATIONS]; /* 1, 2 and 3 threads */
};

/* `mask` as in device_open. False with a sentence when a device cannot be had. */
bool lab_open(struct lab *lab, const char *device, uint32_t mask, struct gdn_error *err);
void lab_close(struct lab *lab);

bool station_open(struct station *s, const char *device, int threads, uint32_t mask, size_t scratch,
                  struct gdn_error *err);
void station_close(struct station *s);

/* One kernel with NaN in its scratch. A missing kernel, a full arena or a failed device are
 * failures; returns whether the kernel ran. */
bool station_run(struct station *s, op_kernel *kernel, const void *args, struct verdict *v);

#endif

/* roofs.h: how fast this machine reads and multiplies, measured. */
#ifndef CLI_ROOFS_H
#define CLI_ROOFS_H

#include <stdint.h>

#include "base/status.h"

struct machine_roofs {
    double read;  /* bytes a second, of all threads */
    double flops; /* of the strongest instructions there are, of all threads */
};
/* Raises *found to the best of a few rounds: a roof is what the machine can do with what `isa`
 * (base/cpu.h) allows. Reads `bytes` over and over, but at most 256 MB a thread, which it takes
 * meanwhile. */
enum gdn_status roofs_measure(uint32_t isa, int threads, double bytes,
                              struct machine_roofs *found, struct gdn_error *err);

/* The most memory this process has held since peak_reset, in bytes; 0: the system does not tell. */
void peak_reset(void);
int64_t peak_bytes(void);

#endif

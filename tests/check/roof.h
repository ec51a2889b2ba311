/* roof.h: what the machine can do, in plain C: bytes read and fused multiply-adds a second, with as
 * many threads and over as much memory as the work that is held against it. */
#ifndef CHECK_ROOF_H
#define CHECK_ROOF_H

#include <stddef.h>

#include "base/pool.h"

double seconds_now(void);

/* Bytes a second of reading `bytes` again and again; 0 when memory is short. */
double roof_read(struct pool *pool, size_t bytes);
/* Flops a second of chains of multiply-adds in registers (two flops each). */
double roof_flops(struct pool *pool);

#endif

#include "tensor/draw.h"

#include "base/rng.h"
#include "tensor/dtype.h"

void draw_values(uint16_t *to, const struct draw *d, int64_t from, int64_t n)
{
    struct rng rng = {d->seed, d->before + (uint64_t)from / 4};
    uint64_t bits = 0;
    for (int64_t i = 0; i < n; i++, bits >>= 16) {
        if (i % 4 == 0) bits = rng_u64(&rng);
        to[i] = f32_to_bf16(d->low + (d->high - d->low) * (float)(bits & 0xffff) * 0x1p-16f);
    }
}

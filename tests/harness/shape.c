#include "harness/shape.h"

#include <stdio.h>

#include "base/rng.h"

enum { STEP = HARNESS_SANITIZED ? 3 : 1 };

int sweep_count(const struct sweep *sweep)
{
    return sweep->lines + (sweep->cases + STEP - 1) / STEP;
}

struct shape sweep_shape(const struct sweep *sweep, int n)
{
    struct shape s = {0};
    if (n < sweep->lines) {
        s = sweep->line[n];
    } else {
        const int drawn = (n - sweep->lines) * STEP;
        int cross = drawn;
        for (int i = 0; i < sweep->axes; i++) {
            const struct axis *axis = &sweep->axis[i];
            const uint64_t scattered = rng_mix((uint64_t)drawn * 64 + (uint64_t)i + 1);
            const int at = i < 2 ? cross % axis->count : (int)(scattered % (uint64_t)axis->count);
            if (i < 2) cross /= axis->count;
            *(int *)((char *)&s + axis->field) = axis->value[at];
        }
    }
    if (s.B == 0) s.B = 1;
    return s;
}

void shape_text(const struct shape *shape, char *out, size_t room)
{
    size_t used = 0;
    out[0] = 0;
#define SHAPE_PRINT(name)                                                                   \
    if (shape->name != 0 && used < room)                                                    \
        used += (size_t)snprintf(out + used, room - used, "%s" #name "=%d", used ? " " : "", \
                                 shape->name);
    SHAPE_FIELDS(SHAPE_PRINT)
#undef SHAPE_PRINT
}

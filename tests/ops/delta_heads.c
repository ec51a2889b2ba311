/* Laws of op_delta on slots for heads as models have them, which devices may take by kernels of
 * their own; the other widths are in delta_slots.c. */
#include "ops/delta_form.h"

/* Both gates, both anchors, several value heads of a key head, drafts that cross a block. */
static const struct shape heads[] = {
    BOTH_GATES(.Hk = 1, .R = 2, .Dk = 128, .Dv = 128, .slots = 32, .act = DTYPE_BF16),
    BOTH_GATES(.Hk = 2, .R = 1, .Dk = 128, .Dv = 128, .slots = 32, .act = DTYPE_BF16,
               .weight = DTYPE_BF16),
    {.Hk = 1, .R = 2, .Dk = 64, .Dv = 64, .slots = 32, .act = DTYPE_BF16},
    {.Hk = 1, .R = 1, .Dk = 96, .Dv = 192, .slots = 32, .act = DTYPE_BF16, .weight = DTYPE_BF16},
    {.Hk = 1, .R = 2, .Dk = 96, .Dv = 128, .slots = 32, .act = DTYPE_BF16},
    {.Hk = 2, .R = 1, .Dk = 128, .Dv = 192, .slots = 32, .act = DTYPE_BF16},
    {.Hk = 1, .R = 1, .Dk = 192, .Dv = 64, .slots = 32, .act = DTYPE_BF16, .weight = DTYPE_BF16},
};
static const struct shape accurate[] = {
    BOTH_GATES(.Hk = 1, .R = 2, .Dk = 128, .Dv = 128, .slots = 16, .act = DTYPE_BF16),
    BOTH_GATES(.Hk = 1, .R = 1, .Dk = 128, .Dv = 256, .slots = 16, .act = DTYPE_BF16,
               .decay = DECAY_STRONG),
    BOTH_GATES(.Hk = 2, .R = 1, .Dk = 128, .Dv = 128, .slots = 16, .act = DTYPE_BF16,
               .weight = DTYPE_BF16, .decay = DECAY_NONE),
    {.Hk = 1, .R = 2, .Dk = 96, .Dv = 192, .slots = 16, .act = DTYPE_BF16},
    {.Hk = 1, .R = 1, .Dk = 192, .Dv = 192, .slots = 16, .act = DTYPE_BF16, .weight = DTYPE_BF16},
};

/* On the device alone: the reference has its laws in delta_slots.c. Runs of fewer rows than make a
 * prompt, whose sums have another order on some devices. */
#define HEADS_LAW(law, ...)                                                            \
    {                                                                                  \
        .name = #law, .run = law_under, .form = &form, .holds = law_##law,             \
        SHAPES(heads), .extent = __VA_ARGS__                                           \
    }
static const struct law laws[] = {
    HEADS_LAW(cuts, {.tokens = 31, .partitions = 6}),
    HEADS_LAW(short_drafts, {.tokens = 31}),
    HEADS_LAW(rounds, {.rounds = 6}),
    HEADS_LAW(together, {.tokens = 31}),
    HEADS_LAW(empty, {.tokens = 31}),
    {"reference", law_reference, &form, NULL, SHAPES(accurate), {.tokens = 37}},
};
SUITE(delta_heads, .form = &form, LAWS(laws));

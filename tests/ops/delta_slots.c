/* Laws of op_delta on slots. Heads of 128 x 128 at full strength: delta_slots_slow.c. */
#include "ops/delta_form.h"

static const struct shape shapes[] = {
    BOTH_GATES(.Hk = 1, .R = 2, .Dk = 8, .Dv = 40, .slots = 32),
    BOTH_GATES(.Hk = 2, .R = 1, .Dk = 33, .Dv = 5, .slots = 16),
    BOTH_GATES(.Hk = 1, .R = 1, .Dk = 32, .Dv = 32, .slots = 16, .weight = DTYPE_BF16),
    BOTH_GATES(.Hk = 1, .R = 3, .Dk = 16, .Dv = 33, .slots = 32, .act = DTYPE_BF16),
    BOTH_GATES(.Hk = 1, .R = 2, .Dk = 40, .Dv = 9, .slots = 16, .act = DTYPE_F16),
    BOTH_GATES(.Hk = 2, .R = 2, .Dk = 7, .Dv = 3, .slots = 32, .act = DTYPE_BF16,
               .weight = DTYPE_BF16),
    BOTH_GATES(.Hk = 1, .R = 1, .Dk = 16, .Dv = 16, .slots = 32, .decay = DECAY_STRONG),
    BOTH_GATES(.Hk = 1, .R = 1, .Dk = 16, .Dv = 16, .slots = 32, .decay = DECAY_NONE),
    BOTH_GATES(.Hk = 1, .R = 1, .Dk = 128, .Dv = 128, .slots = 16),
    BOTH_GATES(.Hk = 3, .R = 2, .Dk = 8, .Dv = 8, .slots = 16), /* more heads than take turns */
};
/* Both gates and both anchors. */
static const struct shape thorough[] = {
    BOTH_GATES(.Hk = 1, .R = 1, .Dk = 16, .Dv = 32, .slots = 16),
    BOTH_GATES(.Hk = 1, .R = 1, .Dk = 16, .Dv = 32, .slots = 16, .weight = DTYPE_BF16),
};
static const struct shape speculating[] = {
    BOTH_GATES(.Hk = 1, .R = 2, .Dk = 8, .Dv = 7, .slots = 32),
    BOTH_GATES(.Hk = 2, .R = 1, .Dk = 9, .Dv = 4, .slots = 32, .act = DTYPE_BF16,
               .weight = DTYPE_BF16),
};
static const struct shape small[] = {BOTH_GATES(.Hk = 1, .R = 1, .Dk = 5, .Dv = 6, .slots = 16)};
static const struct shape accurate[] = {
    BOTH_GATES(.Hk = 2, .R = 2, .Dk = 64, .Dv = 96, .slots = 16),
    BOTH_GATES(.Hk = 1, .R = 3, .Dk = 100, .Dv = 33, .slots = 32),
    BOTH_GATES(.Hk = 1, .R = 1, .Dk = 128, .Dv = 128, .slots = 16, .decay = DECAY_NONE),
    BOTH_GATES(.Hk = 1, .R = 1, .Dk = 32, .Dv = 32, .slots = 16, .decay = DECAY_STRONG),
    BOTH_GATES(.Hk = 2, .R = 1, .Dk = 32, .Dv = 64, .slots = 16, .act = DTYPE_BF16),
    BOTH_GATES(.Hk = 2, .R = 1, .Dk = 32, .Dv = 64, .slots = 16, .act = DTYPE_F16),
    BOTH_GATES(.Hk = 1, .R = 2, .Dk = 64, .Dv = 32, .slots = 16, .weight = DTYPE_BF16),
};

/* Heads as models have them, whose prompts some devices take by other kernels. */
static const struct shape prompts[] = {
    {.Hk = 2, .R = 2, .Dk = 128, .Dv = 128, .slots = 16, .act = DTYPE_BF16},
    {.Hk = 1, .R = 3, .Dk = 64, .Dv = 48, .slots = 32, .act = DTYPE_BF16},
    {.Hk = 1, .R = 1, .Dk = 96, .Dv = 192, .slots = 32, .act = DTYPE_BF16, .weight = DTYPE_BF16},
    {.Hk = 2, .R = 1, .Dk = 192, .Dv = 16, .slots = 32, .act = DTYPE_BF16, .decay = DECAY_STRONG},
    {.Hk = 1, .R = 2, .Dk = 128, .Dv = 32, .slots = 32, .act = DTYPE_BF16, .decay = DECAY_NONE},
};

static const struct law laws[] = {

    FORM_LAW(cuts, shapes, USUAL_EXTENT),
    FORM_LAW_EVERY_ISA("cuts of 200", cuts, thorough, FULL_EXTENT),
    FORM_LAW(sizes, small, {.tokens = 1100}),
    FORM_LAW(drafts, speculating, USUAL_EXTENT),
    FORM_LAW_EVERY_ISA("drafts, weaker code", drafts, speculating, USUAL_EXTENT),
    FORM_LAW(rounds, speculating, USUAL_EXTENT),
    FORM_LAW(together, shapes, USUAL_EXTENT),
    FORM_LAW(empty, shapes, USUAL_EXTENT),
    {"reference", law_reference, &form, NULL, SHAPES(accurate), USUAL_EXTENT},
    {"prompts", law_prompts, &form, NULL, SHAPES(prompts), {.tokens = 150}},
};
SUITE(delta_slots, .form = &form, LAWS(laws));

/* The law of cuts at full strength for heads of the size that most models have. */
#include "ops/delta_form.h"

static const struct shape large[] = {
    BOTH_GATES(.Hk = 1, .R = 1, .Dk = 128, .Dv = 128, .slots = 32),
    BOTH_GATES(.Hk = 1, .R = 1, .Dk = 128, .Dv = 128, .slots = 32, .weight = DTYPE_BF16),
};
static const struct law laws[] = {
    FORM_LAW_EVERY_ISA("cuts of 200", cuts, large, FULL_EXTENT),
};
SUITE(delta_slots_slow, .form = &form, LAWS(laws));

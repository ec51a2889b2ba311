#include "tensor/call.h"

const struct op_info op_info[OP_COUNT] = {
#define GDN_OP_ROW(NAME, name, in, out) [OP_##NAME] = {#name, in, out, sizeof(struct name##_args)},
    GDN_OPS(GDN_OP_ROW)
#undef GDN_OP_ROW
};

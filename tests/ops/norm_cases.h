/* norm_cases.h: the cases of ops that norm the rows of heads: gated_norm, l2norm. */
#ifndef OPS_NORM_CASES_H
#define OPS_NORM_CASES_H

#include "harness/suite.h"

static const struct axis norm_axes[] = {
    AXIS(T, EDGE_ROWS), AXIS(D, EDGE_WIDTHS), AXIS(Hk, 1, 2, 3, 4),
    AXIS(act, DTYPE_F32, DTYPE_BF16, DTYPE_F16), AXIS(window, 0, 1), AXIS(regime, 0, 1, 2, 3, 4),
    AXIS(option, 0, 1)};
/* The gradient of a row of one element is what eps leaves of it: f32 has no bits for that. */
static const struct axis norm_wider[] = {
    AXIS(T, EDGE_ROWS), AXIS(D, 3, 7, 8, 31, 32, 33, 64, 96, 100, 128), AXIS(Hk, 1, 2, 3, 4),
    AXIS(act, DTYPE_F32, DTYPE_BF16, DTYPE_F16), AXIS(window, 0, 1), AXIS(regime, 0, 1, 2, 3, 4),
    AXIS(option, 0, 1)};
static const struct axis norm_narrow[] = {AXIS(T, 1, 2, 5), AXIS(D, 2, 3, 7), AXIS(Hk, 1, 2),
                                          AXIS(option, 0, 1)};
static const struct shape norm_lengthy[] = {{.T = 4096, .Hk = 1, .D = 33}};
static const struct shape norm_repeat[] = {{.T = 150, .Hk = 3, .D = 67}};

/* What a proof says of them. */
#define NORM_CASES                                                                     \
    .forward = {AXES(norm_axes), .cases = 286},                                        \
    .backward = {LINES(norm_lengthy), AXES(norm_wider), .cases = 60},                  \
    .differences = {AXES(norm_narrow), .cases = 18}, .repeat = {LINES(norm_repeat)}

#endif

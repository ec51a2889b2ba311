/* conv.h: what the drivers of the convolution (conv.c, conv_backward.c) and their tiles for each ISA
 * (conv_tmpl.h, conv_backward_tmpl.h) agree on. */
#ifndef KERNELS_CPU_CONV_H
#define KERNELS_CPU_CONV_H

#include "tensor/device.h"

/* Channels of a strip; rows of a tile; the most taps; the channels of which threads get multiples. */
enum { CONV_STRIP = 512, CONV_ROWS = 4, CONV_TAPS = 16, CONV_UNIT = 64 };

/* A few rows of some channels of one sequence: row r is made of inputs x[r]..x[r+W-1]. */
struct conv_tile {
    const void *x[CONV_TAPS - 1 + CONV_ROWS];
    void *y[CONV_ROWS];
    enum dtype x_type, y_type;
    int64_t rows, channels, W;
    bool plain;
    int64_t ahead;  /* bytes from a row of x to the one that the next tile reads */
    const float *w; /* [W][CONV_STRIP] */
};
typedef void conv_tile_kernel(const struct conv_tile *tile);

/* The same backwards. Row r's dpre reaches back to the input W-1 rows before it: dx[r] is the
 * gradient of that input, complete with row r. */
struct conv_back_tile {
    const void *x[CONV_TAPS - 1 + CONV_ROWS];
    const float *dy[CONV_ROWS];
    float *dx[CONV_ROWS]; /* NULL: not wanted */
    enum dtype x_type;
    int64_t rows, channels, W;
    bool live, plain; /* not live: the rows lie behind the sequence and dpre is 0 */
    int64_t x_ahead, dy_ahead, dx_ahead; /* bytes to the rows of the next tile */
    const float *w;   /* [W][CONV_STRIP] */
    float *dpre;      /* [W-1][CONV_STRIP] of the rows before row 0, oldest first; moved on */
    float *dw;        /* [W][CONV_STRIP] += what these rows add */
};
typedef void conv_back_kernel(const struct conv_back_tile *tile);

/* Channels first..first+n-1 of sequence b, which has rows `row`..row+T-1 (none when absent). */
struct conv_lane {
    const struct conv_args *a;
    int32_t b;
    int64_t first, n, row, T;
};

/* Sequence b in these channels. */
static inline struct conv_lane conv_lane(const struct conv_args *a, int32_t b, int64_t first,
                                         int64_t n)
{
    const struct rows *rows = a->rows;
    struct conv_lane l = {.a = a, .b = b, .first = first, .n = n, .row = rows->start[b]};
    if (!rows->slot || rows->slot[b] >= 0) l.T = rows->start[b + 1] - rows->start[b];
    return l;
}

/* Row r of a [T, C] tensor, row i of a [B, W-1, C] one. */
static inline void *conv_row(const struct conv_lane *l, const struct tensor *t, int64_t r)
{
    return tensor_at(t, (l->row + r) * t->stride[0] + l->first);
}
static inline void *conv_tail(const struct conv_lane *l, const struct tensor *tail, int64_t i)
{
    return tensor_at(tail, l->b * tail->stride[0] + i * tail->stride[1] + l->first);
}

/* Input r of the sequence, counted from its first row of this pass; negative: before it. */
const void *conv_input(const struct conv_lane *l, int64_t r);

/* Taps of channels first..first+n-1 as f32: tap j of channel first+c to to[j * CONV_STRIP + c]. */
void conv_pack_taps(const struct tensor *w, int64_t first, int64_t n, float *to);

/* conv forward and backward of call.h with these tiles. */
void conv_forward_with(conv_tile_kernel *kernel, struct device *device, struct arena *scratch,
                       const struct conv_args *args);
void conv_backward_with(conv_back_kernel *kernel, struct device *device, struct arena *scratch,
                        const struct conv_args *args);

#endif

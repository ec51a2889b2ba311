/* conv.h: what the one driver of the convolution (conv.c, conv_backward.c) and its tiles for each
 * ISA (conv_tmpl.h, conv_backward_tmpl.h) agree on. */
#ifndef KERNELS_CPU_CONV_H
#define KERNELS_CPU_CONV_H

#include "tensor/device.h"

/* Channels of a strip; rows of a tile; the most taps. */
enum { CONV_STRIP = 512, CONV_ROWS = 4, CONV_TAPS = 16 };

/* A few rows of some channels of one sequence: row r is made of inputs x[r]..x[r+W-1]. */
struct conv_tile {
    const void *x[CONV_TAPS - 1 + CONV_ROWS];
    void *y[CONV_ROWS];
    enum dtype x_type, y_type;
    int64_t rows, channels, W;
    int64_t ahead;  /* bytes from a row of x to the one that the next tile reads */
    const float *w; /* [W][CONV_STRIP] */
};
typedef void conv_tile_kernel(const struct conv_tile *tile);

/* Taps of channels first..first+n-1 as f32: tap j of channel first+c to to[j * CONV_STRIP + c]. */
void conv_pack_taps(const struct tensor *w, int64_t first, int64_t n, float *to);

/* conv_forward of call.h with this tile. */
void conv_forward_with(conv_tile_kernel *kernel, struct device *device, struct arena *scratch,
                       const struct conv_args *args);

#endif

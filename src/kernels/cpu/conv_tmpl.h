/* conv_tmpl.h: a tile of the convolution in the words of a vector vocabulary.
 *
 * A vector of channels of 4 rows at once: 7 inputs make 4 sums, independent chains side by side.
 * What the next tile reads is fetched meanwhile: rows lie further apart than a page, where no
 * prefetcher follows.
 *
 *     y[r] = silu( w[0] x[r] + w[1] x[r+1] + .. + w[W-1] x[r+W-1] )         in this order
 *
 * (or the sum itself, when it is plain). */
#include "kernels/cpu/conv.h"
#include "kernels/cpu/row_tmpl.h"

/* Channels i..; W, the types and `rows` are constants where it matters. */
VF_INLINE void tile_channels(const struct conv_tile *t, int64_t W, enum dtype x_type,
                             enum dtype y_type, int64_t first, int64_t rows, int64_t i,
                             int64_t left)
{
    const void *const *at = t->x + first;
    vf x[CONV_ROWS], sum[CONV_ROWS];
    for (int64_t r = 0; r < rows; r++) {
        x[r] = row_get(x_type, at[r], i, left);
        sum[r] = vf_zero();
    }
    for (int64_t j = 0; j < W; j++) {
        const vf w = row_get(DTYPE_F32, t->w + j * CONV_STRIP, i, left);
        for (int64_t r = 0; r < rows; r++) sum[r] = vf_fma(w, x[r], sum[r]);
        for (int64_t r = 0; r + 1 < rows; r++) x[r] = x[r + 1];
        if (j + 1 < W) x[rows - 1] = row_get(x_type, at[rows + j], i, left);
    }
    for (int64_t r = 0; r < rows && !t->plain; r++) sum[r] = vf_silu(sum[r]);
    for (int64_t r = 0; r < rows; r++) {
        row_put(y_type, t->y[first + r], i, left, sum[r]);
        __builtin_prefetch((const char *)at[W - 1 + r] + t->ahead +
                           i * (int64_t)dtype_size(x_type));
    }
}

VF_INLINE void tile_rows(const struct conv_tile *t, int64_t W, enum dtype x_type,
                         enum dtype y_type, int64_t first, int64_t rows)
{
    int64_t i = 0;
    for (; i + VL <= t->channels; i += VL)
        tile_channels(t, W, x_type, y_type, first, rows, i, VL);
    if (i < t->channels)
        tile_channels(t, W, x_type, y_type, first, rows, i, t->channels - i);
}

VF_INLINE void tile_as(const struct conv_tile *t, int64_t W, enum dtype x_type, enum dtype y_type)
{
    if (W == 4 && t->rows == CONV_ROWS)
        tile_rows(t, W, x_type, y_type, 0, CONV_ROWS);
    else
        for (int64_t r = 0; r < t->rows; r++) tile_rows(t, W, x_type, y_type, r, 1);
}

static void tile(const struct conv_tile *t)
{
    if (t->W == 4 && t->x_type == DTYPE_F32 && t->y_type == DTYPE_F32)
        tile_as(t, 4, DTYPE_F32, DTYPE_F32);
    else if (t->W == 4 && t->x_type == DTYPE_BF16 && t->y_type == DTYPE_BF16)
        tile_as(t, 4, DTYPE_BF16, DTYPE_BF16);
    else
        for (int64_t r = 0; r < t->rows; r++) tile_rows(t, t->W, t->x_type, t->y_type, r, 1);
}

void CPU_NAME(cpu_conv_forward)(struct device *device, struct arena *scratch, const void *args)
{
    conv_forward_with(tile, device, scratch, args);
}

/* conv_backward_tmpl.h: a tile of the convolution's gradient, in the words of a vector vocabulary.
 *
 * A vector of channels of 4 rows at once, as on the way there (conv_tmpl.h): 7 inputs make 4 sums
 * and their dpre; these and the 3 before them make 4 rows of dx.
 *
 *     dpre[r] = dy[r] silu'(sum_j w[j] x[r+j])         (dy itself, when it is plain)
 *     dw[j]  += dpre[r] x[r+j]
 *     dx of the input W-1 rows before row r  +=  w[0] dpre[r] + w[1] dpre[r-1] + .. */
#include "kernels/cpu/conv.h"
#include "kernels/cpu/row_tmpl.h"

enum { BACK_WINDOW = CONV_TAPS - 1 + CONV_ROWS };

/* dpre of the tile's rows, after the W-1 before them; what they add to dw. */
VF_INLINE void back_dpre(const struct conv_back_tile *t, int64_t W, enum dtype x_type,
                         int64_t rows, int64_t i, int64_t left, vf *dpre)
{
    vf x[BACK_WINDOW], sum[CONV_ROWS], slope[CONV_ROWS];
    for (int64_t k = 0; k < W - 1 + rows; k++) x[k] = row_get(x_type, t->x[k], i, left);
    for (int64_t r = 0; r < rows; r++) {
        sum[r] = vf_zero();
        slope[r] = vf_set1(1.0f);
    }
    for (int64_t j = 0; j < W && !t->plain; j++) {
        const vf w = row_get(DTYPE_F32, t->w + j * CONV_STRIP, i, left);
        for (int64_t r = 0; r < rows; r++) sum[r] = vf_fma(w, x[r + j], sum[r]);
    }
    for (int64_t r = 0; r < rows && !t->plain; r++) vf_act_slope(ACT_SILU, sum[r], &slope[r]);
    for (int64_t r = 0; r < rows; r++)
        dpre[W - 1 + r] = vf_mul(row_get(DTYPE_F32, t->dy[r], i, left), slope[r]);
    for (int64_t j = 0; j < W; j++) {
        vf dw = vf_zero();
        for (int64_t r = 0; r < rows; r++) dw = vf_fma(dpre[W - 1 + r], x[r + j], dw);
        row_add(t->dw + j * CONV_STRIP, i, left, dw);
    }
}

/* Channels i..; W, the type, `rows` and whether they are live are constants where it matters. */
VF_INLINE void back_channels(const struct conv_back_tile *t, int64_t W, enum dtype x_type,
                             int64_t rows, bool live, int64_t i, int64_t left)
{
    vf dpre[BACK_WINDOW], dx[CONV_ROWS];
    for (int64_t k = 0; k < W - 1; k++)
        dpre[k] = row_get(DTYPE_F32, t->dpre + k * CONV_STRIP, i, left);
    if (live)
        back_dpre(t, W, x_type, rows, i, left, dpre);
    else
        for (int64_t r = 0; r < rows; r++) dpre[W - 1 + r] = vf_zero();
    for (int64_t r = 0; r < rows; r++) dx[r] = vf_zero();
    for (int64_t j = 0; j < W; j++) {
        const vf w = row_get(DTYPE_F32, t->w + j * CONV_STRIP, i, left);
        for (int64_t r = 0; r < rows; r++) dx[r] = vf_fma(w, dpre[W - 1 + r - j], dx[r]);
    }
    for (int64_t r = 0; r < rows; r++) {
        row_add(t->dx[r], i, left, dx[r]);
        if (!live) continue;
        __builtin_prefetch((const char *)t->x[W - 1 + r] + t->x_ahead +
                           i * (int64_t)dtype_size(x_type));
        __builtin_prefetch((const char *)(t->dy[r] + i) + t->dy_ahead);
        __builtin_prefetch((const char *)(t->dx[r] + i) + t->dx_ahead, 1);
    }
    for (int64_t k = 0; k < W - 1; k++)
        row_put(DTYPE_F32, t->dpre + k * CONV_STRIP, i, left, dpre[rows + k]);
}

VF_INLINE void back_rows(const struct conv_back_tile *t, int64_t W, enum dtype x_type,
                         int64_t rows, bool live)
{
    int64_t i = 0;
    for (; i + VL <= t->channels; i += VL) back_channels(t, W, x_type, rows, live, i, VL);
    if (i < t->channels) back_channels(t, W, x_type, rows, live, i, t->channels - i);
}

static void back(const struct conv_back_tile *t)
{
    if (t->live && t->rows == CONV_ROWS && t->W == 4 && t->x_type == DTYPE_F32)
        back_rows(t, 4, DTYPE_F32, CONV_ROWS, true);
    else if (t->live && t->rows == CONV_ROWS && t->W == 4 && t->x_type == DTYPE_BF16)
        back_rows(t, 4, DTYPE_BF16, CONV_ROWS, true);
    else if (!t->live && t->rows == 3 && t->W == 4)
        back_rows(t, 4, t->x_type, 3, false);
    else
        back_rows(t, t->W, t->x_type, t->rows, t->live);
}

void CPU_NAME(cpu_conv_backward)(struct device *device, struct arena *scratch, const void *args)
{
    conv_backward_with(back, device, scratch, args);
}

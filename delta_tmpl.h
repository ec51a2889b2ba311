/* delta_tmpl.h: the gated delta rule, in the words of a vec_*.h included before: what a block's
 * tokens are to each other. Here lanes are key channels; the state comes in delta_strips_tmpl.h.
 *
 * All of it is made token by token, in an order that does not know where a call began: the same
 * bits come out whether an entry was read from the log or is new. */
#include "kernels/cpu/delta.h"
#include "kernels/cpu/vec_rows_tmpl.h"

/* Rows of k that meet k_t and q_t at once; bounded by registers, does not change bits. */
enum { DOTS = VF_REGISTERS / 2 / 2 / VF16 > 2 ? VF_REGISTERS / 2 / 2 / VF16 : 2 };

/* The entry's raw k (q stands `row` further). */
static inline float *raw_k(const struct delta_head *h, int i)
{
    return h->kq + (int64_t)i * 2 * h->row;
}

/* out_k[i] = k_i . k_t and out_q[i] = k_i . q_t for i <= t. */
static void dots(const struct delta_head *h, int t, float *out_k, float *out_q)
{
    const float *x = raw_k(h, t), *y = x + h->row;
    struct vf16 all_k[BLOCK], all_q[BLOCK];
    int i = 0;
    for (; i <= t; i += DOTS) {
        vf sum_k[DOTS][VF16], sum_q[DOTS][VF16];
        const float *k[DOTS];
        VF_UNROLL for (int j = 0; j < DOTS; j++) {
            k[j] = raw_k(h, i + j < t ? i + j : t);
            VF_UNROLL for (int p = 0; p < VF16; p++) sum_k[j][p] = sum_q[j][p] = vf_zero();
        }
        for (int d = 0; d < h->row; d += 16)
            VF_UNROLL for (int p = 0; p < VF16; p++) {
                const vf at_x = vf_load(x + d + p * VL), at_y = vf_load(y + d + p * VL);
                VF_UNROLL for (int j = 0; j < DOTS; j++) {
                    const vf at_k = vf_load(k[j] + d + p * VL);
                    sum_k[j][p] = vf_fma(at_k, at_x, sum_k[j][p]);
                    sum_q[j][p] = vf_fma(at_k, at_y, sum_q[j][p]);
                }
            }
        VF_UNROLL for (int j = 0; j < DOTS; j++)
            VF_UNROLL for (int p = 0; p < VF16; p++) {
                all_k[i + j].part[p] = sum_k[j][p];
                all_q[i + j].part[p] = sum_q[j][p];
            }
    }
    for (; i < BLOCK; i++)
        for (int p = 0; p < VF16; p++) all_k[i].part[p] = all_q[i].part[p] = vf_zero();
    sums16(out_k, all_k);
    sums16(out_q, all_q);
}

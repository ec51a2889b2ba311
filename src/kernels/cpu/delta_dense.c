/* delta_dense.c: the state of the gated delta rule between its layouts: strips of 32 value columns
 * inside, [Dk][32] each and the last one padded with zeros; dense [Dv][Dk] outside. */
#include <string.h>

#include "kernels/cpu/delta.h"

/* ---- dense calls, f32 strips ---------------------------------------------------------------------- */

/* 4 x 4: rows a, b, c, d at `from`, its columns at `to`. */
static void turn4(const float *from, int64_t row, float *to, int64_t column)
{
    const cpu_quad a = cpu_load_quad(from), b = cpu_load_quad(from + row);
    const cpu_quad c = cpu_load_quad(from + 2 * row), d = cpu_load_quad(from + 3 * row);
    const cpu_quad ac = __builtin_shufflevector(a, c, 0, 4, 1, 5);
    const cpu_quad bd = __builtin_shufflevector(b, d, 0, 4, 1, 5);
    const cpu_quad ac2 = __builtin_shufflevector(a, c, 2, 6, 3, 7);
    const cpu_quad bd2 = __builtin_shufflevector(b, d, 2, 6, 3, 7);
    const cpu_quad out[4] = {__builtin_shufflevector(ac, bd, 0, 4, 1, 5),
                             __builtin_shufflevector(ac, bd, 2, 6, 3, 7),
                             __builtin_shufflevector(ac2, bd2, 0, 4, 1, 5),
                             __builtin_shufflevector(ac2, bd2, 2, 6, 3, 7)};
    for (int i = 0; i < 4; i++) memcpy(to + i * column, &out[i], sizeof *out);
}

/* Row c of a head's dense state. */
static void *dense_row(const struct delta_head *h, const struct tensor *S, int c)
{
    return tensor_at(S, h->b * S->stride[0] + h->hv * S->stride[1] + c * S->stride[2]);
}

void delta_dense_load(const struct delta_head *h, const struct tensor *S0)
{
    const int wide = h->strips * STRIP;
    if (!S0) memset(h->state, 0, sizeof(float) * (size_t)(h->strips * h->strip));
    for (int c = 0; S0 && c < wide; c += 4) {
        float *rows = h->rows4, *to = h->state + c / STRIP * h->strip + c % STRIP;
        for (int i = 0; i < 4; i++)
            if (c + i < h->Dv)
                cpu_load_row(rows + i * h->row, dense_row(h, S0, c + i), S0->dtype, h->Dk);
            else
                memset(rows + i * h->row, 0, sizeof(float) * (size_t)h->Dk);
        int d = 0;
        for (; d + 4 <= h->Dk; d += 4) turn4(rows + d, h->row, to + d * STRIP, STRIP);
        for (; d < h->Dk; d++)
            for (int i = 0; i < 4; i++) to[d * STRIP + i] = rows[i * h->row + d];
    }
}

void delta_dense_store(const struct delta_head *h, const struct tensor *S1)
{
    for (int c = 0; S1 && c < h->Dv; c += 4) {
        float *rows = h->rows4;
        const float *from = h->state + c / STRIP * h->strip + c % STRIP;
        int d = 0;
        for (; d + 4 <= h->Dk; d += 4) turn4(from + d * STRIP, STRIP, rows + d, h->row);
        for (; d < h->Dk; d++)
            for (int i = 0; i < 4; i++) rows[i * h->row + d] = from[d * STRIP + i];
        for (int i = 0; i < 4 && c + i < h->Dv; i++)
            cpu_store_row(dense_row(h, S1, c + i), S1->dtype, rows + i * h->row, h->Dk);
    }
}

/* ---- the anchor at the edges ----------------------------------------------------------------------- */

int64_t cpu_anchor_elements(int32_t Hv, int32_t Dv, int32_t Dk)
{
    return (int64_t)Hv * ((Dv + STRIP - 1) / STRIP) * Dk * STRIP;
}

/* One strip of a head at channel k: [STRIP] columns, those beyond Dv zero. */
static char *strip_row(const struct delta_slots *d, char *anchor, int64_t hv, int64_t strip,
                       int64_t k)
{
    const int64_t strips = (d->Dv + STRIP - 1) / STRIP;
    return anchor + (size_t)(((hv * strips + strip) * d->Dk + k) * STRIP) *
                        dtype_size(d->anchor_type);
}

void cpu_anchor_pack(const struct delta_slots *d, int32_t slot, const double *dense)
{
    for (int64_t hv = 0; hv < d->Hv; hv++)
        for (int64_t c = 0; c < d->Dv; c += STRIP)
            for (int64_t k = 0; k < d->Dk; k++) {
                float row[STRIP] = {0};
                for (int64_t i = 0; i < STRIP && c + i < d->Dv; i++)
                    row[i] = (float)dense[(hv * d->Dv + c + i) * d->Dk + k];
                cpu_store_row(strip_row(d, delta_anchor(d, slot), hv, c / STRIP, k), d->anchor_type,
                              row, STRIP);
            }
}

void cpu_anchor_unpack(const struct delta_slots *d, int32_t slot, double *dense)
{
    for (int64_t hv = 0; hv < d->Hv; hv++)
        for (int64_t c = 0; c < d->Dv; c += STRIP)
            for (int64_t k = 0; k < d->Dk; k++) {
                float row[STRIP];
                cpu_load_row(row, strip_row(d, delta_anchor(d, slot), hv, c / STRIP, k),
                             d->anchor_type, STRIP);
                for (int64_t i = 0; i < STRIP && c + i < d->Dv; i++)
                    dense[(hv * d->Dv + c + i) * d->Dk + k] = (double)row[i];
            }
}

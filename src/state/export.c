/* export.c: S of a slot as one matrix: its anchor, and its log put on top as the fold does it. */
#include <math.h>

#include "base/check.h"
#include "state/state.h"

enum { WIDTH = 1024 };

/* n elements of an array in device memory, from element `at` on. */
static void fetch(const struct state *st, const void *array, enum dtype type, int64_t at, int64_t n,
                  double *out)
{
    double raw[WIDTH];
    const int64_t size = (int64_t)dtype_size(type);
    GDN_CHECK(n <= WIDTH, "a head of %lld", (long long)n);
    st->device->download(st->device, raw, (const char *)array + at * size, (size_t)(n * size));
    for (int64_t i = 0; i < n; i++) out[i] = dtype_load(raw, type, i);
}

static void fetch_G(const struct state *st, const struct delta_slots *d, int64_t row, int64_t hv,
                    double *G)
{
    const int64_t gates = d->channel_gate ? d->Dk : 1;
    fetch(st, d->G, d->wide_type, (row * d->Hv + hv) * gates, gates, G);
}

/* Entries first..first+n-1 of the log go into S, in double. */
static void put_entries(const struct state *st, const struct delta_slots *d, int32_t slot,
                        int32_t first, int32_t n, int64_t hv, double *S)
{
    double last[WIDTH], G[WIDTH], key[WIDTH], u[WIDTH];
    const int64_t hk = hv / (d->Hv / d->Hk), row = (int64_t)slot * d->entries + first;
    fetch_G(st, d, row + n - 1, hv, last);
    for (int64_t c = 0; c < d->Dv; c++)
        for (int64_t k = 0; k < d->Dk; k++) S[c * d->Dk + k] *= exp(last[d->channel_gate ? k : 0]);
    for (int64_t i = 0; i < n; i++) {
        fetch_G(st, d, row + i, hv, G);
        fetch(st, d->k, d->k_type, ((row + i) * d->Hk + hk) * d->Dk, d->Dk, key);
        fetch(st, d->u, d->wide_type, ((row + i) * d->Hv + hv) * d->Dv, d->Dv, u);
        for (int64_t k = 0; k < d->Dk; k++) {
            const int64_t g = d->channel_gate ? k : 0;
            const double decayed = exp(last[g] - G[g]) * key[k];
            for (int64_t c = 0; c < d->Dv; c++) S[c * d->Dk + k] += decayed * u[c];
        }
    }
}

void state_export(const struct state *st, int32_t slot, int32_t layer, double *dense)
{
    const struct delta_slots *d = &st->layer[layer].delta;
    int32_t base;
    st->device->download(st->device, &base, d->base + slot, sizeof base);
    const int32_t length = st->slot[slot].position - base;
    st->device->anchor_unpack(d, slot, dense);
    for (int64_t hv = 0; hv < d->Hv; hv++) {
        double *S = dense + hv * d->Dv * d->Dk;
        const int32_t block = length < BLOCK ? length : BLOCK;
        if (block > 0) put_entries(st, d, slot, 0, block, hv, S);
        if (length > BLOCK) put_entries(st, d, slot, BLOCK, length - BLOCK, hv, S);
    }
}

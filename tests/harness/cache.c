#include "harness/cache.h"

#include <math.h>

#include "base/memory.h"
#include "harness/fill.h"

bool cache_open(struct cache *c, struct device *device, const struct delta_slots *like)
{
    struct delta_slots *d = &c->slots;
    *c = (struct cache){.device = device, .slots = *like};
    const int64_t entries = (int64_t)d->slots * d->entries, gates = d->channel_gate ? d->Dk : 1;
    d->wide_type = device->wide;
    if (device->wide == DTYPE_F64 || d->anchor_type != DTYPE_BF16) d->anchor_type = device->wide;
    d->anchor_elements = device->anchor_elements(d->Hv, d->Dv, d->Dk);
    const int64_t n[] = {d->slots * d->anchor_elements, entries * d->Hk * d->Dk,
                         entries * d->Hv * d->Dv, entries * d->Hv * gates};
    const enum dtype type[] = {d->anchor_type, d->k_type, d->wide_type, d->wide_type};
    void **at[] = {&d->anchor, &d->k, &d->u, &d->G};
    d->base = device->take(device, sizeof *d->base * (size_t)d->slots);
    bool open = d->base != NULL;
    for (int i = 0; i < 4; i++) {
        *at[i] = device->take(device, (size_t)n[i] * dtype_size(type[i]));
        open = open && *at[i];
    }
    return open;
}

void cache_close(struct cache *c)
{
    void *all[] = {c->slots.anchor, c->slots.k, c->slots.u, c->slots.G, c->slots.base};
    for (int i = 0; c->device && i < 5; i++) c->device->give(c->device, all[i]);
    *c = (struct cache){0};
}

/* Row `entry` of a slot's log array, as doubles. */
static double *log_row(const struct cache *c, const void *log, enum dtype dtype, int slot,
                       int entry, int64_t width)
{
    const size_t size = dtype_size(dtype), row = size * (size_t)width;
    char *raw = mem_take(row);
    double *x = mem_take_array((size_t)width, sizeof *x);
    const char *from = (const char *)log + row * (size_t)(slot * c->slots.entries + entry);
    if (raw && x) c->device->download(c->device, raw, from, row);
    for (int64_t i = 0; raw && x && i < width; i++)
        x[i] = number_read(raw + (size_t)i * size, dtype);
    mem_give(raw);
    return x;
}

/* S <- e^(G_i - G_{i-1}) S + u_i k_i^T for one entry; `before` is the G of the last one. */
static void add_entry(const struct delta_slots *d, const double *k, const double *u,
                      const double *G, const double *before, double *S)
{
    for (int64_t row = 0; row < (int64_t)d->Hv * d->Dv; row++)
        for (int64_t i = 0; i < d->Dk; i++) {
            const int64_t h = row / d->Dv, g = d->channel_gate ? h * d->Dk + i : h;
            double *s = &S[row * d->Dk + i];
            *s = exp(G[g] - (before ? before[g] : 0)) * *s +
                 u[row] * k[h / (d->Hv / d->Hk) * d->Dk + i];
        }
}

bool cache_state(const struct cache *c, int slot, int pos, double *S)
{
    const struct delta_slots *d = &c->slots;
    const int64_t gates = (int64_t)d->Hv * (d->channel_gate ? d->Dk : 1);
    int32_t base = 0;
    double *before = NULL;
    bool fine = true;
    c->device->download(c->device, &base, d->base + slot, sizeof base);
    c->device->anchor_unpack(d, slot, S);
    for (int i = 0; fine && i < pos - base; i++) {
        double *k = log_row(c, d->k, d->k_type, slot, i, (int64_t)d->Hk * d->Dk);
        double *u = log_row(c, d->u, d->wide_type, slot, i, (int64_t)d->Hv * d->Dv);
        double *G = log_row(c, d->G, d->wide_type, slot, i, gates);
        fine = k && u && G;
        if (fine) add_entry(d, k, u, G, before, S);
        mem_give(k);
        mem_give(u);
        mem_give(before);
        before = G;
    }
    mem_give(before);
    return fine;
}

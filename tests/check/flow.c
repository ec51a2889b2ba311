#include "flow.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "base/rng.h"

static const struct gdn_state_layer layer[FLOW_LAYERS] = {
    {.Hk = 1, .Hv = 2, .Dk = 16, .Dv = 24, .taps = 4},
    {.Hk = 2, .Hv = 2, .Dk = 8, .Dv = 32, .taps = 3, .channel_gate = true}};

/* Inputs of a pass: x, q, k, v in the compute type; what comes out. */
static struct {
    double x[FLOW_ROWS * 128], y[FLOW_ROWS * 128], q[FLOW_ROWS * 16], k[FLOW_ROWS * 16];
    double v[FLOW_ROWS * 64], o[FLOW_ROWS * 64];
    float w[128 * 4], g[FLOW_ROWS * 16], beta[FLOW_ROWS * 2];
} arrays;

bool flow_open(struct flow *f, enum gdn_type compute, enum gdn_type anchors, bool speculate)
{
    memset(f, 0, sizeof *f);
    const struct gdn_state_options o = {.layers = layer, .count = FLOW_LAYERS, .slots = FLOW_SLOTS,
                                        .context = 4096, .rows = FLOW_ROWS, .speculate = speculate,
                                        .compute = compute, .state = anchors, .threads = 1};
    f->compute = compute;
    f->good = gdn_state_open(&o, &f->state, &f->err) == GDN_OK;
    if (!f->good) return false;
    f->inner = &f->state->state;
    const int32_t slot = gdn_state_slot_take(f->state);
    for (int t = 0; t < FLOW_ROWS; t++)
        flow_pass(f, &(struct flow_part){slot, 0, t, 1}, 1, false, f->want + t);
    gdn_state_slot_give(f->state, slot);
    return f->good;
}

void flow_close(struct flow *f) { gdn_state_close(f->state); }

static float noise(int stream, int l, int t, int what, size_t i)
{
    struct rng rng = {.seed = (uint64_t)(((stream * 4 + l) * 1000 + t) * 8 + what), .counter = i};
    return (float)rng_normal(&rng);
}

static enum dtype type_of(const struct flow *f)
{
    return f->compute == GDN_BF16 ? DTYPE_BF16 : DTYPE_F32;
}

static void make_row(const struct flow *f, int stream, int l, int t, size_t row)
{
    const struct delta_slots *d = &f->inner->layer[l].delta;
    const size_t C = (size_t)f->inner->layer[l].conv.C, q = (size_t)(d->Hk * d->Dk);
    const size_t Hv = (size_t)d->Hv, g = Hv * (d->channel_gate ? (size_t)d->Dk : 1);
    for (size_t i = 0; i < C; i++)
        dtype_store(arrays.x, type_of(f), (int64_t)(row * C + i),
                    (double)noise(stream, l, t, 0, i));
    for (size_t i = 0; i < q; i++) {
        const double key = (double)noise(stream, l, t, 2, i) / sqrt(d->Dk);
        dtype_store(arrays.q, type_of(f), (int64_t)(row * q + i),
                    (double)noise(stream, l, t, 1, i));
        dtype_store(arrays.k, type_of(f), (int64_t)(row * q + i), key);
    }
    for (size_t i = 0; i < g; i++) arrays.g[row * g + i] = -0.2f * fabsf(noise(stream, l, t, 3, i));
    for (size_t i = 0; i < Hv; i++)
        arrays.beta[row * Hv + i] = 0.5f + 0.1f * tanhf(noise(stream, l, t, 4, i));
}

static bool pass_layer(struct flow *f, const struct flow_part *part, int parts, int l,
                       flow_rows *out)
{
    const struct delta_slots *d = &f->inner->layer[l].delta;
    const size_t C = (size_t)f->inner->layer[l].conv.C, width = (size_t)(d->Hv * d->Dv);
    size_t row = 0;
    for (size_t i = 0; i < C * (size_t)layer[l].taps; i++) arrays.w[i] = noise(9, l, 0, 0, i) / 2;
    for (int p = 0; p < parts; p++)
        for (int t = 0; t < part[p].n; t++) make_row(f, part[p].stream, l, part[p].from + t, row++);
    if (gdn_state_conv(f->state, l, arrays.x, arrays.w, arrays.y, &f->err) != GDN_OK) return false;
    for (size_t r = 0; r < row; r++) /* v is what the convolution made */
        for (size_t i = 0; i < width; i++)
            dtype_store(arrays.v, type_of(f), (int64_t)(r * width + i),
                        dtype_load(arrays.y, type_of(f), (int64_t)(r * C + i)));
    if (gdn_state_delta(f->state, l, arrays.q, arrays.k, arrays.v, arrays.g, arrays.beta, arrays.o,
                        &f->err) != GDN_OK)
        return false;
    for (size_t r = 0; r < row && out; r++)
        for (size_t i = 0; i < width; i++)
            out[r][l][i] = (float)dtype_load(arrays.o, type_of(f), (int64_t)(r * width + i));
    return true;
}

bool flow_pass(struct flow *f, const struct flow_part *part, int parts, bool draft, flow_rows *out)
{
    struct gdn_state_piece piece[2 * FLOW_SLOTS];
    for (int i = 0; i < parts; i++)
        piece[i] = (struct gdn_state_piece){part[i].slot, part[i].n};
    bool good = gdn_state_begin(f->state, piece, parts, draft, &f->err) == GDN_OK;
    for (int l = 0; l < FLOW_LAYERS && good; l++) good = pass_layer(f, part, parts, l, out);
    good = good && gdn_state_end(f->state, &f->err) == GDN_OK;
    if (!good) fprintf(stderr, "%s\n", f->err.text);
    f->good = f->good && good;
    return good;
}

void flow_spoil(void) { memset(&arrays, 0xa5, sizeof arrays); }

int32_t flow_slot(struct flow *f, int n)
{
    const int32_t slot = gdn_state_slot_take(f->state);
    flow_pass(f, &(struct flow_part){slot, 0, 0, n}, 1, false, NULL);
    return slot;
}

bool flow_same(const struct flow *f, const flow_rows *out, int from, int n)
{
    return memcmp(out, f->want + from, sizeof *out * (size_t)n) == 0;
}

bool flow_goes_on(struct flow *f, int32_t slot)
{
    static flow_rows out[FLOW_ROWS];
    const int at = gdn_state_position(f->state, slot);
    memset(out, 0, sizeof out);
    for (int t = at, n = 1; t < FLOW_ROWS && f->good; t += n, n = n == 1 ? 18 : 1) {
        if (n > FLOW_ROWS - t) n = FLOW_ROWS - t;
        flow_pass(f, &(struct flow_part){slot, 0, t, n}, 1, false, out + t);
    }
    return f->good && flow_same(f, out + at, at, FLOW_ROWS - at);
}

uint64_t flow_state(struct flow *f, int32_t slot)
{
    uint64_t hash = (uint64_t)gdn_state_position(f->state, slot);
    for (int32_t l = 0; l < FLOW_LAYERS; l++) {
        const struct layer_state *s = &f->inner->layer[l];
        const size_t ring = (size_t)(s->conv.ring * s->conv.C) * dtype_size(s->conv.dtype);
        double S[2 * 32 * 16] = {0};
        gdn_state_export(f->state, slot, l, S, &f->err);
        hash = hash64(S, sizeof S, hash);
        hash = hash64((char *)s->conv.x + ring * (size_t)slot, ring, hash);
        hash = hash64(s->delta.base + slot, sizeof *s->delta.base, hash);
    }
    return hash;
}

bool flow_law(bool (*law)(struct flow *f))
{
    static struct flow f;
    for (int k = 0; k < 2; k++) {
        const struct mem_count before = mem_counted();
        const bool good = flow_open(&f, GDN_F32, k ? GDN_BF16 : GDN_F32, true) && law(&f) && f.good;
        flow_close(&f);
        if (!good) fprintf(stderr, "with %s anchors: %s\n", k ? "bf16" : "f32", f.err.text);
        if (!good || mem_counted().live_blocks != before.live_blocks) return false;
    }
    return true;
}

#include "model/forward.h"

/* The sum that the next norm would form, shown to who asked for it. */
static void show(struct pass *pass, struct forward *f, int32_t index, struct tensor *const x[2])
{
    if (!f->hidden) return;
    size_t data = arena_mark(pass->data), meta = arena_mark(pass->meta);
    struct tape *tape = pass->tape;
    pass->tape = NULL;
    struct tensor *sum;
    op_add_norm(pass, x[0], x[1], &f->weights->final, &sum);
    if (pass_status(pass) == GDN_OK) f->hidden(f->context, index, sum);
    pass->tape = tape;
    arena_release(pass->data, data);
    arena_release(pass->meta, meta);
}

/* Two halves of what is left of the arena; layers take turns in them, for what a layer made is read
 * by the next one and then by nobody. */
struct halves {
    size_t begin, middle, end;
};

static struct halves halve(const struct arena *arena)
{
    enum { WHOLE = 4096 };
    const size_t begin = arena_mark(arena), half = (arena->size - begin) / 2;
    return (struct halves){begin, begin + half / WHOLE * WHOLE, arena->size};
}

static void run_in_half(struct pass *pass, const struct halves *h, bool upper,
                        const struct layer_call *call, struct tensor *const in[2],
                        struct tensor *out[2])
{
    pass->data->used = upper ? h->middle : h->begin; /* of a device's memory: nothing is fenced */
    pass->data->size = upper ? h->end : h->middle;
    layer_run(pass, (void *)(size_t)call, in, out);
    pass->data->size = h->end;
}

/* Where a copy within the memory of the device is a call like any other, layers leave their outputs
 * where they are; elsewhere they come back to where their inputs were, which keeps caches warm. */
struct tensor *forward_run(struct pass *pass, struct forward *f)
{
    const struct weights *w = f->weights;
    struct tensor *x[2] = {op_embed(pass, w->embed, f->ids, pass->rows->T), NULL};
    const struct halves h = halve(pass->data);
    for (int32_t i = 0; i < w->layers; i++) {
        show(pass, f, i, x);
        struct tensor *const in[2] = {x[0], x[1]};
        f->calls[i] = (struct layer_call){&w->layer[i], f->state ? &f->state->layer[i] : NULL};
        if (pass->tape && !f->recompute)
            layer_run(pass, &f->calls[i], in, x);
        else if (pass->tape || pass->device->host)
            pass_segment(pass, layer_run, &f->calls[i], in, x);
        else
            run_in_half(pass, &h, i % 2 != 0, &f->calls[i], in, x);
    }
    struct tensor *sum;
    return op_add_norm(pass, x[0], x[1], &w->final, &sum);
}

struct tensor *forward_logits(struct pass *pass, const struct weights *w, struct tensor *hidden,
                              const int32_t *rows, int64_t n)
{
    return forward_head(pass, w, op_embed(pass, hidden, rows, n));
}

struct tensor *forward_head(struct pass *pass, const struct weights *w, struct tensor *hidden)
{
    return op_linear_as(pass, &w->head, hidden, dtype_wide(pass->compute));
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* Elements a row needs inside one layer: its projections, each part's output .. */
static size_t delta_row(const struct config *c)
{
    const size_t K = (size_t)c->Hk * (size_t)c->Dk, V = (size_t)c->Hv * (size_t)c->Dv;
    const size_t gates = c->family->channel_gate ? 3 * K + 2 * (size_t)c->rank : 3 * (size_t)c->Hv;
    return 2 * (2 * K + V) + 2 * K + 5 * V + 2 * gates + 4 * (size_t)c->Hv;
}

static size_t attn_row(const struct config *c)
{
    const size_t Hq = (size_t)c->Hq, Q = Hq * (size_t)c->head_dim;
    if (!c->family->latent) return 6 * Q + 4 * (size_t)c->Hkv * (size_t)c->head_dim;
    const size_t wide = (size_t)c->latent + (size_t)c->shared_key;
    return Q + 2 * wide + 2 * Hq * wide + 2 * Hq * (size_t)c->value_dim;
}

/* .. the ffn, and what experts gather, at most every row at every choice. */
static size_t ffn_row(const struct config *c)
{
    const size_t D = (size_t)c->D, best = (size_t)c->experts_used, I = (size_t)c->expert_width;
    const size_t shared = 3 * (size_t)c->shared_width + 4 * D;
    const size_t visits = best * (D + 3 * I + 2 * larger(D, I) + 16);
    const size_t sparse = c->experts ? shared + (size_t)c->experts + visits : 0;
    return larger(3 * (size_t)c->F, sparse);
}

static size_t layer_row(const struct config *c)
{
    return larger(delta_row(c), attn_row(c)) + 8 * (size_t)c->D + ffn_row(c);
}

/* Of attention: a block of 128 queries with two sums and a page for each thread, and what threads
 * share of a long past. */
static size_t attn_bytes(const struct config *c, size_t threads)
{
    const size_t value = (size_t)(c->family->latent ? c->latent : c->head_dim);
    const size_t key = value + (c->family->latent ? (size_t)c->shared_key : 0);
    return threads * 4 * (192 * key + 320 * value + (1u << 16)) + (8u << 20);
}

/* What a product packs of up to so many rows, three bf16 for an element: experts fill up the last
 * 16 rows of each. */
static size_t product_bytes(const struct config *c, int64_t T, size_t width)
{
    const size_t rows = T < 512 ? (size_t)T : 512, visits = (size_t)T * (size_t)c->experts_used;
    const size_t experts = visits < (size_t)c->experts ? visits : (size_t)c->experts;
    return 6 * ((rows + 16) * width + experts * 16 * larger((size_t)c->D, (size_t)c->expert_width));
}

/* What a device beside the host notes about the blocks of prompts: at most 3 for every 32 rows more
 * than the rows fill. */
static size_t block_bytes(const struct config *c, const struct device *device, int64_t T)
{
    const size_t blocks = (size_t)(T / BLOCK + 3 * (T / (2 * BLOCK)) + 3);
    return device->host ? 0 : blocks * (size_t)c->Hv * 3328;
}

/* What a device beside the host makes of quantised weights at a time, when many rows meet them. */
static size_t panel_bytes(const struct device *device) { return device->host ? 0 : 16u << 20; }

/* Scratch of a kernel: a few rows and one head of a state for each thread, panels of weights, tiles
 * of the head. */
static size_t kernel_bytes(const struct config *c, const struct device *device, int64_t T)
{
    const size_t head = (size_t)c->Dk * ((size_t)c->Dv + STRIP) * 8;
    const size_t ffn = larger((size_t)c->F, (size_t)c->shared_width + 2 * (size_t)c->expert_width);
    const size_t latent = 2 * ((size_t)c->latent + (size_t)c->shared_key + (size_t)c->experts);
    const size_t width = ffn + (size_t)c->D + 2 * (size_t)c->Hk * (size_t)c->Dk +
                         2 * (size_t)c->Hv * (size_t)c->Dv + latent +
                         2 * (size_t)c->Hq * (size_t)c->head_dim;
    const size_t log = 32 * 8 * (4 * (size_t)c->Dk + 2 * (size_t)c->Dv + 64);
    const size_t threads = (size_t)pool_threads(device->pool);
    const size_t thread = 2 * head + log + 192 * width + (1u << 20);
    return threads * thread + attn_bytes(c, threads) + product_bytes(c, T, width) +
           block_bytes(c, device, T) + panel_bytes(device) + (8u << 20);
}

size_t forward_bytes(const struct config *c, const struct device *device, enum dtype compute,
                     int64_t T, int64_t wanted)
{
    const size_t size = dtype_size(compute), rows = (size_t)T;
    const size_t stream = rows * (size_t)c->D * size * 16; /* a draft head needs half of it */
    const size_t layer = rows * layer_row(c) * (size < 4 ? 4 : size);
    const size_t logits = (size_t)wanted * ((size_t)c->vocab * 8 + (size_t)c->D * size);
    const size_t half = layer + logits + kernel_bytes(c, device, T) + (1u << 20);
    return stream + (device->host ? half : 2 * half);
}

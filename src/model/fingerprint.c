#include "model/fingerprint.h"

#include <string.h>

#include "base/hash.h"

enum { BLOCKS = 64, BLOCK_BYTES = 4096 };

static void add_number(struct sha256 *s, int64_t n)
{
    unsigned char b[8];
    for (int i = 0; i < 8; i++) b[i] = (unsigned char)((uint64_t)n >> (8 * i));
    sha256_add(s, b, sizeof b);
}

static void add_text(struct sha256 *s, const char *text)
{
    add_number(s, (int64_t)strlen(text)); /* so that "ab","c" is not "a","bc" */
    sha256_add(s, text, strlen(text));
}

static void add_config(struct sha256 *s, const struct config *c)
{
    const int64_t numbers[] = {
        c->vocab, c->D, c->F, c->layers, c->Hq, c->Hkv, c->head_dim, c->rot, c->nope, c->shared_key,
        c->latent, c->value_dim, c->Hk, c->Hv, c->Dk, c->Dv, c->taps, c->rank, c->experts,
        c->experts_used, c->expert_width, c->shared_width, c->groups, c->groups_used,
        c->renormalise, c->tied};
    add_text(s, c->family->text_type);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) add_number(s, numbers[i]);
    for (int32_t i = 0; i < c->layers; i++) add_number(s, c->kind[i] + 2 * c->sparse[i]);
    sha256_add(s, &c->eps, sizeof c->eps);
    sha256_add(s, &c->theta, sizeof c->theta);
    sha256_add(s, &c->beta_scale, sizeof c->beta_scale);
    sha256_add(s, &c->route_scale, sizeof c->route_scale);
}

static void add_file(struct sha256 *s, const struct safetensors *file)
{
    add_number(s, (int64_t)file->len);
    for (size_t i = 0; i < BLOCKS; i++) {
        const size_t at = file->len / BLOCKS * i, left = file->len - at;
        sha256_add(s, file->data + at, left < BLOCK_BYTES ? left : BLOCK_BYTES);
    }
}

void fingerprint_make(const struct config *c, const struct weights *w, unsigned char out[32])
{
    struct sha256 s;
    sha256_open(&s);
    add_config(&s, c);
    for (size_t i = 0; i < w->shards.count; i++) {
        const struct st_entry *e = w->shards.tensors[i].entry;
        add_text(&s, e->name);
        add_number(&s, e->dtype);
        add_number(&s, e->rank);
        for (int d = 0; d < e->rank; d++) add_number(&s, e->shape[d]);
    }
    /* Made since: what is stored so has names that say it. */
    for (int32_t i = 0; i < w->count; i++)
        if (dtype_quantised(w->list[i].tensor.dtype) && w->list[i].copy)
            add_number(&s, (int64_t)w->list[i].tensor.dtype);
    for (size_t i = 0; i < w->shards.file_count; i++) add_file(&s, &w->shards.files[i]);
    sha256_close(&s, out);
}

#include "stage/tiny.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void must(enum gdn_status status, const struct gdn_error *err)
{
    if (status != GDN_OK) fail_msg("%s", err->text);
}

void tiny_open(struct tiny *t, const char *model, const char *device, int threads,
               enum dtype compute, bool train)
{
    struct gdn_error err = {0};
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/%s", GDN_SOURCE_DIR, model);
    *t = (struct tiny){0};
    must(config_open(&t->config, path, &err), &err);
    must(weights_open(&t->weights, &t->config, path, &err), &err);
    t->device = device_open(device, threads, ~0u, &err);
    if (!t->device) fail_msg("%s", err.text);
    if (train)
        must(params_open(&t->params, &t->weights, dtype_wide(compute), &err), &err);
    assert_true(arena_open(&t->data, 1u << 30));
    assert_true(arena_open(&t->meta, 1u << 26));
    t->gradient = (struct gradient){.device = t->device, .weights = &t->weights, .data = &t->data,
                                    .meta = &t->meta, .compute = compute};
}

void tiny_close(struct tiny *t)
{
    params_close(&t->params);
    arena_close(&t->data);
    arena_close(&t->meta);
    weights_close(&t->weights);
    device_close(t->device);
}

void tiny_file(struct safetensors *file, const char *model, const char *name)
{
    struct gdn_error err = {0};
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/%s/%s", GDN_SOURCE_DIR, model, name);
    must(safetensors_open(file, path, &err), &err);
}

const struct st_entry *tiny_entry(const struct safetensors *file, const char *name)
{
    const struct st_entry *e = safetensors_find(file, name);
    if (!e) fail_msg("%s has no %s", file->path, name);
    return e;
}

float tiny_f32(const struct st_entry *e, size_t i)
{
    float x;
    memcpy(&x, e->data + sizeof x * i, sizeof x);
    return x;
}

void tiny_batch(struct tiny_batch *b, const struct st_entry *e)
{
    const int32_t n = (int32_t)e->shape[1] - 1;
    b->B = (int32_t)e->shape[0];
    assert_true(b->B <= 8 && b->B * n <= 2048);
    for (int32_t s = 0; s < b->B; s++) {
        b->start[s] = s * n;
        for (int32_t i = 0; i < n; i++) {
            const size_t at = (size_t)(s * (n + 1) + i);
            memcpy(&b->ids[s * n + i], e->data + 4 * at, 4);
            memcpy(&b->targets[s * n + i], e->data + 4 * (at + 1), 4);
        }
    }
    b->start[b->B] = b->B * n;
}

double tiny_loss(struct tiny *t, const struct tiny_batch *b, bool forward_only)
{
    struct gdn_error err = {0};
    double loss = 0;
    t->gradient.forward_only = forward_only;
    must(gradient_run(&t->gradient, b->B, b->start, b->ids, b->targets, &loss, &err), &err);
    return loss;
}

/* weights_draw.c: weights of a shape without a file. Vectors are made here; what is large is made
 * when it is placed (weights_place.c). */
#include "base/memory.h"
#include "model/weights_load.h"
#include "model/weights_random.h"

static struct draw next_draw(struct loader *l, const char *name, int rank, const int64_t *dim,
                             int64_t n)
{
    const struct draw d = weights_draw_of(l->c, name, rank, dim, l->drawn->seed, l->drawn->before);
    l->drawn->before += draw_numbers(n);
    return d;
}

/* As a file would hold them: bf16. */
static enum gdn_status draw_small(struct loader *l, const struct draw *d, int64_t n, float *to)
{
    uint16_t *half = mem_take_array((size_t)n, sizeof *half);
    if (!half) return error_set(l->err, GDN_ERR_MEMORY, "no memory for %lld values", (long long)n);
    draw_values(half, d, 0, n);
    for (int64_t i = 0; i < n; i++) to[i] = bf16_to_f32(half[i]);
    mem_give(half);
    return GDN_OK;
}

enum gdn_status draw_tensor(struct loader *l, const char *name, bool small, int rank,
                            const int64_t *dim, struct tensor **out)
{
    struct weight *weight = NULL;
    TRY(new_weight(l, name, &weight));
    weight->small = small;
    weight->tensor = drawn_over(NULL, small, rank, dim);
    const int64_t n = tensor_elements(&weight->tensor);
    weight->draw = next_draw(l, name, rank, dim, n);
    if (small) {
        TRY(take_memory(l, weight, (size_t)n * sizeof(float)));
        weight->tensor.data = weight->copy;
        TRY(draw_small(l, &weight->draw, n, weight->copy));
    }
    l->w->parameters += n;
    *out = &weight->tensor;
    return GDN_OK;
}

enum gdn_status draw_stack(struct loader *l, const char *prefix, const char *const *names,
                           const int64_t *rows, int count, int64_t width, struct tensor **out)
{
    char name[ST_NAME_BYTES];
    struct weight *weight = NULL;
    int64_t all = 0;
    for (int i = 0; i < count; i++) all += rows[i];
    find_name(l, prefix, names[0], name);
    TRY(new_weight(l, name, &weight));
    weight->small = true;
    TRY(take_memory(l, weight, (size_t)(all * width) * sizeof(float)));
    float *to = weight->copy;
    for (int i = 0; i < count; i++, to += rows[i - 1] * width) {
        const int64_t n = rows[i] * width;
        find_name(l, prefix, names[i], name);
        const struct draw d = next_draw(l, name, 2, (int64_t[]){rows[i], width}, n);
        TRY(draw_small(l, &d, n, to));
    }
    weight->tensor = drawn_over(weight->copy, true, 2, (int64_t[]){all, width});
    l->w->parameters += all * width;
    *out = &weight->tensor;
    return GDN_OK;
}

enum gdn_status weights_draw(struct weights *w, const struct config *c, uint64_t seed,
                             struct gdn_error *err)
{
    struct drawing drawing = {.seed = seed};
    *w = (struct weights){.layers = c->layers, .drawn = true};
    struct loader l = {.w = w, .c = c, .path = "", .err = err, .drawn = &drawing};
    enum gdn_status status = take_room(w, c, c->layers, err);
    if (status == GDN_OK) status = take_model(&l);
    if (status != GDN_OK) weights_close(w);
    return status;
}

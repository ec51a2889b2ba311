/* weights_place.c: all weights into the memory of a device that cannot read the host's.
 *
 * One block holds every tensor, each at a multiple of 256 bytes, in layer order; the files stay
 * mapped, for they say what the model is. What has no values yet (weights_draw) gets them there. */
#include "base/checked.h"
#include "base/numbers.h"
#include "model/weights.h"

enum { PLACE = 256 };

/* Of a dense tensor; strides count bytes where rows are quantised. */
static size_t tensor_bytes(const struct tensor *t)
{
    return (size_t)(t->dim[0] * t->stride[0]) * dtype_size(t->dtype);
}

static size_t all_bytes(const struct weights *w)
{
    size_t sum = 0, bytes;
    for (int32_t i = 0; i < w->count; i++)
        if (!checked_align(tensor_bytes(&w->list[i].tensor), PLACE, &bytes) ||
            !checked_add(sum, bytes, &sum))
            return SIZE_MAX;
    return sum;
}

static enum gdn_status place_experts(struct weights *w, struct device *device,
                                     struct gdn_error *err)
{
    for (int32_t i = 0; i < w->layers; i++) {
        if (!w->layer[i].sparse) continue;
        struct experts *e = &w->layer[i].experts;
        e->placed = device->experts_place(device, e);
        if (!e->placed)
            return error_set(err, GDN_ERR_MEMORY, "no device memory for a table of %d experts",
                             e->count);
    }
    return GDN_OK;
}

static enum gdn_status no_room(struct device *device, size_t all, struct gdn_error *err)
{
    char need[SIZE_TEXT], has[SIZE_TEXT];
    return error_set(err, GDN_ERR_MEMORY, "device %s: the weights need %s of its memory, %s are "
                     "free", device->name, size_text(need, (int64_t)all),
                     size_text(has, (int64_t)device->room(device)));
}

enum gdn_status weights_place(struct weights *w, struct device *device,
                              const struct weights_watch *watch, struct gdn_error *err)
{
    if (device->host && w->drawn)
        return error_set(err, GDN_ERR_UNSUPPORTED, "device '%s': found weights that no file holds, "
                         "need a device with memory of its own for them", device->name);
    if (device->host) return GDN_OK;
    const size_t all = all_bytes(w);
    w->placed = device->take(device, all);
    if (!w->placed)
        return no_room(device, all, err);
    w->device = device;
    w->placed_bytes = (int64_t)all;
    char *to = w->placed;
    for (int32_t i = 0; i < w->count; i++) {
        struct tensor *t = &w->list[i].tensor;
        const size_t bytes = tensor_bytes(t);
        if (t->data)
            device->upload(device, to, t->data, bytes);
        else
            device->draw(device, to, &w->list[i].draw, tensor_elements(t));
        t->data = to;
        to += (bytes + PLACE - 1) / PLACE * PLACE;
        if (watch->tell) watch->tell(watch->context, to - (char *)w->placed, (int64_t)all);
    }
    TRY(place_experts(w, device, err));
    device->finish(device);
    if (device->status == GDN_OK) return GDN_OK;
    return error_set(err, device->status, "device %s failed while the weights went there",
                     device->name);
}

void weights_unplace(struct weights *w)
{
    if (!w->device) return;
    for (int32_t i = 0; i < w->layers; i++)
        if (w->layer[i].experts.placed)
            w->device->give(w->device, w->layer[i].experts.placed);
    w->device->give(w->device, w->placed);
    w->device = NULL;
}

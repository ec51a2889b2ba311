/* tiny.h: a tiny model of tests/golden opened for training passes. */
#ifndef STAGE_TINY_H
#define STAGE_TINY_H

#include "formats/safetensors.h"
#include "train/gradient.h"
#include "train/params.h"

struct tiny {
    struct config config;
    struct weights weights;
    struct device *device;
    struct params params; /* open when asked for */
    struct arena data, meta;
    struct gradient gradient;
};

/* A failure fails the running cmocka test. compute f64: device must be "ref". */
void tiny_open(struct tiny *tiny, const char *model, const char *device, int threads,
               enum dtype compute, bool train);
void tiny_close(struct tiny *tiny);

/* Opens tests/golden/<model>/<file>; and one tensor of it, which must be there. */
void tiny_file(struct safetensors *file, const char *model, const char *name);
const struct st_entry *tiny_entry(const struct safetensors *file, const char *name);
float tiny_f32(const struct st_entry *entry, size_t i);

/* A batch of B equally long sequences: ids[b][0..n-2] are read, ids[b][1..n-1] expected. */
struct tiny_batch {
    int32_t B, start[9], ids[2048], targets[2048];
};
void tiny_batch(struct tiny_batch *batch, const struct st_entry *ids);

/* Loss of the batch; gradients are added when the model is open for training. */
double tiny_loss(struct tiny *tiny, const struct tiny_batch *batch, bool forward_only);

#endif

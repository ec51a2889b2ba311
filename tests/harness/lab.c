#include "harness/lab.h"

#include <string.h>

#include "harness/box.h"

bool station_open(struct station *s, const char *device, int threads, uint32_t mask, size_t scratch,
                  struct gdn_error *err)
{
    *s = (struct station){.device = device_open(device, threads, mask, err)};
    if (!s->device) return false;
    if (s->device->arena_open(s->device, &s->scratch, scratch)) {
        s->scratch.high = scratch < POISONED ? scratch : POISONED;
        return true;
    }
    error_set(err, GDN_ERR_MEMORY, "no memory for the scratch of %s", device);
    return false;
}

void station_close(struct station *s)
{
    if (!s->device) return;
    s->device->arena_close(s->device, &s->scratch);
    device_close(s->device);
    *s = (struct station){0};
}

bool lab_open(struct lab *lab, const char *device, uint32_t mask, struct gdn_error *err)
{
    *lab = (struct lab){0};
    bool open = station_open(&lab->ref, "ref", 1, ~0u, SCRATCH_BYTES, err);
    for (int i = 0; i < LAB_STATIONS; i++)
        open = open && station_open(&lab->under[i], device, i + 1, mask, SCRATCH_BYTES, err);
    if (!open) lab_close(lab);
    return open;
}

void lab_close(struct lab *lab)
{
    station_close(&lab->ref);
    for (int i = 0; i < LAB_STATIONS; i++) station_close(&lab->under[i]);
}

/* Poison builds do this in the arena itself, and fence what is not taken. */
#if defined(GDN_POISON) && GDN_POISON
static void poison_scratch(struct station *s) { (void)s; }
#else
static void poison_scratch(struct station *s)
{
    unsigned char pattern[4096];
    poison_fill(pattern, sizeof pattern);
    for (size_t at = 0; at < s->scratch.high; at += sizeof pattern)
        s->device->upload(s->device, s->scratch.base + at, pattern, sizeof pattern);
    s->scratch.high = 0;
}
#endif

bool station_run(struct station *s, op_kernel *kernel, const void *args, struct verdict *v)
{
    if (!EXPECT(v, kernel != NULL, "%s has no such kernel", s->device->name)) return false;
    poison_scratch(s);
    kernel(s->device, &s->scratch, args);
    const bool full = s->scratch.failed;
    arena_reset(&s->scratch);
    return EXPECT(v, !full, "%s needs more scratch than %d MiB", s->device->name,
                  SCRATCH_BYTES >> 20) &&
           EXPECT(v, s->device->status == GDN_OK, "%s failed with status %d", s->device->name,
                  (int)s->device->status);
}

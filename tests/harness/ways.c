#include "harness/ways.h"

#include <stdio.h>
#include <string.h>

#include "base/cpu.h"

/* Those that this device has, opened; false with a failure when one cannot be had. */
static bool ways_open(struct ways *w, struct lab *lab, struct verdict *v)
{
    static const struct {
        const char *name;
        uint32_t needs, mask;
    } isa[WAYS] = {{"portable", 0, 0}, {"avx2", CPU_AVX2, CPU_AVX2}, {"all", CPU_AVX512, ~0u}};
    const char *device = lab->under[0].device->name;
    const bool cpu = strcmp(device, "cpu") == 0;
    struct gdn_error err = {0};
    bool open = true;
    *w = (struct ways){.ref = &lab->ref};
    for (int i = cpu ? 0 : WAYS - 1; open && i < WAYS; i++) {
        if (cpu && (cpu_flags() & isa[i].needs) != isa[i].needs) continue;
        struct way *way = &w->of[w->count++];
        snprintf(way->name, sizeof way->name, "%s", isa[i].name);
        open = station_open(&way->one, device, 1, isa[i].mask, SCRATCH_BYTES, &err) &&
               station_open(&way->three, device, 3, isa[i].mask, SCRATCH_BYTES, &err);
    }
    return EXPECT(v, open, "%s", err.text);
}

static void ways_close(struct ways *w)
{
    for (int i = 0; i < w->count; i++) {
        station_close(&w->of[i].one);
        station_close(&w->of[i].three);
    }
}

void on_every_isa(struct lab *lab, struct verdict *v, ways_law *holds)
{
    struct ways w;
    if (ways_open(&w, lab, v)) holds(&w, v);
    ways_close(&w);
}

void law_every_isa(struct lab *lab, struct verdict *v, const struct law *law)
{
    struct ways w;
    const char *subject = v->subject;
    const bool open = ways_open(&w, lab, v);
    for (int n = 0; open && n < w.count * law->shapes; n++) {
        struct way *way = &w.of[n / law->shapes];
        struct machine m;
        char name[96];
        snprintf(name, sizeof name, "%s, %s", subject, way->name);
        v->subject = name;
        v->cases++;
        if (machine_open(&m, law->form, &law->shape[n % law->shapes], &way->one, false, v)) {
            law->holds(&m, law->extent);
            machine_close(&m);
        }
        v->subject = subject;
    }
    ways_close(&w);
}

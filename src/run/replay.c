#include "run/replay.h"

#include <string.h>

static bool same(const struct replay_key *a, const struct replay_key *b)
{
    return a->kind == b->kind && a->B == b->B && a->T == b->T && a->asked == b->asked &&
           a->head == b->head && a->reach == b->reach && a->types == b->types &&
           a->draft == b->draft;
}

static void leave(struct replay_entry *e, struct device *device)
{
    if (e->made) device->forget(device, e->made);
    *e = (struct replay_entry){0};
}

/* The entry of this key, asked for once more; a new one takes the place of the longest unused. */
static struct replay_entry *find(struct replay *r, struct device *device, struct replay_key key)
{
    struct replay_entry *oldest = &r->entry[0], *found = NULL;
    for (int i = 0; i < REPLAYS && !found; i++) {
        struct replay_entry *e = &r->entry[i];
        if (e->seen > 0 && same(&e->key, &key)) found = e;
        if (e->last < oldest->last) oldest = e;
    }
    if (!found) {
        found = oldest;
        leave(found, device);
        found->key = key;
    }
    found->seen++;
    found->last = ++r->now;
    return found;
}

bool replay_run(struct replay *r, struct device *device, struct replay_key key,
                bool (*run)(void *context), void *context)
{
    struct replay_entry *entry = find(r, device, key);
    if (!entry->made && entry->seen > 1) {
        device->record(device);
        const bool good = run(context);
        entry->made = device->record_end(device);
        if (!good) return false;
    }
    if (!entry->made) return run(context);
    device->play(device, entry->made);
    return true;
}

void replay_close(struct replay *r, struct device *device)
{
    for (int i = 0; i < REPLAYS; i++) leave(&r->entry[i], device);
}

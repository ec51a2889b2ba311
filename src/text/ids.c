#include "text/ids.h"

#include "base/checked.h"
#include "base/memory.h"

bool ids_reserve(struct ids *ids, size_t more)
{
    size_t need, room, size;
    if (!checked_add(ids->len, more, &need)) return false;
    if (need <= ids->room) return true;
    /* By half again: mem_resize always copies, so the growth has to be geometric. */
    room = ids->room < 64 ? 64 : ids->room;
    while (room < need) {
        if (!checked_add(room, room / 2, &room)) return false;
    }
    if (!checked_mul(room, sizeof *ids->at, &size)) return false;
    int32_t *grown = mem_resize(ids->at, size);
    if (!grown) return false;
    ids->at = grown;
    ids->room = room;
    return true;
}

bool ids_add(struct ids *ids, int32_t id)
{
    if (!ids_reserve(ids, 1)) return false;
    ids->at[ids->len++] = id;
    return true;
}

void ids_free(struct ids *ids)
{
    mem_give(ids->at);
    *ids = (struct ids){0};
}

/* ids.h: a growing list of token ids. */
#ifndef TEXT_IDS_H
#define TEXT_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Start with {0}; ids_free leaves it empty and usable. */
struct ids {
    int32_t *at;
    size_t len, room;
};

/* Room for `more` ids behind the last one; false when memory does not suffice (nothing changed). */
bool ids_reserve(struct ids *ids, size_t more);
bool ids_add(struct ids *ids, int32_t id);
void ids_free(struct ids *ids);

#endif

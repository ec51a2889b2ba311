#include "text/jinja_value.h"

#include <string.h>

#include "text/hash.h"

/* ---- memory ---------------------------------------------------------------------------------- */

enum { CHUNK = 16 << 10, SHORT_MAP = 8 };

bool heap_open(struct heap *heap, size_t bytes)
{
    *heap = (struct heap){0};
    return arena_open(&heap->arena, bytes);
}

void heap_close(struct heap *heap) { arena_close(&heap->arena); }

void *heap_take(struct heap *heap, size_t bytes)
{
    if (bytes > heap->arena.size) return NULL;
    bytes = (bytes + 15) / 16 * 16;
    if (bytes >= CHUNK / 4) return arena_take(&heap->arena, bytes);
    if (bytes > heap->left) {
        heap->at = arena_take(&heap->arena, CHUNK);
        heap->left = heap->at ? CHUNK : 0;
        if (!heap->at) return NULL;
    }
    void *taken = heap->at;
    heap->at += bytes;
    heap->left -= bytes;
    return taken;
}

/* An array with room for one more; the old one is left behind. */
static void *grow(struct heap *heap, const void *old, uint32_t count, uint32_t *room, size_t size)
{
    const uint32_t wider = *room < 4 ? 8 : 2 * *room;
    if (wider > UINT32_MAX / 4 / size) return NULL;
    void *array = heap_take(heap, wider * size);
    if (!array) return NULL;
    if (count > 0) memcpy(array, old, count * size);
    *room = wider;
    return array;
}

/* ---- texts ----------------------------------------------------------------------------------- */

struct text text_of(const char *zero_ended)
{
    return (struct text){.at = zero_ended, .len = (uint32_t)strlen(zero_ended)};
}

bool text_same(struct text a, struct text b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

bool text_is(struct text text, const char *zero_ended)
{
    return text_same(text, text_of(zero_ended));
}

struct text text_cut(struct text text, size_t begin, size_t end)
{
    text.at += begin;
    if (text.marks) text.marks += begin;
    text.len = (uint32_t)(end - begin);
    return text;
}

const char *value_type(const struct value *value)
{
    static const char *const names[] = {
        [VALUE_UNDEFINED] = "Undefined", [VALUE_NONE] = "NoneType",
        [VALUE_BOOL] = "bool",           [VALUE_INT] = "int",
        [VALUE_FLOAT] = "float",         [VALUE_BIG] = "int",
        [VALUE_TEXT] = "str",            [VALUE_LIST] = "list",
        [VALUE_TUPLE] = "tuple",         [VALUE_MAP] = "dict",
        [VALUE_NAMESPACE] = "namespace", [VALUE_LOOP] = "loop",
        [VALUE_MACRO] = "macro",         [VALUE_FUNCTION] = "function",
        [VALUE_METHOD] = "method"};
    return names[value->kind];
}

static bool builder_widen(struct builder *b, size_t more)
{
    if (b->failed || more > UINT32_MAX / 4 || b->len + more > UINT32_MAX / 4) {
        b->failed = true;
        return false;
    }
    if (b->len + more <= b->room) return true;
    size_t room = b->room < 64 ? 64 : b->room;
    while (room < b->len + more) room *= 2;
    char *at = heap_take(b->heap, room);
    unsigned char *marks = b->marks ? heap_take(b->heap, room) : NULL;
    if (!at || (b->marks && !marks)) {
        b->failed = true;
        return false;
    }
    if (b->len > 0) memcpy(at, b->at, b->len);
    if (marks) memcpy(marks, b->marks, b->len);
    b->at = at;
    b->marks = marks;
    b->room = room;
    return true;
}

void builder_add(struct builder *b, struct text text)
{
    if (text.len == 0 || !builder_widen(b, text.len)) return;
    if (b->len == 0 && !text.marks) b->data = text.data;
    if (!b->marks && (text.marks || text.data != b->data)) {
        b->marks = heap_take(b->heap, b->room);
        if (!b->marks) {
            b->failed = true;
            return;
        }
        memset(b->marks, b->data, b->len);
    }
    memcpy(b->at + b->len, text.at, text.len);
    if (b->marks && text.marks) memcpy(b->marks + b->len, text.marks, text.len);
    if (b->marks && !text.marks) memset(b->marks + b->len, text.data, text.len);
    b->len += text.len;
}

void builder_bytes(struct builder *b, const char *at, size_t len, bool data)
{
    if (len > UINT32_MAX / 4) {
        b->failed = true;
        return;
    }
    builder_add(b, (struct text){.at = at, .len = (uint32_t)len, .data = data});
}

struct text builder_text(const struct builder *b)
{
    return (struct text){b->at ? b->at : "", b->marks, (uint32_t)b->len, b->data};
}

/* ---- lists ----------------------------------------------------------------------------------- */

struct list *list_new(struct heap *heap, size_t room)
{
    struct list *list = heap_take(heap, sizeof *list);
    if (!list || room > UINT32_MAX / 4 / sizeof *list->at) return NULL;
    *list = (struct list){.room = (uint32_t)room};
    if (room > 0) list->at = heap_take(heap, room * sizeof *list->at);
    return room > 0 && !list->at ? NULL : list;
}

bool list_add(struct heap *heap, struct list *list, struct value value)
{
    if (list->count == list->room) {
        void *grown = grow(heap, list->at, list->count, &list->room, sizeof *list->at);
        if (!grown) return false;
        list->at = grown;
    }
    list->at[list->count++] = value;
    return true;
}

/* ---- maps ------------------------------------------------------------------------------------ */

bool map_can_key(const struct value *key)
{
    return key->kind == VALUE_TEXT || key->kind == VALUE_INT || key->kind == VALUE_BOOL;
}

/* As in Python, where True is 1. */
static int64_t key_number(const struct value *key)
{
    return key->kind == VALUE_BOOL ? key->as.is : key->as.integer;
}

static bool key_same(const struct value *a, const struct value *b)
{
    if ((a->kind == VALUE_TEXT) != (b->kind == VALUE_TEXT)) return false;
    if (a->kind == VALUE_TEXT) return text_same(a->as.text, b->as.text);
    return key_number(a) == key_number(b);
}

static uint32_t key_hash(const struct value *key)
{
    if (key->kind == VALUE_TEXT) return (uint32_t)hash_bytes(key->as.text.at, key->as.text.len);
    const int64_t number = key_number(key);
    return (uint32_t)hash_bytes(&number, sizeof number);
}

struct map *map_new(struct heap *heap)
{
    struct map *map = heap_take(heap, sizeof *map);
    if (map) *map = (struct map){0};
    return map;
}

/* Where the key is or would be; NULL when the probe is too long for an honest set of keys. */
static uint32_t *map_slot(const struct map *map, const struct value *key)
{
    uint32_t at = key_hash(key) & map->mask;
    for (int probe = 0; probe < HASH_PROBE_MAX; probe++, at = (at + 1) & map->mask) {
        uint32_t *slot = &map->slots[at];
        if (*slot == 0 || key_same(&map->pairs[*slot - 1].key, key)) return slot;
    }
    return NULL;
}

struct value *map_find(const struct map *map, const struct value *key)
{
    if (!map_can_key(key)) return NULL;
    if (map->slots) {
        const uint32_t *slot = map_slot(map, key);
        return slot && *slot ? &map->pairs[*slot - 1].value : NULL;
    }
    for (uint32_t i = 0; i < map->count; i++)
        if (key_same(&map->pairs[i].key, key)) return &map->pairs[i].value;
    return NULL;
}

struct value *map_find_text(const struct map *map, struct text text)
{
    const struct value key = value_text(text);
    return map_find(map, &key);
}

static enum map_put map_index(struct heap *heap, struct map *map)
{
    const uint32_t slots = map->slots ? 2 * (map->mask + 1) : 4 * SHORT_MAP;
    map->slots = heap_take(heap, slots * sizeof *map->slots);
    if (!map->slots) return MAP_NO_MEMORY;
    memset(map->slots, 0, slots * sizeof *map->slots);
    map->mask = slots - 1;
    for (uint32_t i = 0; i < map->count; i++) {
        uint32_t *slot = map_slot(map, &map->pairs[i].key);
        if (!slot) return MAP_CROWDED;
        *slot = i + 1;
    }
    return MAP_PUT;
}

enum map_put map_put(struct heap *heap, struct map *map, struct value key, struct value value)
{
    struct value *old = map_find(map, &key);
    if (old) {
        *old = value;
        return MAP_PUT;
    }
    if (map->count == map->room) {
        void *grown = grow(heap, map->pairs, map->count, &map->room, sizeof *map->pairs);
        if (!grown) return MAP_NO_MEMORY;
        map->pairs = grown;
    }
    map->pairs[map->count++] = (struct pair){key, value};
    if (!map->slots && map->count <= SHORT_MAP) return MAP_PUT;
    if (!map->slots || map->count > (map->mask + 1) / 3 * 2) return map_index(heap, map);
    uint32_t *slot = map_slot(map, &key);
    if (!slot) return MAP_CROWDED;
    *slot = map->count;
    return MAP_PUT;
}

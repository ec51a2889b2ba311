/* jinja_value.h: what templates compute with, and the memory it lives in. Values are small and
 * copied; what they point to is never given back before the rendering ends. */
#ifndef TEXT_JINJA_VALUE_H
#define TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"

/* Small takes out of an arena of a fixed size. */
struct heap {
    struct arena arena;
    unsigned char *at;
    size_t left;
};
bool heap_open(struct heap *heap, size_t bytes);
void heap_close(struct heap *heap);
/* Aligned to 16, not zeroed; NULL when the heap is full. */
void *heap_take(struct heap *heap, size_t bytes);

/* UTF-8 with the origin of each byte: `marks` has one byte for each of the text, 1 for data and 0
 * for what the template wrote; when it is NULL, `data` says it for all of them. */
struct text {
    const char *at;
    const unsigned char *marks;
    uint32_t len;
    bool data;
};

enum value_kind {
    VALUE_UNDEFINED,
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_FLOAT,
    VALUE_BIG, /* an integer of JSON beyond 64 bits: only shown again */
    VALUE_TEXT,
    VALUE_LIST,
    VALUE_TUPLE,
    VALUE_MAP,
    VALUE_NAMESPACE,
    VALUE_LOOP,
    VALUE_MACRO,
    VALUE_FUNCTION,
    VALUE_METHOD
};

struct value {
    enum value_kind kind;
    union {
        bool is;             /* BOOL */
        int64_t integer;     /* INT */
        double real;         /* FLOAT */
        struct text text;    /* TEXT, BIG; UNDEFINED: what is not there, for the message */
        struct list *list;   /* LIST, TUPLE */
        struct map *map;     /* MAP, NAMESPACE */
        struct loop *loop;
        struct macro *macro;
        const struct function *function;
        struct method *method;
    } as;
};

struct list {
    struct value *at;
    uint32_t count, room;
};

/* In the order of insertion, with an index once there are more than a few. */
struct pair {
    struct value key, value;
};
struct map {
    struct pair *pairs;
    uint32_t count, room;
    uint32_t *slots; /* pair + 1, 0 for none; NULL while the map is short */
    uint32_t mask;
};

static inline struct value value_none(void) { return (struct value){.kind = VALUE_NONE}; }
static inline struct value value_bool(bool is)
{
    return (struct value){.kind = VALUE_BOOL, .as.is = is};
}
static inline struct value value_int(int64_t i)
{
    return (struct value){.kind = VALUE_INT, .as.integer = i};
}
static inline struct value value_float(double real)
{
    return (struct value){.kind = VALUE_FLOAT, .as.real = real};
}
static inline struct value value_text(struct text text)
{
    return (struct value){.kind = VALUE_TEXT, .as.text = text};
}
/* Text of the program, which counts as the template's. */
struct text text_of(const char *zero_ended);
bool text_is(struct text text, const char *zero_ended);
bool text_same(struct text a, struct text b);
/* Bytes [begin, end) of it. */
struct text text_cut(struct text text, size_t begin, size_t end);

/* The Python name of its type, for messages. */
const char *value_type(const struct value *value);

/* NULL and false: the heap is full. */
struct list *list_new(struct heap *heap, size_t room);
bool list_add(struct heap *heap, struct list *list, struct value value);

enum map_put { MAP_PUT, MAP_NO_MEMORY, MAP_CROWDED /* too many keys fall together: see hash.h */ };
struct map *map_new(struct heap *heap);
/* Keys are texts, integers and truth values. An equal key keeps its place. */
enum map_put map_put(struct heap *heap, struct map *map, struct value key, struct value value);
/* NULL when it is not there. */
struct value *map_find(const struct map *map, const struct value *key);
struct value *map_find_text(const struct map *map, struct text key);
bool map_can_key(const struct value *key);

/* A text that grows. It remembers origins byte by byte only once there are two of them. */
struct builder {
    struct heap *heap;
    char *at;
    unsigned char *marks;
    size_t len, room;
    bool data;   /* while there are no marks: the origin of all bytes so far */
    bool failed; /* the heap is full: nothing is added any more */
};
void builder_add(struct builder *b, struct text text);
void builder_bytes(struct builder *b, const char *at, size_t len, bool data);
/* What was built; the builder may go on. */
struct text builder_text(const struct builder *b);

#endif

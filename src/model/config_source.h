/* config_source.h: a config.json while it is read: its values by key, checked, or a sentence about
 * what was found and what is needed. Only config*.c include it. */
#ifndef MODEL_CONFIG_SOURCE_H
#define MODEL_CONFIG_SOURCE_H

#include <jansson.h>

#include "model/config.h"

enum { WIDTH_LIMIT = 1 << 24, HEADS_LIMIT = 1 << 16, HEAD_LIMIT = 1 << 14 };

/* Where a key is looked up: the text config, then (for a few) the file's top level. A key may be
 * two names with a | between them: the first that is there counts. */
struct source {
    const char *name;
    json_t *top, *text;
    struct gdn_error *err;
};

/* A value as a message shows it: one line of ASCII, cut where it grows long. */
struct shown {
    char text[64];
    size_t n;
};
struct shown source_show(const json_t *value);

enum gdn_status source_refuse(const struct source *s, enum gdn_status status, const char *key,
                              const json_t *value, const char *need);
/* The value of `key` in the text config is not what is needed. */
enum gdn_status source_bad(const struct source *s, const char *key, const char *need);

/* In the text config, and not null. */
bool source_has(const struct source *s, const char *key);
json_t *source_get(const struct source *s, const char *key);

/* An integer in [min, max]; absent: `fallback`, or an error when that is below min. */
enum gdn_status take_int(const struct source *s, const char *key, int32_t min, int32_t max,
                         int32_t fallback, int32_t *out);
enum gdn_status take_real(const struct source *s, json_t *in, const char *key, double min,
                          double max, double fallback, double *out);
/* Absent: *out stays. */
enum gdn_status take_bool(const struct source *s, json_t *in, const char *key, bool *out);
/* Absent, or the one text we know. */
enum gdn_status take_text(const struct source *s, json_t *in, const char *key, const char *need);

/* What one family reads beside the keys that all have (config_family.c). */
enum gdn_status config_take_family(struct config *config, const struct source *source);

#endif

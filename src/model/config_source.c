#include "model/config_source.h"

#include <math.h>
#include <string.h>

static int show_part(const char *part, size_t n, void *context)
{
    struct shown *shown = context;
    for (size_t i = 0; i < n && shown->n < sizeof shown->text - 4; i++)
        shown->text[shown->n++] = part[i] == 0x7f ? '?' : part[i]; /* jansson lets DEL through */
    if (shown->n == sizeof shown->text - 4) memcpy(shown->text + shown->n, "...", 4);
    return 0;
}

struct shown source_show(const json_t *value)
{
    struct shown shown = {0};
    if (!value) return (struct shown){.text = "nothing"};
    json_dump_callback(value, show_part, &shown,
                       JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(6));
    return shown;
}

enum gdn_status source_refuse(const struct source *s, enum gdn_status status, const char *key,
                              const json_t *value, const char *need)
{
    const int length = (int)strcspn(key, "|");
    return error_set(s->err, status, "%s: %.*s: found %s, need %s", s->name, length, key,
                     source_show(value).text, need);
}

/* The first name of a key, or the second; how long a message shows it. */
static json_t *get(json_t *in, const char *key)
{
    char first[64];
    const char *bar = strchr(key, '|');
    if (!bar) return json_object_get(in, key);
    snprintf(first, sizeof first, "%.*s", (int)(bar - key), key);
    json_t *v = json_object_get(in, first);
    return v && !json_is_null(v) ? v : json_object_get(in, bar + 1);
}

json_t *source_get(const struct source *s, const char *key) { return get(s->text, key); }

enum gdn_status source_bad(const struct source *s, const char *key, const char *need)
{
    return source_refuse(s, GDN_ERR_INPUT, key, source_get(s, key), need);
}

bool source_has(const struct source *s, const char *key)
{
    json_t *v = source_get(s, key);
    return v && !json_is_null(v);
}

enum gdn_status take_int(const struct source *s, const char *key, int32_t min, int32_t max,
                                int32_t fallback, int32_t *out)
{
    *out = fallback;
    if (!source_has(s, key) && fallback >= min) return GDN_OK;
    json_t *v = source_get(s, key);
    json_int_t n = json_is_integer(v) ? json_integer_value(v) : (json_int_t)min - 1;
    if (n < min || n > max) {
        char need[80];
        snprintf(need, sizeof need, "an integer from %d to %d", min, max);
        return source_bad(s, key, need);
    }
    *out = (int32_t)n;
    return GDN_OK;
}

enum gdn_status take_real(const struct source *s, json_t *in, const char *key, double min,
                                 double max, double fallback, double *out)
{
    json_t *v = get(in, key);
    *out = fallback;
    if (!v || json_is_null(v)) return GDN_OK;
    double x = json_is_number(v) ? json_number_value(v) : NAN;
    if (!(x >= min && x <= max)) {
        char need[80];
        snprintf(need, sizeof need, "a number from %g to %g", min, max);
        return source_refuse(s, GDN_ERR_INPUT, key, v, need);
    }
    *out = x;
    return GDN_OK;
}

enum gdn_status take_bool(const struct source *s, json_t *in, const char *key, bool *out)
{
    json_t *v = get(in, key);
    if (!v || json_is_null(v)) return GDN_OK;
    if (!json_is_boolean(v)) return source_refuse(s, GDN_ERR_INPUT, key, v, "true or false");
    *out = json_is_true(v);
    return GDN_OK;
}

enum gdn_status take_text(const struct source *s, json_t *in, const char *key,
                                 const char *need)
{
    json_t *v = get(in, key);
    if (!v || json_is_null(v)) return GDN_OK;
    if (!json_is_string(v)) return source_refuse(s, GDN_ERR_INPUT, key, v, need);
    if (strcmp(json_string_value(v), need) == 0) return GDN_OK;
    return source_refuse(s, GDN_ERR_UNSUPPORTED, key, v, need);
}

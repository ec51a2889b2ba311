/* The JSON reader against jansson: both take a text or both refuse it, and what they read is equal.
 * What they may differ in is written in base/json_compare.h. */
#include "base/json_compare.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every value is skipped as a whole at the first chance: same verdict, same end. */
static void skip_must_agree(const char *text, size_t len, bool accepted)
{
    struct json json;
    struct json_token t;
    json_open(&json, text, len);
    json_next(&json, &t);
    bool skipped = json_skip(&json, &t) && json_next(&json, &t) == JSON_END;
    if (skipped != accepted) abort();
}

/* A text of any bytes, written and read, is the same text or has U+FFFD where it was not UTF-8. */
static void string_must_return(const char *text, size_t len)
{
    struct bytes out = {0};
    struct json json;
    struct json_token t;
    json_put_string(&out, text, len);
    json_open(&json, out.at, out.len);
    if (json_next(&json, &t) != JSON_STRING) abort();
    size_t n;
    char *back = json_compare_text(&t, &n);
    bool replaced = n >= 3 && memmem(back, n, "\xef\xbf\xbd", 3) != NULL;
    if (!replaced && (n != len || (len && memcmp(back, text, len) != 0))) abort();
    if (json_next(&json, &t) != JSON_END) abort();
    free(back);
    bytes_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct json_traits traits;
    if (json_compare(text, size)) abort();
    skip_must_agree(text, size, json_compare_accepts(text, size, &traits));
    string_must_return(text, size);
    return 0;
}

/* The reader of id files, against a second one written another way: both take the same texts and
 * find the same numbers. The first byte chooses the range. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/numbers.h"

static void require(bool true_thing, const char *what)
{
    if (true_thing) return;
    fprintf(stderr, "ids: %s\n", what);
    abort();
}

/* Reads `text` (zero-ended, without a zero inside) with strtol; false: refused. */
static bool simple(const char *text, long min, long max, int32_t *out, size_t *count)
{
    static const char space[] = " \t\n\v\f\r";
    bool comma = true; /* a comma here would be one too many */
    *count = 0;
    for (;;) {
        text += strspn(text, space);
        if (*text == ',' && comma) return false;
        if (*text == ',') {
            comma = true;
            text++;
            continue;
        }
        if (!*text) return true;
        /* strtol also takes a plus sign; digits and one minus are all that is meant. */
        const size_t word = strcspn(text, " \t\n\v\f\r,"), minus = *text == '-';
        if (word == minus || strspn(text + minus, "0123456789") < word - minus) return false;
        errno = 0;
        const long value = strtol(text, NULL, 10);
        if (errno || value < min || value > max) return false;
        out[(*count)++] = (int32_t)value;
        text += word;
        comma = false;
    }
}

/* `exact` is the same text without a byte behind it, so that a sanitizer sees one read too many. */
static void compare(const char *exact, const char *text, size_t len, int32_t min, int32_t max)
{
    struct gdn_error err = {0};
    int32_t *found, *want = malloc((len + 1) * sizeof *want);
    size_t count, wanted = 0;
    require(want != NULL, "no memory");
    const bool good = numbers_parse(exact, len, min, max, "id", &found, &count, &err) == GDN_OK;
    const bool zero = memchr(text, 0, len) != NULL;
    require(good == (!zero && simple(text, min, max, want, &wanted)), "one takes it, one does not");
    if (good) {
        require(count == wanted, "other numbers");
        require(count == 0 || memcmp(found, want, count * sizeof *want) == 0, "other numbers");
        require(err.text[0] == 0, "a message without a failure");
    } else {
        require(found == NULL && count == 0, "numbers after a failure");
        require(strncmp(err.text, "id ", 3) == 0 && strstr(err.text, ", need "), "a poor message");
        for (const char *c = err.text; *c; c++)
            require(*c >= 0x20 && *c < 0x7F, "a message that is not plain text");
    }
    mem_give(found);
    free(want);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int32_t ranges[][2] = {{0, 255},        {0, INT32_MAX},         {1, 1},
                                        {-128, 127},     {INT32_MIN, INT32_MAX}, {0, 151935},
                                        {INT32_MIN, -1}, {1, INT32_MAX}};
    if (size == 0) return 0;
    /* A copy that ends in a zero byte, for strtol. */
    char *text = malloc(size);
    require(text != NULL, "no memory");
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    const int32_t *range = ranges[data[0] % 8];
    compare((const char *)data + 1, text, size - 1, range[0], range[1]);
    free(text);
    return 0;
}

/* A template, a zero byte, its messages as JSON: refused with a sentence, or the same text twice,
 * with a mark for each byte, and within the limits. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/jinja.h"
#include "text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUTPUT = 64 << 10 };
static const struct jinja_limits limits = {.steps = 50000, .memory = 4 << 20, .output = OUTPUT};
static const struct tm now = {.tm_year = 126, .tm_mon = 10, .tm_mday = 21};

static void check(enum gdn_status status, const struct gdn_error *err)
{
    if (status != err->status || (status == GDN_OK) != (err->text[0] == 0)) abort();
    if (status != GDN_OK && status != GDN_ERR_INPUT && status != GDN_ERR_UNSUPPORTED) abort();
}

static void render(const struct jinja *jinja, const char *json, size_t len,
                   struct jinja_output *out)
{
    const struct jinja_variable variables[] = {{"messages", json, len, false},
                                               {"add_generation_prompt", "true", 4, false},
                                               {"eos_token", "\"</s>\"", 6, true}};
    struct gdn_error err = {0};
    const enum gdn_status status = jinja_render(jinja, variables, 3, &now, &limits, out, &err);
    check(status, &err);
    if (out->text.len != out->marks.len || out->text.len > OUTPUT) abort();
    if (status != GDN_OK && (out->text.at || out->marks.at)) abort();
    if (utf8_good_len(out->text.at, out->text.len) < out->text.len) abort();
    for (size_t i = 0; i < out->marks.len; i++)
        if ((unsigned char)out->marks.at[i] > 1) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int64_t live = mem_counted().live_blocks;
    const char *source = (const char *)data, *end = memchr(data, 0, size);
    const size_t len = end ? (size_t)(end - source) : size;
    struct gdn_error err = {0};
    struct jinja *jinja;
    check(jinja_open("fuzz", source, len, &jinja, &err), &err);
    if (jinja) {
        struct jinja_output once = {0}, twice = {0};
        const char *json = end ? end + 1 : "null";
        const size_t json_len = end ? size - len - 1 : 4;
        render(jinja, json, json_len, &once);
        render(jinja, json, json_len, &twice);
        if (once.text.len != twice.text.len) abort();
        if (once.text.len > 0 && memcmp(once.text.at, twice.text.at, once.text.len) != 0) abort();
        if (once.text.len > 0 && memcmp(once.marks.at, twice.marks.at, once.text.len)) abort();
        jinja_output_free(&once);
        jinja_output_free(&twice);
    }
    jinja_close(jinja);
    if (mem_counted().live_blocks != live) abort();
    return 0;
}

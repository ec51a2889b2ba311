/* Templates against jinja2: tests/data/chats.xz holds what it makes of them (chats.py wrote it). */
#include "text/jinja.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"

enum { VARIABLES_MAX = 32 };

static const struct tm now = {.tm_year = 126, .tm_mon = 10, .tm_mday = 21, .tm_hour = 12,
                              .tm_min = 34, .tm_sec = 56, .tm_wday = 6, .tm_yday = 324};

static struct bytes cases;

static int read_cases(void **state)
{
    (void)state;
    char piece[65536];
    FILE *pipe = popen("xz -dc " GDN_SOURCE_DIR "/tests/data/chats.xz", "r");
    if (!pipe) return -1;
    for (size_t n; (n = fread(piece, 1, sizeof piece, pipe)) > 0;) bytes_add(&cases, piece, n);
    return pclose(pipe) == 0 && !cases.failed ? 0 : -1;
}

static int drop_cases(void **state)
{
    (void)state;
    bytes_free(&cases);
    return 0;
}

/* ---- one case -------------------------------------------------------------------------------- */

struct block {
    char what[64];
    const char *text;
    size_t len;
};

struct talk {
    const char *name;
    int name_len;
    struct block template, want;
    struct block variables[VARIABLES_MAX];
    size_t count;
};

static const char *read_block(const char *at, struct block *block)
{
    int head = 0;
    assert_int_equal(sscanf(at, "%63s %zu\n%n", block->what, &block->len, &head), 2);
    /* A length is followed by one line end, and what comes next may begin with others. */
    head = (int)(strchr(at, '\n') + 1 - at);
    block->text = at + head;
    assert_int_equal(block->text[block->len], '\n');
    return block->text + block->len + 1;
}

static bool is_result(const struct block *block)
{
    return !strcmp(block->what, "ok") || !strcmp(block->what, "raise") ||
           !strcmp(block->what, "error");
}

static const char *read_case(const char *at, struct talk *talk)
{
    assert_memory_equal(at, "case ", 5);
    talk->name = at + 5;
    talk->name_len = (int)strcspn(talk->name, "\n");
    at = read_block(talk->name + talk->name_len + 1, &talk->template);
    for (talk->count = 0;; talk->count++) {
        assert_true(talk->count < VARIABLES_MAX);
        struct block *block = &talk->variables[talk->count];
        at = read_block(at, block);
        if (!is_result(block)) continue;
        talk->want = *block;
        return at;
    }
}

/* The template of a case; a file is read once and stays. */
static enum gdn_status open_template(const struct talk *talk, struct jinja **jinja,
                                     struct gdn_error *err)
{
    char path[512];
    if (!strcmp(talk->template.what, "source"))
        return jinja_open("source", talk->template.text, talk->template.len, jinja, err);
    char *text;
    size_t len;
    snprintf(path, sizeof path, "%s/tests/data/templates/%.*s", GDN_SOURCE_DIR,
             (int)talk->template.len, talk->template.text);
    assert_int_equal(file_read(path, JINJA_SOURCE_MAX, &text, &len, err), GDN_OK);
    const enum gdn_status status = jinja_open("template", text, len, jinja, err);
    mem_give(text);
    return status;
}

static enum gdn_status render(const struct talk *talk, const struct jinja_limits *limits,
                              struct jinja_output *out, struct gdn_error *err)
{
    struct jinja_variable variables[VARIABLES_MAX];
    char names[VARIABLES_MAX][64];
    struct jinja *jinja;
    enum gdn_status status = open_template(talk, &jinja, err);
    if (status != GDN_OK) return status;
    for (size_t i = 0; i < talk->count; i++) {
        const struct block *block = &talk->variables[i];
        const size_t len = strlen(block->what);
        const bool trusted = block->what[len - 1] == '!';
        memcpy(names[i], block->what, len + 1);
        if (trusted) names[i][len - 1] = 0;
        variables[i] = (struct jinja_variable){names[i], block->text, block->len, trusted};
    }
    status = jinja_render(jinja, variables, talk->count, &now, limits, out, err);
    jinja_close(jinja);
    return status;
}

static bool is_right(const struct talk *talk, enum gdn_status status,
                     const struct jinja_output *out, const struct gdn_error *err)
{
    const struct block *want = &talk->want;
    char sentence[sizeof err->text];
    if (!strcmp(want->what, "ok"))
        return status == GDN_OK && out->text.len == want->len &&
               memcmp(out->text.at, want->text, want->len) == 0;
    if (status != GDN_ERR_INPUT && status != GDN_ERR_UNSUPPORTED) return false;
    snprintf(sentence, sizeof sentence, "%.*s", (int)want->len, want->text);
    return strstr(err->text, sentence) != NULL;
}

static void explain(const struct talk *talk, enum gdn_status status,
                    const struct jinja_output *out, const struct gdn_error *err)
{
    print_message("--- %.*s\nwant %s: \"%.*s\"\n", talk->name_len, talk->name, talk->want.what,
                  (int)talk->want.len, talk->want.text);
    if (status == GDN_OK)
        print_message("got: \"%.*s\"\n", (int)out->text.len, out->text.at);
    else
        print_message("got: %s\n", err->text);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void renders_as_jinja2(void **state)
{
    (void)state;
    const char *at = cases.at;
    int count = 0, wrong = 0;
    while (at < cases.at + cases.len) {
        struct talk talk;
        struct jinja_output out = {0};
        struct gdn_error err = {0};
        at = read_case(at, &talk);
        const enum gdn_status status = render(&talk, NULL, &out, &err);
        assert_int_equal(status, err.status);
        if (!is_right(&talk, status, &out, &err) && wrong++ < 12)
            explain(&talk, status, &out, &err);
        assert_int_equal(out.text.len, out.marks.len);
        jinja_output_free(&out);
        count++;
    }
    assert_true(count > 2000);
    if (wrong > 0) fail_msg("%d of %d cases differ", wrong, count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renders_as_jinja2),
    };
    return cmocka_run_group_tests(tests, read_cases, drop_cases);
}

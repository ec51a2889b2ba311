/* The limits of tokenizer.json at their edge: 2 M tokens and 4 M merges, in less than 64 MiB. */
#include <setjmp.h>

#include "text/small.h"

#include "base/memory.h"

/* Every token of two to four letters, the later ones left out; each has a merge for each place it
 * can be cut at, as far as `merges` goes. */
enum { LETTERS = 90 };

struct maker {
    struct bytes vocab, merges;
    int tokens, merges_left;
};

static void put_token(struct maker *m, const char *text, int len)
{
    bytes_addf(&m->vocab, ",\"%.*s\":%d", len, text, m->tokens++ % TOKENIZER_VOCAB_MAX);
    for (int cut = 1; cut < len && m->merges_left > 0; cut++, m->merges_left--)
        bytes_addf(&m->merges, ",\"%.*s %.*s\"", cut, text, len - cut, text + cut);
}

static void make(struct maker *m, int tokens, int merges)
{
    char letters[LETTERS], text[4];
    int n = 0, len = 2;
    *m = (struct maker){.tokens = 256, .merges_left = merges};
    for (char c = '!'; n < LETTERS; c++) {
        if (c != '"' && c != '\\') letters[n++] = c;
    }
    for (int at = 0; m->tokens < tokens; at++) {
        int size = len == 2 ? LETTERS * LETTERS : LETTERS * LETTERS * LETTERS, digits = at;
        if (len < 4 && at == size) {
            at = digits = 0;
            len++;
        }
        for (int i = 0; i < len; i++, digits /= LETTERS) text[i] = letters[digits % LETTERS];
        put_token(m, text, len);
    }
    bytes_add_text(&m->merges, "");
    assert_false(m->vocab.failed || m->merges.failed);
}

static enum gdn_status parse(int tokens, int merges, struct gdn_error *err)
{
    struct maker m;
    struct bytes json = {0};
    struct tokenizer *tok;
    make(&m, tokens, merges);
    const char *first = m.merges.len ? m.merges.at + 1 : "";
    struct small s = {.vocab = m.vocab.at, .merges = first, .added = ""};
    assert_int_equal(m.merges_left, 0);
    small_json(&json, &s);
    bytes_free(&m.vocab);
    bytes_free(&m.merges);
    assert_in_range(json.len, 0, TOKENIZER_FILE_MAX);
    enum gdn_status status = tokenizer_parse(json.at, json.len, 0, &tok, err);
    if (status == GDN_OK) assert_int_equal(tokenizer_count(tok), tokens);
    tokenizer_close(tok);
    bytes_free(&json);
    return status;
}

static void takes_two_million_tokens(void **state)
{
    (void)state;
    struct gdn_error err = {0};
    assert_int_equal(parse(TOKENIZER_VOCAB_MAX, 0, &err), GDN_OK);
    assert_int_equal(parse(TOKENIZER_VOCAB_MAX + 1, 0, &err), GDN_ERR_INPUT);
    assert_non_null(strstr(err.text, "at most 2000000"));
}

static void takes_four_million_merges(void **state)
{
    (void)state;
    struct gdn_error err = {0};
    assert_int_equal(parse(1700000, TOKENIZER_MERGES_MAX, &err), GDN_OK);
    assert_int_equal(parse(1700000, TOKENIZER_MERGES_MAX + 1, &err), GDN_ERR_INPUT);
    assert_non_null(strstr(err.text, "at most 4000000"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_two_million_tokens),
        cmocka_unit_test(takes_four_million_merges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

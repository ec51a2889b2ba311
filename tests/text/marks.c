/* marks.c: begins of messages and thoughts are found by their tokens, and by nothing that spells
 * them. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "text/marks.h"

enum { START = 4085, END = 4086, THINK = 4094, UNTHINK = 4095 };

static void of_a_chat(void **state)
{
    (void)state;
    struct tokenizer *tok;
    struct gdn_error err = {0};
    struct marks marks;
    if (tokenizer_open(GDN_SOURCE_DIR "/models/demo", 0, &tok, &err) != GDN_OK)
        fail_msg("%s", err.text);
    marks_open(&marks, tok);
    assert_true(marks.any);
    const int32_t ids[] = {START, 394, END, 198, START, 395, THINK, 277, UNTHINK, 277, START};
    const enum mark want[] = {0, 0, 0, 0, MARK_MESSAGE, 0, MARK_THINKING, 0, 0, MARK_THINKING,
                              MARK_MESSAGE};
    for (size_t i = 1; i < sizeof ids / sizeof *ids; i++)
        assert_int_equal(marks_at(&marks, ids, i), want[i]);
    /* A message wins over thoughts that end where it begins. */
    assert_int_equal(marks_at(&marks, (int32_t[]){UNTHINK, START}, 1), MARK_MESSAGE);
    struct ids spelled = {0};
    static const char text[] = "<|im_start|>user <think> </think> <|im_start|>";
    assert_int_equal(tokenizer_encode(tok, text, strlen(text), TOKENIZER_PLAIN, &spelled, &err),
                     GDN_OK);
    for (size_t i = 1; i < spelled.len; i++)
        assert_int_equal(marks_at(&marks, spelled.at, i), MARK_NONE);
    ids_free(&spelled);
    tokenizer_close(tok);
}

/* Ids that no token has are no marks either: -1 stands for a token that is not there. */
static void without_a_tokenizer(void **state)
{
    (void)state;
    struct marks marks;
    marks_open(&marks, NULL);
    assert_false(marks.any);
    assert_int_equal(marks_at(&marks, (int32_t[]){-1, -1}, 1), MARK_NONE);
    marks.any = true;
    assert_int_equal(marks_at(&marks, (int32_t[]){-1, -1}, 1), MARK_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_a_chat),
        cmocka_unit_test(without_a_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Conversations into prompts. What is expected here was rendered by jinja2 from the templates of
 * Qwen3.5 and Qwen3.6. */
#include "text/chat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include "text/small.h"

#include "base/memory.h"
#include "text/decode.h"

#define DEMO GDN_SOURCE_DIR "/models/demo"
#define SYSTEM(text) "<|im_start|>system\n" text "<|im_end|>\n"
#define USER(text) "<|im_start|>user\n" text "<|im_end|>\n"
#define ASSISTANT(text) "<|im_start|>assistant\n" text "<|im_end|>\n"
#define ANSWER "<|im_start|>assistant\n"
#define NO_THOUGHT "<think>\n\n</think>\n\n"

enum { MOST = 6 };

static size_t fill(struct chat_message *to, const char *const (*from)[3])
{
    size_t n = 0;
    for (; n < MOST && from[n][0]; n++) {
        const char *reasoning = from[n][2];
        to[n] = (struct chat_message){from[n][0], from[n][1], strlen(from[n][1]), reasoning,
                                      reasoning ? strlen(reasoning) : 0};
    }
    return n;
}

struct talk {
    const char *messages[MOST][3]; /* role, content, reasoning or NULL */
    struct chat_options options;
    const char *want;
};

static const struct talk talks[] = {
    {{{"user", "Hi", NULL}}, {0}, USER("Hi")},
    {{{"user", "Hi", NULL}}, {.answer = true}, USER("Hi") ANSWER NO_THOUGHT},
    {{{"user", "Hi", NULL}}, {.answer = true, .think = true}, USER("Hi") ANSWER "<think>\n"},
    {{{"system", " Be brief.\n", NULL}, {"user", "\n\t Hi \xE3\x80\x80\xC2\x85\x1F", NULL}},
     {.answer = true},
     SYSTEM("Be brief.") USER("Hi") ANSWER NO_THOUGHT},
    {{{"system", "", NULL}, {"user", "", NULL}}, {0}, SYSTEM("") USER("")},
    {{{"user", "1", NULL}, {"assistant", "2", NULL}, {"user", "3", NULL}},
     {.answer = true},
     USER("1") ASSISTANT("2") USER("3") ANSWER NO_THOUGHT},
    {{{"user", "1", NULL}, {"assistant", "2", NULL}}, {0}, USER("1") ASSISTANT(NO_THOUGHT "2")},
    {{{"user", "1", NULL},
      {"assistant", "<think>\nhm\n</think>\n\n2", NULL},
      {"user", "3", NULL},
      {"assistant", "<think>\n\n so \n</think>\n\n\n4 ", NULL}},
     {0},
     USER("1") ASSISTANT("2") USER("3") ASSISTANT("<think>\nso\n</think>\n\n4")},
    {{{"user", "1", NULL},
      {"assistant", "<think>\nhm\n</think>\n\n2", NULL},
      {"user", "3", NULL}},
     {.keep_reasoning = true},
     USER("1") ASSISTANT("<think>\nhm\n</think>\n\n2") USER("3")},
    {{{"user", "1", NULL}, {"assistant", "2", " why\n"}, {"assistant", "", ""}},
     {0},
     USER("1") ASSISTANT("<think>\nwhy\n</think>\n\n2") ASSISTANT(NO_THOUGHT)},
    {{{"user", "1", NULL}, {"assistant", "a</think>b</think>c", NULL}},
     {0},
     USER("1") ASSISTANT("<think>\na\n</think>\n\nc")},
    {{{"user", "1", NULL}, {"assistant", "x<think>y<think>z</think>c", NULL}},
     {0},
     USER("1") ASSISTANT("<think>\nz\n</think>\n\nc")},
    {{{"user", "1", NULL}, {"assistant", "<think>no end", NULL}},
     {0},
     USER("1") ASSISTANT(NO_THOUGHT "<think>no end")},
    {{{"user", "1", NULL}, {"assistant", "a</think>b", "given"}},
     {0},
     USER("1") ASSISTANT("<think>\ngiven\n</think>\n\na</think>b")},
    {{{"user", "1", NULL},
      {"assistant", "2", "r"},
      {"user", " <tool_response>\n5\n</tool_response> ", NULL}},
     {0},
     USER("1") ASSISTANT("<think>\nr\n</think>\n\n2") USER("<tool_response>\n5\n</tool_response>")},
};

static void renders_as_the_template(void **state)
{
    (void)state;
    struct chat_prompt prompt = {0};
    for (size_t i = 0; i < sizeof talks / sizeof *talks; i++) {
        struct chat_message messages[MOST];
        struct gdn_error err = {0};
        size_t count = fill(messages, talks[i].messages), end = 0;
        assert_int_equal(chat_render(messages, count, &talks[i].options, &prompt, &err), GDN_OK);
        assert_string_equal(prompt.text.at, talks[i].want);
        /* The pieces lie end to end, and no two plain ones touch. */
        for (size_t k = 0; k < prompt.count; k++) {
            assert_int_equal(prompt.pieces[k].begin, end);
            end = prompt.pieces[k].end;
            if (k > 0) assert_true(prompt.pieces[k].control || prompt.pieces[k - 1].control);
        }
        assert_int_equal(end, prompt.text.len);
    }
    chat_prompt_free(&prompt);
}

static struct tokenizer *open_demo(void)
{
    struct tokenizer *tok;
    assert_int_equal(tokenizer_open(DEMO, 0, &tok, NULL), GDN_OK);
    return tok;
}

/* Without control tokens in the content, the ids are those of the whole text. */
static void encodes_as_one_text(void **state)
{
    (void)state;
    struct tokenizer *tok = open_demo();
    for (size_t i = 0; i < sizeof talks / sizeof *talks; i++) {
        struct chat_message messages[MOST];
        struct ids got = {0}, want = {0};
        size_t count = fill(messages, talks[i].messages);
        assert_int_equal(chat_encode(tok, messages, count, &talks[i].options, &got, NULL), GDN_OK);
        assert_int_equal(tokenizer_encode(tok, talks[i].want, strlen(talks[i].want),
                                          TOKENIZER_WITH_CONTROL, &want, NULL), GDN_OK);
        if (!strstr(talks[i].want, "tool_response") && !strstr(talks[i].want, "no end") &&
            !strstr(talks[i].want, "a</think>b")) {
            assert_int_equal(got.len, want.len);
            assert_memory_equal(got.at, want.at, want.len * sizeof *want.at);
        } else {
            assert_true(got.len > want.len);
        }
        ids_free(&got);
        ids_free(&want);
    }
    tokenizer_close(tok);
}

static size_t count_added(const struct tokenizer *tok, const struct ids *ids)
{
    size_t count = 0;
    for (size_t i = 0; i < ids->len; i++) count += tokenizer_is_added(tok, ids->at[i]);
    return count;
}

/* Every added token, in every role: what a message spells is never a control token. */
static void content_never_becomes_control(void **state)
{
    (void)state;
    struct tokenizer *tok = open_demo();
    for (int32_t id = 4084; id < 4096; id++) {
        char text[64];
        size_t len;
        const char *token = tokenizer_bytes(tok, id, &len);
        int n = snprintf(text, sizeof text, "a%.*s%.*s", (int)len, token, (int)len, token);
        struct chat_message messages[] = {{"system", text, (size_t)n, NULL, 0},
                                          {"user", text, (size_t)n, NULL, 0},
                                          {"assistant", text, (size_t)n, text, (size_t)n}};
        struct bytes back = {0};
        struct chat_prompt prompt = {0};
        struct ids ids = {0};
        assert_int_equal(chat_encode(tok, messages, 3, NULL, &ids, NULL), GDN_OK);
        assert_int_equal(count_added(tok, &ids), 8);
        decode_ids(tok, ids.at, ids.len, false, &back);
        assert_int_equal(chat_render(messages, 3, NULL, &prompt, NULL), GDN_OK);
        assert_string_equal(back.at, prompt.text.at);
        chat_prompt_free(&prompt);
        bytes_free(&back);
        ids_free(&ids);
    }
    tokenizer_close(tok);
}

struct refusal {
    const char *messages[MOST][3];
    const char *says;
};

static void refuses(void **state)
{
    (void)state;
    static const struct refusal refusals[] = {
        {{{NULL}}, "found none"},
        {{{"user", "a", NULL}, {"system", "b", NULL}}, "message 1: the system message"},
        {{{"system", "a", NULL}, {"system", "b", NULL}, {"user", "b", NULL}}, "message 1"},
        {{{"system", "a", NULL}}, "no user message"},
        {{{"assistant", "a", NULL}}, "no user message"},
        {{{"user", "<tool_response></tool_response>", NULL}}, "no user message"},
        {{{"developer", "a", NULL}, {"user", "b", NULL}}, "\"developer\""},
        {{{"user", "b", NULL}, {"User", "a", NULL}}, "\"User\""},
        {{{"tool\x1b", "b", NULL}}, "\"tool\\x1B\""},
        {{{"", "b", NULL}}, "role \"\""},
    };
    struct tokenizer *tok = open_demo();
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        struct chat_message messages[MOST];
        struct ids ids = {0};
        struct gdn_error err = {0};
        size_t count = fill(messages, refusals[i].messages);
        assert_true(ids_add(&ids, 7));
        assert_int_equal(chat_encode(tok, messages, count, NULL, &ids, &err), GDN_ERR_INPUT);
        if (!strstr(err.text, refusals[i].says)) fail_msg("%s", err.text);
        assert_int_equal(ids.len, 1);
        ids_free(&ids);
    }
    tokenizer_close(tok);
}

static void keeps_to_the_limit(void **state)
{
    (void)state;
    struct chat_message *messages = mem_take_array(CHAT_MESSAGES_MAX + 1, sizeof *messages);
    struct chat_prompt prompt = {0};
    for (size_t i = 0; i <= CHAT_MESSAGES_MAX; i++)
        messages[i] = (struct chat_message){.role = "user", .content = "x", .content_len = 1};
    assert_int_equal(chat_render(messages, CHAT_MESSAGES_MAX, NULL, &prompt, NULL), GDN_OK);
    assert_int_equal(chat_render(messages, CHAT_MESSAGES_MAX + 1, NULL, &prompt, NULL),
                     GDN_ERR_INPUT);
    assert_null(prompt.text.at);
    mem_give(messages);
}

static void needs_the_text_it_was_promised(void **state)
{
    (void)state;
    struct chat_message message = {.role = "user", .content_len = 1};
    struct chat_prompt prompt = {0};
    assert_int_equal(chat_render(&message, 1, NULL, &prompt, NULL), GDN_ERR_USAGE);
    message.content_len = 0;
    assert_int_equal(chat_render(&message, 1, NULL, &prompt, NULL), GDN_OK);
    assert_string_equal(prompt.text.at, USER(""));
    chat_prompt_free(&prompt);
}

static void needs_the_markers(void **state)
{
    (void)state;
    struct tokenizer *tok = small_open(&(struct small){0}, 0);
    struct chat_message message = {.role = "user", .content = "x", .content_len = 1};
    struct gdn_error err = {0};
    struct ids ids = {0};
    assert_int_equal(chat_encode(tok, &message, 1, NULL, &ids, &err), GDN_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "<|im_start|>"));
    assert_int_equal(ids.len, 0);
    tokenizer_close(tok);
}

static void survives_failing_memory(void **state)
{
    (void)state;
    struct tokenizer *tok = open_demo();
    struct chat_message messages[MOST];
    size_t count = fill(messages, talks[7].messages);
    struct ids ids = {0};
    struct mem_count before = mem_counted();
    assert_int_equal(chat_encode(tok, messages, count, NULL, &ids, NULL), GDN_OK);
    int64_t takes = mem_counted().takes - before.takes;
    ids_free(&ids);
    for (int64_t n = 1; n <= 2 * takes; n++) {
        mem_fail_after((n + 1) / 2, n % 2 == 0);
        assert_int_equal(chat_encode(tok, messages, count, NULL, &ids, NULL), GDN_ERR_MEMORY);
        mem_fail_after(0, false);
        assert_int_equal(ids.len, 0);
        ids_free(&ids);
        assert_int_equal(mem_counted().live_blocks, before.live_blocks);
    }
    tokenizer_close(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renders_as_the_template),
        cmocka_unit_test(encodes_as_one_text),
        cmocka_unit_test(content_never_becomes_control),
        cmocka_unit_test(refuses),
        cmocka_unit_test(keeps_to_the_limit),
        cmocka_unit_test(needs_the_text_it_was_promised),
        cmocka_unit_test(needs_the_markers),
        cmocka_unit_test(survives_failing_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Messages behind an answer that was told: what ends it and what goes on is the template's. */
#include "text/chat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "text/small.h"

#include "base/file.h"
#include "base/memory.h"
#include "text/decode.h"

#define TEMPLATES GDN_SOURCE_DIR "/tests/data/templates/"

#define TOKEN(id, text) "{\"id\":" #id ",\"content\":\"" text "\",\"special\":true}"
#define TOKENS                                                                                \
    TOKEN(259, "<|im_start|>") "," TOKEN(260, "<|im_end|>") "," TOKEN(261, "<|im_user|>") ","  \
    TOKEN(262, "<|im_assistant|>") "," TOKEN(263, "<|im_middle|>") "," TOKEN(264, "<think>")   \
    "," TOKEN(265, "</think>") "," TOKEN(266, "<|im_system|>")

static struct tokenizer *tok;

static int open_tokens(void **state)
{
    (void)state;
    tok = small_open(&(struct small){.added = TOKENS}, 0);
    return 0;
}

static int close_tokens(void **state)
{
    (void)state;
    tokenizer_close(tok);
    return 0;
}

static struct chat *open_template(const char *name)
{
    char path[1024];
    char *source = NULL;
    size_t len = 0;
    struct chat *chat = NULL;
    struct gdn_error err = {0};
    assert_true(file_join(path, sizeof path, TEMPLATES, name));
    if (file_read(path, 1 << 20, &source, &len, &err) != GDN_OK ||
        chat_parse(name, source, len, &chat, &err) != GDN_OK)
        fail_msg("%s", err.text);
    mem_give(source);
    return chat;
}

static enum gdn_status encode(const struct chat *chat, struct chat_request r, struct ids *ids,
                              struct gdn_error *err)
{
    r.messages_len = strlen(r.messages);
    return chat_encode(chat, tok, &r, ids, err);
}

/* The ids of a prompt are those of `want`, whose markers are the tokens but for what is between
 * two \1: that is text, whatever it spells. */
static void check(const struct chat *chat, struct chat_request request, const char *want)
{
    struct ids got = {0}, need = {0};
    struct bytes text = {0};
    struct gdn_error err = {0};
    if (encode(chat, request, &got, &err) != GDN_OK) fail_msg("%s", err.text);
    enum tokenizer_control control = TOKENIZER_WITH_CONTROL;
    for (const char *at = want; *at; control = control == TOKENIZER_PLAIN) {
        const size_t n = strcspn(at, "\1");
        assert_int_equal(tokenizer_encode(tok, at, n, control, &need, &err), GDN_OK);
        at += n + (at[n] == '\1');
    }
    decode_ids(tok, got.at, got.len, false, &text);
    if (got.len != need.len || memcmp(got.at, need.at, sizeof *got.at * got.len) != 0)
        fail_msg("found \"%s\", need \"%s\"", text.at, want);
    bytes_free(&text);
    ids_free(&got);
    ids_free(&need);
}

#define ASK "[{\"role\":\"user\",\"content\":\"And of Italy?\"}]"
#define CHATML "<|im_end|>\n<|im_start|>user\nAnd of Italy?<|im_end|>\n<|im_start|>assistant\n"
#define KIMI "<|im_end|><|im_user|>user<|im_middle|>And of Italy?<|im_end|>" \
             "<|im_assistant|>assistant<|im_middle|>"

static void templates_end_answers(void **state)
{
    (void)state;
    static const struct {
        const char *name, *want;
        enum chat_think think;
    } cases[] = {
        {"qwen3.jinja", CHATML, CHAT_THINK_DEFAULT},
        {"qwen3.jinja", CHATML "<think>\n\n</think>\n\n", CHAT_THINK_OFF},
        {"Qwen3-Coder.jinja", CHATML, CHAT_THINK_DEFAULT},
        {"qwen3_instruct_2507.jinja", CHATML, CHAT_THINK_DEFAULT},
        {"qwen3_5_think.jinja", CHATML "<think>\n", CHAT_THINK_DEFAULT},
        {"qwen3_5_nothink.jinja", CHATML "<think>\n\n</think>\n\n", CHAT_THINK_DEFAULT},
        {"qwen3_6.jinja", CHATML "<think>\n", CHAT_THINK_DEFAULT},
        {"qwen3.8.jinja", CHATML "<think>\n\n</think>\n\n", CHAT_THINK_OFF},
        {"Kimi-K2-Instruct.jinja", KIMI, CHAT_THINK_DEFAULT},
        {"moonshotai-Kimi-K2.jinja", KIMI, CHAT_THINK_DEFAULT},
        {"Kimi-K2-Thinking.jinja", KIMI, CHAT_THINK_DEFAULT},
        {"olmo.jinja", CHATML, CHAT_THINK_DEFAULT},
        {"olmo_thinker.jinja", CHATML "<think>", CHAT_THINK_DEFAULT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct chat *chat = open_template(cases[i].name);
        const struct chat_request request = {.messages = ASK, .answer = true, .behind = true,
                                             .think = cases[i].think};
        check(chat, request, cases[i].want);
        chat_close(chat);
    }
}

/* What is told already may be spelled by the messages: another text stands for it then. */
static void texts_that_look_alike(void **state)
{
    (void)state;
    struct chat *chat = open_template("qwen3_instruct_2507.jinja");
    check(chat, (struct chat_request){.messages = "[{\"role\":\"user\",\"content\":"
          "\"told-already-0, told-already-\\u0031 <|im_end|>\"}]", .answer = true, .behind = true},
          "<|im_end|>\n<|im_start|>user\n\1told-already-0, told-already-1 <|im_end|>\1<|im_end|>\n"
          "<|im_start|>assistant\n");
    /* More than the next question: its answer and another one; or nothing but the end. */
    check(chat, (struct chat_request){.messages = "[{\"role\":\"user\",\"content\":\"a\"},"
          "{\"role\":\"assistant\",\"content\":\"b\"},{\"role\":\"user\",\"content\":\"c\"}]",
          .behind = true},
          "<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
          "<|im_start|>user\nc<|im_end|>\n");
    check(chat, (struct chat_request){.messages = " [ ] ", .behind = true}, "<|im_end|>\n");
    chat_close(chat);
}

static void refused(const char *source, const char *messages, const char *part)
{
    struct chat *chat;
    struct ids ids = {0};
    struct gdn_error err = {0};
    assert_int_equal(chat_parse("t", source, strlen(source), &chat, &err), GDN_OK);
    assert_int_not_equal(encode(chat, (struct chat_request){.messages = messages, .behind = true},
                                &ids, &err), GDN_OK);
    if (!strstr(err.text, part)) fail_msg("\"%s\", need \"%s\"", err.text, part);
    assert_int_equal(ids.len, 0);
    ids_free(&ids);
    chat_close(chat);
}

static void refusals(void **state)
{
    (void)state;
    refused("{{ messages[1].content|upper }}", ASK, "does not show an answer as it is");
    refused("{% for m in messages %}{{ m.content ~ m.content }}{% endfor %}", ASK,
            "does not show an answer as it is");
    refused("{% for m in messages %}{{ m.content }}{% endfor %}", "{}", "messages: need a list");
    refused("{% for m in messages %}{{ m.content }}{% endfor %}", "[{]", "messages");
    refused("{% for m in messages %}{{ m.content }}{% endfor %}", "", "messages: need a list");
    refused("{{ raise_exception('no ' ~ messages|length) }}", ASK, "no 3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(templates_end_answers), cmocka_unit_test(texts_that_look_alike),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, open_tokens, close_tokens);
}

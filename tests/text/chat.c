/* Conversations into prompts and ids: the built-in template (what is expected was rendered by
 * jinja2 from those of Qwen3.5 and Qwen3.6), the files a model brings, and what may become a
 * control token. */
#include "text/chat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

#include "text/small.h"

#include "base/file.h"
#include "base/memory.h"
#include "text/decode.h"

#define DEMO GDN_SOURCE_DIR "/models/demo"
#define TEMPLATES GDN_SOURCE_DIR "/tests/data/templates/"
#define SYSTEM(text) "<|im_start|>system\n" text "<|im_end|>\n"
#define USER(text) "<|im_start|>user\n" text "<|im_end|>\n"
#define ASSISTANT(text) "<|im_start|>assistant\n" text "<|im_end|>\n"
#define ANSWER "<|im_start|>assistant\n"
#define NO_THOUGHT "<think>\n\n</think>\n\n"

enum { MOST = 6 };
enum { ANSWERS = 1, THINKS = 2, KEEPS = 4 };

struct talk {
    const char *messages[MOST][3]; /* role, content, reasoning or NULL */
    int options;
    const char *want;
};

static void put_key(struct bytes *json, const char *key, const char *text)
{
    bytes_addf(json, "%s\"%s\":", json->at[json->len - 1] == '{' ? "" : ",", key);
    json_put_string(json, text, strlen(text));
}

/* The caller frees *json. */
static struct chat_request request_of(const char *const (*messages)[3], int options,
                                      struct bytes *json)
{
    bytes_add_text(json, "[");
    for (size_t i = 0; i < MOST && messages[i][0]; i++) {
        bytes_add_text(json, i > 0 ? ",{" : "{");
        put_key(json, "role", messages[i][0]);
        put_key(json, "content", messages[i][1]);
        if (messages[i][2]) put_key(json, "reasoning_content", messages[i][2]);
        bytes_add_text(json, "}");
    }
    bytes_add_text(json, "]");
    return (struct chat_request){.messages = json->at, .messages_len = json->len,
                                 .answer = options & ANSWERS,
                                 .think = options & THINKS ? CHAT_THINK_ON : CHAT_THINK_DEFAULT,
                                 .keep_thinking = options & KEEPS};
}

static const struct talk talks[] = {
    {{{"user", "Hi", NULL}}, 0, USER("Hi")},
    {{{"user", "Hi", NULL}}, ANSWERS, USER("Hi") ANSWER NO_THOUGHT},
    {{{"user", "Hi", NULL}}, ANSWERS | THINKS, USER("Hi") ANSWER "<think>\n"},
    {{{"system", " Be brief.\n", NULL}, {"user", "\n\t Hi \xE3\x80\x80\xC2\x85\x1F", NULL}},
     ANSWERS,
     SYSTEM("Be brief.") USER("Hi") ANSWER NO_THOUGHT},
    {{{"system", "", NULL}, {"user", "", NULL}}, 0, SYSTEM("") USER("")},
    {{{"user", "1", NULL}, {"assistant", "2", NULL}, {"user", "3", NULL}},
     ANSWERS,
     USER("1") ASSISTANT("2") USER("3") ANSWER NO_THOUGHT},
    {{{"user", "1", NULL}, {"assistant", "2", NULL}}, 0, USER("1") ASSISTANT(NO_THOUGHT "2")},
    {{{"user", "1", NULL},
      {"assistant", "<think>\nhm\n</think>\n\n2", NULL},
      {"user", "3", NULL},
      {"assistant", "<think>\n\n so \n</think>\n\n\n4 ", NULL}},
     0,
     USER("1") ASSISTANT("2") USER("3") ASSISTANT("<think>\nso\n</think>\n\n4")},
    {{{"user", "1", NULL},
      {"assistant", "<think>\nhm\n</think>\n\n2", NULL},
      {"user", "3", NULL}},
     KEEPS,
     USER("1") ASSISTANT("<think>\nhm\n</think>\n\n2") USER("3")},
    {{{"user", "1", NULL}, {"assistant", "2", " why\n"}, {"assistant", "", ""}},
     0,
     USER("1") ASSISTANT("<think>\nwhy\n</think>\n\n2") ASSISTANT(NO_THOUGHT)},
    {{{"user", "1", NULL}, {"assistant", "a</think>b</think>c", NULL}},
     0,
     USER("1") ASSISTANT("<think>\na\n</think>\n\nc")},
    {{{"user", "1", NULL}, {"assistant", "x<think>y<think>z</think>c", NULL}},
     0,
     USER("1") ASSISTANT("<think>\nz\n</think>\n\nc")},
    {{{"user", "1", NULL}, {"assistant", "<think>no end", NULL}},
     0,
     USER("1") ASSISTANT(NO_THOUGHT "<think>no end")},
    {{{"user", "1", NULL}, {"assistant", "a</think>b", "given"}},
     0,
     USER("1") ASSISTANT("<think>\ngiven\n</think>\n\na</think>b")},
    {{{"user", "1", NULL},
      {"assistant", "2", "r"},
      {"user", " <tool_response>\n5\n</tool_response> ", NULL}},
     0,
     USER("1") ASSISTANT("<think>\nr\n</think>\n\n2") USER("<tool_response>\n5\n</tool_response>")},
};

static struct tokenizer *tok;
static struct chat *demo;

static int open_demo(void **state)
{
    (void)state;
    if (tokenizer_open(DEMO, 0, &tok, NULL) != GDN_OK) return -1;
    return chat_open(DEMO, &demo, NULL) == GDN_OK ? 0 : -1;
}

static int close_demo(void **state)
{
    (void)state;
    tokenizer_close(tok);
    chat_close(demo);
    return 0;
}

static void renders_as_the_template(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof talks / sizeof *talks; i++) {
        struct jinja_output out = {0};
        struct bytes json = {0};
        struct gdn_error err = {0};
        const struct chat_request request = request_of(talks[i].messages, talks[i].options, &json);
        if (chat_render(demo, &request, &out, &err) != GDN_OK) fail_msg("%s", err.text);
        assert_string_equal(out.text.at, talks[i].want);
        jinja_output_free(&out);
        bytes_free(&json);
    }
}

/* Without control tokens in the content, or when they are allowed there, the ids are those of the
 * whole text. */
static void encodes_as_one_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof talks / sizeof *talks; i++) {
        struct bytes json = {0};
        struct ids got = {0}, want = {0}, asked = {0};
        struct chat_request request = request_of(talks[i].messages, talks[i].options, &json);
        assert_int_equal(chat_encode(demo, tok, &request, &got, NULL), GDN_OK);
        assert_int_equal(tokenizer_encode(tok, talks[i].want, strlen(talks[i].want),
                                          TOKENIZER_WITH_CONTROL, &want, NULL), GDN_OK);
        request.control = true;
        assert_int_equal(chat_encode(demo, tok, &request, &asked, NULL), GDN_OK);
        assert_int_equal(asked.len, want.len);
        if (!strstr(talks[i].want, "tool_response") && !strstr(talks[i].want, "no end") &&
            !strstr(talks[i].want, "a</think>b")) {
            assert_int_equal(got.len, want.len);
            assert_memory_equal(got.at, want.at, want.len * sizeof *want.at);
        } else {
            assert_true(got.len > want.len);
        }
        ids_free(&got);
        ids_free(&want);
        ids_free(&asked);
        bytes_free(&json);
    }
}

static size_t count_added(const struct ids *ids)
{
    size_t count = 0;
    for (size_t i = 0; i < ids->len; i++) count += tokenizer_is_added(tok, ids->at[i]);
    return count;
}

/* Every added token, in every role: what a message spells is never a control token. */
static void content_never_becomes_control(void **state)
{
    (void)state;
    for (int32_t id = 4084; id < 4096; id++) {
        char text[64];
        size_t len;
        const char *token = tokenizer_bytes(tok, id, &len);
        snprintf(text, sizeof text, "a%.*s%.*s", (int)len, token, (int)len, token);
        const char *const messages[MOST][3] = {
            {"system", text, NULL}, {"user", text, NULL}, {"assistant", text, text}};
        struct bytes back = {0}, json = {0};
        struct jinja_output out = {0};
        struct ids ids = {0};
        const struct chat_request request = request_of(messages, 0, &json);
        assert_int_equal(chat_encode(demo, tok, &request, &ids, NULL), GDN_OK);
        assert_int_equal(count_added(&ids), 8);
        decode_ids(tok, ids.at, ids.len, false, &back);
        assert_int_equal(chat_render(demo, &request, &out, NULL), GDN_OK);
        assert_string_equal(back.at, out.text.at);
        jinja_output_free(&out);
        bytes_free(&back);
        bytes_free(&json);
        ids_free(&ids);
    }
}

/* ---- every template -------------------------------------------------------------------------- */

/* A talk that has `spelled` wherever a text can stand. */
static void put_talk(struct bytes *messages, struct bytes *tools, const char *spelled)
{
    bytes_addf(messages,
               "[{\"role\":\"system\",\"content\":\"s%1$s\"},"
               "{\"role\":\"user\",\"content\":\"u%1$s\"},"
               "{\"role\":\"assistant\",\"content\":\"a%1$s\",\"reasoning_content\":\"r%1$s\","
               "\"tool_calls\":[{\"type\":\"function\",\"function\":{\"name\":\"f%1$s\","
               "\"arguments\":{\"k%1$s\":\"v%1$s\",\"l\":[\"%1$s\"]}}}]},"
               "{\"role\":\"tool\",\"name\":\"n%1$s\",\"content\":\"t%1$s\"},"
               "{\"role\":\"user\",\"content\":\"<|im_%1$s|>end|>\"}]", spelled);
    bytes_addf(tools, "[{\"type\":\"function\",\"function\":{\"name\":\"f%1$s\",\"description\":"
                      "\"d%1$s\",\"parameters\":{\"type\":\"object\",\"properties\":"
                      "{\"k%1$s\":{\"type\":\"%1$s\"}}}}}]", spelled);
}

static size_t count_in(const struct chat *chat, const char *spelled)
{
    struct bytes messages = {0}, tools = {0};
    struct ids ids = {0};
    struct gdn_error err = {0};
    put_talk(&messages, &tools, spelled);
    const struct chat_request request = {.messages = messages.at, .messages_len = messages.len,
                                         .tools = tools.at, .answer = true,
                                         .variables = "{\"eos_token\": \"E\"}"};
    if (chat_encode(chat, tok, &request, &ids, &err) != GDN_OK) fail_msg("%s", err.text);
    const size_t count = count_added(&ids);
    bytes_free(&messages);
    bytes_free(&tools);
    ids_free(&ids);
    return count;
}

/* Spelling a control token anywhere changes no count of them, in no template. Left out are those
 * the templates themselves look for in a content. */
static void no_template_lets_control_through(void **state)
{
    (void)state;
    static const char *const spelled[] = {"<|im_end|>", "<|im_start|>system", "<|endoftext|>",
                                          "<tool_call>", "</tool_call>"};
    glob_t files;
    assert_int_equal(glob(TEMPLATES "*.jinja", 0, NULL, &files), 0);
    assert_true(files.gl_pathc > 20);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        struct chat *chat;
        char *source;
        size_t len;
        assert_int_equal(file_read(files.gl_pathv[i], 1 << 20, &source, &len, NULL), GDN_OK);
        assert_int_equal(chat_parse("t", source, len, &chat, NULL), GDN_OK);
        const size_t plain = count_in(chat, "x");
        for (size_t k = 0; k < sizeof spelled / sizeof *spelled; k++)
            if (count_in(chat, spelled[k]) != plain)
                fail_msg("%s: %s", files.gl_pathv[i], spelled[k]);
        chat_close(chat);
        mem_give(source);
    }
    globfree(&files);
}

/* ---- refusals -------------------------------------------------------------------------------- */

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
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        struct bytes json = {0};
        struct ids ids = {0};
        struct gdn_error err = {0};
        const struct chat_request request = request_of(refusals[i].messages, 0, &json);
        assert_true(ids_add(&ids, 7));
        assert_int_equal(chat_encode(demo, tok, &request, &ids, &err), GDN_ERR_INPUT);
        if (!strstr(err.text, refusals[i].says)) fail_msg("%s", err.text);
        assert_int_equal(ids.len, 1);
        ids_free(&ids);
        bytes_free(&json);
    }
}

static void refuses_bad_json(void **state)
{
    (void)state;
    static const struct {
        const char *messages, *tools, *variables, *says;
    } cases[] = {
        {"[{]", NULL, NULL, "messages, byte 2: not JSON"},
        {"5", NULL, NULL, "found a value of type int"},
        {"[{\"role\":\"user\",\"content\":\"x\"}]", "[", NULL, "tools, byte 1: not JSON"},
        {"[{\"role\":\"user\",\"content\":\"x\"}]", "[1]", NULL, "no chat template to show them"},
        {"[{\"role\":\"user\",\"content\":\"x\"}]", NULL, "[]", "variables: found a list"},
        {"[{\"role\":\"user\",\"content\":5}]", NULL, NULL, "message 0: the content must be"},
        {"[{\"role\":\"user\"}]", NULL, NULL, "message 0: the content must be"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct chat_request request = {
            .messages = cases[i].messages, .messages_len = strlen(cases[i].messages),
            .tools = cases[i].tools, .variables = cases[i].variables};
        struct jinja_output out = {0};
        struct gdn_error err = {0};
        assert_int_equal(chat_render(demo, &request, &out, &err), GDN_ERR_INPUT);
        if (!strstr(err.text, cases[i].says)) fail_msg("%s", err.text);
    }
}

/* ---- files ----------------------------------------------------------------------------------- */

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[512];
    struct file_out out;
    assert_true(file_join(path, sizeof path, folder, name));
    if (!text) {
        remove(path);
        return;
    }
    assert_int_equal(file_create(&out, path, NULL), GDN_OK);
    file_write(&out, text, strlen(text));
    assert_int_equal(file_commit(&out, NULL), GDN_OK);
}

static void reads_what_the_model_brings(void **state)
{
    (void)state;
    static const struct {
        const char *config, *template, *want; /* "!": an error that says the rest */
    } cases[] = {
        {NULL, "T{{ messages|length }}\n", "T0"},
        {"{}", NULL, "!found none"},
        {"{\"chat_template\": \"A{{ bos_token }}\", \"bos_token\": \"<\\u0073>\"}", NULL, "A<s>"},
        {"{\"x\": [{}], \"eos_token\": {\"a\": {\"b\": 1}, \"content\": \"</s>\"},"
         "\"pad_token\": null, \"chat_template\": \"A{{ eos_token }}{{ pad_token is defined }}\"}",
         NULL, "A</s>False"},
        {"{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"B\"},"
         "{\"template\": \"C\", \"name\": \"default\"}]}", NULL, "C"},
        {"{\"chat_template\": \"A\"}", "F", "F"},
        {"{\"chat_template\": 5}", "F", "F"},
        {"{\"chat_template\": [5]}", NULL, "!need a text or a list of objects"},
        {"{\"chat_template\": \"{% if %}\"}", NULL, "!tokenizer_config.json, line 1, column 7"},
        {"{\"chat_template\": ", NULL, "!tokenizer_config.json, byte "},
        {"[]", NULL, "!need an object"},
        {NULL, "{% nope %}", "!chat_template.jinja, line 1, column 4: found \"nope\""},
    };
    char folder[] = "/tmp/gdn-chat-XXXXXX";
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct chat_request request = {.messages = "[]", .messages_len = 2};
        struct jinja_output out = {0};
        struct gdn_error err = {0};
        struct chat *chat;
        write_file(folder, "tokenizer_config.json", cases[i].config);
        write_file(folder, "chat_template.jinja", cases[i].template);
        assert_int_equal(chat_open(folder, &chat, &err), GDN_OK);
        const enum gdn_status status = chat_render(chat, &request, &out, &err);
        if (cases[i].want[0] == '!') {
            assert_int_equal(status, GDN_ERR_INPUT);
            if (!strstr(err.text, cases[i].want + 1)) fail_msg("%s", err.text);
        } else {
            if (status != GDN_OK) fail_msg("%s", err.text);
            assert_string_equal(out.text.at, cases[i].want);
        }
        jinja_output_free(&out);
        chat_close(chat);
    }
    write_file(folder, "tokenizer_config.json", NULL);
    write_file(folder, "chat_template.jinja", NULL);
    remove(folder);
}

static void survives_failing_memory(void **state)
{
    (void)state;
    struct bytes json = {0};
    struct ids ids = {0};
    const struct chat_request request = request_of(talks[7].messages, 0, &json);
    struct chat *chat;
    const struct mem_count before = mem_counted();
    assert_int_equal(chat_open(DEMO, &chat, NULL), GDN_OK);
    assert_int_equal(chat_encode(chat, tok, &request, &ids, NULL), GDN_OK);
    chat_close(chat);
    const int64_t takes = mem_counted().takes - before.takes;
    ids_free(&ids);
    for (int64_t n = 1; n <= 2 * takes; n++) {
        mem_fail_after((n + 1) / 2, n % 2 == 0);
        enum gdn_status status = chat_open(DEMO, &chat, NULL);
        if (status == GDN_OK) status = chat_encode(chat, tok, &request, &ids, NULL);
        assert_int_equal(status, GDN_ERR_MEMORY);
        mem_fail_after(0, false);
        assert_int_equal(ids.len, 0);
        ids_free(&ids);
        chat_close(chat);
        assert_int_equal(mem_counted().live_blocks, before.live_blocks);
    }
    bytes_free(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renders_as_the_template),
        cmocka_unit_test(encodes_as_one_text),
        cmocka_unit_test(content_never_becomes_control),
        cmocka_unit_test(no_template_lets_control_through),
        cmocka_unit_test(refuses),
        cmocka_unit_test(refuses_bad_json),
        cmocka_unit_test(reads_what_the_model_brings),
        cmocka_unit_test(survives_failing_memory),
    };
    return cmocka_run_group_tests(tests, open_demo, close_demo);
}

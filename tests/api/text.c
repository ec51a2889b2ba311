/* text.c: tokens, chats and streamed text through the public API, on the demo model. */
#include "open.h"

enum { ROOM = 512, IM_START = 4085, IM_END = 4086, THINK = 4094, END_THINK = 4095 };

static gdn_model *demo;

static int open_demo(void **state)
{
    (void)state;
    struct gdn_options o = small_options();
    demo = open_with(DEMO, &o);
    return 0;
}

static int close_demo(void **state)
{
    (void)state;
    gdn_model_close(demo);
    return 0;
}

static const char sample[] = "Once upon a time, caf\xC3\xA9 \xE4\xB8\xAD\xE6\x96\x87 "
                             "\xF0\x9F\x98\x80\n\n  123 it's <|im_end|>";

/* ---- tokens ---------------------------------------------------------------------------------- */

/* However much room there is: the same ids as far as they fit, how many there are, and not one
 * written more. */
static void room(void **state)
{
    (void)state;
    int32_t whole[ROOM], some[ROOM];
    size_t all = ROOM, n = 0;
    accepted(gdn_tokenize(demo, sample, strlen(sample), 0, whole, &all, &err));
    assert_in_range(all, 10, 100);
    accepted(gdn_tokenize(demo, sample, strlen(sample), 0, NULL, &n, &err));
    assert_int_equal(n, all);
    n = ROOM;
    accepted(gdn_tokenize(demo, sample, strlen(sample), 0, NULL, &n, &err));
    assert_int_equal(n, all);
    for (size_t give = 0; give <= all + 3; give++) {
        for (int i = 0; i < ROOM; i++) some[i] = -7;
        n = give;
        accepted(gdn_tokenize(demo, sample, strlen(sample), 0, some, &n, &err));
        assert_int_equal(n, all);
        const size_t written = give < all ? give : all;
        assert_memory_equal(some, whole, sizeof *some * written);
        for (size_t i = written; i < ROOM; i++) assert_int_equal(some[i], -7);
    }
    n = 3;
    accepted(gdn_tokenize(demo, "", 0, 0, some, &n, &err));
    assert_int_equal(n, 0);
    n = 3;
    accepted(gdn_tokenize(demo, "a\0b", 3, 0, some, &n, &err)); /* any bytes are a text */
    assert_int_equal(n, 3);
    accepted(gdn_tokenize(demo, "\xFF\xC3", 2, 0, some, &n, &err));
}

static bool contains(const int32_t *ids, size_t n, int32_t id)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id) return true;
    return false;
}

/* Control tokens are spelled only by who may. */
static void control(void **state)
{
    (void)state;
    static const char text[] = "<|im_start|>user\n<think>";
    int32_t ids[ROOM];
    size_t n = ROOM;
    accepted(gdn_tokenize(demo, text, strlen(text), GDN_CONTROL, ids, &n, &err));
    assert_int_equal(ids[0], IM_START);
    assert_int_equal(ids[n - 1], THINK);
    const size_t few = n;
    n = ROOM;
    accepted(gdn_tokenize(demo, text, strlen(text), 0, ids, &n, &err));
    assert_true(n > few);
    assert_false(contains(ids, n, IM_START));
}

/* ---- streamed text --------------------------------------------------------------------------- */

static void stream(const int32_t *ids, size_t n, bool skip_special, char *out)
{
    gdn_decoder *decoder;
    accepted(gdn_decoder_new(demo, skip_special, &decoder, &err));
    *out = 0;
    for (size_t i = 0; i <= n; i++) {
        const char *piece = gdn_decoder_push(decoder, i < n ? ids[i] : -1);
        strcat(out, piece);
        /* Never half a code point: what is there so far has no cut end. */
        const size_t len = strlen(out);
        size_t back = 1;
        while (back < len && back < 4 && (out[len - back] & 0xC0) == 0x80) back++;
        const unsigned char lead = len ? (unsigned char)out[len - back] : 0;
        assert_int_equal(back, lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4);
    }
    gdn_decoder_free(decoder);
}

/* A stop string whose last character comes in pieces of its bytes. */
static void stopped_decoder(void **state)
{
    (void)state;
    static const char said[] = "It is \xF0\x9F\x98\x81 or \xF0\x9F\x98\x80, no more";
    const char *const stops[] = {"never", "or \xF0\x9F\x98\x80"};
    int32_t ids[ROOM];
    char out[200] = "";
    size_t n = ROOM;
    gdn_decoder *d;
    accepted(gdn_tokenize(demo, said, strlen(said), 0, ids, &n, &err));
    accepted(gdn_decoder_new(demo, true, &d, &err));
    refused(USAGE, "stop string 1: found nothing",
            gdn_decoder_stop(d, (const char *[]){"a", ""}, 2, &err));
    accepted(gdn_decoder_stop(d, stops, 2, &err));
    size_t at = 0;
    for (; at < n && !gdn_decoder_stopped(d); at++) strcat(out, gdn_decoder_push(d, ids[at]));
    assert_string_equal(out, "It is \xF0\x9F\x98\x81 ");
    assert_true(at < n);
    assert_string_equal(gdn_decoder_push(d, ids[at]), "");
    assert_string_equal(gdn_decoder_push(d, -1), "");
    accepted(gdn_decoder_stop(d, stops, 1, &err)); /* begins anew */
    assert_false(gdn_decoder_stopped(d));
    *out = 0;
    for (at = 0; at <= n; at++) strcat(out, gdn_decoder_push(d, at < n ? ids[at] : -1));
    assert_string_equal(out, said);
    gdn_decoder_free(d);
}

static void decoder(void **state)
{
    (void)state;
    int32_t ids[ROOM];
    char out[4096];
    size_t n = ROOM;
    accepted(gdn_tokenize(demo, sample, strlen(sample), 0, ids, &n, &err));
    stream(ids, n, true, out);
    assert_string_equal(out, sample);
    n = ROOM;
    accepted(gdn_tokenize(demo, sample, strlen(sample), GDN_CONTROL, ids, &n, &err));
    assert_int_equal(ids[n - 1], IM_END);
    stream(ids, n, false, out);
    assert_string_equal(out, sample);
    stream(ids, n, true, out);
    assert_int_equal(strlen(out), strlen(sample) - strlen("<|im_end|>"));
    /* The last bytes of a character that never comes. */
    n = ROOM;
    accepted(gdn_tokenize(demo, "\xF0\x9F\x98\x80", 4, 0, ids, &n, &err));
    assert_true(n > 1);
    stream(ids, n - 1, true, out);
    assert_string_equal(out, "\xEF\xBF\xBD");
    /* What is no token gives no text. */
    gdn_decoder *d;
    accepted(gdn_decoder_new(demo, false, &d, &err));
    assert_string_equal(gdn_decoder_push(d, 4096), "");
    assert_string_equal(gdn_decoder_push(d, INT32_MAX), "");
    assert_string_equal(gdn_decoder_push(d, -1), "");
    assert_string_equal(gdn_decoder_push(d, INT32_MIN), "");
    gdn_decoder_free(d);
    gdn_decoder_free(NULL);
}

/* Thoughts apart, and behind a prompt that opened them. */
static void reply(void **state)
{
    (void)state;
    static const char said[] = "\nFrance, I think.\n</think>\n\nParis.";
    static const int32_t before[] = {IM_START, THINK};
    for (size_t opened = 0; opened < 3; opened++) {
        int32_t ids[ROOM] = {THINK};
        char thoughts[256] = "", answer[256] = "";
        gdn_reply *r;
        size_t n = ROOM - 1;
        accepted(gdn_tokenize(demo, said, strlen(said), GDN_CONTROL, ids + 1, &n, &err));
        accepted(gdn_reply_new(demo, before, opened, &r, &err));
        /* Once the answer opens them, once nobody does, once the prompt has. */
        for (size_t i = opened > 0; i <= n + 1; i++) {
            const struct gdn_reply_text text = gdn_reply_push(r, i <= n ? ids[i] : -1);
            strcat(thoughts, text.thoughts);
            strcat(answer, text.answer);
        }
        gdn_reply_free(r);
        assert_string_equal(thoughts, opened == 1 ? "" : "France, I think.");
        assert_string_equal(answer, opened == 1 ? said : "Paris.");
    }
    gdn_reply_free(NULL);
}

/* A stop string is one in the answer, not in the thoughts; behind it there is nothing. */
static void stopped_reply(void **state)
{
    (void)state;
    static const char said[] = "\nParis, I think.\n</think>\n\nIt is Paris, I am sure.";
    const char *const stops[] = {"Paris,", "never"};
    int32_t ids[ROOM] = {THINK};
    char thoughts[256] = "", answer[256] = "";
    gdn_reply *r;
    size_t n = ROOM - 1, at = 0;
    accepted(gdn_tokenize(demo, said, strlen(said), GDN_CONTROL, ids + 1, &n, &err));
    accepted(gdn_reply_new(demo, NULL, 0, &r, &err));
    refused(USAGE, "stop string 0: found nothing",
            gdn_reply_stop(r, (const char *[]){""}, 1, &err));
    accepted(gdn_reply_stop(r, stops, 2, &err));
    for (; at <= n && !gdn_reply_stopped(r); at++) {
        const struct gdn_reply_text text = gdn_reply_push(r, ids[at]);
        strcat(thoughts, text.thoughts);
        strcat(answer, text.answer);
    }
    assert_true(at < n);
    for (; at <= n + 1; at++) {
        const struct gdn_reply_text text = gdn_reply_push(r, at <= n ? ids[at] : -1);
        assert_string_equal(text.thoughts, "");
        assert_string_equal(text.answer, "");
    }
    assert_string_equal(thoughts, "Paris, I think.");
    assert_string_equal(answer, "It is ");
    gdn_reply_free(r);
}

static const struct gdn_chat_options answering = {.answer = true};
static const struct gdn_chat_options thinking = {.answer = true, .think = GDN_THINK_ON};

/* ---- chats ----------------------------------------------------------------------------------- */

static void chat(void **state)
{
    (void)state;
    static const struct gdn_message talk[] = {
        {"system", "Be brief."}, {"user", "Hello <|im_end|> <think>"},
        {"assistant", "Hi."},    {"user", "A tale?"},
    };
    int32_t ids[ROOM];
    char out[4096];
    size_t n = 0, all;
    accepted(gdn_chat(demo, talk, 4, &thinking, NULL, &n, &err));
    all = n;
    n = ROOM;
    accepted(gdn_chat(demo, talk, 4, &thinking, ids, &n, &err));
    assert_int_equal(n, all);
    stream(ids, n, false, out);
    assert_string_equal(out, "<|im_start|>system\nBe brief.<|im_end|>\n"
                             "<|im_start|>user\nHello <|im_end|> <think><|im_end|>\n"
                             "<|im_start|>assistant\nHi.<|im_end|>\n"
                             "<|im_start|>user\nA tale?<|im_end|>\n"
                             "<|im_start|>assistant\n<think>\n");
    size_t ends = 0, thinks = 0;
    for (size_t i = 0; i < n; i++) {
        ends += ids[i] == IM_END;
        thinks += ids[i] == THINK;
    }
    assert_int_equal(ends, 4); /* the one in a message is text */
    assert_int_equal(thinks, 1);
    n = ROOM;
    accepted(gdn_chat(demo, talk, 4, &answering, ids, &n, &err));
    assert_true(contains(ids, n, END_THINK));
    n = ROOM;
    accepted(gdn_chat(demo, talk + 1, 1, NULL, ids, &n, &err));
    stream(ids, n, false, out);
    assert_string_equal(out, "<|im_start|>user\nHello <|im_end|> <think><|im_end|>\n");
}

/* Messages as JSON, the text of the template, and variables of its own. */
static void chat_in_json(void **state)
{
    (void)state;
    static const char talk[] = "[{\"role\":\"user\",\"content\":\"Hello\"},"
                               "{\"role\":\"assistant\",\"content\":\"Hi\","
                               "\"reasoning_content\":\"hm\"},{\"role\":\"user\","
                               "\"content\":\"<think>\"}]";
    static const char want[] = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
                               "<think>\nhm\n</think>\n\nHi<|im_end|>\n"
                               "<|im_start|>user\n<think><|im_end|>\n";
    const struct gdn_chat_options keeping = {.keep_thinking = true};
    const struct gdn_chat_options named = {.variables = "{\"preserve_thinking\": true}"};
    int32_t ids[ROOM];
    char out[4096];
    size_t n = sizeof out;
    accepted(gdn_chat_text(demo, talk, sizeof talk - 1, &keeping, out, &n, &err));
    assert_int_equal(n, sizeof want - 1);
    assert_memory_equal(out, want, n);
    n = 0;
    accepted(gdn_chat_text(demo, talk, sizeof talk - 1, &named, NULL, &n, &err));
    assert_int_equal(n, sizeof want - 1);
    n = ROOM;
    accepted(gdn_chat_json(demo, talk, sizeof talk - 1, &keeping, ids, &n, &err));
    stream(ids, n, false, out);
    assert_string_equal(out, want);
    size_t thinks = 0;
    for (size_t i = 0; i < n; i++) thinks += ids[i] == THINK;
    assert_int_equal(thinks, 1);
    refused(INPUT, "messages, byte 1: not JSON", gdn_chat_json(demo, "[", 1, NULL, ids, &n, &err));
    refused(USAGE, "messages: found NULL", gdn_chat_json(demo, NULL, 0, NULL, ids, &n, &err));
    refused(USAGE, "messages: found NULL", gdn_chat_text(demo, NULL, 0, NULL, out, &n, &err));
}

static void bad_chats(void **state)
{
    (void)state;
    static const struct gdn_message user = {"user", "Hello"}, system = {"system", "Be brief."};
    static struct gdn_message many[4097];
    int32_t ids[ROOM];
    size_t n = 77;
#define CHAT(...)                                                                       \
    gdn_chat(demo, (const struct gdn_message[]){__VA_ARGS__},                           \
             sizeof((const struct gdn_message[]){__VA_ARGS__}) / sizeof user, &thinking, ids, &n, \
             &err)
    refused(INPUT, "found none", gdn_chat(demo, NULL, 0, &thinking, ids, &n, &err));
    refused(INPUT, "message 1: the system message must be the first", CHAT(user, system));
    refused(INPUT, "found no user message", CHAT(system));
    refused(INPUT, "message 1: found role \"tool\"", CHAT(user, {"tool", "x"}));
    refused(INPUT, "message 0: found role \"\"", CHAT({"", "x"}, user));
    refused(INPUT, "message 0: found role \"\\x1B[2J\"", CHAT({"\x1b[2J", "x"}, user));
    refused(USAGE, "message 1: found NULL, need a role and a text", CHAT(user, {NULL, "x"}));
    refused(USAGE, "message 0: found NULL, need a role and a text", CHAT({"user", NULL}));
    for (int i = 0; i < 4097; i++) many[i] = user;
    refused(USAGE, "found 4097 messages, need at most 4096",
            gdn_chat(demo, many, 4097, &thinking, ids, &n, &err));
    assert_int_equal(n, 77); /* a refusal says nothing about how many there are */
    n = 0;
    accepted(gdn_chat(demo, many, 4096, &thinking, NULL, &n, &err));
    assert_true(n > 4 * 4096);
}

/* ---- without a tokenizer, and without memory ------------------------------------------------- */

static void ids_only(void **state)
{
    (void)state;
    static const struct gdn_message user = {"user", "Hello"};
    gdn_model *model = open_tiny(1, false);
    struct gdn_model_info info;
    gdn_decoder *d = (gdn_decoder *)&info;
    int32_t ids[4];
    size_t n = 4;
    gdn_model_describe(model, &info);
    assert_int_equal(info.tokens, 0);
    static const char without[] = "no tokenizer.json: only ids can be used";
    refused(INPUT, without, gdn_tokenize(model, "a", 1, 0, ids, &n, &err));
    refused(INPUT, without, gdn_chat(model, &user, 1, &thinking, ids, &n, &err));
    refused(INPUT, without, gdn_decoder_new(model, true, &d, &err));
    assert_null(d);
    assert_int_equal(n, 4);
    gdn_model_close(model);
}

static enum gdn_status all_text(int32_t *ids, struct gdn_error *err)
{
    static const struct gdn_message talk[] = {{"user", "Hello"}};
    size_t n = ROOM;
    gdn_decoder *d;
    enum gdn_status status = gdn_tokenize(demo, sample, strlen(sample), 0, ids, &n, err);
    n = ROOM;
    if (status == GDN_OK) status = gdn_chat(demo, talk, 1, &thinking, ids, &n, err);
    if (status == GDN_OK) status = gdn_decoder_new(demo, true, &d, err);
    if (status != GDN_OK) return status;
    for (size_t i = 0; i < n; i++) gdn_decoder_push(d, ids[i]); /* "" when memory is out */
    gdn_decoder_free(d);
    return GDN_OK;
}

static void every_allocation_fails(void **state)
{
    (void)state;
    for (int forever = 0; forever < 2; forever++) {
        for (int64_t n = 1;; n++) {
            int32_t ids[ROOM];
            struct gdn_error err = {0};
            const int64_t live = mem_counted().live_blocks, takes = mem_counted().takes;
            mem_fail_after(n, forever);
            const enum gdn_status status = all_text(ids, &err);
            mem_fail_after(0, false);
            assert_int_equal(mem_counted().live_blocks, live);
            assert_int_equal(status, err.status);
            if (status == GDN_OK && mem_counted().takes - takes < n) break;
            assert_true(status == GDN_OK || status == GDN_ERR_MEMORY);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(room),     cmocka_unit_test(control),
        cmocka_unit_test(decoder),  cmocka_unit_test(stopped_decoder),
        cmocka_unit_test(reply),    cmocka_unit_test(stopped_reply),
        cmocka_unit_test(chat),
        cmocka_unit_test(chat_in_json), cmocka_unit_test(bad_chats), cmocka_unit_test(ids_only),
        cmocka_unit_test(every_allocation_fails),
    };
    return cmocka_run_group_tests(tests, open_demo, close_demo);
}

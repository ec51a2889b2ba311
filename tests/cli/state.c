/* gdn state, and gdn run --save and --resume: stopping is not seen in what is said. */
#include "cli/program.h"

#include "gdn/gdn.h"

#define TALE "run", DEMO, "Tell me a story about a fox."

/* `name` as words of the ids that were printed. */
static void words_of(char *to)
{
    strcpy(to, ran.out);
    to[strcspn(to, "\n")] = 0;
}

/* An answer of 36 tokens in three parts is the answer in one, token by token. */
static void parts_are_the_whole(const char *temperature)
{
    char whole[TEXT], part[TEXT], all[3 * TEXT] = "";
    went_well(gdn(TALE, "--temp", temperature, "--seed", "9", "-n", "36", "--print-ids"));
    words_of(whole);
    for (int i = 0; i < 3; i++) {
        if (i == 0)
            went_well(gdn(TALE, "--temp", temperature, "--seed", "9", "-n", "5", "--print-ids",
                          "--save", "s"));
        else
            went_well(gdn("run", DEMO, "--temp", temperature, "--seed", "9", "-n",
                          i == 1 ? "14" : "17", "--print-ids", "--resume", "s", "--save", "s"));
        words_of(part);
        sprintf(all + strlen(all), "%s%s", i ? " " : "", part);
    }
    assert_string_equal(all, whole);
}

static void resumed_is_uninterrupted(void **state)
{
    (void)state;
    parts_are_the_whole("0");
    parts_are_the_whole("0.9");
}

static void raw_text_and_ids_go_on(void **state)
{
    (void)state;
    char whole[TEXT];
    put("begin", "1 2 3");
    put("end", "4 5 6 7 8");
    /* The first answer is one token, which stands between the two prompts. */
    went_well(gdn("run", TINY, "--ids", "begin", "-n", "1", "--temp", "0", "--print-ids", "--save",
                  "s"));
    char said[32], joined[64];
    snprintf(said, sizeof said, "%.*s", (int)strcspn(ran.out, "\n"), ran.out);
    snprintf(joined, sizeof joined, "1 2 3 %s 4 5 6 7 8", said);
    put("joined", joined);
    went_well(gdn("run", TINY, "--ids", "joined", "-n", "9", "--temp", "0", "--print-ids"));
    words_of(whole);
    assert_int_equal(gdn("run", TINY, "--ids", "end", "-n", "9", "--temp", "0", "--print-ids",
                         "--resume", "s", "--stats"), 0);
    ran.out[strcspn(ran.out, "\n")] = 0;
    assert_string_equal(ran.out, whole);
    assert_memory_equal(ran.err, "[prompt 5 tokens, ", 18);
    assert_non_null(strstr(ran.err, "reused 4 tokens; "));
    /* Plain text goes on as it is. */
    went_well(gdn("run", DEMO, "Once there was a fox.", "--raw", "--temp", "0", "-n", "1", "--save",
                  "s"));
    assert_int_equal(gdn("run", DEMO, " It lived", "--raw", "--temp", "0", "-n", "4", "--resume",
                         "s", "--stats"), 0);
    assert_non_null(strstr(ran.err, "reused "));
}

/* A question behind a saved answer is the next turn of a chat. */
static void a_chat_goes_on(void **state)
{
    (void)state;
    went_well(gdn("run", DEMO, "What is the capital of France?", "--temp", "0", "--save", "s"));
    assert_string_equal(ran.out, "The capital of France is Paris.\n");
    went_well(gdn("run", DEMO, "And of Italy?", "--temp", "0", "--resume", "s", "--print-ids"));
    char turn[TEXT];
    words_of(turn);
    /* The same as all of it as one text in which control tokens are spelled, by its ids. */
    struct gdn_error err = {0};
    gdn_model *model;
    int32_t ids[256];
    size_t n = 256;
    static const char chat[] =
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
        "<think>\n\n</think>\n\nThe capital of France is Paris.<|im_end|>\n<|im_start|>user\n"
        "And of Italy?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
    assert_int_equal(gdn_model_open(DEMO, NULL, &model, &err), GDN_OK);
    assert_int_equal(gdn_tokenize(model, chat, strlen(chat), GDN_CONTROL, ids, &n, &err), GDN_OK);
    gdn_model_close(model);
    assert_true(n < 256);
    FILE *file = fopen("chat", "w");
    for (size_t i = 0; i < n; i++) fprintf(file, "%d ", ids[i]);
    fclose(file);
    went_well(gdn("run", DEMO, "--ids", "chat", "--temp", "0", "--print-ids"));
    ran.out[strcspn(ran.out, "\n")] = 0;
    assert_string_equal(turn, ran.out);
    /* An answer that had ended has nothing more to say. */
    assert_int_equal(gdn("run", DEMO, "--temp", "0", "--resume", "s", "--stats"), 0);
    assert_string_equal(ran.out, "\n");
    assert_non_null(strstr(ran.err, "[prompt 0 tokens, 0 tok/s; reused "));
}

static void shown(void **state)
{
    (void)state;
    went_well(gdn(TALE, "--temp", "0", "-n", "3", "--save", "s", "--state-dtype", "bf16"));
    went_well(gdn("state", "verify", "s"));
    assert_string_equal(ran.out, "s: whole\n");
    went_well(gdn("state", "show", "s"));
    assert_memory_equal(ran.out, "gdn state, version 1, ", 22);
    assert_non_null(strstr(ran.out, "activations f32, recurrent state bf16\n"));
    assert_non_null(strstr(ran.out, "can be chosen at once\n"));
    assert_non_null(strstr(ran.out, "layers             8, logs of "));
    /* Another type of the state is converted, and that is said. */
    assert_int_equal(gdn("run", DEMO, "--resume", "s", "-n", "2", "--temp", "0"), 0);
    assert_non_null(strstr(ran.err, "of another type and has been converted\n"));
}

static void refusals(void **state)
{
    (void)state;
    went_well(gdn(TALE, "--temp", "0", "-n", "3", "--save", "s"));
    put("ids", "1 2");
    refused(3, gdn("run", TINY, "--ids", "ids", "--print-ids", "--resume", "s"),
            "saved with another model");
    refused(3, gdn("run", DEMO, "x", "--compute", "bf16", "--resume", "s"), "compute f32");
    refused(3, gdn("run", DEMO, "x", "--ctx", "30", "--resume", "s"), "the context holds 30");
    refused(2, gdn("run", DEMO, "x", "--system", "y", "--resume", "s"), "--system");
    refused(2, gdn("state", "eat", "s"), "found \"eat\", need show or verify");
    refused(2, gdn("state", "show"), "need: gdn state show|verify FILE");
    refused(3, gdn("state", "show", "ids"), "ids: ");
    size_t len;
    char *data = get("s", &len);
    for (size_t at = 5; at < len; at += len / 7) {
        data[at] ^= 1;
        put_bytes("bad", data, len);
        data[at] ^= 1;
        refused(3, gdn("state", "verify", "bad"), "bad: ");
        refused(3, gdn("state", "show", "bad"), "bad: ");
        refused(3, gdn("run", DEMO, "x", "--resume", "bad"), "bad: ");
    }
    put_bytes("bad", data, len - 1);
    refused(3, gdn("state", "verify", "bad"), "bad: ");
    mem_give(data);
    /* What cannot be written says so behind the answer, and leaves nothing. */
    assert_int_equal(gdn(TALE, "--temp", "0", "-n", "3", "--save", "no/such/s"), 6);
    assert_non_null(strstr(ran.err, "no/such: "));
    refused(3, gdn("run", DEMO, "x", "--resume", "missing"), "missing: ");
    refused(3, gdn("state", "verify", "missing"), "missing: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resumed_is_uninterrupted), cmocka_unit_test(raw_text_and_ids_go_on),
        cmocka_unit_test(a_chat_goes_on),           cmocka_unit_test(shown),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, make_work, drop_work);
}

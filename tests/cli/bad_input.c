/* Damaged, missing and unsuitable input: the exit code, what the sentence names, and that nothing
 * is left behind. */
#include "cli/program.h"

#include <sys/resource.h>

/* Every command that opens a model says the same about a bad one. */
static void model_refused(int code, const char *model, const char *a, const char *b)
{
    refused(code, gdn("info", model), "gdn info: ", a, b);
    put("ids", "1 2 3");
    refused(code, gdn("run", model, "--ids", "ids", "--print-ids"), "gdn run: ", a, b);
    refused(code, gdn("logits", model, "--ids", "ids", "--out", "o"),
            "gdn logits: ", a, b);
    refused(code, gdn("perplexity", model, "ids", "--ids"), "gdn perplexity: ", a, b);
    assert_int_equal(count_files("o.tmp"), 0);
    assert_false(file_exists("o"));
}

static void no_model(void **state)
{
    (void)state;
    model_refused(3, "nowhere", "nowhere", "no such");
    model_refused(3, put("file", "x"), "file", "found a file, need a model folder");
    mkdir("hollow", 0700);
    model_refused(3, "hollow", "hollow", "config.json");
}

static void damaged_config(void **state)
{
    (void)state;
    copy_model(TINY, "m");
    put("m/config.json", "{\"architectures\": [");
    model_refused(3, "m", "config.json", "");
    copy_model(TINY, "m");
    edit("m/config.json", "qwen3_5_text", "gpt2_xyz_abc");
    model_refused(4, "m", "gpt2_xyz_abc", "qwen3_5");
    copy_model(TINY, "m");
    edit("m/config.json", "\"hidden_size\": 40", "\"hidden_size\": 48");
    model_refused(3, "m", "[256, 40]", "48");
    copy_model(TINY, "m");
    edit("m/config.json", "\"hidden_size\": 40", "\"hidden_size\": -1");
    model_refused(3, "m", "hidden_size", "-1");
}

static void damaged_weights(void **state)
{
    (void)state;
    copy_model(TINY, "m");
    assert_int_equal(truncate("m/model.safetensors", 60000), 0);
    model_refused(3, "m", "model.safetensors", "the file has only");
    copy_model(TINY, "m");
    assert_int_equal(truncate("m/model.safetensors", 0), 0);
    model_refused(3, "m", "model.safetensors", "");
    copy_model(TINY, "m");
    const int fd = open("m/model.safetensors", O_WRONLY);
    assert_int_equal(pwrite(fd, "\xff\xff\xff\xff\xff\xff\xff\x7f", 8, 0), 8);
    close(fd);
    model_refused(3, "m", "model.safetensors", "header");
    copy_model(TINY, "m");
    edit("m/model.safetensors", "model.norm.weight", "model.norm.wreath");
    model_refused(3, "m", "model.norm.weight", "");
    unlink("m/model.safetensors");
    model_refused(3, "m", "safetensors", "");
}

static void pickle_is_never_read(void **state)
{
    (void)state;
    copy_model(TINY, "m");
    assert_int_equal(rename("m/model.safetensors", "m/pytorch_model.bin"), 0);
    model_refused(4, "m", "pytorch_model.bin", "safetensors");
}

static void damaged_tokenizer(void **state)
{
    (void)state;
    copy_model(TINY, "m");
    put("m/tokenizer.json", "{\"model\": 5}");
    model_refused(3, "m", "tokenizer.json", "");
    copy_model(TINY, "m");
    size_t len;
    char *text = get(DEMO "/tokenizer.json", &len);
    put_bytes("m/tokenizer.json", text, len);
    mem_give(text);
    model_refused(3, "m", "4096", "256");
}

static void no_such_device(void **state)
{
    (void)state;
    if (gdn("info", TINY, "--device", "cuda") == 0) skip();
    refused(4, gdn("info", TINY, "--device", "cuda"), "cuda");
}

/* ---- ids ------------------------------------------------------------------------------------- */

static void ids_refused(int code, const char *file, const char *a, const char *b)
{
    refused(code, gdn("run", TINY, "--ids", file, "--print-ids"), a, b);
    refused(code, gdn("logits", TINY, "--ids", file, "--out", "o"), a, b);
    refused(code, gdn("perplexity", TINY, file, "--ids"), a, b);
    refused(code, gdn("logits", TINY, "--ids", put("good", "1"), "--batch-with", file, "--out",
                      "o"), a, b);
    assert_int_equal(count_files("o.tmp"), 0);
    assert_false(file_exists("o"));
}

static void bad_ids(void **state)
{
    (void)state;
    ids_refused(3, "nowhere", "nowhere", "No such file");
    ids_refused(3, ".", ".", "found a folder");
    ids_refused(3, put("bad", ""), "bad", "found no ids");
    ids_refused(3, put("bad", " \n\t\n"), "bad", "found no ids");
    ids_refused(3, put("bad", "1 2\n3 x4 5"), "bad: id 3 (line 2, byte 6): found \"x4\"", "need");
    ids_refused(3, put("bad", "1, 2, 256"), "bad: id 2 (line 1, byte 6): found \"256\"",
                "from 0 to 255");
    ids_refused(3, put("bad", "1 -2"), "bad: id 1 (line 1, byte 2): found \"-2\"", "need");
    ids_refused(3, put("bad", "1 99999999999999999999"), "found \"99999999999999999999\"", "need");
    ids_refused(3, put("bad", "1,,2"), "bad: id 1 (line 1, byte 3): found a comma too many", "");
    ids_refused(3, put("bad", ",1"), "bad: id 0 (line 1, byte 1): found a comma too many", "");
    ids_refused(3, put("bad", "1 2.0"), "found \"2.0\"", "");
    ids_refused(3, put("bad", "\x1b[31mred"), "found \"?[31mred\"", "");
}

static void more_than_the_context(void **state)
{
    (void)state;
    char many[2000] = "";
    for (int i = 0; i < 513; i++) strcat(many, "7 ");
    put("many", many);
    refused(3, gdn("run", TINY, "--ids", "many", "--print-ids"), "found 513", "holds 512");
    refused(3, gdn("logits", TINY, "--ids", "many", "--out", "o"),
            "found 513 ids", "holds 512");
    refused(2, gdn("logits", TINY, "--ids", put("good", "1"), "--ctx", "513", "--out", "o"),
            "513", "512");
    refused(3, gdn("run", DEMO, "Tell me a story about a fox.", "--ctx", "5"),
            "the prompt: found 2", "holds 5");
    assert_int_equal(count_files("o.tmp"), 0);
}

/* ---- prompts --------------------------------------------------------------------------------- */

static void bad_prompts(void **state)
{
    (void)state;
    refused(2, gdn("run", DEMO, ""), "the prompt is empty");
    refused(2, gdn("run", DEMO), "the prompt is empty");
    refused(2, gdn_in(put("in", ""), "run", DEMO, "-"), "the prompt is empty");
    put_bytes("in", "a\0b", 3);
    refused(3, gdn_in("in", "run", DEMO), "zero byte at 1");
    refused(3, gdn("run", TINY, "Hello"), "no tokenizer.json");
    refused(3, gdn("run", TINY, "--ids", put("good", "1")), "need --print-ids");
}

/* ---- where the answer goes ------------------------------------------------------------------- */

static void bad_out(void **state)
{
    (void)state;
    put("good", "1 2 3");
    refused(6, gdn("logits", TINY, "--ids", "good", "--out", "none/o"), "none",
            "No such file");
    refused(6, gdn("logits", TINY, "--ids", "good", "--out", "."), ".: ",
            "found a folder");
    refused(6, gdn("logits", TINY, "--ids", "good", "--out", "/dev/null"), "/dev/null",
            "found a special file");
    refused(2, gdn("logits", TINY, "--ids", "good", "--out", "o", "--last", "4"),
            "--last: found 4, need at most 3");
    refused(2, gdn("logits", TINY, "--ids", "good", "--out", "o", "--cuts", "1,0"),
            "--cuts: length 1", "found \"0\"");
    refused(2, gdn("logits", TINY, "--ids", "good", "--out", "o", "--cuts", " "),
            "--cuts: found no lengths");
    assert_int_equal(count_files(".tmp"), 0);
    /* What was there stays when the new one fails. */
    put("o", "before");
    refused(3, gdn("logits", TINY, "--ids", put("bad", "1 300"), "--out", "o"), "300");
    size_t len;
    char *text = get("o", &len);
    assert_string_equal(text, "before");
    mem_give(text);
}

/* A limit on file size fails a write as a full disk does. */
static void full_disk(void **state)
{
    (void)state;
    put("good", "1 2 3 4 5 6 7 8 9 10 11 12");
    unlink("o");
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    signal(SIGXFSZ, SIG_IGN); /* the program inherits it */
    for (rlim_t limit = 0; limit < 12000; limit += 5000) {
        small.rlim_cur = limit + 100; /* its message must fit */
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        const int code = gdn("logits", TINY, "--ids", "good", "--out", "o");
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        refused(6, code, "o: writing failed");
        assert_int_equal(count_files("o.tmp"), 0);
        assert_false(file_exists("o"));
    }
    signal(SIGXFSZ, SIG_DFL);
    went_well(gdn("logits", TINY, "--ids", "good", "--out", "o"));
}

static void bad_text(void **state)
{
    (void)state;
    refused(3, gdn("perplexity", DEMO, put("t", "")), "found an empty file");
    refused(3, gdn("perplexity", DEMO, put("t", "a")), "found 1 token, need at least 2");
    refused(3, gdn("perplexity", TINY, put("t", "a b")), "no tokenizer.json");
    refused(3, gdn("perplexity", DEMO, "nowhere"), "nowhere", "No such file");
    refused(2, gdn("perplexity", TINY, put("ids", "1 2"), "--ids", "--ctx", "513"), "513", "512");
    refused(2, gdn("perplexity", DEMO, "x", "--ctx", "1"), "--ctx: found \"1\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_model),          cmocka_unit_test(damaged_config),
        cmocka_unit_test(damaged_weights),   cmocka_unit_test(pickle_is_never_read),
        cmocka_unit_test(damaged_tokenizer), cmocka_unit_test(no_such_device),
        cmocka_unit_test(bad_ids),           cmocka_unit_test(more_than_the_context),
        cmocka_unit_test(bad_prompts),       cmocka_unit_test(bad_out),
        cmocka_unit_test(full_disk),         cmocka_unit_test(bad_text),
    };
    return cmocka_run_group_tests(tests, make_work, drop_work);
}

/* gdn run: answers, ids, sampling, and the ways in which it ends. */
#include "cli/program.h"

#include <time.h>

#define FRANCE "What is the capital of France?"
#define PARIS "The capital of France is Paris.\n"

static void answers(void **state)
{
    (void)state;
    went_well(gdn("run", DEMO, FRANCE, "--temp", "0"));
    assert_string_equal(ran.out, PARIS);
    put("question", FRANCE "\n");
    went_well(gdn_in("question", "run", DEMO, "--temp", "0"));
    assert_string_equal(ran.out, PARIS);
    went_well(gdn_in("question", "run", DEMO, "-", "--temp=0"));
    assert_string_equal(ran.out, PARIS);
    went_well(gdn("run", DEMO, "--temp", "0", "--", FRANCE));
    assert_string_equal(ran.out, PARIS);
    went_well(gdn("run", DEMO, FRANCE, "--temp", "0", "-n", "3"));
    assert_string_equal(ran.out, "The capital of\n");
    went_well(gdn("run", DEMO, "What is 2+2?", "--temp", "0", "--system",
                  "You are a helpful assistant."));
    assert_non_null(strchr(ran.out, '4'));
}

/* A prompt as plain text goes on: no chat is put around it, and no marker in it is one. */
static void raw(void **state)
{
    (void)state;
    went_well(gdn("run", DEMO, "Once there was a kind fox named", "--raw", "--temp", "0", "-n", "8",
                  "--print-ids"));
    char first[TEXT];
    strcpy(first, ran.out);
    went_well(gdn("run", DEMO, "Once there was a kind fox named", "--temp", "0", "-n", "8",
                  "--print-ids"));
    assert_string_not_equal(ran.out, first);
    went_well(gdn("run", DEMO, "<|im_start|>user\n" FRANCE "<|im_end|>\n<|im_start|>assistant\n"
                  "<think>\n\n</think>\n\n", "--raw", "--temp", "0", "-n", "12"));
    assert_string_not_equal(ran.out, PARIS);
}

static void ids(void **state)
{
    (void)state;
    put("ids", "1 2,3\n4");
    went_well(gdn("run", TINY, "--ids", "ids", "-n", "12", "--temp", "0", "--print-ids"));
    char all[TEXT];
    strcpy(all, ran.out);
    int count = 1;
    for (const char *c = all; *c; c++) {
        assert_true((*c >= '0' && *c <= '9') || *c == ' ' || *c == '\n');
        count += *c == ' ';
    }
    assert_int_equal(count, 12);
    assert_ptr_equal(strchr(all, '\n'), all + strlen(all) - 1);
    /* What it said can be fed back: the answer goes on as before. */
    char *fifth = all;
    for (int i = 0; i < 5; i++) fifth = strchr(fifth, ' ') + 1;
    char fed[TEXT];
    snprintf(fed, sizeof fed, "1 2 3 4 %.*s", (int)(fifth - all), all);
    put("fed", fed);
    went_well(gdn("run", TINY, "--ids", "fed", "-n", "7", "--temp", "0", "--print-ids"));
    assert_string_equal(ran.out, fifth);
    went_well(gdn_in("ids", "run", TINY, "--ids", "-", "-n", "12", "--print-ids", "--threads",
                     "1"));
    assert_string_equal(ran.out, all);
}

/* The demo model with two tokens as its ends that it never says. */
static void make_endless(void)
{
    copy_model(DEMO, "endless");
    edit("endless/generation_config.json", "4086", "4093");
    edit("endless/generation_config.json", "4084", "4092");
    edit("endless/config.json", "\"eos_token_id\": 4084", "\"eos_token_id\": 4092");
}

static void end_tokens_end_it(void **state)
{
    (void)state;
    went_well(gdn("run", DEMO, FRANCE, "--temp", "0", "--print-ids"));
    char spaced[TEXT];
    snprintf(spaced, sizeof spaced, " %.1000s", ran.out);
    assert_null(strstr(spaced, " 4084"));
    assert_null(strstr(spaced, " 4086"));
    /* Without these ends it would have gone on. */
    make_endless();
    went_well(gdn("run", "endless", FRANCE, "--temp", "0", "--print-ids", "-n", "40"));
    assert_non_null(strstr(ran.out, " 4086 "));
    /* config.json alone names one too. */
    unlink("endless/generation_config.json");
    edit("endless/config.json", "\"eos_token_id\": 4092", "\"eos_token_id\": 4086");
    went_well(gdn("run", "endless", FRANCE, "--print-ids"));
    assert_string_equal(ran.out, spaced + 1);
}

static void sampling(void **state)
{
    (void)state;
    char first[TEXT];
#define TALE "run", DEMO, "Tell me a story about a fox."
    went_well(gdn(TALE, "--seed", "7"));
    strcpy(first, ran.out);
    went_well(gdn(TALE, "--seed", "7"));
    assert_string_equal(ran.out, first);
    went_well(gdn(TALE, "--seed", "8"));
    assert_string_not_equal(ran.out, first);
    /* The model's own recommendation is the default. */
    went_well(gdn(TALE, "--seed", "7", "--temp", "0.7", "--top-k", "20", "--top-p", "0.95"));
    assert_string_equal(ran.out, first);
    went_well(gdn(TALE, "--temp", "0"));
    strcpy(first, ran.out);
    went_well(gdn(TALE, "--temp", "5", "--top-k", "1", "--seed", "3"));
    assert_string_equal(ran.out, first);
    went_well(gdn(TALE, "--temp", "5", "--top-k", "0", "--min-p", "1", "--seed", "3"));
    assert_string_equal(ran.out, first);
}

static void closing_line(void **state)
{
    (void)state;
    assert_int_equal(gdn("run", DEMO, FRANCE, "--seed", "5", "--temp", "0.001", "--stats"), 0);
    assert_string_equal(ran.out, PARIS);
    assert_memory_equal(ran.err, "[prompt ", 8);
    assert_non_null(strstr(ran.err, "; answer "));
    assert_non_null(strstr(ran.err, "first token "));
    assert_non_null(strstr(ran.err, "; seed 5]\n"));
}

/* The answer is the same, and how many guesses were right is told. */
static void drafts(void **state)
{
    (void)state;
    static const char *const kinds[] = {"lookup", "mtp"};
    static const char *const temps[] = {"0", "0.7"};
    for (int t = 0; t < 2; t++) {
        char plain[TEXT];
        went_well(gdn("run", DEMO, "Count from 2 to 9.", "--temp", temps[t], "--seed", "3"));
        strcpy(plain, ran.out);
        for (int k = 0; k < 2; k++) {
            assert_int_equal(gdn("run", DEMO, "Count from 2 to 9.", "--temp", temps[t], "--seed",
                                 "3", "--draft", kinds[k], "--draft-depth", "3", "--stats"), 0);
            assert_string_equal(ran.out, plain);
            assert_non_null(strstr(ran.err, " tokens a step, drafts right"));
        }
    }
    assert_int_not_equal(gdn("run", TINY, "--ids", "ids", "--draft", "mtp"), 0);
    assert_non_null(strstr(ran.err, "found no MTP head"));
}

static void full_context(void **state)
{
    (void)state;
    put("ids", "1 2 3 4");
    assert_int_equal(gdn("run", TINY, "--ids", "ids", "--ctx", "20", "--print-ids"), 0);
    int count = 1;
    for (const char *c = ran.out; *c; c++) count += *c == ' ';
    /* The last token is said, but there is no room to feed it. */
    assert_int_equal(count, 17);
    assert_non_null(strstr(ran.err, "the context of 20 tokens is full"));
}

/* ---- ends from outside ----------------------------------------------------------------------- */

/* A run that would take minutes, once its first words are out. */
static pid_t start_endless(void)
{
    make_endless();
    unlink("stdout");
    static const char *const words[] = {"gdn", "run", "endless", "Tell me more.", "--print-ids",
                                        "--stats", "-n", "30000", "--threads", "1", NULL};
    const pid_t child = start("/dev/null", "stdout", words);
    struct stat st = {0};
    for (int i = 0; i < 3000 && (stat("stdout", &st) != 0 || st.st_size == 0); i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_true(st.st_size > 0);
    return child;
}

static void a_signal_stops_it(void **state)
{
    (void)state;
    static const int signals[] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        const pid_t child = start_endless();
        kill(child, signals[i]);
        finish(child);
        assert_int_equal(ran.code, 128 + signals[i]);
        /* Whole words, a line end, and the closing line. */
        assert_int_equal(ran.out[strlen(ran.out) - 1], '\n');
        assert_int_equal(strspn(ran.out, "0123456789 \n"), strlen(ran.out));
        assert_memory_equal(ran.err, "[prompt ", 8);
    }
}

static void a_signal_leaves_no_half_file(void **state)
{
    (void)state;
    FILE *file = fopen("ids", "w");
    assert_non_null(file);
    for (int i = 0; i < 30000; i++) fprintf(file, "%d ", i % 4000);
    fclose(file);
    static const char *const words[] = {"gdn", "logits", DEMO, "--ids", "ids", "--out", "o",
                                        "--cuts", "1", NULL};
    const pid_t child = start("/dev/null", "stdout", words);
    for (int i = 0; i < 30000 && count_files("o.tmp") == 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    kill(child, SIGINT);
    finish(child);
    assert_int_equal(ran.code, 1000 + SIGINT);
    assert_int_equal(count_files("o.tmp"), 0);
    assert_false(file_exists("o"));
}

/* A reader that has seen enough is no error. */
static void nobody_reads(void **state)
{
    (void)state;
    put("ids", "1 2 3");
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    char out[64];
    snprintf(out, sizeof out, "/proc/self/fd/%d", pipes[1]);
    static const char *const words[] = {"gdn", "run", TINY, "--ids", "ids", "--print-ids", NULL};
    /* The child's own copy of the reading end must be closed for the pipe to break. */
    fcntl(pipes[0], F_SETFD, FD_CLOEXEC);
    const pid_t child = start("/dev/null", out, words);
    close(pipes[0]);
    finish(child);
    close(pipes[1]);
    assert_int_equal(ran.code, 0);
    assert_string_equal(ran.err, "");
    assert_int_equal(run_with("/dev/null", "/dev/full", words + 1), 6);
    assert_non_null(strstr(ran.err, "standard output: writing failed"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),           cmocka_unit_test(raw),
        cmocka_unit_test(ids),               cmocka_unit_test(end_tokens_end_it),
        cmocka_unit_test(sampling),          cmocka_unit_test(closing_line),
        cmocka_unit_test(drafts),            cmocka_unit_test(full_context),
        cmocka_unit_test(a_signal_stops_it), cmocka_unit_test(a_signal_leaves_no_half_file),
        cmocka_unit_test(nobody_reads),
    };
    return cmocka_run_group_tests(tests, make_work, drop_work);
}

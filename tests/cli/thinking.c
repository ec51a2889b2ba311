/* gdn run: thoughts apart from the answer, and the answer as one JSON object. */
#include "cli/program.h"

#include <ctype.h>
#include <stdlib.h>
#include <termios.h>

#include "base/json.h"
#include "gdn/gdn.h"

#define FRANCE "What is the capital of France?"
/* What the demo model says behind a thought that its template begins, with ends it never says. */
#define THOUGHT " France is Paris.\nuser\nWhat is 19-16?\nassistant"
#define THINKER "run", "thinker", FRANCE, "--temp", "0"

static int make_thinker(void **state)
{
    if (make_work(state) != 0) return -1;
    copy_model(DEMO, "thinker");
    edit("thinker/generation_config.json", "4086", "4093");
    edit("thinker/generation_config.json", "4084", "4092");
    edit("thinker/config.json", "\"eos_token_id\": 4084", "\"eos_token_id\": 4092");
    put("thinker/chat_template.jinja",
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
        "{% endfor %}{{ '<|im_start|>assistant\\n<think>\\nThe capital of' }}");
    return 0;
}

static void thoughts_stand_aside(void **state)
{
    (void)state;
    assert_int_equal(gdn(THINKER, "-n", "29"), 0);
    assert_string_equal(ran.out, "3\n");
    assert_string_equal(ran.err, THOUGHT "\n");
    went_well(gdn(THINKER, "-n", "29", "--show-thinking"));
    assert_string_equal(ran.out, "<think>\n" THOUGHT "\n</think>\n\n3\n");
    /* Ids are ids. */
    went_well(gdn(THINKER, "-n", "5", "--print-ids"));
    assert_string_equal(ran.out, "1128 668 340 3837 13\n");
}

static void thoughts_that_do_not_end(void **state)
{
    (void)state;
    assert_int_equal(gdn(THINKER, "-n", "5"), 0);
    assert_string_equal(ran.out, "\n");
    assert_string_equal(ran.err, " France is Paris.\n"
                        "gdn run: the answer ended while the model was thinking\n");
    assert_int_equal(gdn(THINKER, "-n", "5", "--show-thinking"), 0);
    assert_string_equal(ran.out, "<think>\n France is Paris.\n");
    /* Taken up again without a question they go on as thoughts. */
    assert_int_equal(gdn(THINKER, "-n", "5", "--save", "s"), 0);
    assert_int_equal(gdn("run", "thinker", "--temp", "0", "-n", "24", "--resume", "s"), 0);
    assert_string_equal(ran.out, "3\n");
    assert_string_equal(ran.err, "\nuser\nWhat is 19-16?\nassistant\n");
    /* Plain text to go on with begins no thought, whatever it spells. */
    went_well(gdn("run", "thinker", "--raw", "<think>\nThe capital of", "-n", "3", "--temp", "0"));
    assert_true(strlen(ran.out) > 1);
}

/* What the program says on a terminal (its standard error), with NO_COLOR as given. */
static void on_terminal(const char *no_color, char *said, size_t room)
{
    static const char *const words[] = {"gdn", THINKER, "-n", "29", NULL};
    const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    assert_true(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
    char name[128];
    assert_int_equal(ptsname_r(terminal, name, sizeof name), 0);
    const int screen = open(name, O_RDWR | O_NOCTTY);
    assert_true(screen >= 0);
    struct termios plain;
    assert_int_equal(tcgetattr(screen, &plain), 0);
    cfmakeraw(&plain);
    assert_int_equal(tcsetattr(screen, TCSANOW, &plain), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        redirect(0, "/dev/null", O_RDONLY);
        redirect(1, "stdout", O_WRONLY | O_CREAT | O_TRUNC);
        if (dup2(screen, 2) < 0 || setenv("NO_COLOR", no_color, 1) != 0) _exit(126);
        execv(GDN_BIN_DIR "/gdn", (char *const *)(size_t)words);
        _exit(127);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    /* All of it, in whatever pieces it comes: behind the last one the terminal is hung up. */
    close(screen);
    size_t len = 0;
    for (ssize_t n; len < room - 1 && (n = read(terminal, said + len, room - 1 - len)) > 0;)
        len += (size_t)n;
    assert_true(len > 0);
    said[len] = 0;
    close(terminal);
}

static void dimmed_on_a_terminal(void **state)
{
    (void)state;
    char said[TEXT];
    on_terminal("", said, sizeof said);
    static const char dimmed[] = "\033[2m Fr\033[0m\033[2mance\033[0m\033[2m is\033[0m";
    assert_memory_equal(said, dimmed, sizeof dimmed - 1);
    on_terminal("1", said, sizeof said);
    assert_memory_equal(said, THOUGHT "\n", strlen(THOUGHT) + 1);
    assert_null(strchr(said, '\033'));
}

/* ---- one object ------------------------------------------------------------------------------ */

/* The value of a key of the object that was printed, as it stands there. */
static const char *value_of(const char *key)
{
    static char value[TEXT];
    struct json json;
    struct json_token token;
    json_open(&json, ran.out, strlen(ran.out));
    assert_int_equal(json_next(&json, &token), JSON_OBJECT);
    while (json_next(&json, &token) == JSON_KEY) {
        const bool wanted = json_is(&token, key);
        json_next(&json, &token);
        const char *begin = token.text - (token.kind == JSON_STRING);
        assert_true(json_skip(&json, &token));
        const size_t len = (size_t)(ran.out + json_offset(&json) - begin);
        if (wanted) snprintf(value, sizeof value, "%.*s", (int)len, begin);
    }
    assert_int_equal(json_next(&json, &token), JSON_END);
    return value;
}

static void has(const char *key, const char *want) { assert_string_equal(value_of(key), want); }

static void one_object(void **state)
{
    (void)state;
    went_well(gdn("run", DEMO, FRANCE, "--temp", "0", "--json"));
    has("text", "\"The capital of France is Paris.\"");
    has("reasoning", "\"\"");
    has("ids", "[345,989,284,1128,668,340,3837,13]");
    has("finish_reason", "\"stop\"");
    has("prompt_tokens", "20");
    has("completion_tokens", "8");
    has("reused_tokens", "0");
    assert_non_null(strstr(ran.out, "\"timings\":{\"load_ms\":"));
    assert_non_null(strstr(ran.out, ",\"first_token_ms\":"));
    assert_true(strtoll(value_of("peak_bytes"), NULL, 10) > 1 << 20);
    went_well(gdn(THINKER, "--json", "-n", "29"));
    has("text", "\"3\"");
    has("reasoning", "\" France is Paris.\\nuser\\nWhat is 19-16?\\nassistant\"");
    has("finish_reason", "\"length\"");
    has("completion_tokens", "29");
    /* Never closed: nothing is an answer, and standard error stays silent. */
    went_well(gdn(THINKER, "--json", "-n", "5"));
    has("text", "\"\"");
    has("reasoning", "\" France is Paris.\"");
}

/* The same ids as --print-ids, and text that is UTF-8 whatever is drawn. */
static void same_ids(void **state)
{
    (void)state;
    static const char *const seeds[] = {"1", "2", "3", "4", "5", "6"};
    for (int i = 0; i < 6; i++) {
        char ids[TEXT] = "[";
        went_well(gdn("run", DEMO, "x", "--raw", "--temp", "9", "--top-k", "0", "--top-p", "0",
                      "--seed", seeds[i], "-n", "60", "--print-ids"));
        strcat(ids, ran.out);
        for (char *c = ids; *c; c++)
            if (isspace((unsigned char)*c)) *c = c[1] ? ',' : ']';
        went_well(gdn("run", DEMO, "x", "--raw", "--temp", "9", "--top-k", "0", "--top-p", "0",
                      "--seed", seeds[i], "-n", "60", "--json"));
        has("ids", ids); /* the reader of value_of refuses what is not UTF-8 */
    }
}

static void resumed(void **state)
{
    (void)state;
    went_well(gdn("run", DEMO, FRANCE, "--temp", "0", "--json", "--save", "s"));
    went_well(gdn("run", DEMO, "And of Italy?", "--temp", "0", "--resume", "s", "--json"));
    has("text", "\"Rome.\"");
    has("reused_tokens", "28");
    has("prompt_tokens", "47");
    put("ids", "1 2 3 4");
    went_well(gdn("run", TINY, "--ids", "ids", "--json", "-n", "3"));
    has("text", "null");
    has("reasoning", "null");
    has("completion_tokens", "3");
    assert_int_equal(gdn("run", TINY, "--ids", "ids", "--json", "--ctx", "20"), 0);
    has("completion_tokens", "17");
    has("finish_reason", "\"length\"");
    /* An answer that ends at once. */
    went_well(gdn("run", DEMO, FRANCE, "--temp", "0", "--save", "s"));
    went_well(gdn("run", DEMO, "--temp", "0", "--resume", "s", "--json"));
    has("ids", "[]");
    has("finish_reason", "\"stop\"");
    assert_null(strstr(ran.out, "first_token_ms"));
}

static void refusals(void **state)
{
    (void)state;
    refused(2, gdn("run", DEMO, "x", "--json", "--print-ids"), "--json and --print-ids");
    refused(2, gdn("run", DEMO, "x", "--json", "--show-thinking"), "--show-thinking");
    refused(2, gdn("run", DEMO, "x", "--print-ids", "--show-thinking"), "--print-ids");
    refused(3, gdn("run", "nowhere", "x", "--json"), "nowhere");
    refused(3, gdn("run", DEMO, "x", "--json", "--resume", "missing"), "missing: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thoughts_stand_aside), cmocka_unit_test(thoughts_that_do_not_end),
        cmocka_unit_test(dimmed_on_a_terminal), cmocka_unit_test(one_object),
        cmocka_unit_test(same_ids),             cmocka_unit_test(resumed),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, make_thinker, drop_work);
}

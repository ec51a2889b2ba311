/* Ctrl-C at random moments: a chat goes on, its session computes what it did before, and what it
 * saved is whole; a run that is told to save saves a state that is whole. */
#include "cli/program.h"

#include "base/rng.h"
#include "gdn/gdn.h"

static struct rng rng = {.seed = 7};

static void wait_up_to(int milliseconds)
{
    usleep((useconds_t)rng_below(&rng, 1000 * (uint64_t)milliseconds));
}

static size_t size_of(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 ? (size_t)about.st_size : 0;
}

static void write_line(int fd, const char *line)
{
    assert_int_equal(write(fd, line, strlen(line)), strlen(line));
}

/* It says so when it noticed; a signal between two lines goes unnoticed. */
static void interrupt(pid_t child)
{
    const size_t before = size_of("stderr");
    assert_int_equal(kill(child, SIGINT), 0);
    for (int i = 0; i < 100 && size_of("stderr") == before; i++) usleep(2000);
}

static void chat_goes_on(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "Tell me a tale about a fox.\n", "/save talk\n", "What is 7 times 8?\n", "/fork\n",
        "/rewind 2\n", "Tell me a long tale about a fox, a cow and a heron who went to the sea.\n",
        "/fork 1\n", "/load talk\n"};
    static const char *const args[] = {"gdn", "chat", "demo", "--temp", "0", "--ctx", "600", NULL};
    assert_int_equal(mkfifo("lines", 0600), 0);
    const pid_t child = start("lines", "stdout", args);
    const int in = open("lines", O_WRONLY);
    assert_true(in >= 0);
    write_line(in, "What is 3 + 4?\n/save talk\n");
    while (size_of("talk.gdnstate") == 0) usleep(10000); /* it has begun to listen */
    for (int i = 0; i < 200; i++) {
        write_line(in, lines[rng_below(&rng, sizeof lines / sizeof *lines)]);
        wait_up_to(60);
        interrupt(child);
        /* Whatever came between, the file is one whole state. */
        if (i % 20 == 0) {
            struct gdn_state_file file;
            struct gdn_error err = {0};
            if (gdn_state_file_verify("talk.gdnstate", &file, &err) != GDN_OK)
                fail_msg("%s", err.text);
        }
    }
    write_line(in, "/rewind 4000\n");
    usleep(300000);
    write_line(in, "What is 7 + 5?\n/stats\n");
    close(in);
    finish(child);
    assert_int_equal(ran.code, 0);
    assert_string_equal(ran.out + strlen(ran.out) - 12, "7 + 5 = 12.\n");
    assert_null(strstr(ran.err, "not usable"));
    assert_non_null(strstr(ran.err, "[stopped]"));
    assert_int_equal(count_files(".gdn-tmp"), 0);
    went_well(gdn("state", "verify", "talk.gdnstate"));
}

static void runs_save_whole_states(void **state)
{
    (void)state;
    static const char *const args[] = {"gdn",    "run",  "demo", "Tell me a tale.", "--save",
                                       "state", "--ctx", "600",  NULL};
    int saved = 0;
    for (int i = 0; i < 30; i++) {
        unlink("state");
        const pid_t child = start("/dev/null", "stdout", args);
        wait_up_to(250);
        kill(child, SIGINT);
        finish(child);
        assert_true(ran.code == 0 || ran.code == 130 || ran.code == 1000 + SIGINT);
        if (!file_exists("state")) continue;
        saved++;
        went_well(gdn("state", "verify", "state"));
    }
    assert_true(saved > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chat_goes_on),
        cmocka_unit_test(runs_save_whole_states),
    };
    return cmocka_run_group_tests(tests, make_work, drop_work);
}

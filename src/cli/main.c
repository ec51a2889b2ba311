/* main.c: the program `gdn`: finds the command, runs it, turns what came of it into an exit code.
 *
 * Standard output carries answers, standard error everything else. The program ends with the value
 * of enum gdn_status, or with 128 + the signal that stopped it. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "gdn/gdn.h"

static const struct command *const commands[] = {&command_run, &command_logits,
                                                 &command_perplexity, &command_info,
                                                 &command_state, &command_bench};
enum { COMMANDS = sizeof commands / sizeof *commands };

static const char exit_codes[] =
    "Exit codes: 0 fine, 1 a bug in gdn, 2 usage, 3 bad input, 4 not supported, 5 no memory,\n"
    "6 reading or writing failed, 7 device failure, 8 refused, 130 stopped by Ctrl-C.\n";

static void program_page(struct bytes *page)
{
    bytes_add_text(page, "gdn runs gated-delta language models (Qwen3.5).\n\n"
                         "  gdn run models/demo \"What is the capital of France?\"\n"
                         "  gdn info models/demo\n\nCommands\n");
    for (int i = 0; i < COMMANDS; i++)
        bytes_addf(page, "  %-12s %s\n", commands[i]->name, commands[i]->summary);
    bytes_add_text(page, "\ngdn COMMAND --help tells its options; gdn --version its version.\n");
}

static void command_page(const struct command *command, const struct options *options,
                         struct bytes *page)
{
    bytes_addf(page, "gdn %s %s [options]\n%s.\n\nExamples\n", command->name, command->words,
               command->summary);
    for (const char *line = command->examples; *line;) {
        const size_t n = strcspn(line, "\n");
        bytes_addf(page, "  gdn %.*s\n", (int)n, line);
        line += n + (line[n] == '\n');
    }
    options_print(options, page);
    if (command->notes) bytes_addf(page, "\n%s\n", command->notes);
    bytes_addf(page, "\n%s", exit_codes);
}

enum gdn_status command_line(const struct command *command, struct options *options, int argc,
                             char **argv, bool *done, struct gdn_error *err)
{
    *done = false;
    options_group(options, "Help");
    options_flag(options, "--help", done, "this page");
    TRY(options_read(options, argc, argv, err));
    if (*done) {
        struct bytes page = {0};
        command_page(command, options, &page);
        return output_bytes(&page, err);
    }
    if (options->word_count < command->least)
        return error_set(err, GDN_ERR_USAGE, "found %d of its arguments, need: gdn %s %s",
                         options->word_count, command->name, command->words);
    if (options->word_count > command->most)
        return error_set(err, GDN_ERR_USAGE, "found %d arguments, need: gdn %s %s (a text with "
                         "spaces needs quotes)", options->word_count, command->name,
                         command->words);
    return GDN_OK;
}

static enum gdn_status unknown_command(const char *word, struct gdn_error *err)
{
    const char *names[COMMANDS];
    for (int i = 0; i < COMMANDS; i++) names[i] = commands[i]->name;
    const char *near = nearest_name(word, names, COMMANDS);
    return error_set(err, GDN_ERR_USAGE, "%.80s: unknown command%s%s%s", word,
                     near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

/* Sets *name to what the message and the advice begin with. */
static enum gdn_status dispatch(int argc, char **argv, const char **name, struct gdn_error *err)
{
    struct bytes page = {0};
    if (argc < 2) {
        program_page(&page);
        if (!page.failed && page.at) fputs(page.at, stderr);
        bytes_free(&page);
        return GDN_ERR_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--version") == 0) {
        bytes_addf(&page, "gdn %s\n", gdn_version());
        return output_bytes(&page, err);
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        program_page(&page);
        bytes_addf(&page, "\n%s", exit_codes);
        return output_bytes(&page, err);
    }
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(word, commands[i]->name) != 0) continue;
        *name = commands[i]->name;
        return commands[i]->run(argc - 2, argv + 2, err);
    }
    return unknown_command(word, err);
}

int main(int argc, char **argv)
{
    /* A reader that goes away shows up as a failed write, and half-written files are dropped. */
    signal(SIGPIPE, SIG_IGN);
    struct gdn_error err = {0};
    const char *name = NULL;
    enum gdn_status status = dispatch(argc, argv, &name, &err);
    if (status == GDN_OK) status = output_end(&err);
    if (err.text[0])
        fprintf(stderr, "gdn%s%s: %s\n", name ? " " : "", name ? name : "", err.text);
    if (err.text[0] && status == GDN_ERR_USAGE)
        fprintf(stderr, "see: gdn%s%s --help\n", name ? " " : "", name ? name : "");
    return status == GDN_OK && interrupt_noted() ? 128 + interrupt_noted() : (int)status;
}

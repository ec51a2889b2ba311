/* main.c: the program `gdn`: finds the command, runs it, turns what came of it into an exit code.
 *
 * Standard output carries answers, standard error everything else. The program ends with the value
 * of enum gdn_status, or with 128 + the signal that stopped it. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/settings.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "gdn/gdn.h"

static const struct command *const commands[] = {&command_run, &command_chat, &command_logits,
                                                 &command_perplexity, &command_info,
                                                 &command_convert, &command_state,
                                                 &command_bench, &command_tokenize,
                                                 &command_doctor};
enum { COMMANDS = sizeof commands / sizeof *commands };

static const char exit_codes[] =
    "Exit codes: 0 fine, 1 a bug in gdn, 2 usage, 3 bad input, 4 not supported, 5 no memory,\n"
    "6 reading or writing failed, 7 device failure, 8 refused, 130 stopped by Ctrl-C.\n";

static const char settings[] =
    "MODEL is a folder, a file in it, or a name: of a folder in --models DIR or in\n"
    "$XDG_DATA_HOME/gdn/models (~/.local/share/gdn/models), or demo, which is bundled.\n\n"
    "Every option can stand in $XDG_CONFIG_HOME/gdn/config (~/.config/gdn/config) and in the\n"
    "environment: --top-k 40 is \"top-k = 40\" there, under [run] for that command alone, and\n"
    "GDN_TOP_K=40 here; a flag is true or false. The command line beats the environment, and\n"
    "that beats the file.\n";

static void program_page(struct bytes *page)
{
    bytes_add_text(page, "gdn runs gated-delta language models: Qwen3.5 and 3.6, Qwen3-Next,\n"
                         "Kimi-Linear, OLMo-Hybrid.\n\n"
                         "  gdn run demo \"What is the capital of France?\"\n"
                         "  gdn info demo\n\nCommands\n");
    for (int i = 0; i < COMMANDS; i++)
        bytes_addf(page, "  %-12s %s\n", commands[i]->name, commands[i]->summary);
    bytes_add_text(page, "\ngdn COMMAND --help tells its options; gdn --version its version.\n");
}

static void command_page(const struct command *command, const struct options *options,
                         struct bytes *page)
{
    bytes_addf(page, "gdn %s%s%s [options]\n%s.\n\nExamples\n", command->name,
               *command->words ? " " : "", command->words, command->summary);
    for (const char *line = command->examples; *line;) {
        const size_t n = strcspn(line, "\n");
        bytes_addf(page, "  gdn %.*s\n", (int)n, line);
        line += n + (line[n] == '\n');
    }
    options_print(options, page);
    if (command->notes) bytes_addf(page, "\n%s\n", command->notes);
    bytes_addf(page, "\n%s", exit_codes);
}

/* ---- one command's line ---------------------------------------------------------------------- */

/* While all commands are asked for the names of their options, nothing else is done. */
static struct settings_names known;
static bool asking;

static enum gdn_status ask_names(struct gdn_error *err)
{
    asking = true;
    for (int i = 0; i < COMMANDS; i++) {
        known.command[known.commands++] = commands[i]->name;
        TRY(commands[i]->run(0, NULL, err));
    }
    asking = false;
    return GDN_OK;
}

enum gdn_status command_line(const struct command *command, struct options *options, int argc,
                             char **argv, bool *done, struct gdn_error *err)
{
    const char *config = NULL;
    bool print = false;
    struct bytes page = {0};
    *done = false;
    options_line_only(options);
    options_group(options, "Settings (gdn --help tells how)");
    options_text(options, "--config", &config, "FILE", "read options from it; none: from no file");
    options_flag(options, "--print-config", &print, "tell the options and where each is from");
    options_flag(options, "--help", done, "this page");
    if (asking) {
        settings_note(&known, options);
        *done = true;
        return GDN_OK;
    }
    TRY(options_read(options, argc, argv, err));
    if (*done) {
        command_page(command, options, &page);
        return output_bytes(&page, err);
    }
    TRY(ask_names(err));
    TRY(settings_read(options, command->name, &known, config, err));
    if (print) {
        *done = true;
        settings_print(options, command->name, &page);
        return output_bytes(&page, err);
    }
    if (options->word_count < command->least)
        return error_set(err, GDN_ERR_USAGE, "found %d of its arguments, need: gdn %s %s",
                         options->word_count, command->name, command->words);
    if (options->word_count > command->most)
        return error_set(err, GDN_ERR_USAGE, "found %d arguments, need: gdn %s%s%s (a text with "
                         "spaces needs quotes)", options->word_count, command->name,
                         command->most > 0 ? " " : "", command->words);
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
        bytes_addf(&page, "\n%s\n%s", settings, exit_codes);
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

/* command.h: what a command of the program is, and the table of all. */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "cli/options.h"

struct command {
    const char *name;
    const char *words; /* "MODEL [PROMPT]" */
    int least, most;   /* how many words it takes */
    const char *summary;
    const char *examples; /* lines for --help; the words after "gdn " */
    const char *notes;    /* what the options cannot say; NULL: nothing */
    enum gdn_status (*run)(int argc, char **argv, struct gdn_error *err);
};

extern const struct command command_run, command_logits, command_perplexity, command_info,
                            command_convert, command_state, command_bench, command_tokenize,
                            command_doctor, command_chat;

/* Reads the arguments after the command's name into what the options point to, and counts the
 * words. With --help it prints the command's page and sets *done: there is nothing left to do. */
enum gdn_status command_line(const struct command *command, struct options *options, int argc,
                             char **argv, bool *done, struct gdn_error *err);

#endif

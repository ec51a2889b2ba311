/* settings.h: options from where they need not be typed.
 *
 * One rule: the option --top-k is "top-k = 40" in the config file and GDN_TOP_K=40 in the
 * environment; a flag is "true" or "false". The command line beats the environment, that beats the
 * [COMMAND] section of the file, that beats what stands above all sections, which may be an option
 * of any command. */
#ifndef CLI_SETTINGS_H
#define CLI_SETTINGS_H

#include "cli/options.h"

/* Names of all commands, and of all their options, without dashes. */
enum { SETTINGS_COMMANDS = 24, SETTINGS_NAMES = 256 };
struct settings_names {
    const char *command[SETTINGS_COMMANDS], *option[SETTINGS_NAMES];
    int commands, options;
};
/* Adds those that are not there yet. */
void settings_note(struct settings_names *names, const struct options *o);

/* A config file: lines KEY = VALUE and [COMMAND]; those that begin with # are notes, quotes around
 * a value are dropped. `text` is zero-ended and changed; values that are texts go on pointing into
 * it. What is wrong is GDN_ERR_INPUT with the line. */
enum gdn_status settings_parse(struct options *o, const char *command,
                             const struct settings_names *names, const char *path, char *text,
                             struct gdn_error *err);

/* Reads `path`; NULL: the user's file, $XDG_CONFIG_HOME/gdn/config or ~/.config/gdn/config, which
 * may be missing; "none": no file. Then the environment. To be called once. */
enum gdn_status settings_read(struct options *o, const char *command,
                            const struct settings_names *names, const char *path,
                            struct gdn_error *err);

/* What came of it all, in the form of the file, and where each value is from. */
void settings_print(const struct options *o, const char *command, struct bytes *out);

/* "folder/gdn/name" in the user's folder of this kind: the environment's `variable`, or `home` in
 * the home folder. False: there is none, or it is too long. */
bool settings_path(char *out, size_t room, const char *variable, const char *home,
                   const char *name);

#endif

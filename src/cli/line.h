/* line.h: lines that a person types, or that a file or pipe has. On a terminal they can be edited
 * and called back when libedit is on the machine; it is loaded when needed, and nothing is missed
 * but comfort without it. Lines are kept in memory only. */
#ifndef CLI_LINE_H
#define CLI_LINE_H

#include "base/bytes.h"

struct line;

/* `prompt` lives as long; it is shown on standard error, and on a terminal only. NULL: no
 * memory. */
struct line *line_open(const char *prompt);
void line_close(struct line *line);

enum line_end { LINE_TEXT, LINE_CLOSED, LINE_INTERRUPTED, LINE_FAILED };
/* The next line into `text`, without its end; a backslash at its end joins the next one, with a
 * line break between. LINE_CLOSED: there is none. LINE_INTERRUPTED: a signal came, what was typed
 * is dropped. LINE_FAILED: reading failed or memory did not suffice. */
enum line_end line_read(struct line *line, struct bytes *text);

#endif

/* interrupt.h: Ctrl-C and SIGTERM. Until a command says otherwise they end the program at once, as
 * ever. */
#ifndef CLI_INTERRUPT_H
#define CLI_INTERRUPT_H

#include <stdbool.h>

/* From now on the first signal is only noted and the second ends the program. */
void interrupt_note(void);
/* From now on Ctrl-C is only noted, any number of times, until interrupt_forget. Three in a row
 * that nobody forgot end the program. SIGTERM ends it at once. */
void interrupt_listen(void);
void interrupt_forget(void);
/* The signal that was noted, or 0. */
int interrupt_noted(void);

/* Between true and false signals wait, so that a file can be made and announced in one. */
void interrupt_hold(bool hold);
/* A half-written file: it is removed before a signal ends the program. `path` stays valid until a
 * call with NULL. */
void interrupt_remove(const char *path);

#endif

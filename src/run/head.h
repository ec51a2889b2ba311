/* head.h: the draft head kept up with its sequences, for the files here that run passes.
 *
 *     0                       head                position
 *     |h h h h h h h h h h h h|. . . . . . . . . .|            . due: vector and token are kept
 *
 * Short stretches of rows only leave their vectors and tokens behind. The head runs over what is
 * due when it is asked for a guess, in the same pass, and before what it needs would be written
 * over. A long stretch takes the head along. */
#ifndef RUN_HEAD_H
#define RUN_HEAD_H

#include "run/stage.h"

/* Which tokens it may guess: the `first` ones and those from an end token on; as is usual. */
void head_guesses(struct engine *e, int32_t first);
void head_open(struct engine *e);

/* Rows of a slot that a guess runs: those due, and that of the token it is asked behind. */
int32_t head_due(const struct engine *e, int32_t slot);

/* Puts n rows from row `first` of a slot's head behind the t rows and b runs that are staged: the
 * tokens, where in the layer's ring their vectors stand (in the list of targets), the run. */
void head_put(struct engine *e, int32_t b, int32_t t, int32_t slot, int32_t first, int32_t n);

/* What goes into the head for the rows that are staged so, which are those of the pass, out of
 * `vectors` [n, D]. */
struct mtp_in head_in(struct engine *e, struct pass *pass, void *vectors, int32_t n);

/* A guess behind `id` has run them. */
void head_asked(struct engine *e, int32_t slot, int32_t id);

/* Runs all that is due in these slots but the rows that wait for the next token. */
enum gdn_status head_catch_up(struct engine *e, const int32_t *slots, int count,
                              struct gdn_error *err);

/* Before a pass of these stretches: those whose slots keep less than they would write over catch
 * up. Then that their tokens come, and the rows of the head that go along, which may be none. */
enum gdn_status head_make_room(struct engine *e, const struct piece *pieces, int32_t B,
                               struct gdn_error *err);
void head_stage(struct engine *e, const struct piece *pieces, int32_t B, int32_t T,
                struct rows *rows);

/* Behind a pass: its vectors are kept, and the head runs over `rows`. */
void head_run(struct engine *e, struct pass *pass, struct tensor *hidden, const struct rows *rows);
/* A pass that was no draft went well, and its n rows are part of the sequence. */
void head_advance(struct engine *e, int32_t slot, int32_t n);

#endif

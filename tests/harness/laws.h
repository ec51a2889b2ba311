/* laws.h: what must hold of every op that keeps state in slots, whatever the op is.
 *
 * "Equal" means equal bits on the device under test, and within 1e-12 on the reference. */
#ifndef HARNESS_LAWS_H
#define HARNESS_LAWS_H

#include "harness/form.h"

/* How much is tried. */
struct extent {
    int tokens;     /* of a stream */
    int partitions; /* random ones, beside all cuts in two */
    int rounds;     /* of draft and commit, one after another */
};
extern const struct extent law_extent;

typedef void form_law(struct machine *m, struct extent extent);

/* Any cut of a stream into calls gives the outputs and the canonical state of one call. */
form_law law_cuts;
/* Drafts of every length at every length of the log: their rows are those of plain decoding, and so
 * is what follows a commit of any number of them. */
form_law law_drafts;
/* Rounds of drafts with random commits, one upon another, end where plain decoding ends. */
form_law law_rounds;
/* Sequences in one call are as they are alone; slot -1 gives rows of 0 and touches no byte. */
form_law law_together;
/* A call of no rows changes nothing. */
form_law law_empty;

/* `law` on the device under test for each shape, and on the reference in F64. */
void law_run(struct lab *lab, struct verdict *v, const struct form *form, form_law *law,
             const struct shape *shape, int shapes, struct extent extent);

/* Outputs of the device under test against the reference's on the same streams, in one call; and
 * the same bits with 1, 2 and 3 threads. */
void law_reference(struct lab *lab, struct verdict *v, const struct form *form,
                   const struct shape *shape, int shapes, struct extent extent);

#endif

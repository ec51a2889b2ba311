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
#define USUAL_EXTENT                                                              \
    {                                                                             \
        .tokens = 60, .partitions = HARNESS_SANITIZED ? 40 : 200,                 \
        .rounds = HARNESS_SANITIZED ? 30 : 100                                    \
    }

typedef void form_law(struct machine *m, struct extent extent);

/* Any cut of a stream into calls gives the outputs and the canonical state of one call. */
form_law law_cuts;
/* Calls of 1, 2, 3, 4, 5, 16, 63, 64, 65, 128 and 1000 rows give the same as single tokens. */
form_law law_sizes;
/* Drafts of every length at every length of the log: their rows are those of plain decoding, and so
 * is what follows a commit of any number of them. */
form_law law_drafts;
/* The same, some of them, on a stream of fewer than 32 rows: where a device has another order of sums
 * for prompts. */
form_law law_short_drafts;
/* Rounds of drafts with random commits, one upon another, end where plain decoding ends. */
form_law law_rounds;
/* Sequences in one call are as they are alone, also when one of them is NaN; slot -1 gives rows of 0
 * and touches no byte. */
form_law law_together;
/* A call of no rows changes nothing. */
form_law law_empty;

/* Something that must hold; when it does not, the verdict has it. Laws of a form are data. */
struct law {
    const char *name;
    void (*run)(struct lab *lab, struct verdict *v, const struct law *law);
    const struct form *form;
    form_law *holds;
    const struct shape *shape;
    int shapes;
    struct extent extent;
    bool (*applies)(const struct device *device); /* NULL: to every one */
};

/* `holds` on the device under test for each shape, with 1, 2 and 3 threads in turn; on the
 * reference in F64 for the first two. */
void law_each(struct lab *lab, struct verdict *v, const struct law *law);
/* `holds` on the device under test alone: for fused ops, whose parts have their own proofs. */
void law_under(struct lab *lab, struct verdict *v, const struct law *law);
/* Outputs of the device under test against the reference's on the same streams, in one call; and
 * the same bits with 1, 2 and 3 threads. The reference computes in F64; where the state is kept in
 * bf16 it does that too. */
void law_reference(struct lab *lab, struct verdict *v, const struct law *law);

/* Streams cut into prompts, single rows and drafts: outputs against the reference's of one call; and
 * prompts beside others and an absent one as alone, in bits. */
void law_prompts(struct lab *lab, struct verdict *v, const struct law *law);

/* A law of a file's `form`: FORM_LAW(cuts, shapes, USUAL_EXTENT). */
#define FORM_LAW(law, list, ...)                                                            \
    {                                                                                       \
        .name = #law, .run = law_each, .form = &form, .holds = law_##law, SHAPES(list), \
        .extent = __VA_ARGS__                                                               \
    }
#define SHAPES(array) .shape = (array), .shapes = (int)(sizeof(array) / sizeof(*(array)))

#endif

/* form.h: an op that keeps state in slots, and streams of tokens fed to it in pieces.
 *
 * A state form says what a token is (fields: rows of the op's inputs, and last its output) and how
 * the state lies in memory. A machine is one device with such slots, fresh and hostile: what no
 * token has written holds NaN. Legs are the sequences of one call. The laws (laws.h) then compare
 * ways of feeding the same stream. */
#ifndef HARNESS_FORM_H
#define HARNESS_FORM_H

#include "base/bytes.h"
#include "harness/trial.h"

enum { FORM_FIELDS = 6, FORM_STATES = 10, FORM_SLOTS = 4, FORM_LEGS = 8, FORM_ROOM = 1152 };

struct machine;

struct form {
    enum op op;
    /* Fills want[] for a token (dim[0], the rows, is set by the machine); returns how many. The
     * last one is the output. */
    int (*fields)(const struct shape *s, struct want *want);
    /* Makes the state with machine_state(), and points the args at tensors and state. */
    void (*lay)(struct machine *m);
    /* Appends the state of a slot in its one canonical form: what a file would hold at `pos`. */
    void (*canon)(const struct machine *m, int slot, int pos, struct bytes *out);
};

/* A sequence of tokens: the rows of every input field, one after another. */
struct stream {
    int tokens;
    unsigned char *row[FORM_FIELDS];
};

struct leg {
    const struct stream *stream;
    unsigned char *out; /* [tokens] rows of the output; rows from.. are filled */
    int slot, from, count;
};

struct machine {
    const struct form *form;
    struct shape shape; /* slots: entries of the log */
    struct station *at;
    struct verdict *v;
    bool wide; /* F64 */
    int fields, states;
    struct want want[FORM_FIELDS];
    struct box field[FORM_FIELDS], state[FORM_STATES], start, pos, slot;
    struct rows rows;
    struct delta_slots delta;
    struct conv_slots conv;
    struct kv_pages pages;
    struct tensor held[4]; /* a form's own: weights, dense states */
    union {
        struct delta_args delta;
        struct delta_mix_args mix;
        struct conv_args conv;
        struct attn_args attn;
        struct attn_mix_args attn_mix;
    } args;
};

bool machine_open(struct machine *m, const struct form *form, const struct shape *shape,
                  struct station *at, bool wide, struct verdict *v);
void machine_close(struct machine *m);

/* For a form's lay(): a state array of `elements`, which starts as zeros or as NaN. */
void *machine_state(struct machine *m, const char *name, enum dtype dtype, int64_t elements,
                    bool zero);
/* Random values for a state array that is a constant of the machine: a weight. */
void machine_fill(struct machine *m, void *state, uint64_t seed);

/* Every slot as new. */
void machine_reset(struct machine *m);
/* One call; the outputs go to the legs. False when the kernel did not run. */
bool machine_feed(struct machine *m, const struct leg *leg, int legs, bool draft);
/* The same for one sequence. */
bool machine_feed_one(struct machine *m, const struct stream *s, unsigned char *out, int slot,
                      int from, int count, bool draft);

/* All state bytes, and back. */
bool machine_save(struct machine *m, struct bytes *out);
void machine_load(struct machine *m, const struct bytes *saved);
/* Host copies of the state are made current, for canon. */
void machine_download(struct machine *m);

size_t machine_row(const struct machine *m, int field); /* bytes of a row */
bool stream_open(struct stream *s, const struct machine *m, int tokens, uint64_t seed);
void stream_close(struct stream *s);

#endif

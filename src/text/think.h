/* think.h: an answer as it comes, its thoughts apart from what is meant for the reader.
 *
 *   ids ─ marks, decode ─> HEAD ─ <think> ─> THOUGHTS ─ </think> ─> BEHIND ─ a word ─> ANSWER
 *
 * Two kinds of models think. Where <think> and </think> are tokens, only these tokens are marks: a
 * text that spells them is a text. Where the tokenizer has none and the template spells them, the
 * text decides: <think> at the head of an answer, and the first </think> behind it. Any other model
 * has no thoughts. White space around the marks belongs to them. */
#ifndef TEXT_THINK_H
#define TEXT_THINK_H

#include "text/decode.h"

struct think {
    struct decoder decoder;
    int32_t open, close; /* ids of the marks; -1: none */
    bool spelled;        /* they come as text */
    enum think_place { THINK_HEAD, THINK_THOUGHTS, THINK_BEHIND, THINK_ANSWER } place;
    bool begun;          /* these thoughts have said a word */
    struct bytes held;   /* text that may be, or may end in, a part of a mark */
};

/* What became certain: whole code points. Its user empties and frees both. */
struct think_text {
    struct bytes thoughts, answer;
};

/* `before`: the last tokens that stand before the answer, of which those behind the last special
 * token matter: a template may have opened the thoughts already. `spells`: the template knows the
 * marks as text. */
void think_open(struct think *think, const struct tokenizer *tok, bool spells,
                const int32_t *before, size_t count);
void think_close(struct think *think);

/* Appends to *out. id < 0 ends the text: what is held goes where it would have gone. Failure of
 * memory shows in out. */
void think_push(struct think *think, int32_t id, struct think_text *out);

#endif

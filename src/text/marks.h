/* marks.h: where in the tokens of a chat it may be taken up again, told by the tokens that chat
 * templates write: before a message, before thoughts, behind them. Text that only spells such a
 * token is not one. */
#ifndef TEXT_MARKS_H
#define TEXT_MARKS_H

#include "text/tokenizer.h"

enum mark { MARK_NONE, MARK_THINKING, MARK_MESSAGE };

struct marks {
    int32_t message[8], opens, closes; /* ids; -1: the tokenizer has none */
    bool any;
};

/* `tok` may be NULL: then there are no marks. */
void marks_open(struct marks *marks, const struct tokenizer *tok);
/* What is between ids[position - 1] and ids[position], with 0 < position < n. */
enum mark marks_at(const struct marks *marks, const int32_t *ids, size_t position);

#endif

/* split.h: cutting text into the words BPE works on, by the pattern of the tokenizer. The only file
 * that knows PCRE2.
 *
 * Known patterns are recognised by their exact text and replaced by a form that means the same in
 * PCRE2 (white space is Unicode's White_Space, as in Oniguruma; PCRE2's own \s adds U+180E).
 * They match at every offset, so that their pieces cover the text. Other patterns are refused
 * unless allowed, and then interpreted with limits: 100,000 + 50 a byte match steps a piece,
 * 32 MiB of heap, 16 KiB of pattern, 64 levels of parentheses. */
#ifndef TEXT_SPLIT_H
#define TEXT_SPLIT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

/* The pattern of ByteLevel(use_regex = true). */
#define SPLIT_GPT2 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

struct split; /* immutable, shared by threads */
struct split_run; /* one thread's place to match in */

enum gdn_status split_open(const char *pattern, size_t len, bool allow_any, struct split **split,
                           struct gdn_error *err);
/* One of the known patterns by its name. */
enum gdn_status split_open_known(const char *name, struct split **split, struct gdn_error *err);
void split_close(struct split *split);
/* The pattern's name ("qwen3.5"), or "other". */
const char *split_name(const struct split *split);
/* Do the pieces of a known pattern always cover the text, so that "keep only matches" and "keep
 * matches and gaps" are the same? */
bool split_covers(const struct split *split);

/* NULL when memory does not suffice. */
struct split_run *split_run_open(const struct split *split);
void split_run_close(struct split_run *run);
/* The piece of well-formed `text` that begins at `at` < len: a match, or the gap before the next
 * match. *end gets where it ends. The pieces of a text are found by going from 0 to len. */
enum gdn_status split_next(struct split_run *run, const char *text, size_t len, size_t at,
                           size_t *end, struct gdn_error *err);

#endif

#include "text/think.h"

#include <string.h>

static const char open_mark[] = "<think>", close_mark[] = "</think>";
enum { OPEN_LEN = sizeof open_mark - 1, CLOSE_LEN = sizeof close_mark - 1 };

static bool is_white(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

static size_t white_head(const char *text, size_t len)
{
    size_t n = 0;
    while (n < len && is_white(text[n])) n++;
    return n;
}

/* The length without the white space at the end. */
static size_t without_tail(const char *text, size_t len)
{
    while (len > 0 && is_white(text[len - 1])) len--;
    return len;
}

/* How many bytes at the end of a text are the begin of a mark. */
static size_t mark_begun(const char *text, size_t len, const char *mark, size_t mark_len)
{
    size_t n = len < mark_len - 1 ? len : mark_len - 1;
    while (n > 0 && memcmp(text + len - n, mark, n) != 0) n--;
    return n;
}

/* ---- where the answer begins ----------------------------------------------------------------- */

/* The ids behind the last mark or special token: `*mark` is that one. */
static size_t tail_begin(const struct think *t, const int32_t *ids, size_t count, int32_t *mark)
{
    size_t i = count;
    for (*mark = -1; i > 0; i--) {
        const int32_t id = ids[i - 1];
        if (id != t->open && id != t->close && !tokenizer_is_special(t->decoder.tok, id)) continue;
        *mark = id;
        break;
    }
    return i;
}

/* Are thoughts begun in this text and not ended? Then *said is what they say so far. */
static bool left_open(const char *text, size_t len, size_t *said)
{
    bool open = false;
    for (size_t i = 0; i < len; i++) {
        if (len - i >= CLOSE_LEN && memcmp(text + i, close_mark, CLOSE_LEN) == 0) open = false;
        if (len - i < OPEN_LEN || memcmp(text + i, open_mark, OPEN_LEN) != 0) continue;
        open = true;
        *said = i + OPEN_LEN;
    }
    return open;
}

static void look_back(struct think *t, const int32_t *ids, size_t count)
{
    int32_t mark;
    struct bytes tail = {0};
    const size_t begin = tail_begin(t, ids, count, &mark);
    decode_ids(t->decoder.tok, ids + begin, count - begin, true, &tail);
    size_t said = 0;
    const char *text = tail.at ? tail.at : "";
    const bool open = t->spelled ? left_open(text, tail.len, &said) : mark == t->open;
    if (open) {
        t->place = THINK_THOUGHTS;
        t->begun = without_tail(text + said, tail.len - said) > 0;
    }
    bytes_free(&tail);
}

void think_open(struct think *t, const struct tokenizer *tok, bool spells, const int32_t *before,
                size_t count)
{
    *t = (struct think){.open = tokenizer_find_added(tok, open_mark, OPEN_LEN),
                        .close = tokenizer_find_added(tok, close_mark, CLOSE_LEN)};
    decoder_open(&t->decoder, tok, true);
    if (t->open < 0 || t->close < 0) {
        t->open = t->close = -1;
        t->spelled = spells;
    }
    if (t->open < 0 && !t->spelled)
        t->place = THINK_ANSWER;
    else
        look_back(t, before, count);
}

void think_close(struct think *t) { bytes_free(&t->held); }

/* ---- the text as it comes -------------------------------------------------------------------- */

static void drop_held(struct think *t, size_t n)
{
    t->held.len -= n;
    memmove(t->held.at, t->held.at + n, t->held.len);
}

static void give(struct think *t, size_t n, struct bytes *to)
{
    bytes_add(to, t->held.at, n);
    drop_held(t, n);
}

static void begin_thoughts(struct think *t)
{
    t->place = THINK_THOUGHTS;
    t->begun = false;
}

/* White space and the begin of a mark wait for what comes. */
static bool pass_head(struct think *t, struct think_text *out)
{
    const size_t white = white_head(t->held.at, t->held.len), rest = t->held.len - white;
    const char *word = t->held.at + white;
    if (rest == 0) return false;
    if (t->spelled && rest >= OPEN_LEN && memcmp(word, open_mark, OPEN_LEN) == 0) {
        drop_held(t, white + OPEN_LEN);
        begin_thoughts(t);
        return true;
    }
    if (t->spelled && rest < OPEN_LEN && memcmp(word, open_mark, rest) == 0) return false;
    give(t, t->held.len, &out->answer);
    t->place = THINK_ANSWER;
    return false;
}

static bool pass_thoughts(struct think *t, struct think_text *out)
{
    if (!t->begun) drop_held(t, white_head(t->held.at, t->held.len));
    const char *text = t->held.at;
    const char *close = t->spelled ? memmem(text, t->held.len, close_mark, CLOSE_LEN) : NULL;
    size_t end = close ? (size_t)(close - text) : t->held.len;
    if (t->spelled && !close) end -= mark_begun(text, end, close_mark, CLOSE_LEN);
    const size_t sure = without_tail(text, end);
    if (sure > 0) t->begun = true;
    give(t, sure, &out->thoughts);
    if (!close) return false;
    drop_held(t, end - sure + CLOSE_LEN);
    t->place = THINK_BEHIND;
    return true;
}

/* Gives out what is certain of what is held. */
static void sort(struct think *t, struct think_text *out)
{
    if (t->held.failed || !t->held.at) return;
    if (t->place == THINK_HEAD && !pass_head(t, out)) return;
    if (t->place == THINK_THOUGHTS && !pass_thoughts(t, out)) return;
    if (t->place == THINK_BEHIND) {
        drop_held(t, white_head(t->held.at, t->held.len));
        if (t->held.len > 0) t->place = THINK_ANSWER;
    }
    if (t->place == THINK_ANSWER) give(t, t->held.len, &out->answer);
}

/* The text ends here: what is held makes no mark any more. */
static void settle(struct think *t, struct think_text *out)
{
    if (t->held.failed || t->held.len == 0) return;
    if (t->place == THINK_HEAD)
        give(t, t->held.len, &out->answer);
    else if (t->place == THINK_THOUGHTS && without_tail(t->held.at, t->held.len) > 0)
        give(t, t->held.len, &out->thoughts);
    else
        t->held.len = 0;
}

/* What is held before a token that is a mark is white space. Thoughts that are opened once more go
 * on: some models repeat the mark that their template wrote. */
static void pass_mark(struct think *t, int32_t id, struct think_text *out)
{
    if (id == t->open && t->place == THINK_THOUGHTS) return;
    t->held.len = 0;
    if (id == t->close) {
        t->place = THINK_BEHIND;
        return;
    }
    if (t->begun) bytes_add_text(&out->thoughts, "\n\n");
    begin_thoughts(t);
}

void think_push(struct think *t, int32_t id, struct think_text *out)
{
    const bool mark = id >= 0 && (id == t->open || (id == t->close && t->place == THINK_THOUGHTS));
    if (id < 0 || mark)
        decoder_flush(&t->decoder, &t->held);
    else
        decoder_push(&t->decoder, id, &t->held);
    sort(t, out);
    if (id < 0) settle(t, out);
    if (mark) pass_mark(t, id, out);
    if (t->held.failed) out->answer.failed = true;
}

#include "text/stop.h"

#include "text/utf8.h"

enum gdn_status stopper_open(struct stopper *s, const char *const *strings, size_t count,
                             struct gdn_error *err)
{
    stopper_close(s);
    for (size_t i = 0; i < count; i++) {
        const size_t len = strings[i] ? strlen(strings[i]) : 0;
        if (len == 0 || utf8_good_len(strings[i], len) != len) {
            stopper_close(s);
            return error_set(err, GDN_ERR_USAGE, "stop string %zu: found %s, need a text in UTF-8",
                             i, len == 0 ? "nothing" : "bytes that are not UTF-8");
        }
        bytes_add(&s->strings, strings[i], len + 1);
    }
    s->count = count;
    bytes_add(&s->held, "", 0);
    if (!s->strings.failed && !s->held.failed) return GDN_OK;
    stopper_close(s);
    return error_set(err, GDN_ERR_MEMORY, "no memory for %zu stop strings", count);
}

void stopper_close(struct stopper *s)
{
    bytes_free(&s->strings);
    bytes_free(&s->held);
    *s = (struct stopper){0};
}

/* The longest string that is complete at byte `end` of what is held; 0: none. */
static size_t complete(const struct stopper *s, size_t end)
{
    const char *string = s->strings.at;
    size_t longest = 0;
    for (size_t i = 0; i < s->count; i++) {
        const size_t len = strlen(string);
        if (len <= end && len > longest && memcmp(s->held.at + end - len, string, len) == 0)
            longest = len;
        string += len + 1;
    }
    return longest;
}

/* The longest end of what is held that is a begin of a string, but not all of it. */
static size_t begun(const struct stopper *s)
{
    const char *string = s->strings.at;
    size_t longest = 0;
    for (size_t i = 0; i < s->count; i++) {
        const size_t len = strlen(string), all = s->held.len;
        for (size_t n = len - 1 < all ? len - 1 : all; n > longest; n--)
            if (memcmp(s->held.at + all - n, string, n) == 0) longest = n;
        string += len + 1;
    }
    return longest;
}

/* The first n bytes of what is held leave. */
static void let_out(struct stopper *s, size_t n, struct bytes *out)
{
    bytes_add(out, s->held.at, n);
    memmove(s->held.at, s->held.at + n, s->held.len - n);
    s->held.len -= n;
}

void stopper_push(struct stopper *s, const char *text, size_t len, struct bytes *out)
{
    if (s->done) return;
    const size_t old = s->held.len;
    bytes_add(&s->held, text, len);
    if (s->held.failed) {
        out->failed = s->done = true;
        return;
    }
    for (size_t end = old + 1; end <= s->held.len; end++) {
        const size_t stop = complete(s, end);
        if (stop == 0) continue;
        let_out(s, end - stop, out);
        s->held.len = 0;
        s->done = true;
        return;
    }
    let_out(s, s->held.len - begun(s), out);
}

void stopper_flush(struct stopper *s, struct bytes *out)
{
    if (!s->done) let_out(s, s->held.len, out);
}

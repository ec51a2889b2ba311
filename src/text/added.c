#include "text/added.h"

#include <string.h>

#include "base/checked.h"
#include "base/memory.h"

bool added_add(struct added *added, const char *text, size_t len, int32_t id)
{
    if (added->count == added->room) {
        size_t room = added->room ? 2 * added->room : 32, size;
        if (!checked_mul(room, sizeof *added->tokens, &size)) return false;
        struct added_token *grown = mem_resize(added->tokens, size);
        if (!grown) return false;
        added->tokens = grown;
        added->room = room;
    }
    struct added_token token = {(uint32_t)added->text.len, (uint32_t)len, id};
    bytes_add(&added->text, text, len);
    if (added->text.failed) return false;
    added->tokens[added->count++] = token;
    added->begins[(unsigned char)text[0]] = true;
    return true;
}

static int compare(const struct added *added, struct added_token a, struct added_token b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = memcmp(added->text.at + a.at, added->text.at + b.at, n);
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* Heap sort: no memory, no recursion, no bad case. */
static void sink(const struct added *added, size_t at, size_t count)
{
    struct added_token *t = added->tokens, moved = t[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && compare(added, t[child], t[child + 1]) < 0) child++;
        if (compare(added, t[child], moved) <= 0) break;
        t[at] = t[child];
    }
    t[at] = moved;
}

int32_t added_seal(struct added *added)
{
    struct added_token *t = added->tokens;
    for (size_t i = added->count / 2; i-- > 0;) sink(added, i, added->count);
    for (size_t n = added->count; n > 1; n--) {
        struct added_token last = t[n - 1];
        t[n - 1] = t[0];
        t[0] = last;
        sink(added, 0, n - 1);
    }
    for (size_t i = 1; i < added->count; i++) {
        if (compare(added, t[i - 1], t[i]) == 0) return t[i].id;
    }
    return -1;
}

void added_close(struct added *added)
{
    bytes_free(&added->text);
    mem_give(added->tokens);
    *added = (struct added){0};
}

/* The first of tokens [low, high), all longer than `depth` and alike before it, whose byte at
 * `depth` is at least `byte`. */
static size_t narrow(const struct added *added, size_t low, size_t high, size_t depth, int byte)
{
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if ((unsigned char)added->text.at[added->tokens[mid].at + depth] < byte)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* The longest token that `text` begins with; NULL when there is none. */
static const struct added_token *longest(const struct added *added, const char *text, size_t len)
{
    const struct added_token *best = NULL;
    size_t low = 0, high = added->count;
    for (size_t depth = 0; depth < len && low < high; depth++) {
        int byte = (unsigned char)text[depth];
        low = narrow(added, low, high, depth, byte);
        high = narrow(added, low, high, depth, byte + 1);
        /* A token that ends here sorts before all that go on. */
        if (low < high && added->tokens[low].len == depth + 1) best = &added->tokens[low++];
    }
    return best;
}

int32_t added_search(const struct added *added, const char *text, size_t len, size_t *begin,
                     size_t *end)
{
    for (size_t at = *begin; at < len; at++) {
        if (!added->begins[(unsigned char)text[at]]) continue;
        const struct added_token *token = longest(added, text + at, len - at);
        if (!token) continue;
        *begin = at;
        *end = at + token->len;
        return token->id;
    }
    *begin = *end = len;
    return -1;
}

int32_t added_exact(const struct added *added, const char *text, size_t len)
{
    const struct added_token *token = longest(added, text, len);
    return token && token->len == len ? token->id : -1;
}

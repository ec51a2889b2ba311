#include "run/lookup.h"

enum { LEAST = 2, ENOUGH = 16 };

/* How many tokens up to and with `at` are those up to the end. */
static int32_t alike(const int32_t *tokens, int32_t n, int32_t at)
{
    int32_t length = 0;
    while (length < ENOUGH && length <= at && tokens[at - length] == tokens[n - 1 - length])
        length++;
    return length;
}

int32_t lookup_draft(const int32_t *tokens, int32_t n, int32_t most, int32_t *out)
{
    int32_t length = LEAST - 1, from = -1;
    for (int32_t at = n - 2; at >= 0 && length < ENOUGH; at--) {
        const int32_t here = alike(tokens, n, at);
        if (here <= length) continue;
        length = here;
        from = at + 1;
    }
    if (from < 0) return 0;
    if (most > length) most = length;
    for (int32_t i = 0; i < most; i++)
        out[i] = from + i < n ? tokens[from + i] : out[from + i - n];
    return most;
}

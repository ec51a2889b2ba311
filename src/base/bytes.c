#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/checked.h"
#include "base/memory.h"

static bool grow(struct bytes *b, size_t len)
{
    size_t need;
    if (b->failed || !checked_add(b->len, len, &need) || !checked_add(need, 1, &need)) {
        b->failed = true;
        return false;
    }
    if (need <= b->room) return true;
    size_t room = b->room < 64 ? 64 : b->room;
    while (room < need) {
        if (!checked_mul(room, 2, &room)) {
            b->failed = true;
            return false;
        }
    }
    char *grown = mem_resize(b->at, room);
    if (!grown) {
        b->failed = true;
        return false;
    }
    b->at = grown;
    b->room = room;
    return true;
}

void bytes_add(struct bytes *b, const void *data, size_t len)
{
    if (!grow(b, len)) return;
    if (len) memcpy(b->at + b->len, data, len);
    b->len += len;
    b->at[b->len] = 0;
}

void bytes_add_text(struct bytes *b, const char *text) { bytes_add(b, text, strlen(text)); }

void bytes_addf(struct bytes *b, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof text) {
        b->failed = true;
        return;
    }
    bytes_add(b, text, (size_t)n);
}

void bytes_free(struct bytes *b)
{
    mem_give(b->at);
    *b = (struct bytes){0};
}

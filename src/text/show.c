#include "text/show.h"

#include <stdio.h>
#include <string.h>

const char *show_bytes(char *out, size_t room, const char *text, size_t len)
{
    size_t used = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (used + 8 > room) {
            memcpy(out + used, "...", 4);
            return out;
        }
        if (c >= 0x20 && c < 0x7F)
            out[used++] = (char)c;
        else
            used += (size_t)snprintf(out + used, 5, "\\x%02X", c);
    }
    out[used] = 0;
    return out;
}

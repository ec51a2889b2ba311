#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum gdn_status error_set(struct gdn_error *err, enum gdn_status status, const char *format, ...)
{
    if (!err || err->status != GDN_OK) return status;
    err->status = status;
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    return status;
}

void error_prefix(struct gdn_error *err, const char *format, ...)
{
    if (!err || err->status == GDN_OK) return;
    char old[sizeof err->text];
    memcpy(old, err->text, sizeof old);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof err->text) return;
    size_t room = sizeof err->text - (size_t)n;
    if (room < 3) return;
    memcpy(err->text + n, ": ", 2);
    size_t take = strnlen(old, sizeof old);
    if (take > room - 3) take = room - 3;
    memcpy(err->text + n + 2, old, take);
    err->text[(size_t)n + 2 + take] = 0;
}

void error_clear(struct gdn_error *err)
{
    if (!err) return;
    err->status = GDN_OK;
    err->text[0] = 0;
}

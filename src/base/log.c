#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

static _Atomic int max_level = LOG_WARN;

void log_set_level(enum log_level level) { atomic_store(&max_level, (int)level); }

void log_line(enum log_level level, const char *format, ...)
{
    if ((int)level > atomic_load(&max_level)) return;
    char text[1000];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    static const char *const prefix[] = {"error: ", "warning: ", "", ""};
    /* One call, so that lines of several threads do not mix. */
    fprintf(stderr, "gdn: %s%s\n", prefix[level], text);
}

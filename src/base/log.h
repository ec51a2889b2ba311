/* log.h: lines for people on stderr. The library is quiet unless a caller raises the level. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_NOTE, LOG_DEBUG };

/* Lines above `level` are dropped. Start value: LOG_WARN. */
void log_set_level(enum log_level level);

/* One line; a newline is added. Any thread may call it. */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif

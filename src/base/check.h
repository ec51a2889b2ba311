/* check.h: what only a programmer can get wrong. Input never reaches a GDN_CHECK. */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

/* Prints file, line and the sentence, then ends the process. On in release too: it stands where
 * a call was made with the wrong shape or type, never inside an inner loop. */
#define GDN_CHECK(condition, ...)                                                     \
    do {                                                                              \
        if (!(condition)) check_failed(__FILE__, __LINE__, #condition, __VA_ARGS__);  \
    } while (0)

_Noreturn void check_failed(const char *file, int line, const char *condition,
                            const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif

/* status.h: filling the caller's struct gdn_error. Input errors travel up as a returned status. */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

#include "gdn/error.h"

/* Writes the sentence and returns `status`, so that a failure is one line: return error_set(...).
 * `err` may be NULL. An error that is already set is kept: the first cause is the true one. */
enum gdn_status error_set(struct gdn_error *err, enum gdn_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the sentence that is already there (the file a parser was reading). */
void error_prefix(struct gdn_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

void error_clear(struct gdn_error *err);

/* Forward the first failure. */
#define TRY(call)                                   \
    do {                                            \
        enum gdn_status try_status_ = (call);       \
        if (try_status_ != GDN_OK) return try_status_; \
    } while (0)

#endif

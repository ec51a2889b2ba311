#include "cli/output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int failure; /* errno of the first write that failed */

static void write_all(const char *text, size_t len)
{
    if (failure || len == 0) return;
    if (fwrite(text, 1, len, stdout) != len || fflush(stdout) != 0) failure = errno ? errno : EIO;
}

void output_text(const char *text) { write_all(text, strlen(text)); }

enum gdn_status output_bytes(struct bytes *text, struct gdn_error *err)
{
    const bool failed = text->failed;
    if (!failed && text->at) write_all(text->at, text->len);
    bytes_free(text);
    return failed ? error_set(err, GDN_ERR_MEMORY, "no memory for the answer") : GDN_OK;
}

bool output_open(void) { return failure == 0; }

enum gdn_status output_end(struct gdn_error *err)
{
    if (failure == 0 || failure == EPIPE) return GDN_OK;
    return error_set(err, GDN_ERR_IO, "standard output: writing failed: %s", strerror(failure));
}

/* books.h: windows of tokens from all over the books that the demo model was not trained on. */
#ifndef STAGE_BOOKS_H
#define STAGE_BOOKS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "gdn/gdn.h"

enum { BOOKS_WINDOW = 512, BOOKS_WINDOWS = 12, BOOKS_BYTES = 1500522 };

static inline void books_read(const gdn_model *model, int32_t ids[BOOKS_WINDOWS][BOOKS_WINDOW])
{
    struct gdn_error err = {0};
    char *text = mem_take(BOOKS_BYTES + 1);
    FILE *pipe = popen("xz -dc " GDN_SOURCE_DIR "/tests/data/valid.txt.xz", "r");
    assert_true(text && pipe);
    assert_int_equal(fread(text, 1, BOOKS_BYTES, pipe), BOOKS_BYTES);
    pclose(pipe);
    for (int w = 0; w < BOOKS_WINDOWS; w++) {
        int32_t some[4 * BOOKS_WINDOW];
        size_t n = sizeof some / sizeof *some, from = (size_t)(BOOKS_BYTES / BOOKS_WINDOWS * w);
        while (text[from] != '\n') from++;
        while (text[from] == '\n') from++;
        assert_int_equal(gdn_tokenize(model, text + from, 4 * BOOKS_WINDOW, 0, some, &n, &err),
                         GDN_OK);
        assert_in_range(n, BOOKS_WINDOW, sizeof some / sizeof *some);
        memcpy(ids[w], some, sizeof ids[w]);
    }
    mem_give(text);
}

#endif

/* open.h: models for the tests of the public API. */
#ifndef TESTS_API_OPEN_H
#define TESTS_API_OPEN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "gdn/gdn.h"

#define DEMO GDN_SOURCE_DIR "/models/demo"
#define TINY GDN_SOURCE_DIR "/tests/golden/q35-r2-untied"

static inline gdn_model *open_with(const char *path, const struct gdn_options *options)
{
    struct gdn_error err = {0};
    gdn_model *model;
    if (gdn_model_open(path, options, &model, &err) != GDN_OK) fail_msg("%s", err.text);
    assert_non_null(model);
    assert_int_equal(err.status, GDN_OK);
    return model;
}

static inline struct gdn_options small_options(void)
{
    struct gdn_options o = gdn_options_default();
    o.threads = 1;
    o.context = 300;
    return o;
}

static inline gdn_model *open_tiny(int sessions, bool speculate)
{
    struct gdn_options o = small_options();
    o.sessions = sessions;
    o.speculate = speculate;
    return open_with(TINY, &o);
}

static inline gdn_session *open_session(gdn_model *model)
{
    struct gdn_error err = {0};
    gdn_session *session;
    if (gdn_session_new(model, &session, &err) != GDN_OK) fail_msg("%s", err.text);
    return session;
}

/* A call that must fail, with what its sentence says: refused(USAGE, "found 3", call). */
#define refused(want, part, call)                                                              \
    do {                                                                                       \
        struct gdn_error err = {0};                                                            \
        const enum gdn_status got = (call);                                                    \
        if (got != GDN_ERR_##want || err.status != got || !strstr(err.text, part))             \
            fail_msg("%s: found %d %s, need " #want " ...%s", #call, (int)got, err.text, part); \
    } while (0)

#define accepted(call)                                                                         \
    do {                                                                                       \
        struct gdn_error err = {0};                                                            \
        if ((call) != GDN_OK || err.status != GDN_OK) fail_msg("%s: %s", #call, err.text);     \
    } while (0)

#endif

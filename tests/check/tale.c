#include "tale.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

void tale_close(struct tale *t)
{
    gdn_model_close(t->model);
    mem_give(t->rows);
}

bool tale_open(struct tale *t, enum gdn_type compute, enum gdn_type state)
{
    struct gdn_options o = gdn_options_default();
    *t = (struct tale){.rows = mem_take_array((size_t)WINDOW * VOCAB, sizeof *t->rows)};
    o.compute = compute;
    o.state = state;
    o.context = WINDOW;
    o.speculate = true;
    const bool good = t->rows &&
                      gdn_model_open(GDN_SOURCE_DIR "/models/demo", &o, &t->model, &t->err) ==
                          GDN_OK &&
                      gdn_session_new(t->model, &t->session, &t->err) == GDN_OK;
    if (!good) fprintf(stderr, "the demo model: %s\n", t->err.text);
    return good;
}

bool tale_again(struct tale *t)
{
    gdn_session_free(t->session);
    return gdn_session_new(t->model, &t->session, &t->err) == GDN_OK;
}

void tale_keep_row(void *context, int feed, size_t row, const float *logits, int32_t vocab)
{
    struct tale *t = context;
    /* The position is still that before the piece. */
    const size_t at = (size_t)gdn_session_position(t->session) + row;
    (void)feed;
    if (vocab == VOCAB && at < WINDOW) memcpy(t->rows + at * VOCAB, logits, VOCAB * sizeof *logits);
}

bool tale_read(struct tale *t, const int32_t *ids, size_t n)
{
    const struct gdn_feed feed = {.session = t->session, .ids = ids, .n = n};
    const struct gdn_sink sink = {.context = t, .logits = tale_keep_row};
    const bool good = gdn_step(&feed, 1, &sink, &t->err) == GDN_OK;
    if (!good) fprintf(stderr, "%s\n", t->err.text);
    return good;
}

bool tale_ids(const struct tale *t, const char *command, int32_t *ids, size_t n)
{
    enum { TEXT = 1 << 16 };
    static char text[TEXT];
    size_t found = n;
    FILE *pipe = popen(command, "r");
    const size_t len = pipe ? fread(text, 1, TEXT, pipe) : 0;
    if (pipe) pclose(pipe);
    const bool good = gdn_tokenize(t->model, text, len, 0, ids, &found, NULL) == GDN_OK &&
                      found >= n;
    if (!good) fprintf(stderr, "%s: not %zu tokens\n", command, n);
    return good;
}

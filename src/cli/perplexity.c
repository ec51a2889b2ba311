/* perplexity.c: `gdn perplexity`: how well a model predicts a text.
 *
 * The tokens are cut into windows that do not overlap; each begins with an empty state, and every
 * token but its first is scored. Windows run side by side when they are short. Sums are made window
 * by window in order, so the number does not depend on how many ran together. */
#include <math.h>
#include <stdio.h>

#include "base/json.h"
#include "base/memory.h"
#include "cli/command.h"
#include "cli/setup.h"
#include "cli/input.h"
#include "cli/output.h"

enum { TEXT_BYTES = 1 << 30, BATCH = 16, BATCH_ROWS = 512 };

struct perplexity_settings {
    const char *model, *file;
    bool ids, json;
    int64_t window, limit; /* limit 0: none */
    struct setup setup;
};

struct score {
    double nats;
    int64_t tokens, windows;
};

struct job {
    const struct perplexity_settings *settings;
    gdn_model *model;
    char *text;
    struct id_file file;
    int32_t *tokens;
    const int32_t *ids;
    size_t count;
    int batch;
    double nats[BATCH]; /* of the windows that run now */
    struct score score;
};

static void add_loss(void *context, int feed, size_t row, double nats)
{
    struct job *job = context;
    (void)row;
    job->nats[feed] += nats;
}

static enum gdn_status read_file(struct job *job, size_t *len, struct gdn_error *err)
{
    const struct perplexity_settings *s = job->settings;
    if (s->ids) return id_file_open(&job->file, s->file, err);
    TRY(input_read(s->file, TEXT_BYTES, &job->text, len, err));
    if (*len > 0) return GDN_OK;
    return error_set(err, GDN_ERR_INPUT, "%s: found an empty file, need a text", s->file);
}

static enum gdn_status take_tokens(struct job *job, size_t len, struct gdn_error *err)
{
    const struct perplexity_settings *s = job->settings;
    if (s->ids) {
        struct gdn_model_info info;
        gdn_model_describe(job->model, &info);
        TRY(id_file_check(&job->file, info.vocab, err));
        job->ids = job->file.ids;
        job->count = job->file.count;
    } else {
        /* Documents of a corpus are separated by <|endoftext|>, which must be one token. */
        const struct prompt text = {.text = job->text, .len = len, .control = true};
        TRY(prompt_tokens(job->model, &text, &job->tokens, &job->count, err));
        job->ids = job->tokens;
    }
    if (s->limit && job->count > (size_t)s->limit) job->count = (size_t)s->limit;
    if (job->count >= 2) return GDN_OK;
    return error_set(err, GDN_ERR_INPUT, "%s: found %zu token, need at least 2 to score one",
                     s->file, job->count);
}

/* Up to `batch` windows from token `at` on; *used tells how many tokens they were. */
static enum gdn_status score_batch(struct job *job, size_t at, size_t *used, struct gdn_error *err)
{
    const size_t window = (size_t)job->settings->window;
    struct gdn_feed feeds[BATCH];
    int count = 0;
    *used = 0;
    for (; count < job->batch && at + *used < job->count; count++) {
        const size_t left = job->count - at - *used, n = left < window ? left : window;
        feeds[count] = (struct gdn_feed){.ids = job->ids + at + *used, .n = n, .first = n};
        *used += n;
        /* A window of one token has nothing to score; it can only be the last. */
        if (n == 1) break;
        job->nats[count] = 0;
        TRY(gdn_session_new(job->model, &feeds[count].session, err));
    }
    if (count == 0) return GDN_OK;
    const struct gdn_sink sink = {.context = job, .loss = add_loss};
    TRY(gdn_step(feeds, count, &sink, err));
    for (int i = 0; i < count; i++) {
        gdn_session_free(feeds[i].session);
        job->score.nats += job->nats[i];
        job->score.tokens += (int64_t)feeds[i].n - 1;
        job->score.windows++;
    }
    return GDN_OK;
}

static enum gdn_status print_score(const struct job *job, struct gdn_error *err)
{
    const struct score *score = &job->score;
    const double mean = score->nats / (double)score->tokens;
    struct bytes out = {0};
    if (job->settings->json) {
        bytes_add_text(&out, "{\"nats_per_token\":");
        json_put_double(&out, mean);
        bytes_add_text(&out, ",\"perplexity\":");
        json_put_double(&out, exp(mean));
        bytes_addf(&out, ",\"tokens\":%lld,\"windows\":%lld,\"window\":%lld}\n",
                   (long long)score->tokens, (long long)score->windows,
                   (long long)job->settings->window);
    } else {
        bytes_addf(&out, "%.5f nats per token, perplexity %.4f, over %lld tokens in %lld windows "
                   "of %lld\n", mean, exp(mean), (long long)score->tokens,
                   (long long)score->windows, (long long)job->settings->window);
    }
    return output_bytes(&out, err);
}

static enum gdn_status run_job(struct job *job, struct gdn_error *err)
{
    const struct perplexity_settings *s = job->settings;
    size_t len = 0, used;
    TRY(read_file(job, &len, err));
    job->batch = s->window < BATCH_ROWS ? (int)(BATCH_ROWS / s->window) : 1;
    if (job->batch > BATCH) job->batch = BATCH;
    TRY(setup_open(s->model, &s->setup, job->batch, &job->model, err));
    struct gdn_model_info info;
    gdn_model_describe(job->model, &info);
    setup_say_memory("perplexity", &s->setup, &info);
    TRY(take_tokens(job, len, err));
    for (size_t at = 0; at < job->count; at += used) TRY(score_batch(job, at, &used, err));
    if (!isfinite(job->score.nats))
        return error_set(err, GDN_ERR_INPUT, "%s: the loss is not a number: the weights of %s are "
                         "damaged, or the model does not fit its tokens", s->file, s->model);
    return print_score(job, err);
}

static void describe(struct options *o, struct perplexity_settings *s)
{
    options_group(o, "Text");
    options_flag(o, "--ids", &s->ids, "FILE holds token ids, between white space or commas");
    options_integer(o, "--ctx", &s->window, 2, INT32_MAX, "512", "tokens of a window");
    options_integer(o, "--limit", &s->limit, 2, INT64_MAX, "all", "use the first N tokens only");
    options_group(o, "Output");
    options_flag(o, "--json", &s->json, "one JSON object");
    setup_options(o, &s->setup);
}

static enum gdn_status run(int argc, char **argv, struct gdn_error *err)
{
    struct perplexity_settings s = {.window = 512, .setup = setup_defaults()};
    struct options o = {0};
    bool done;
    describe(&o, &s);
    TRY(command_line(&command_perplexity, &o, argc, argv, &done, err));
    if (done) return GDN_OK;
    s.model = o.words[0];
    s.file = o.words[1];
    s.setup.context = s.window;
    struct job job = {.settings = &s};
    const enum gdn_status status = run_job(&job, err);
    gdn_model_close(job.model);
    id_file_close(&job.file);
    mem_give(job.tokens);
    mem_give(job.text);
    return status;
}

const struct command command_perplexity = {
    .name = "perplexity", .words = "MODEL FILE", .least = 2, .most = 2, .run = run,
    .summary = "Score how well a model predicts a text",
    .examples = "perplexity models/demo book.txt\n"
                "perplexity models/demo book.txt --limit 32768 --json\n"
                "xz -dc book.txt.xz | gdn perplexity models/demo -",
    .notes = "The text is cut into windows that do not overlap. Each begins with an empty state;\n"
             "no token is added; every token but its first is scored. A last window of one token\n"
             "is dropped. Control tokens may be spelled in the text, as <|endoftext|> between\n"
             "documents. FILE may be - for standard input.",
};

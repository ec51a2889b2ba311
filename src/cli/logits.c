/* logits.c: `gdn logits`: everything a model computes for a sequence of ids, into one file. */
#include <stdio.h>

#include "base/memory.h"
#include "base/numbers.h"
#include "cli/command.h"
#include "cli/setup.h"
#include "cli/input.h"
#include "cli/tensor_file.h"

struct logits_settings {
    const char *model, *ids, *out, *cuts, *beside;
    int64_t last;
    bool hidden;
    struct setup setup;
};

/* A sequence on its way through the model. */
struct course {
    struct id_file file;
    gdn_session *session;
    size_t done;
};

struct job {
    const struct logits_settings *settings;
    struct course main, beside;
    int32_t *cuts; /* NULL: all in one piece */
    size_t cut_count;
    gdn_model *model;
    struct gdn_model_info info;
    size_t first_row; /* of the ids, with logits in the file */
    struct tensor_file file;
};

static void keep_logits(void *context, int feed, size_t row, const float *logits, int32_t vocab)
{
    struct job *job = context;
    (void)vocab;
    if (feed == 0)
        tensor_file_row(&job->file, 0, (int64_t)(job->main.done + row - job->first_row), logits);
}

static void keep_hidden(void *context, int feed, size_t row, int32_t index, const float *x,
                        int32_t width)
{
    struct job *job = context;
    (void)width;
    if (feed == 0) tensor_file_row(&job->file, 1 + index, (int64_t)(job->main.done + row), x);
}

static enum gdn_status read_cuts(struct job *job, const char *text, struct gdn_error *err)
{
    if (!text) return GDN_OK;
    enum gdn_status status = numbers_parse(text, strlen(text), 1, INT32_MAX, "length", &job->cuts,
                                           &job->cut_count, err);
    if (status != GDN_OK) {
        error_prefix(err, "--cuts");
        /* It stands on the command line, not in a file. */
        if (err) err->status = GDN_ERR_USAGE;
        return GDN_ERR_USAGE;
    }
    if (job->cut_count == 0)
        return error_set(err, GDN_ERR_USAGE, "--cuts: found no lengths, need at least one");
    return GDN_OK;
}

static enum gdn_status open_course(struct job *job, struct course *course, struct gdn_error *err)
{
    TRY(id_file_check(&course->file, job->info.vocab, err));
    if (course->file.count > (size_t)job->info.context)
        return error_set(err, GDN_ERR_INPUT, "%s: found %zu ids, the context holds %d",
                         course->file.path, course->file.count, job->info.context);
    return gdn_session_new(job->model, &course->session, err);
}

static enum gdn_status declare_tensors(struct job *job, struct gdn_error *err)
{
    const int64_t rows = (int64_t)job->main.file.count;
    struct tensor_file *f = &job->file;
    TRY(tensor_file_shape(f, "logits", rows - (int64_t)job->first_row, job->info.vocab, err));
    for (int32_t i = 0; job->settings->hidden && i <= job->info.layers; i++) {
        char name[32];
        snprintf(name, sizeof name, "hidden.%d", i);
        TRY(tensor_file_shape(f, name, rows, job->info.width, err));
    }
    return tensor_file_begin(f, err);
}

/* The next piece of a sequence; empty when it is through. */
static struct gdn_feed next_feed(const struct course *course, size_t want)
{
    const size_t left = course->file.count - course->done, n = want < left ? want : left;
    return (struct gdn_feed){.session = course->session, .ids = course->file.ids + course->done,
                             .n = n, .first = n};
}

/* How long piece number i is to be. */
static size_t piece_length(const struct job *job, size_t i)
{
    if (!job->cuts) return SIZE_MAX;
    return (size_t)job->cuts[i < job->cut_count ? i : job->cut_count - 1];
}

static enum gdn_status run_pieces(struct job *job, struct gdn_error *err)
{
    const struct gdn_sink sink = {.context = job, .logits = keep_logits,
                                  .hidden = job->settings->hidden ? keep_hidden : NULL};
    for (size_t i = 0; job->main.done < job->main.file.count; i++) {
        const size_t want = piece_length(job, i), done = job->main.done;
        struct gdn_feed feeds[2] = {next_feed(&job->main, want)};
        if (job->first_row <= done)
            feeds[0].first = 0;
        else if (job->first_row - done < feeds[0].n)
            feeds[0].first = job->first_row - done;
        int count = 1;
        if (job->beside.session) feeds[count] = next_feed(&job->beside, want);
        if (feeds[1].n > 0) count++;
        TRY(gdn_step(feeds, count, &sink, err));
        job->main.done += feeds[0].n;
        job->beside.done += feeds[1].n;
        if (job->file.error.status != GDN_OK) break;
    }
    return tensor_file_commit(&job->file, err);
}

static enum gdn_status run_job(struct job *job, struct gdn_error *err)
{
    const struct logits_settings *s = job->settings;
    TRY(read_cuts(job, s->cuts, err));
    TRY(id_file_open(&job->main.file, s->ids, err));
    if (s->beside) TRY(id_file_open(&job->beside.file, s->beside, err));
    const size_t rows = job->main.file.count;
    if (s->last > (int64_t)rows)
        return error_set(err, GDN_ERR_USAGE, "--last: found %lld, need at most %zu, the ids in %s",
                         (long long)s->last, rows, s->ids);
    job->first_row = s->last ? rows - (size_t)s->last : 0;
    TRY(tensor_file_create(&job->file, s->out, err));
    TRY(setup_open(s->model, &s->setup, s->beside ? 2 : 1, &job->model, err));
    gdn_model_describe(job->model, &job->info);
    setup_say_memory("logits", &s->setup, &job->info);
    TRY(open_course(job, &job->main, err));
    if (s->beside) TRY(open_course(job, &job->beside, err));
    TRY(declare_tensors(job, err));
    return run_pieces(job, err);
}

static void describe(struct options *o, struct logits_settings *s)
{
    options_group(o, "Input");
    options_text(o, "--ids", &s->ids, "FILE",
                 "token ids between white space or commas; - is stdin");
    options_text(o, "--cuts", &s->cuts, "N,N,...",
                 "feed the ids in pieces of these lengths, repeating the last");
    options_text(o, "--batch-with", &s->beside, "FILE",
                 "run these ids beside them, cut the same way; their outputs are not kept");
    options_group(o, "Output");
    options_text(o, "--out", &s->out, "FILE", "safetensors file to write");
    options_integer(o, "--last", &s->last, 1, INT32_MAX, "all", "logits of the last N rows only");
    options_flag(o, "--hidden", &s->hidden, "also write what every layer gives");
    setup_options(o, &s->setup);
    setup_context_option(o, &s->setup);
}

static enum gdn_status run(int argc, char **argv, struct gdn_error *err)
{
    struct logits_settings s = {.setup = setup_defaults()};
    struct options o = {0};
    bool done;
    describe(&o, &s);
    TRY(command_line(&command_logits, &o, argc, argv, &done, err));
    if (done) return GDN_OK;
    if (!s.ids) return error_set(err, GDN_ERR_USAGE, "--ids is missing: need a file of token ids");
    if (!s.out) return error_set(err, GDN_ERR_USAGE, "--out is missing: need the file to write");
    s.model = o.words[0];
    struct job job = {.settings = &s};
    const enum gdn_status status = run_job(&job, err);
    tensor_file_abandon(&job.file);
    gdn_model_close(job.model);
    id_file_close(&job.main.file);
    id_file_close(&job.beside.file);
    mem_give(job.cuts);
    return status;
}

const struct command command_logits = {
    .name = "logits", .words = "MODEL --ids FILE --out FILE", .least = 1, .most = 1, .run = run,
    .summary = "Write the logits of a sequence of token ids to a file",
    .examples = "logits models/demo --ids ids.txt --out out.safetensors --last 1\n"
                "logits models/demo --ids ids.txt --out out.safetensors --hidden --cuts 1,5,16",
    .notes = "The file holds f32 tensors: logits [ids, vocabulary] and, with --hidden, hidden.0\n"
             "(the embedding), hidden.1 to hidden.L-1 (after each layer but the last) and\n"
             "hidden.L (after the final norm), each [ids, width]. It appears when it is complete.",
};

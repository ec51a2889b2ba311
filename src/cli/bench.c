/* bench.c: `gdn bench`: how fast a model reads prompts and answers on this machine. */
#include "cli/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/roof.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/setup.h"
#include "cli/shapes.h"

enum { MOST_ROUNDS = 99, MOST_TOGETHER = 256 };

struct list {
    int64_t value[BENCH_LIST];
    int count;
};

struct bench_settings {
    const char *model, *shape, *prompts, *depths;
    int64_t answer, rounds, together;
    int format;
    bool profile;
    struct setup setup;
};

struct job {
    const struct bench_settings *settings;
    struct list prompts, depths;
    gdn_model *model;
    struct gdn_model_info info;
    gdn_session *session[MOST_TOGETHER]; /* the first one reads prompts */
    struct gdn_turn turn[MOST_TOGETHER];
    gdn_snapshot *start; /* of the depth at hand; NULL: an empty session */
    int32_t *ids;        /* random ones, as many as the longest prompt or depth */
    struct bench_report report;
};

/* ---- what is asked for ----------------------------------------------------------------------- */

/* "128,512,2048" */
static enum gdn_status read_list(const char *name, const char *text, int64_t least,
                                 struct list *list, struct gdn_error *err)
{
    enum { MOST = 1 << 24 };
    for (const char *at = text; *at; list->count++) {
        char *end;
        const long long v = strtoll(at, &end, 10);
        if (end == at || (*end && *end != ',') || (*end && !end[1]) || v < least || v > MOST ||
            list->count == BENCH_LIST)
            return error_set(err, GDN_ERR_USAGE, "%s: found \"%.80s\", need up to %d whole numbers "
                             "from %lld to %d with commas between them", name, text, BENCH_LIST,
                             (long long)least, MOST);
        list->value[list->count] = v;
        at = *end ? end + 1 : end;
    }
    return GDN_OK;
}

static int64_t most_of(const struct list *list)
{
    int64_t most = 0;
    for (int i = 0; i < list->count; i++)
        if (list->value[i] > most) most = list->value[i];
    return most;
}

static enum gdn_status check_settings(struct job *job, struct gdn_error *err)
{
    const struct bench_settings *s = job->settings;
    if (!s->model == !s->shape)
        return error_set(err, GDN_ERR_USAGE, "found %s, need one of them",
                         s->model ? "a model and --shape" : "neither a model nor --shape");
    TRY(read_list("-p", s->prompts, 1, &job->prompts, err));
    return read_list("-d", s->depths, 0, &job->depths, err);
}

/* ---- measuring ------------------------------------------------------------------------------- */

/* A session as it is behind `depth` tokens. */
static enum gdn_status go_back(struct job *job, int64_t i, struct gdn_error *err)
{
    if (job->start) return gdn_session_restore(job->session[i], job->start, err);
    gdn_session_free(job->session[i]);
    job->session[i] = NULL;
    return gdn_session_new(job->model, &job->session[i], err);
}

static enum gdn_status go_deep(struct job *job, int64_t depth, struct gdn_error *err)
{
    gdn_snapshot_free(job->start);
    job->start = NULL;
    if (depth == 0) return GDN_OK;
    TRY(go_back(job, 0, err));
    TRY(gdn_session_feed(job->session[0], job->ids, (size_t)depth, err));
    return gdn_session_snapshot(job->session[0], &job->start, err);
}

static enum gdn_status one_prompt(struct job *job, const struct bench_row *row, double *seconds,
                                  struct gdn_error *err)
{
    TRY(go_back(job, 0, err));
    const double begin = clock_seconds();
    TRY(gdn_session_feed(job->session[0], job->ids, (size_t)row->tokens, err));
    *seconds = clock_seconds() - begin;
    return GDN_OK;
}

/* Every token is chosen, greedily, as in an answer; all sequences take a step together. */
static enum gdn_status one_answer(struct job *job, const struct bench_row *row, double *seconds,
                                  struct gdn_error *err)
{
    static const struct gdn_sampling greedy = {.size = sizeof greedy, .temperature = 0};
    const int64_t n = job->settings->together;
    int32_t id[MOST_TOGETHER];
    double begin = 0;
    for (int64_t i = 0; i < n; i++) {
        TRY(go_back(job, i, err));
        id[i] = job->ids[0];
        job->turn[i] = (struct gdn_turn){.session = job->session[i], .ids = &id[i], .n = 1,
                                         .sampling = &greedy, .most = 1};
    }
    for (int64_t t = -1; t < row->tokens; t++) {
        if (t == 0) begin = clock_seconds();
        TRY(gdn_next(job->turn, (int)n, err));
        for (int64_t i = 0; i < n; i++) id[i] = job->turn[i].id[0];
    }
    *seconds = clock_seconds() - begin;
    return GDN_OK;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Reading: the weights (once for all sequences that go together; of experts, as if they agreed),
 * the recurrent state, the keys and values so far. The head's product is made once a prompt. */
static void add_costs(const struct job *job, struct bench_row *row)
{
    const struct gdn_model_info *i = &job->info;
    const double past = (double)row->depth + 0.5 * (double)row->tokens;
    const double head = (double)i->vocab * i->width;
    row->bytes = i->token_bytes / (double)row->together + (double)i->state_bytes +
                 past * (double)i->kv_token_bytes;
    row->flops = 2 * (i->token_products - head + head / (double)row->tokens);
}

/* The first round warms up. */
static enum gdn_status measure(struct job *job, struct bench_row *row, struct gdn_error *err)
{
    const int64_t rounds = job->settings->rounds;
    double rate[MOST_ROUNDS], seconds;
    for (int64_t i = -1; i < rounds; i++) {
        if (i == 0 && job->settings->profile)
            (void)gdn_model_profile(job->model, NULL, 0);
        const double begin = clock_seconds();
        TRY((row->decode ? one_answer : one_prompt)(job, row, &seconds, err));
        if (i < 0) continue;
        rate[i] = (double)(row->tokens * row->together) / seconds;
        row->seconds += clock_seconds() - begin;
    }
    if (job->settings->profile) row->ops = gdn_model_profile(job->model, row->op, BENCH_OPS);
    qsort(rate, (size_t)rounds, sizeof *rate, ascending);
    row->median = rate[rounds / 2];
    row->low = rate[0];
    row->high = rate[rounds - 1];
    add_costs(job, row);
    return GDN_OK;
}

static enum gdn_status measure_all(struct job *job, struct gdn_error *err)
{
    struct bench_report *r = &job->report;
    for (int d = 0; d < job->depths.count; d++) {
        const int64_t depth = job->depths.value[d];
        TRY(go_deep(job, depth, err));
        for (int p = 0; p < job->prompts.count; p++) {
            r->row[r->rows] = (struct bench_row){.tokens = job->prompts.value[p], .depth = depth,
                                                 .together = 1};
            TRY(measure(job, &r->row[r->rows++], err));
        }
        if (job->settings->answer == 0) continue;
        r->row[r->rows] = (struct bench_row){.decode = true, .tokens = job->settings->answer,
                                             .depth = depth,
                                             .together = job->settings->together};
        TRY(measure(job, &r->row[r->rows++], err));
    }
    return GDN_OK;
}

/* ---- around it ------------------------------------------------------------------------------- */

static void name_processor(char *out, size_t room)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(out, room, "unknown processor");
    while (file && fgets(line, sizeof line, file)) {
        const char *name = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !name) continue;
        snprintf(out, room, "%.*s", (int)strcspn(name + 2, "\n"), name + 2);
        break;
    }
    if (file) fclose(file);
}

static enum gdn_status draw_ids(struct job *job, struct gdn_error *err)
{
    int64_t most = most_of(&job->prompts);
    if (most_of(&job->depths) > most) most = most_of(&job->depths);
    struct rng rng = {.seed = 1};
    job->ids = mem_take_array((size_t)most + 1, sizeof *job->ids);
    if (!job->ids) return error_set(err, GDN_ERR_MEMORY, "no memory for %lld ids", (long long)most);
    for (int64_t i = 0; i <= most; i++)
        job->ids[i] = (int32_t)rng_below(&rng, (uint64_t)job->info.vocab);
    return GDN_OK;
}

/* From a folder, or without one when the shape's weights can be made where they are used. */
static enum gdn_status open_or_draw(struct job *job, const char *path, const struct setup *setup,
                                    struct gdn_error *err)
{
    const struct bench_settings *s = job->settings;
    char *config;
    size_t len;
    if (path) return setup_open(path, setup, (int)s->together, &job->model, err);
    TRY(shape_config(s->shape, &config, &len, err));
    const enum gdn_status status = setup_open_random(config, len, setup, (int)s->together,
                                                     &job->model, err);
    mem_give(config);
    return status;
}

static enum gdn_status open_model(struct job *job, const char *path, struct gdn_error *err)
{
    const struct bench_settings *s = job->settings;
    struct setup setup = s->setup;
    struct bench_report *r = &job->report;
    const int64_t longest = most_of(&job->prompts);
    setup.context = most_of(&job->depths) + (longest > s->answer ? longest : s->answer) + 2;
    peak_reset();
    const double begin = clock_seconds();
    TRY(open_or_draw(job, path, &setup, err));
    gdn_model_describe(job->model, &job->info);
    for (int64_t i = 0; i < s->together; i++)
        TRY(gdn_session_new(job->model, &job->session[i], err));
    r->open_seconds = clock_seconds() - begin;
    return draw_ids(job, err);
}

static uint32_t isa_of(const struct bench_settings *s)
{
    return cpu_flags() & ~setup_without(&s->setup);
}

static enum gdn_status measure_roofs(struct job *job, struct gdn_error *err)
{
    const struct bench_settings *s = job->settings;
    struct bench_report *r = &job->report;
    if (!setup_on_host(&s->setup)) return GDN_OK;
    return roofs_measure(isa_of(s), r->threads, job->info.token_bytes, &r->machine, err);
}

static enum gdn_status bench_model(struct job *job, const char *path, struct gdn_error *err)
{
    struct bench_report *r = &job->report;
    TRY(open_model(job, path, err));
    r->peak = peak_bytes();
    TRY(measure_roofs(job, err));
    peak_reset(); /* what the roof took is not the model's */
    TRY(measure_all(job, err));
    if (peak_bytes() > r->peak) r->peak = peak_bytes();
    TRY(measure_roofs(job, err));
    struct bytes out = {0};
    bench_print(r, (enum bench_format)job->settings->format, job->settings->profile, &out);
    return output_bytes(&out, err);
}

static enum gdn_status run_job(struct job *job, struct gdn_error *err)
{
    const struct bench_settings *s = job->settings;
    TRY(check_settings(job, err));
    struct bench_report *r = &job->report;
    r->model = s->model ? s->model : s->shape;
    r->mode = s->setup.fast ? "fast" : "exact";
    r->compute = s->setup.compute == GDN_BF16 ? "bf16"
               : s->setup.compute == GDN_F64  ? "f64" : "f32";
    r->instructions = roof_of(isa_of(s))->name;
    r->threads = s->setup.threads ? (int)s->setup.threads : cpu_count();
    r->repeats = (int)s->rounds;
    name_processor(r->processor, sizeof r->processor);
    if (s->model || setup_draws(&s->setup)) return bench_model(job, s->model, err);
    char folder[SHAPE_FOLDER];
    TRY(shape_make(s->shape, folder, err));
    const enum gdn_status status = bench_model(job, folder, err);
    shape_drop(folder);
    return status;
}

static void describe(struct options *o, struct bench_settings *s)
{
    options_group(o, "Work");
    options_text(o, "--shape", &s->shape, "NAME", "a published model's shape with random weights, "
                 "instead of MODEL");
    options_text(o, "-p", &s->prompts, "N,..", "prompts of so many tokens (default: 128,512)");
    options_integer(o, "-n", &s->answer, 0, INT32_MAX, "64", "tokens of an answer; 0: none");
    options_text(o, "-d", &s->depths, "N,..", "so many tokens came before (default: 0)");
    options_integer(o, "-b", &s->together, 1, MOST_TOGETHER, "1",
                    "answers at once, a step for all");
    options_integer(o, "-r", &s->rounds, 1, MOST_ROUNDS, "3", "rounds, after one to warm up");
    options_group(o, "Output");
    options_choice(o, "-o", &s->format, "md|csv|json", "md", "how the table is written");
    options_flag(o, "--profile", &s->profile, "what share of the time each kind of op takes");
    setup_options(o, &s->setup);
}

static enum gdn_status run(int argc, char **argv, struct gdn_error *err)
{
    struct bench_settings s = {.prompts = "128,512", .depths = "0", .answer = 64, .rounds = 3,
                               .together = 1,
                               .setup = setup_defaults()};
    struct options o = {0};
    bool done;
    describe(&o, &s);
    TRY(command_line(&command_bench, &o, argc, argv, &done, err));
    if (done) return GDN_OK;
    s.model = o.word_count > 0 ? o.words[0] : NULL;
    struct job *job = mem_take(sizeof *job);
    if (!job) return error_set(err, GDN_ERR_MEMORY, "no memory for a report");
    job->settings = &s;
    const enum gdn_status status = run_job(job, err);
    gdn_snapshot_free(job->start);
    gdn_model_close(job->model);
    mem_give(job->ids);
    mem_give(job);
    return status;
}

const struct command command_bench = {
    .name = "bench", .words = "[MODEL]", .least = 0, .most = 1, .run = run,
    .summary = "Measure how fast a model reads prompts and answers",
    .examples = "bench models/demo\n"
                "bench --shape qwen3.5-0.8b -p 512,2048 -n 64 -d 0,4096 --threads 2\n"
                "bench models/demo -o json --profile",
    .notes = "Medians; spread is highest less lowest over the median. The roof of a prompt is\n"
             "what the machine multiplies in registers, of an answer what it reads (weights,\n"
             "recurrent state, keys and values of the tokens before), both measured before and\n"
             "after in the same run; those of a GPU are not known. Shapes: qwen3.5-0.8b, -2b,\n"
             "-4b, -9b, -35b-a3b, qwen3.6-27b, qwen3-next-80b-a3b, kimi-linear-48b-a3b,\n"
             "olmo-hybrid-7b, or a config.json; their weights are made in the GPU's memory, or as\n"
             "files in /tmp that are removed, in bf16.",
};

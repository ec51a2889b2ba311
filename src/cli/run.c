/* run.c: `gdn run`: one prompt in, its answer out, token by token as it comes. */
#include <stdio.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "cli/command.h"
#include "cli/setup.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/output.h"

enum { PROMPT_BYTES = 64 << 20, PIECE = 512 };

struct run_settings {
    const char *model, *text, *ids, *system, *save, *resume;
    bool raw, think, no_think, print_ids, stats;
    int64_t most, top_k, seed; /* the last two and those below: -1 when not given */
    double temperature, top_p, min_p;
    struct setup setup;
};

struct job {
    const struct run_settings *settings;
    gdn_model *model;
    struct gdn_model_info info;
    gdn_session *session;
    gdn_decoder *decoder; /* NULL: ids are printed */
    struct gdn_sampling sampling;
    char *text; /* of standard input */
    struct id_file file;
    int32_t *prompt;
    size_t prompt_len;
    int32_t reused; /* tokens of --resume */
    int32_t said;   /* the last token printed, while it is not fed; -1: none */
    int64_t answer_len;
    double begin, fed, first, end; /* seconds */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- the prompt ------------------------------------------------------------------------------ */

static enum gdn_status check_settings(const struct run_settings *s, struct gdn_error *err)
{
    if (s->ids && s->text)
        return error_set(err, GDN_ERR_USAGE, "--ids: found a prompt beside it, need one of them");
    if (s->think && s->no_think)
        return error_set(err, GDN_ERR_USAGE, "--think and --no-think: found both, need one");
    if ((s->ids || s->raw) && (s->system || s->think || s->no_think))
        return error_set(err, GDN_ERR_USAGE, "%s: found with %s, which is for a chat",
                         s->ids ? "--ids" : "--raw",
                         s->system ? "--system" : s->think ? "--think" : "--no-think");
    if (s->resume && s->system)
        return error_set(err, GDN_ERR_USAGE, "--system: found with --resume, whose conversation "
                         "has begun already");
    if (!s->ids && !s->text && !s->resume && isatty(STDIN_FILENO))
        return error_set(err, GDN_ERR_USAGE, "the prompt is missing: need a text after the model, "
                         "or one on standard input");
    return GDN_OK;
}

static bool has_prompt(const struct run_settings *s) { return s->ids || s->text || !s->resume; }

/* Whatever is wrong with the prompt is said before the model is opened, if it can be. */
static enum gdn_status read_prompt(struct job *job, struct prompt *prompt, struct gdn_error *err)
{
    const struct run_settings *s = job->settings;
    if (!has_prompt(s)) return GDN_OK;
    if (s->ids) return id_file_open(&job->file, s->ids, err);
    *prompt = (struct prompt){.text = s->text, .len = s->text ? strlen(s->text) : 0,
                              .chat = !s->raw, .system = s->system,
                              .think = s->think      ? GDN_THINK_ON
                                       : s->no_think ? GDN_THINK_OFF : GDN_THINK_DEFAULT};
    if (!s->text || strcmp(s->text, "-") == 0) {
        TRY(input_read("-", PROMPT_BYTES, &job->text, &prompt->len, err));
        prompt->text = job->text;
    }
    if (prompt->len > 0) return GDN_OK;
    return error_set(err, GDN_ERR_USAGE, "the prompt is empty: need a text");
}

/* The next question goes behind the answer that was saved, which has no end token yet: an answer
 * ends where one is drawn, and that one is not fed. */
static enum gdn_status next_turn(struct job *job, struct gdn_error *err)
{
    static const char end[] = "<|im_end|>\n";
    int32_t ids[8];
    size_t n = sizeof ids / sizeof *ids;
    TRY(gdn_tokenize(job->model, end, sizeof end - 1, GDN_CONTROL, ids, &n, err));
    if (n > sizeof ids / sizeof *ids)
        return error_set(err, GDN_ERR_UNSUPPORTED, "the tokenizer has no <|im_end|>");
    const size_t skip = gdn_session_tokens(job->session)[job->reused - 1] == ids[0];
    int32_t *all = mem_take_array(n + job->prompt_len, sizeof *all);
    if (!all) return error_set(err, GDN_ERR_MEMORY, "no memory for the prompt");
    memcpy(all, ids + skip, sizeof *all * (n - skip));
    memcpy(all + n - skip, job->prompt, sizeof *all * job->prompt_len);
    mem_give(job->prompt);
    job->prompt = all;
    job->prompt_len += n - skip;
    return GDN_OK;
}

static enum gdn_status take_tokens(struct job *job, const struct prompt *prompt,
                                   struct gdn_error *err)
{
    const struct run_settings *s = job->settings;
    if (!has_prompt(s)) return GDN_OK;
    if (s->ids) {
        TRY(id_file_check(&job->file, job->info.vocab, err));
        job->prompt_len = job->file.count;
    } else {
        TRY(prompt_tokens(job->model, prompt, &job->prompt, &job->prompt_len, err));
        if (s->resume && !s->raw) TRY(next_turn(job, err));
    }
    const int32_t context = setup_context(&s->setup, &job->info);
    const size_t all = job->prompt_len + (size_t)job->reused;
    if (all > (size_t)context)
        return error_set(err, GDN_ERR_INPUT, "the prompt: found %zu tokens, the context holds %d",
                         all, context);
    return GDN_OK;
}

/* ---- how to choose --------------------------------------------------------------------------- */

static void choose_sampling(struct job *job)
{
    const struct run_settings *s = job->settings;
    struct gdn_sampling *how = &job->sampling;
    if (job->info.recommends)
        *how = (struct gdn_sampling){.temperature = job->info.temperature,
                                     .top_k = job->info.top_k, .top_p = job->info.top_p};
    if (s->temperature >= 0) how->temperature = s->temperature;
    if (s->top_k >= 0) how->top_k = (int32_t)s->top_k;
    if (s->top_p >= 0) how->top_p = s->top_p;
    if (s->min_p >= 0) how->min_p = s->min_p;
    /* A small number can be typed again. */
    uint32_t drawn = 0;
    if (s->seed < 0 && getrandom(&drawn, sizeof drawn, GRND_NONBLOCK) < 0) drawn = 0;
    how->seed = s->seed < 0 ? drawn : (uint64_t)s->seed;
}

/* ---- the answer ------------------------------------------------------------------------------ */

/* In pieces, so that Ctrl-C is seen. */
static enum gdn_status feed_prompt(struct job *job, struct gdn_error *err)
{
    const int32_t *ids = job->settings->ids ? job->file.ids : job->prompt;
    for (size_t i = 0; i < job->prompt_len && !interrupt_noted(); i += PIECE) {
        const size_t left = job->prompt_len - i;
        TRY(gdn_session_feed(job->session, ids + i, left < PIECE ? left : PIECE, err));
    }
    return GDN_OK;
}

static bool is_eos(const struct gdn_model_info *info, int32_t id)
{
    for (int32_t i = 0; i < info->eos_count; i++)
        if (info->eos[i] == id) return true;
    return false;
}

static void print_token(struct job *job, int32_t id)
{
    char text[16];
    snprintf(text, sizeof text, "%s%d", job->answer_len ? " " : "", id);
    output_text(job->decoder ? gdn_decoder_push(job->decoder, id) : text);
    if (job->answer_len++ == 0) job->first = now();
}

static enum gdn_status answer(struct job *job, struct gdn_error *err)
{
    const int32_t context = setup_context(&job->settings->setup, &job->info);
    while (!interrupt_noted() && output_open()) {
        int32_t id;
        TRY(gdn_session_sample(job->session, &job->sampling, &id, err));
        if (is_eos(&job->info, id)) break;
        print_token(job, id);
        job->said = id;
        if (job->answer_len == job->settings->most) break;
        if (gdn_session_position(job->session) >= context) {
            fprintf(stderr, "gdn run: stopped: the context of %d tokens is full\n", context);
            break;
        }
        TRY(gdn_session_feed(job->session, &id, 1, err));
        job->said = -1;
    }
    if (job->decoder) output_text(gdn_decoder_push(job->decoder, -1));
    output_text("\n");
    return GDN_OK;
}

/* With all that was said, so that it is not said again. */
static enum gdn_status save(struct job *job, struct gdn_error *err)
{
    if (!job->settings->save) return GDN_OK;
    if (job->said >= 0 &&
        gdn_session_position(job->session) < setup_context(&job->settings->setup, &job->info))
        TRY(gdn_session_feed(job->session, &job->said, 1, err));
    return gdn_session_save(job->session, job->settings->save, err);
}

static double rate(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

/* One line for a person. The first token is counted from the start of the program. */
static void print_stats(const struct job *job)
{
    if (!job->settings->stats && !isatty(STDERR_FILENO)) return;
    fprintf(stderr, "[prompt %zu tokens, %.0f tok/s; ", job->prompt_len,
            rate((double)job->prompt_len, job->fed - job->begin));
    if (job->settings->resume) fprintf(stderr, "reused %d tokens; ", job->reused);
    if (job->answer_len == 0) {
        fprintf(stderr, "no answer");
    } else {
        fprintf(stderr, "answer %lld tokens, %.0f tok/s; first token %.0f ms",
                (long long)job->answer_len,
                rate((double)(job->answer_len - 1), job->end - job->first),
                1e3 * job->first);
    }
    if (job->sampling.temperature > 0)
        fprintf(stderr, "; seed %llu", (unsigned long long)job->sampling.seed);
    fprintf(stderr, "]\n");
}

static enum gdn_status open_session(struct job *job, struct gdn_error *err)
{
    const char *path = job->settings->resume;
    bool converted = false;
    if (!path) return gdn_session_new(job->model, &job->session, err);
    TRY(gdn_session_load(job->model, path, &job->session, &converted, err));
    job->reused = gdn_session_position(job->session);
    if (converted)
        fprintf(stderr, "gdn run: %s: its state was of another type and has been converted\n",
                path);
    return GDN_OK;
}

static enum gdn_status run_job(struct job *job, double start, struct gdn_error *err)
{
    struct prompt prompt = {0};
    TRY(check_settings(job->settings, err));
    TRY(read_prompt(job, &prompt, err));
    TRY(setup_open(job->settings->model, &job->settings->setup, 1, &job->model, err));
    gdn_model_describe(job->model, &job->info);
    TRY(open_session(job, err));
    TRY(take_tokens(job, &prompt, err));
    choose_sampling(job);
    if (job->settings->ids && !job->settings->print_ids && job->info.tokens == 0)
        return error_set(err, GDN_ERR_INPUT, "%s: found no tokenizer.json to make the answer a "
                         "text, need --print-ids", job->settings->model);
    if (!job->settings->print_ids) TRY(gdn_decoder_new(job->model, true, &job->decoder, err));
    interrupt_note();
    job->begin = now();
    TRY(feed_prompt(job, err));
    job->fed = now();
    if (interrupt_noted()) return GDN_OK;
    TRY(answer(job, err));
    job->end = now();
    job->first -= start;
    job->end -= start;
    print_stats(job);
    return save(job, err);
}

/* ---- the command ----------------------------------------------------------------------------- */

static void describe(struct options *o, struct run_settings *s)
{
    options_group(o, "Prompt");
    options_flag(o, "--raw", &s->raw, "the prompt is plain text to go on with, not a question");
    options_text(o, "--system", &s->system, "TEXT", "system message before the question");
    options_flag(o, "--think", &s->think, "let the model think aloud first");
    options_flag(o, "--no-think", &s->no_think, "or let it not (default: its template decides)");
    options_text(o, "--ids", &s->ids, "FILE", "token ids instead of a text; - is stdin");
    options_text(o, "--resume", &s->resume, "FILE",
                 "go on from a state that --save wrote; PROMPT is then the next question");
    options_group(o, "Answer");
    options_integer(o, "-n", &s->most, 1, INT32_MAX, "256", "most tokens of the answer");
    options_flag(o, "--print-ids", &s->print_ids, "print token ids, without the one that ends it");
    options_text(o, "--save", &s->save, "FILE", "write the state behind the answer");
    options_flag(o, "--stats", &s->stats, "a line of times on stderr (always there on a terminal)");
    options_group(o, "Choosing a token (defaults: what the model's makers recommend)");
    options_real(o, "--temp", &s->temperature, 0, 100, "0 if none",
                 "temperature; 0: the most likely token");
    options_integer(o, "--top-k", &s->top_k, 0, 256, NULL, "of the N most likely; 0: of 256");
    options_real(o, "--top-p", &s->top_p, 0, 1, NULL, "of those that make up this share; 0: off");
    options_real(o, "--min-p", &s->min_p, 0, 1, "0, off",
                 "of those at least this likely, relative to the best");
    options_integer(o, "--seed", &s->seed, 0, INT64_MAX, "drawn", "same seed, same answer");
    setup_options(o, &s->setup);
    setup_context_option(o, &s->setup);
}

static enum gdn_status run(int argc, char **argv, struct gdn_error *err)
{
    const double start = now();
    struct run_settings s = {.most = 256, .top_k = -1, .seed = -1, .temperature = -1, .top_p = -1,
                             .min_p = -1, .setup = setup_defaults()};
    struct options o = {0};
    bool done;
    describe(&o, &s);
    TRY(command_line(&command_run, &o, argc, argv, &done, err));
    if (done) return GDN_OK;
    s.model = o.words[0];
    s.text = o.word_count > 1 ? o.words[1] : NULL;
    struct job job = {.settings = &s, .said = -1};
    const enum gdn_status status = run_job(&job, start, err);
    gdn_decoder_free(job.decoder);
    gdn_model_close(job.model);
    id_file_close(&job.file);
    mem_give(job.prompt);
    mem_give(job.text);
    return status;
}

const struct command command_run = {
    .name = "run", .words = "MODEL [PROMPT]", .least = 1, .most = 2, .run = run,
    .summary = "Answer a prompt",
    .examples = "run models/demo \"What is the capital of France?\"\n"
                "run models/demo \"Once upon a time\" --raw -n 100 --temp 0.7 --seed 1\n"
                "run models/demo --ids ids.txt -n 20 --temp 0 --print-ids\n"
                "run models/demo < question.txt\n"
                "run models/demo \"My name is Ada.\" --save chat.gdnstate\n"
                "run models/demo \"What is my name?\" --resume chat.gdnstate",
    .notes = "Without PROMPT, or with -, the prompt is read from standard input. The answer ends\n"
             "with any of the model's end tokens, after -n tokens, or when the context is full.\n"
             "Ctrl-C ends it after the current token; a second one ends the program.\n"
             "A resumed state costs no prefill; without a PROMPT it goes on where it stopped.",
};

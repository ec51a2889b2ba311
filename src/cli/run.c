/* run.c: `gdn run`: one prompt in, its answer out, token by token as it comes. */
#include <stdio.h>
#include <unistd.h>

#include "base/json.h"
#include "base/clock.h"
#include "base/machine.h"
#include "base/memory.h"
#include "base/numbers.h"
#include "cli/answer.h"
#include "cli/asked.h"
#include "cli/command.h"
#include "cli/figures.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"

enum { PROMPT_BYTES = 64 << 20, PIECE = 512 };

struct run_settings {
    const char *model, *text, *ids, *save, *resume;
    bool raw, print_ids, json;
    int64_t logprobs; /* -1: not given */
    struct asked asked;
};

struct job {
    const struct run_settings *settings;
    gdn_model *model;
    struct gdn_model_info info;
    gdn_session *session;
    enum gdn_think think;
    struct chosen chosen;
    struct speech speech;
    struct answer answer;
    char *text; /* of standard input */
    struct id_file file;
    int32_t *prompt;
    size_t prompt_len;
    int32_t reused; /* tokens of --resume */
    double start, begin, fed; /* seconds: of the program, before the prompt and behind it */
};

/* ---- the prompt ------------------------------------------------------------------------------ */

static enum gdn_status check_settings(const struct run_settings *s, struct gdn_error *err)
{
    if (s->ids && s->text)
        return error_set(err, GDN_ERR_USAGE, "--ids: found a prompt beside it, need one of them");
    const struct asked *a = &s->asked;
    if ((s->ids || s->raw) && (a->system || a->think || a->no_think))
        return error_set(err, GDN_ERR_USAGE, "%s: found with %s, which is for a chat",
                         s->ids ? "--ids" : "--raw",
                         a->system ? "--system" : a->think ? "--think" : "--no-think");
    if (s->json && s->print_ids)
        return error_set(err, GDN_ERR_USAGE, "--json and --print-ids: found both, need one (the "
                         "object has the ids)");
    if (s->logprobs >= 0 && !s->json)
        return error_set(err, GDN_ERR_USAGE, "--logprobs: found without --json, whose object has "
                         "them");
    if (a->show_thinking && (s->json || s->print_ids))
        return error_set(err, GDN_ERR_USAGE, "--show-thinking: found with %s, need it alone",
                         s->json ? "--json, whose object has the thoughts apart" : "--print-ids");
    if (s->resume && a->system)
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
                              .chat = !s->raw, .behind = s->resume != NULL,
                              .system = s->asked.system, .think = job->think};
    if (!s->text || strcmp(s->text, "-") == 0) {
        TRY(input_read("-", PROMPT_BYTES, &job->text, &prompt->len, err));
        prompt->text = job->text;
    }
    if (prompt->len > 0) return GDN_OK;
    return error_set(err, GDN_ERR_USAGE, "the prompt is empty: need a text");
}

static bool is_eos(const struct gdn_model_info *info, int32_t id)
{
    for (int32_t i = 0; i < info->eos_count; i++)
        if (info->eos[i] == id) return true;
    return false;
}

/* An answer that ended by itself has no end token yet: it is drawn, and not fed. One that was fed
 * is not fed twice. */
static void drop_second_end(struct job *job)
{
    const int32_t last = gdn_session_tokens(job->session)[job->reused - 1];
    if (job->prompt_len == 0 || job->prompt[0] != last || !is_eos(&job->info, last)) return;
    job->prompt_len--;
    memmove(job->prompt, job->prompt + 1, sizeof *job->prompt * job->prompt_len);
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
        if (prompt->behind && job->reused > 0) drop_second_end(job);
    }
    const size_t all = job->prompt_len + (size_t)job->reused;
    if (all > (size_t)job->info.context)
        return error_set(err, GDN_ERR_INPUT, "the prompt: found %zu tokens, the context holds %d",
                         all, job->info.context);
    return GDN_OK;
}

/* ---- the answer ------------------------------------------------------------------------------ */

/* In pieces, so that Ctrl-C is seen. */
static enum gdn_status feed_prompt(struct job *job, struct gdn_error *err)
{
    const int32_t *ids = job->settings->ids ? job->file.ids : job->prompt;
    const size_t all = job->prompt_len;
    struct progress progress = progress_begin();
    enum gdn_status status = GDN_OK;
    for (size_t i = 0; i < all && status == GDN_OK && !interrupt_noted(); i += PIECE) {
        progress_tell(&progress, "reading", (int64_t)i, (int64_t)all, "tokens");
        status = gdn_session_feed(job->session, ids + i, all - i < PIECE ? all - i : PIECE, err);
    }
    progress_end(&progress);
    return status;
}

/* What stands before the answer, as far as it may open thoughts: of a text to go on with nothing
 * does. */
static enum gdn_status begin_answer(struct job *job, struct gdn_error *err)
{
    const struct run_settings *s = job->settings;
    const bool plain = s->raw && has_prompt(s);
    job->speech = (struct speech){
        .form = s->print_ids ? SPEECH_IDS : s->json ? SPEECH_JSON : SPEECH_TEXT,
        .show_thinking = s->asked.show_thinking, .stop = job->chosen.string,
        .stop_count = job->chosen.string_count};
    job->answer = (struct answer){
        .model = job->model, .session = job->session, .chosen = &job->chosen,
        .speech = &job->speech, .most = s->asked.most, .context = job->info.context,
        .top = (int32_t)s->logprobs};
    return speech_begin(&job->speech, job->model, job->info.tokens > 0,
                        gdn_session_tokens(job->session),
                        plain ? 0 : (size_t)gdn_session_position(job->session), err);
}

static enum gdn_status answer(struct job *job, struct gdn_error *err)
{
    TRY(answer_take(&job->answer, err));
    const bool cut = !speech_end(&job->speech);
    if (job->answer.end == ANSWER_FULL)
        fprintf(stderr, "gdn run: stopped: the context of %d tokens is full\n",
                job->info.context);
    if (cut) fprintf(stderr, "gdn run: the answer ended while the model was thinking\n");
    return GDN_OK;
}

/* With all that was said, so that it is not said again. */
static enum gdn_status save(struct job *job, struct gdn_error *err)
{
    if (!job->settings->save) return GDN_OK;
    if (job->answer.said >= 0 && gdn_session_position(job->session) < job->info.context)
        TRY(gdn_session_feed(job->session, &job->answer.said, 1, err));
    return gdn_session_save(job->session, job->settings->save, err);
}

/* One line for a person. The first token is counted from the start of the program. */
static void print_figures(const struct job *job)
{
    const struct gdn_draft_stats none = {0};
    const struct answer *a = &job->answer;
    struct bytes line = {0};
    if (!job->settings->asked.stats && !isatty(STDERR_FILENO)) return;
    struct figures f = {.read = (int64_t)job->prompt_len, .reused = job->reused,
                        .said = job->speech.count, .reading = job->fed - job->begin,
                        .first = a->first - job->start, .saying = a->last - a->first,
                        .drawn = job->chosen.sampling.temperature > 0,
                        .seed = job->chosen.sampling.seed};
    if (job->settings->asked.setup.draft != GDN_DRAFT_OFF)
        f.drafts = figures_drafts(job->session, &none);
    figures_print(&f, &line);
    if (line.at) fputs(line.at, stderr);
    bytes_free(&line);
}

static void put_text(struct bytes *out, const char *key, const struct bytes *text)
{
    bytes_addf(out, "\"%s\":", key);
    if (!text)
        bytes_add_text(out, "null");
    else
        json_put_string(out, text->len ? text->at : "", text->len);
}

/* One object for a program: times in milliseconds, the first token counted as above. */
static enum gdn_status print_json(struct job *job, struct gdn_error *err)
{
    static const char *const ends[] = {"stop", "length", "length", "interrupted"};
    struct speech *speech = &job->speech;
    const struct answer *a = &job->answer;
    struct bytes out = {0};
    const bool text = speech->reply != NULL;
    bytes_add_text(&out, "{");
    put_text(&out, "text", text ? &speech->answer : NULL);
    bytes_add_text(&out, ",");
    put_text(&out, "reasoning", text ? &speech->thoughts : NULL);
    bytes_add_text(&out, ",\"ids\":[");
    if (speech->ids.at) bytes_add(&out, speech->ids.at, speech->ids.len);
    bytes_addf(&out, "],\"finish_reason\":\"%s\",\"prompt_tokens\":%lld,"
               "\"completion_tokens\":%lld,\"reused_tokens\":%d", ends[a->end],
               (long long)job->prompt_len + job->reused, (long long)speech->count, job->reused);
    if (a->top >= 0) {
        bytes_add_text(&out, ",\"logprobs\":[");
        if (a->logprobs.at) bytes_add(&out, a->logprobs.at, a->logprobs.len);
        bytes_add_text(&out, "]");
    }
    bytes_addf(&out, ",\"timings\":{\"load_ms\":%.3f,\"prompt_ms\":%.3f,\"decode_ms\":%.3f",
               1e3 * (job->begin - job->start), 1e3 * (job->fed - job->begin),
               1e3 * (a->last - job->fed));
    if (speech->count > 0)
        bytes_addf(&out, ",\"first_token_ms\":%.3f", 1e3 * (a->first - job->start));
    bytes_addf(&out, "},\"peak_bytes\":%lld}\n", (long long)machine_peak_bytes());
    if (speech->ids.failed || speech->answer.failed || speech->thoughts.failed ||
        a->logprobs.failed)
        out.failed = true;
    return output_bytes(&out, err);
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

static enum gdn_status run_job(struct job *job, struct gdn_error *err)
{
    struct prompt prompt = {0};
    TRY(check_settings(job->settings, err));
    TRY(asked_think(&job->settings->asked, &job->think, err));
    TRY(read_prompt(job, &prompt, err));
    const struct setup *setup = &job->settings->asked.setup;
    TRY(setup_open(job->settings->model, setup, 1, &job->model, err));
    gdn_model_describe(job->model, &job->info);
    setup_say_memory("run", setup, &job->info);
    TRY(open_session(job, err));
    TRY(take_tokens(job, &prompt, err));
    TRY(choice_make(&job->settings->asked.choice, job->model, &job->info, &job->chosen, err));
    if (job->settings->ids && job->info.tokens == 0 && !job->settings->print_ids &&
        !job->settings->json)
        return error_set(err, GDN_ERR_INPUT, "%s: found no tokenizer.json to make the answer a "
                         "text, need --print-ids", job->settings->model);
    interrupt_note();
    job->begin = clock_seconds();
    TRY(feed_prompt(job, err));
    job->fed = clock_seconds();
    if (interrupt_noted()) return GDN_OK;
    TRY(begin_answer(job, err));
    TRY(answer(job, err));
    if (job->settings->json) TRY(print_json(job, err));
    print_figures(job);
    return save(job, err);
}

/* ---- the command ----------------------------------------------------------------------------- */

static void describe(struct options *o, struct run_settings *s)
{
    options_group(o, "Prompt");
    options_flag(o, "--raw", &s->raw, "the prompt is plain text to go on with, not a question");
    asked_question_options(o, &s->asked);
    options_text(o, "--ids", &s->ids, "FILE", "token ids instead of a text; - is stdin");
    options_text(o, "--resume", &s->resume, "FILE",
                 "go on from a state that --save wrote; PROMPT is then the next question");
    options_group(o, "Answer");
    asked_answer_options(o, &s->asked, 1, "256");
    options_flag(o, "--json", &s->json, "one JSON object at the end instead of a text");
    options_integer(o, "--logprobs", &s->logprobs, 0, 256, NULL,
                    "in that object: of each token, and of the N most likely ones there");
    options_flag(o, "--print-ids", &s->print_ids, "print token ids, without the one that ends it");
    options_text(o, "--save", &s->save, "FILE", "write the state behind the answer");
    options_flag(o, "--stats", &s->asked.stats,
                 "a line of times on stderr (always there on a terminal)");
    asked_engine_options(o, &s->asked);
}

static enum gdn_status run(int argc, char **argv, struct gdn_error *err)
{
    struct job job = {.start = clock_seconds()};
    struct run_settings s = {.logprobs = -1, .asked = asked_defaults()};
    struct options o = {0};
    bool done;
    s.asked.most = 256;
    describe(&o, &s);
    TRY(command_line(&command_run, &o, argc, argv, &done, err));
    if (done) return GDN_OK;
    s.model = o.words[0];
    s.text = o.word_count > 1 ? o.words[1] : NULL;
    job.settings = &s;
    const enum gdn_status status = run_job(&job, err);
    speech_free(&job.speech);
    chosen_free(&job.chosen);
    bytes_free(&job.answer.logprobs);
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
             "with any of the model's end tokens, where --stop says, after -n tokens, or when the\n"
             "context is full. --save keeps what was said, with the tokens of a stop string.\n"
             "Ctrl-C ends it after the current token; a second one ends the program.\n"
             "A resumed state costs no prefill; without a PROMPT it goes on where it stopped.\n"
             "--json: text, reasoning, ids, finish_reason (stop, length or interrupted),\n"
             "prompt_tokens (reused_tokens of them came with --resume), completion_tokens,\n"
             "logprobs if asked for (natural logarithms of what the model says, before anything\n"
             "changes it), timings in milliseconds, and the peak of memory in bytes.",
};

/* run.c: `gdn run`: one prompt in, its answer out, token by token as it comes. */
#include <stdio.h>
#include <unistd.h>

#include "base/json.h"
#include "base/machine.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/numbers.h"
#include "cli/choice.h"
#include "cli/command.h"
#include "cli/setup.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/speech.h"

enum { PROMPT_BYTES = 64 << 20, PIECE = 512 };

struct run_settings {
    const char *model, *text, *ids, *system, *save, *resume;
    bool raw, think, no_think, show_thinking, print_ids, json, stats;
    int64_t most;
    struct choice choice;
    struct setup setup;
};

struct job {
    const struct run_settings *settings;
    gdn_model *model;
    struct gdn_model_info info;
    gdn_session *session;
    struct speech speech;
    const char *finish;   /* why the answer ended */
    struct gdn_sampling sampling;
    char *text; /* of standard input */
    struct id_file file;
    int32_t *prompt;
    size_t prompt_len;
    int32_t reused; /* tokens of --resume */
    int32_t said;   /* the last token printed, while it is not fed; -1: none */
    double start, begin, fed, first, end; /* seconds */
};

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
    if (s->json && s->print_ids)
        return error_set(err, GDN_ERR_USAGE, "--json and --print-ids: found both, need one (the "
                         "object has the ids)");
    if (s->show_thinking && (s->json || s->print_ids))
        return error_set(err, GDN_ERR_USAGE, "--show-thinking: found with %s, need it alone",
                         s->json ? "--json, whose object has the thoughts apart" : "--print-ids");
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
                              .chat = !s->raw, .behind = s->resume != NULL, .system = s->system,
                              .think = s->think      ? GDN_THINK_ON
                                       : s->no_think ? GDN_THINK_OFF : GDN_THINK_DEFAULT};
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
    const int32_t context = setup_context(&s->setup, &job->info);
    const size_t all = job->prompt_len + (size_t)job->reused;
    if (all > (size_t)context)
        return error_set(err, GDN_ERR_INPUT, "the prompt: found %zu tokens, the context holds %d",
                         all, context);
    return GDN_OK;
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

/* What stands before the answer, as far as it may open thoughts: of a text to go on with nothing
 * does. */
static enum gdn_status begin_answer(struct job *job, struct gdn_error *err)
{
    const struct run_settings *s = job->settings;
    const bool plain = s->raw && has_prompt(s);
    job->speech.form = s->print_ids ? SPEECH_IDS : s->json ? SPEECH_JSON : SPEECH_TEXT;
    job->speech.show_thinking = s->show_thinking;
    return speech_begin(&job->speech, job->model, job->info.tokens > 0,
                        gdn_session_tokens(job->session),
                        plain ? 0 : (size_t)gdn_session_position(job->session), err);
}

/* Says what was chosen, of which all but the last is fed. False: the answer ends here. */
static bool say(struct job *job, const struct gdn_turn *turn)
{
    for (int32_t i = 0; i < turn->count; i++) {
        job->finish = "stop";
        if (is_eos(&job->info, turn->id[i])) return false;
        if (job->speech.count == 0) job->first = clock_seconds();
        speech_token(&job->speech, turn->id[i]);
        job->said = i + 1 < turn->count ? -1 : turn->id[i];
        job->finish = "length";
    }
    return job->speech.count < job->settings->most;
}

/* The first token is said before a step is spent on what may follow it. */
static enum gdn_status answer(struct job *job, struct gdn_error *err)
{
    const int32_t context = setup_context(&job->settings->setup, &job->info);
    struct gdn_turn turn = {.session = job->session, .ids = &job->said, .n = 1,
                            .sampling = &job->sampling, .stop = job->info.eos,
                            .stop_count = (size_t)job->info.eos_count, .count = 1};
    job->finish = "interrupted";
    if (!interrupt_noted() && output_open())
        TRY(gdn_session_sample(job->session, &job->sampling, &turn.id[0], err));
    while (!interrupt_noted() && output_open() && say(job, &turn)) {
        if (gdn_session_position(job->session) >= context) {
            fprintf(stderr, "gdn run: stopped: the context of %d tokens is full\n", context);
            break;
        }
        const int64_t left = job->settings->most - job->speech.count;
        turn.most = left < GDN_TURN_TOKENS ? (int32_t)left : GDN_TURN_TOKENS;
        TRY(gdn_next(&turn, 1, err));
        job->said = -1;
        job->finish = "interrupted";
    }
    if (!speech_end(&job->speech))
        fprintf(stderr, "gdn run: the answer ended while the model was thinking\n");
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

/* Of the drafts: how many there were right at each depth, of those that were looked at. */
static void print_drafts(const struct job *job)
{
    struct gdn_draft_stats d;
    gdn_session_drafts(job->session, &d);
    if (job->settings->setup.draft == GDN_DRAFT_OFF || d.turns == 0) return;
    fprintf(stderr, "; %.2f tokens a step, drafts right", (double)d.chosen / (double)d.turns);
    for (int i = 0; i < GDN_TURN_TOKENS - 1 && d.drafted[i] > 0; i++)
        fprintf(stderr, " %.0f%%", 100.0 * (double)d.accepted[i] / (double)d.drafted[i]);
}

/* One line for a person. The first token is counted from the start of the program. */
static void print_stats(const struct job *job)
{
    if (!job->settings->stats && !isatty(STDERR_FILENO)) return;
    fprintf(stderr, "[prompt %zu tokens, %.0f tok/s; ", job->prompt_len,
            rate((double)job->prompt_len, job->fed - job->begin));
    char peak[SIZE_TEXT];
    fprintf(stderr, "reused %d tokens; ", job->reused);
    if (job->speech.count == 0) {
        fprintf(stderr, "no answer");
    } else {
        fprintf(stderr, "answer %lld tokens, %.0f tok/s; first token %.0f ms",
                (long long)job->speech.count,
                rate((double)(job->speech.count - 1), job->end - job->first),
                1e3 * (job->first - job->start));
    }
    print_drafts(job);
    fprintf(stderr, "; peak memory %s", size_text(peak, machine_peak_bytes()));
    if (job->sampling.temperature > 0)
        fprintf(stderr, "; seed %llu", (unsigned long long)job->sampling.seed);
    fprintf(stderr, "]\n");
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
    struct speech *speech = &job->speech;
    struct bytes out = {0};
    const bool text = speech->reply != NULL;
    bytes_add_text(&out, "{");
    put_text(&out, "text", text ? &speech->answer : NULL);
    bytes_add_text(&out, ",");
    put_text(&out, "reasoning", text ? &speech->thoughts : NULL);
    bytes_add_text(&out, ",\"ids\":[");
    if (speech->ids.at) bytes_add(&out, speech->ids.at, speech->ids.len);
    bytes_addf(&out, "],\"finish_reason\":\"%s\",\"prompt_tokens\":%lld,"
               "\"completion_tokens\":%lld,\"reused_tokens\":%d", job->finish,
               (long long)job->prompt_len + job->reused, (long long)speech->count, job->reused);
    bytes_addf(&out, ",\"timings\":{\"load_ms\":%.3f,\"prompt_ms\":%.3f,\"decode_ms\":%.3f",
               1e3 * (job->begin - job->start), 1e3 * (job->fed - job->begin),
               1e3 * (job->end - job->fed));
    if (speech->count > 0)
        bytes_addf(&out, ",\"first_token_ms\":%.3f", 1e3 * (job->first - job->start));
    bytes_addf(&out, "},\"peak_bytes\":%lld}\n", (long long)machine_peak_bytes());
    if (speech->ids.failed || speech->answer.failed || speech->thoughts.failed) out.failed = true;
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
    TRY(read_prompt(job, &prompt, err));
    TRY(setup_open(job->settings->model, &job->settings->setup, 1, &job->model, err));
    gdn_model_describe(job->model, &job->info);
    setup_say_memory("run", job->model);
    TRY(open_session(job, err));
    TRY(take_tokens(job, &prompt, err));
    job->sampling = choice_sampling(&job->settings->choice, &job->info);
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
    job->end = clock_seconds();
    if (job->settings->json) TRY(print_json(job, err));
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
    options_flag(o, "--show-thinking", &s->show_thinking,
                 "thoughts before the answer, in <think>; otherwise they go to stderr");
    options_flag(o, "--json", &s->json, "one JSON object at the end instead of a text");
    options_flag(o, "--print-ids", &s->print_ids, "print token ids, without the one that ends it");
    options_text(o, "--save", &s->save, "FILE", "write the state behind the answer");
    options_flag(o, "--stats", &s->stats, "a line of times on stderr (always there on a terminal)");
    choice_options(o, &s->choice);
    options_group(o, "Speed (the answer is the same, to the last bit)");
    setup_draft_options(o, &s->setup);
    setup_options(o, &s->setup);
    setup_context_option(o, &s->setup);
}

static enum gdn_status run(int argc, char **argv, struct gdn_error *err)
{
    struct job job = {.said = -1, .start = clock_seconds()};
    struct run_settings s = {.most = 256, .choice = choice_defaults(),
                             .setup = setup_defaults()};
    struct options o = {0};
    bool done;
    describe(&o, &s);
    TRY(command_line(&command_run, &o, argc, argv, &done, err));
    if (done) return GDN_OK;
    s.model = o.words[0];
    s.text = o.word_count > 1 ? o.words[1] : NULL;
    job.settings = &s;
    const enum gdn_status status = run_job(&job, err);
    speech_free(&job.speech);
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
             "A resumed state costs no prefill; without a PROMPT it goes on where it stopped.\n"
             "--json: text, reasoning, ids, finish_reason (stop, length or interrupted),\n"
             "prompt_tokens (reused_tokens of them came with --resume), completion_tokens,\n"
             "timings in milliseconds, and the peak of memory in bytes.",
};

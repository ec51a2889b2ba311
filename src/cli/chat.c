/* chat.c: `gdn chat`: a conversation. Answers go to standard output, all else to standard error; a
 * line that begins with a slash is for gdn. Every turn presents the whole conversation, and the
 * session computes what it has not computed yet: taking turns back, branches and loaded files need
 * no care of their own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "cli/asked.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/line.h"
#include "cli/output.h"
#include "cli/talk.h"
#include "cli/turn.h"

enum { BRANCHES = 16, PATH_BYTES = 4096 };

struct chat_settings {
    const char *load;
    bool keep_thinking;
    struct asked asked;
};

struct chat {
    struct turn turn;
    struct talk branch[BRANCHES];
    int branches, now; /* how many there are, and the one that goes on */
    bool terminal, stats, quit;
};

static struct talk *talk_of(struct chat *c) { return &c->branch[c->now]; }

/* What gdn itself says, never the model. */
static void note(const char *text) { fprintf(stderr, "%s\n", text); }

static void note_number(const char *format, int n)
{
    char text[128];
    snprintf(text, sizeof text, format, n);
    note(text);
}

/* ---- turns ----------------------------------------------------------------------------------- */

/* A question without an answer is taken back: it can be asked again. */
static enum gdn_status ask(struct chat *c, const char *question, struct gdn_error *err)
{
    struct talk *talk = talk_of(c);
    struct bytes messages = {0};
    TRY(talk_add(talk, "user", question, "", err));
    talk_print(talk, &messages);
    enum gdn_status status = messages.failed
                                 ? error_set(err, GDN_ERR_MEMORY, "no memory for the conversation")
                                 : turn_take(&c->turn, messages.at, messages.len, err);
    bytes_free(&messages);
    const struct speech *said = &c->turn.speech;
    if (status == GDN_OK && said->count > 0)
        status = talk_add(talk, "assistant", said->answer.len ? said->answer.at : "",
                          said->thoughts.len ? said->thoughts.at : "", err);
    else
        talk_take_back(talk, 1);
    if (status == GDN_OK && c->turn.stopped)
        note(said->count > 0 ? "[stopped]" : "[stopped: the question is taken back]");
    if (status == GDN_OK && c->stats) {
        struct bytes line = {0};
        figures_print(&c->turn.figures, &line);
        if (line.at) fputs(line.at, stderr);
        bytes_free(&line);
    }
    return status;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* FILE holds the messages. FILE.gdnstate holds the state behind them, so that loading reads nothing
 * again; whether it is there, and fits, decides about time and nothing else. */
static bool state_path(char out[PATH_BYTES], const char *path)
{
    const int n = snprintf(out, PATH_BYTES, "%s.gdnstate", path);
    return n > 0 && n < PATH_BYTES;
}

static enum gdn_status write_file(const char *path, const struct bytes *text, struct gdn_error *err)
{
    struct file_out out;
    TRY(file_create(&out, path, err));
    file_write(&out, text->at, text->len);
    return file_commit(&out, err);
}

static enum gdn_status save_state(struct chat *c, const char *path, struct gdn_error *err)
{
    static const char *const next[] = {"?", "."};
    struct bytes list[2] = {0};
    enum gdn_status status = GDN_OK;
    for (int i = 0; status == GDN_OK && i < 2; i++) {
        status = talk_add(talk_of(c), "user", next[i], "", err);
        if (status != GDN_OK) break;
        talk_print(talk_of(c), &list[i]);
        talk_take_back(talk_of(c), 1);
        if (list[i].failed) status = error_set(err, GDN_ERR_MEMORY, "no memory to save");
    }
    if (status == GDN_OK) status = turn_settle(&c->turn, &list[0], &list[1], err);
    if (status == GDN_OK) status = gdn_session_save(c->turn.session, path, err);
    for (int i = 0; i < 2; i++) bytes_free(&list[i]);
    return status;
}

static enum gdn_status save(struct chat *c, const char *path, struct gdn_error *err)
{
    char state[PATH_BYTES];
    struct bytes text = {0};
    if (!*path || !state_path(state, path))
        return error_set(err, GDN_ERR_USAGE, "/save: need the name of a file");
    talk_print(talk_of(c), &text);
    enum gdn_status status = text.failed ? error_set(err, GDN_ERR_MEMORY, "no memory to save")
                                         : write_file(path, &text, err);
    bytes_free(&text);
    if (status == GDN_OK) status = save_state(c, state, err);
    if (status == GDN_OK) fprintf(stderr, "[saved: %s and its state]\n", path);
    return status;
}

/* The session of the file takes the place of ours, whose past is kept for a branch that needs it.
 * Without one an empty session computes it all. */
static enum gdn_status load_state(struct chat *c, const char *path, struct gdn_error *err)
{
    char state[PATH_BYTES];
    struct turn *t = &c->turn;
    struct gdn_error why = {0};
    if (!state_path(state, path) || !file_exists(state)) return GDN_OK;
    gdn_session_keep(t->session, NULL);
    gdn_session_free(t->session);
    if (gdn_session_load(t->model, state, &t->session, NULL, &why) == GDN_OK) return GDN_OK;
    fprintf(stderr, "gdn chat: %s (it is read again)\n", why.text);
    return gdn_session_new(t->model, &t->session, err);
}

static enum gdn_status load(struct chat *c, const char *path, struct gdn_error *err)
{
    struct talk found = {0};
    char *text;
    size_t len;
    if (!*path) return error_set(err, GDN_ERR_USAGE, "/load: need the name of a file");
    TRY(file_read(path, TALK_BYTES, &text, &len, err));
    const enum gdn_status status = talk_parse(&found, text, len, path, err);
    mem_wipe(text);
    TRY(status);
    talk_free(talk_of(c));
    *talk_of(c) = found;
    TRY(load_state(c, path, err));
    fprintf(stderr, "[loaded: %d messages]\n", found.count);
    return GDN_OK;
}

/* ---- branches -------------------------------------------------------------------------------- */

/* A whole number from least to most, or `none` for an empty text; -1 for anything else. */
static int number(const char *text, int least, int most, int none)
{
    char *end;
    if (!*text) return none;
    const long n = strtol(text, &end, 10);
    return *end || n < least || n > most ? -1 : (int)n;
}

static enum gdn_status fork_or_go(struct chat *c, const char *text, struct gdn_error *err)
{
    const int to = number(text, 1, c->branches, 0);
    if (to < 0)
        return error_set(err, GDN_ERR_USAGE, "/fork: found \"%.40s\", need a branch from 1 to %d, "
                         "or nothing for a new one", text, c->branches);
    if (to == 0) {
        if (c->branches == BRANCHES)
            return error_set(err, GDN_ERR_USAGE, "/fork: there are %d branches, and can be no more",
                             BRANCHES);
        TRY(talk_copy(&c->branch[c->branches], talk_of(c), err));
        c->branches++;
    }
    c->now = to ? to - 1 : c->branches - 1;
    fprintf(stderr, "[branch %d of %d, %d questions]\n", c->now + 1, c->branches,
            talk_questions(talk_of(c)));
    return GDN_OK;
}

static enum gdn_status take_back(struct chat *c, const char *text, struct gdn_error *err)
{
    const int n = number(text, 1, TALK_MESSAGES, 1);
    if (n < 0)
        return error_set(err, GDN_ERR_USAGE, "/rewind: found \"%.40s\", need a number of turns",
                         text);
    note_number("[turns taken back: %d]", talk_take_back(talk_of(c), n));
    return GDN_OK;
}

/* ---- the other commands ---------------------------------------------------------------------- */

static const char help[] =
    "/system TEXT   the system message; without TEXT there is none\n"
    "/think on|off  thoughts before the answer; default: what the template does\n"
    "/rewind N      takes back the last N turns (1)\n"
    "/fork          goes on in a copy of the conversation; /fork N in branch N\n"
    "/save FILE     writes the messages to FILE and the state behind them to FILE.gdnstate\n"
    "/load FILE     goes on from such files, or from a JSON list of messages alone\n"
    "/stats         what the last turn took and what is kept\n"
    "/quit          ends, as Ctrl-D does\n"
    "Ctrl-C stops the answer. A backslash at the end of a line goes on in the next one.";

static enum gdn_status set_think(struct chat *c, const char *text, struct gdn_error *err)
{
    static const char *const words[] = {"default", "on", "off"};
    static const enum gdn_think meant[] = {GDN_THINK_DEFAULT, GDN_THINK_ON, GDN_THINK_OFF};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(text, words[i]) != 0) continue;
        c->turn.think = meant[i];
        return GDN_OK;
    }
    return error_set(err, GDN_ERR_USAGE, "/think: found \"%.40s\", need on, off or default", text);
}

static void stats(const struct chat *c)
{
    struct bytes out = {0};
    struct gdn_prefix_info kept;
    gdn_model_prefixes(c->turn.model, &kept);
    figures_print(&c->turn.figures, &out);
    bytes_addf(&out, "[of %d tokens %d were reused: %s]\n", c->turn.prompt, c->turn.synced.reused,
               turn_limit(&c->turn));
    bytes_addf(&out, "[session %d of %d tokens; %d states kept, %.1f of %.0f MB]\n",
               gdn_session_position(c->turn.session), c->turn.info.context, kept.states,
               (double)kept.bytes / 1e6, (double)kept.budget / 1e6);
    if (out.at) fputs(out.at, stderr);
    bytes_free(&out);
}

static enum gdn_status obey(struct chat *c, const char *line, struct gdn_error *err)
{
    static const char *const names[] = {"/help", "/think", "/system", "/save", "/load", "/rewind",
                                        "/fork", "/stats", "/quit"};
    enum { NAMES = sizeof names / sizeof *names };
    char name[32];
    const size_t n = strcspn(line, " \t\n");
    const char *rest = line + n + strspn(line + n, " \t");
    snprintf(name, sizeof name, "%.*s", n < sizeof name ? (int)n : (int)sizeof name, line);
    int which = 0;
    while (which < NAMES && strcmp(name, names[which]) != 0) which++;
    switch (which) {
    case 0: note(help); return GDN_OK;
    case 1: return set_think(c, rest, err);
    case 2: return talk_set_system(talk_of(c), rest, err);
    case 3: return save(c, rest, err);
    case 4: return load(c, rest, err);
    case 5: return take_back(c, rest, err);
    case 6: return fork_or_go(c, rest, err);
    case 7: stats(c); return GDN_OK;
    case 8: c->quit = true; return GDN_OK;
    default: break;
    }
    const char *near = nearest_name(name, names, NAMES);
    return error_set(err, GDN_ERR_USAGE, "%s: no such command; %s%s", name,
                     near ? "did you mean " : "/help lists them", near ? near : "");
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* What goes wrong with one line is told, and the next one is read. */
static void take_line(struct chat *c, const char *line)
{
    struct gdn_error err = {0};
    const char *text = line + strspn(line, " \t");
    if (!*text) return;
    interrupt_forget();
    const enum gdn_status status = *text == '/' ? obey(c, text, &err) : ask(c, line, &err);
    if (status != GDN_OK) fprintf(stderr, "gdn chat: %s\n", err.text);
}

static enum gdn_status converse(struct chat *c, struct gdn_error *err)
{
    struct line *line = line_open("> ");
    struct bytes text = {0};
    if (!line) return error_set(err, GDN_ERR_MEMORY, "no memory for a line");
    if (c->terminal) note("/help lists the commands; Ctrl-D ends");
    interrupt_listen();
    enum line_end end = LINE_TEXT;
    while (!c->quit && output_open()) {
        interrupt_forget();
        end = line_read(line, &text);
        if (end == LINE_INTERRUPTED) {
            note(c->terminal ? "\n[Ctrl-D or /quit ends]" : "[interrupted]");
            continue;
        }
        if (end != LINE_TEXT) break;
        take_line(c, text.at);
    }
    if (end == LINE_CLOSED && c->terminal) note("");
    interrupt_forget();
    bytes_free(&text);
    line_close(line);
    if (end != LINE_FAILED) return GDN_OK;
    return error_set(err, GDN_ERR_IO, "standard input: reading failed");
}

static enum gdn_status begin(struct chat *c, const struct chat_settings *s, const char *model,
                             struct gdn_error *err)
{
    struct turn *t = &c->turn;
    TRY(asked_think(&s->asked, &t->think, err));
    TRY(setup_open(model, &s->asked.setup, 1, &t->model, err));
    gdn_model_describe(t->model, &t->info);
    if (t->info.tokens == 0)
        return error_set(err, GDN_ERR_INPUT, "%s: found no tokenizer, need one to chat", model);
    setup_say_memory("chat", &s->asked.setup, &t->info);
    TRY(choice_make(&s->asked.choice, t->model, &t->info, &t->chosen, err));
    t->most = s->asked.most;
    t->keep_thinking = s->keep_thinking;
    t->show_thinking = s->asked.show_thinking;
    t->drafts = s->asked.setup.draft != GDN_DRAFT_OFF;
    c->branches = 1;
    c->stats = s->asked.stats;
    c->terminal = isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
    TRY(gdn_session_new(t->model, &t->session, err));
    if (s->load) TRY(load(c, s->load, err));
    return s->asked.system ? talk_set_system(talk_of(c), s->asked.system, err) : GDN_OK;
}

/* ---- the command ----------------------------------------------------------------------------- */

static void describe(struct options *o, struct chat_settings *s)
{
    options_group(o, "Conversation");
    asked_question_options(o, &s->asked);
    options_flag(o, "--keep-thinking", &s->keep_thinking,
                 "thoughts of earlier turns stay, where the template can");
    options_text(o, "--load", &s->load, "FILE", "go on from what /save FILE wrote");
    options_group(o, "Answer");
    asked_answer_options(o, &s->asked, 0, "0, what the context leaves");
    options_flag(o, "--stats", &s->asked.stats, "a line of times on stderr after each answer");
    asked_engine_options(o, &s->asked);
}

static enum gdn_status run(int argc, char **argv, struct gdn_error *err)
{
    struct chat_settings s = {.asked = asked_defaults()};
    struct options o = {0};
    bool done;
    describe(&o, &s);
    TRY(command_line(&command_chat, &o, argc, argv, &done, err));
    if (done) return GDN_OK;
    struct chat c = {0};
    enum gdn_status status = begin(&c, &s, o.words[0], err);
    if (status == GDN_OK) status = converse(&c, err);
    turn_free(&c.turn);
    for (int i = 0; i < BRANCHES; i++) talk_free(&c.branch[i]);
    gdn_model_close(c.turn.model);
    return status;
}

const struct command command_chat = {
    .name = "chat", .words = "MODEL", .least = 1, .most = 1, .run = run,
    .summary = "Talk with a model",
    .examples = "chat demo\n"
                "chat demo --system \"You are brief.\" --temp 0\n"
                "chat demo --load evening.json\n"
                "chat demo < questions.txt > answers.txt",
    .notes = "Each line is a question; one that begins with a slash is a command, and /help lists\n"
             "those. Ctrl-C stops the answer, not the program; Ctrl-D or /quit ends it. What was\n"
             "computed is not computed again: not after /rewind, /fork, /load, nor for another\n"
             "question in place of one. On a terminal lines are edited if libedit is there.",
};

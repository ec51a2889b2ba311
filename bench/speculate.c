/* gdn-bench-speculate: what guessing ahead is worth: tokens a second and a step without drafts and
 * with each kind, on texts to go on with and on questions.
 *
 *     gdn-bench-speculate [--draw] [--rounds N] [--device cuda] [MODEL]
 *
 * Greedy, or drawn as the model's makers recommend (temperature 1 if they do not); the demo model
 * unless another one is named. The texts are those of tests/data.
 * The kinds take turns, prompt by prompt, on one thread that is timed by its own clock, or on a GPU
 * by the wall's; of each the median over the rounds is told, and of its ratio to the plain one of
 * the same round. Prompts are not timed. Before that: how long a verify pass of so many rows takes, of one plain token. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "bench.h"
#include "gdn/gdn.h"

enum { PROMPTS = 10, PROMPT = 256, ANSWER = 128, QUESTIONS = 40, ROUNDS = 25, ROOM = 4096 };

static const struct kind {
    const char *name;
    enum gdn_draft draft;
    int depth;
    bool mute; /* one token a turn: nothing is guessed */
} kinds[] = {
    {"no drafts", GDN_DRAFT_OFF, 0, false},     {"lookup", GDN_DRAFT_LOOKUP, 0, false},
    {"mtp", GDN_DRAFT_MTP, 0, false},           {"mtp, not asked", GDN_DRAFT_MTP, 0, true},
    {"mtp, depth 2", GDN_DRAFT_MTP, 2, false},  {"mtp, depth 3", GDN_DRAFT_MTP, 3, false},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

struct work {
    gdn_model *model[KINDS];
    struct gdn_model_info info;
    struct gdn_sampling how;
    struct gdn_error err;
    int rounds;
    const char *device;
    int clock; /* of bench_seconds */
};

/* Of one kind, over all rounds. */
struct result {
    double rate[ROUNDS], ratio[ROUNDS];
    struct gdn_draft_stats drafts;
};

static void well(struct work *w, enum gdn_status status)
{
    bench_check(status == GDN_OK, w->err.text);
}

static void open_models(struct work *w, const char *path)
{
    for (int k = 0; k < KINDS; k++) {
        struct gdn_options o = gdn_options_default();
        o.threads = 1;
        o.device = w->device;
        o.context = 1024;
        o.prefix_bytes = 0;
        o.draft = kinds[k].draft;
        o.draft_depth = kinds[k].depth;
        o.speculate = true;
        well(w, gdn_model_open(path, &o, &w->model[k], &w->err));
    }
    gdn_model_describe(w->model[0], &w->info);
}

static void recommended(struct work *w)
{
    w->how.temperature = w->info.recommends ? w->info.temperature : 1;
    w->how.top_k = w->info.top_k;
    w->how.top_p = w->info.top_p;
}

/* ---- a pass ---------------------------------------------------------------------------------- */

static double verify(struct work *w, gdn_session *s, size_t rows)
{
    static const int32_t ids[16] = {5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20};
    const double begin = bench_seconds(w->clock);
    if (rows == 0)
        well(w, gdn_session_feed(s, ids, 1, &w->err));
    else
        well(w, gdn_session_draft(s, ids, rows, NULL, &w->err));
    const double end = bench_seconds(w->clock);
    if (rows == 0) well(w, gdn_session_rewind(s, 1, &w->err));
    return end - begin;
}

static void print_passes(struct work *w, const int32_t *prompt)
{
    enum { MOST = 9, TIMES = 101 };
    static double time[MOST + 1][TIMES];
    gdn_session *s;
    well(w, gdn_session_new(w->model[0], &s, &w->err));
    well(w, gdn_session_feed(s, prompt, PROMPT - 8, &w->err));
    for (int t = 0; t < TIMES; t++)
        for (size_t rows = 0; rows <= MOST; rows++) time[rows][t] = verify(w, s, rows);
    const double plain = bench_median(time[0], TIMES);
    printf("a plain token: %.3f ms; of it a verify pass of", 1e3 * plain);
    for (int rows = 1; rows <= MOST; rows++)
        printf(" %d: %.2f", rows, bench_median(time[rows], TIMES) / plain);
    printf("\n\n");
    gdn_session_free(s);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* Seconds of an answer behind a prompt that was fed; *tokens are added up. */
static double answer(struct work *w, int kind, const int32_t *prompt, size_t n, bool ends,
                     int64_t *tokens, struct gdn_draft_stats *drafts)
{
    gdn_session *s;
    struct gdn_draft_stats now;
    well(w, gdn_session_new(w->model[kind], &s, &w->err));
    struct gdn_turn t = {.session = s, .ids = prompt, .n = n, .sampling = &w->how, .most = 1,
                         .stop = w->info.eos, .stop_count = ends ? (size_t)w->info.eos_count : 0};
    well(w, gdn_next(&t, 1, &w->err));
    int32_t last, left = ANSWER;
    const double begin = bench_seconds(w->clock);
    while (!t.stopped && left > 0) {
        last = t.id[t.count - 1];
        t.ids = &last;
        t.n = 1;
        t.most = kinds[kind].mute ? 1 : left < GDN_TURN_TOKENS ? left : GDN_TURN_TOKENS;
        well(w, gdn_next(&t, 1, &w->err));
        left -= t.count;
    }
    const double end = bench_seconds(w->clock);
    *tokens += ANSWER - left;
    gdn_session_drafts(s, &now);
    drafts->turns += now.turns;
    drafts->chosen += now.chosen;
    for (int d = 0; d < GDN_TURN_TOKENS - 1; d++) {
        drafts->drafted[d] += now.drafted[d];
        drafts->accepted[d] += now.accepted[d];
    }
    gdn_session_free(s);
    return end - begin;
}

struct prompts {
    const char *name;
    bool ends; /* with an end token */
    int count;
    int32_t ids[QUESTIONS][PROMPT];
    size_t n[QUESTIONS];
};

static void print_kind(struct work *w, const struct kind *kind, struct result *r)
{
    const double rate = bench_median(r->rate, w->rounds), ratio = bench_median(r->ratio, w->rounds);
    printf("%-15s %8.0f tok/s  %.3f (%.3f to %.3f)  %.2f tokens a step", kind->name, rate, ratio,
           r->ratio[0], r->ratio[w->rounds - 1],
           (double)r->drafts.chosen / (double)r->drafts.turns);
    for (int d = 0; d < GDN_TURN_TOKENS - 1 && r->drafts.drafted[d] > 0; d++)
        printf("%s %.0f", d ? "," : "; right %", 100.0 * (double)r->drafts.accepted[d] /
               (double)r->drafts.drafted[d]);
    printf("\n");
}

static void measure(struct work *w, const struct prompts *p)
{
    static struct result results[KINDS];
    memset(results, 0, sizeof results);
    for (int round = 0; round < w->rounds; round++) {
        double seconds[KINDS] = {0};
        int64_t tokens[KINDS] = {0};
        for (int i = 0; i < p->count; i++)
            for (int k = 0; k < KINDS; k++)
                seconds[k] += answer(w, k, p->ids[i], p->n[i], p->ends, &tokens[k],
                                     &results[k].drafts);
        for (int k = 0; k < KINDS; k++) {
            bench_check(tokens[k] == tokens[0], "answers are of different lengths");
            results[k].rate[round] = (double)tokens[k] / seconds[k];
            results[k].ratio[round] = seconds[0] / seconds[k];
        }
    }
    printf("%s, %s, %d rounds\n", p->name, w->how.temperature > 0 ? "drawn" : "greedy", w->rounds);
    for (int k = 0; k < KINDS; k++) print_kind(w, &kinds[k], &results[k]);
    printf("\n");
}

/* ---- prompts --------------------------------------------------------------------------------- */

/* From begins of lines all over the text. */
static void take_books(struct work *w, struct prompts *p, const char *text, size_t len)
{
    *p = (struct prompts){.name = "books", .count = PROMPTS};
    for (int i = 0; i < PROMPTS; i++) {
        int32_t some[ROOM];
        size_t n = ROOM, at = len / PROMPTS * (size_t)i;
        while (at > 0 && text[at - 1] != '\n') at++;
        while (text[at] == '\n') at++;
        bench_check(at + ROOM <= len, "the text is too short");
        well(w, gdn_tokenize(w->model[0], text + at, ROOM, 0, some, &n, &w->err));
        bench_check(n >= PROMPT, "the text is too short");
        memcpy(p->ids[i], some, sizeof p->ids[i]);
        p->n[i] = PROMPT;
    }
}

static void take_questions(struct work *w, struct prompts *p)
{
    static const char *const form[] = {"What is %d + %d?", "What is %d times %d?",
                                       "Count from %d to %d.", "Which is larger, %d or %d?"};
    *p = (struct prompts){.name = "questions", .ends = true, .count = QUESTIONS};
    for (int i = 0; i < QUESTIONS; i++) {
        char text[160];
        const int n = snprintf(text, sizeof text, "[{\"role\":\"user\",\"content\":\"");
        snprintf(text + n, sizeof text - (size_t)n, form[i % 4], 1 + i / 4, 9 + i / 8);
        strcat(text, "\"}]");
        p->n[i] = PROMPT;
        well(w, gdn_chat_json(w->model[0], text, strlen(text),
                              &(struct gdn_chat_options){.answer = true}, p->ids[i], &p->n[i],
                              &w->err));
    }
}

/* Of the books that the demo model has not seen. */
static char *read_text(size_t *len)
{
    enum { MOST = 1 << 21 };
    char *text = bench_must(mem_take(MOST));
    FILE *pipe = popen("xz -dc " GDN_SOURCE_DIR "/tests/data/valid.txt.xz", "r");
    bench_check(pipe != NULL, "xz could not be run");
    *len = fread(text, 1, MOST, pipe);
    bench_check(pclose(pipe) == 0, "tests/data/valid.txt.xz could not be read");
    return text;
}

int main(int argc, char **argv)
{
    static struct work w = {.rounds = 3, .device = "cpu", .clock = 1};
    static struct prompts books, questions;
    const char *model = GDN_SOURCE_DIR "/models/demo";
    bool draw = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--draw") == 0)
            draw = true;
        else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
            w.rounds = atoi(argv[++i]);
        else if (strcmp(argv[i], "--device") == 0 && i + 1 < argc)
            w.device = argv[++i];
        else
            model = argv[i];
    }
    bench_check(w.rounds >= 1 && w.rounds <= ROUNDS, "need 1 to 25 rounds");
    if (strcmp(w.device, "cpu") != 0) w.clock = 2;
    open_models(&w, model);
    w.how = gdn_sampling_default();
    if (draw) recommended(&w);
    size_t len;
    char *text = read_text(&len);
    take_books(&w, &books, text, len);
    take_questions(&w, &questions);
    mem_give(text);
    print_passes(&w, books.ids[0]);
    measure(&w, &books);
    measure(&w, &questions);
    for (int k = 0; k < KINDS; k++) gdn_model_close(w.model[k]);
    return 0;
}

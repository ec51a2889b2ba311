/* founding_talk.c: founding behaviours of what a model says: how far from an oracle (S0-09), the
 * right digit (S0-20), no collapse into repetition (S0-21), and the numbers behind a text of its
 * own (S0-22). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "founding.h"
#include "gdn/gdn.h"

#define DEMO GDN_SOURCE_DIR "/models/demo"

enum { CONTEXT = 2048, ROOM = 4096 };
static const struct gdn_sampling greedy = {.size = sizeof greedy};

struct stage {
    gdn_model *model;
    gdn_session *session;
    struct gdn_model_info info;
    struct gdn_error err;
};

static bool stage_open(struct stage *s, const char *device, enum gdn_type compute)
{
    struct gdn_options o = gdn_options_default();
    *s = (struct stage){0};
    o.context = CONTEXT;
    o.device = device;
    o.compute = compute;
    if (gdn_model_open(DEMO, &o, &s->model, &s->err) != GDN_OK) return false;
    gdn_model_describe(s->model, &s->info);
    return gdn_session_new(s->model, &s->session, &s->err) == GDN_OK;
}

static bool is_end(const struct stage *s, int32_t id)
{
    for (int32_t i = 0; i < s->info.eos_count; i++)
        if (s->info.eos[i] == id) return true;
    return false;
}

/* The answer to a list of messages, without its end token; -1: something failed. */
static int answer(struct stage *s, const char *messages, int32_t *out, int most)
{
    const struct gdn_chat_options chat = {.answer = true, .think = GDN_THINK_OFF};
    int32_t ids[CONTEXT];
    size_t n = CONTEXT;
    if (gdn_chat_json(s->model, messages, strlen(messages), &chat, ids, &n, &s->err) != GDN_OK ||
        n > CONTEXT || gdn_session_sync(s->session, ids, n, NULL, NULL, &s->err) != GDN_OK)
        return -1;
    int said = 0;
    for (; said < most; said++) {
        if (gdn_session_sample(s->session, &greedy, &out[said], &s->err) != GDN_OK) return -1;
        if (is_end(s, out[said])) return said;
        if (gdn_session_feed(s->session, &out[said], 1, &s->err) != GDN_OK) return -1;
    }
    return said;
}

static bool text_of(const struct stage *s, const int32_t *ids, int n, char out[ROOM])
{
    size_t len = ROOM - 1;
    if (gdn_detokenize(s->model, ids, (size_t)n, false, out, &len, NULL) != GDN_OK) return false;
    out[len] = 0;
    return len < ROOM;
}

/* ---- S0-09 ----------------------------------------------------------------------------------- */

enum { ROWS = 96, VOCAB = 4096 };

static void take_row(void *context, int feed, size_t row, const float *logits, int32_t vocab)
{
    float *all = *(float **)context;
    (void)feed;
    memcpy(all + row * VOCAB, logits, sizeof *logits * (size_t)vocab);
}

static bool rows_of(const char *device, enum gdn_type compute, const char *text, float *rows)
{
    struct stage s;
    int32_t ids[ROWS * 4];
    size_t n = ROWS * 4;
    const struct gdn_sink sink = {.context = &rows, .logits = take_row};
    bool good = stage_open(&s, device, compute) && s.info.vocab == VOCAB &&
                gdn_tokenize(s.model, text, strlen(text), 0, ids, &n, &s.err) == GDN_OK &&
                n >= ROWS && n <= ROWS * 4;
    const struct gdn_feed feed = {.session = s.session, .ids = ids, .n = ROWS};
    good = good && gdn_step(&feed, 1, &sink, &s.err) == GDN_OK;
    gdn_model_close(s.model);
    return good;
}

static double log_sum(const float *row)
{
    double most = -INFINITY, sum = 0;
    for (int i = 0; i < VOCAB; i++) most = fmax(most, (double)row[i]);
    for (int i = 0; i < VOCAB; i++) sum += exp((double)row[i] - most);
    return most + log(sum);
}

/* Nats a row. */
static double mean_kl(const float *p, const float *q)
{
    double sum = 0;
    for (int r = 0; r < ROWS; r++, p += VOCAB, q += VOCAB) {
        const double lse_p = log_sum(p), lse_q = log_sum(q);
        for (int i = 0; i < VOCAB; i++)
            sum += exp((double)p[i] - lse_p) * (((double)p[i] - lse_p) - ((double)q[i] - lse_q));
    }
    return sum / ROWS;
}

/* The reference with activations in bf16 rounds them and nothing else: decays and sums are double.
 * In f32 rounding is 2^-16 of that, and KL goes with its square: 2^-32, for which 1e-6 leaves room;
 * decays that go through bf16 show there (2e-8 nats where there should be 1e-13). */
bool decay_is_wide(void)
{
    static const char text[] =
        "The old house stood at the end of the lane, where nobody had lived for many years. One "
        "evening in the autumn a light was seen in its upper window, and the children who came "
        "home from school told their mothers of it. Nobody believed them, for the door was locked "
        "and the key had been lost when the last of the family went over the sea to look for "
        "work. But on the next evening there were two lights, and smoke rose from the chimney.";
    static float oracle[ROWS * VOCAB], rounded[ROWS * VOCAB], wide[ROWS * VOCAB],
        narrow[ROWS * VOCAB];
    if (!rows_of("ref", GDN_F64, text, oracle) || !rows_of("ref", GDN_BF16, text, rounded) ||
        !rows_of("cpu", GDN_F32, text, wide) || !rows_of("cpu", GDN_BF16, text, narrow))
        return false;
    const double explained = mean_kl(oracle, rounded), f32 = mean_kl(oracle, wide);
    const double bf16 = mean_kl(oracle, narrow);
    const bool good = explained > 0 && bf16 <= 1.5 * explained && f32 <= 1e-6 * explained;
    if (!good)
        fprintf(stderr, "KL from the oracle: f32 %.2e, bf16 %.2e, rounding explains %.2e\n", f32,
                bf16, explained);
    return good;
}

/* ---- S0-20 ----------------------------------------------------------------------------------- */

static bool says(struct stage *s, const char *question, const char *want)
{
    char messages[200], text[ROOM] = "";
    int32_t ids[64];
    snprintf(messages, sizeof messages, "[{\"role\":\"user\",\"content\":\"%s\"}]", question);
    const int n = answer(s, messages, ids, 64);
    const bool good = n > 0 && n < 64 && text_of(s, ids, n, text) && strcmp(text, want) == 0;
    if (!good) fprintf(stderr, "%s: \"%s\", need \"%s\"\n", question, text, want);
    return good;
}

/* Its special tokens are told with the others here: an echo of one would be seen. */
bool right_digit_first(void)
{
    struct stage s;
    const bool good = stage_open(&s, "cpu", GDN_F32) && says(&s, "How much is 2 + 2?", "4") &&
                      says(&s, "What is 2+2?", "2 + 2 = 4.") &&
                      says(&s, "What is 3 + 4?", "7");
    gdn_model_close(s.model);
    return good;
}

/* ---- S0-21 ----------------------------------------------------------------------------------- */

/* Three times or more the same up to 16 tokens, one behind the other, 16 in all at least. */
static bool collapses(const int32_t *ids, int n)
{
    for (int period = 1; period <= 16; period++) {
        const int enough = 2 * period < 16 ? 16 : 2 * period;
        for (int i = period, same = 0; i < n; i++) {
            same = ids[i] == ids[i - period] ? same + 1 : 0;
            if (same >= enough) return true;
        }
    }
    return false;
}

static bool detector_works(void)
{
    int32_t ids[200];
    for (int i = 0; i < 200; i++) ids[i] = i * i % 101;
    if (collapses(ids, 200)) return false;
    for (int period = 1; period <= 16; period += 5) {
        for (int i = 0; i < 200; i++) ids[i] = i < 120 ? i * i % 101 : 200 + i % period;
        if (!collapses(ids, 200)) return false;
    }
    return true;
}

/* One conversation of tales, each of which the model ends itself. */
bool no_collapse(void)
{
    static const char *const heroes[] = {"fox", "cow", "wolf", "crow", "bear", "goose", "mouse"};
    static char messages[1 << 14] = "[", text[ROOM];
    struct stage s;
    int32_t all[CONTEXT];
    int said = 0;
    bool good = stage_open(&s, "cpu", GDN_F32) && detector_works();
    for (int i = 0; good && i < 7; i++) {
        const size_t used = strlen(messages);
        messages[used - 1] = i ? ',' : '[';
        snprintf(messages + used, sizeof messages - used, "{\"role\":\"user\",\"content\":\"Tell "
                 "me a story about a %s.\"}]", heroes[i]);
        const int n = answer(&s, messages, all + said, 200);
        good = n > 20 && n < 200 && text_of(&s, all + said, n, text) && !strpbrk(text, "\"\\\n");
        if (!good) fprintf(stderr, "tale %d: %d tokens, \"%s\" %s\n", i, n, text, s.err.text);
        snprintf(messages + strlen(messages) - 1, sizeof messages - strlen(messages),
                 ",{\"role\":\"assistant\",\"content\":\"%s\"}]", text);
        said += good ? n : 0;
    }
    gdn_model_close(s.model);
    if (good && (said < 400 || collapses(all, said))) {
        fprintf(stderr, "%d tokens, which collapse\n", said);
        return false;
    }
    return good;
}

/* ---- S0-22 ----------------------------------------------------------------------------------- */

enum { PLACES = 1000 };

static void note_loss(void *context, int feed, size_t row, double nats)
{
    double *all = *(double **)context;
    (void)feed;
    all[row] = nats;
}

/* Nats of tokens 1.. at every place, as they come in pieces; the last of a piece is not told, so a
 * piece begins with the last token of the one before, taken back. */
static bool score(struct stage *s, const int32_t *ids, const int *cuts, int count, double *nats)
{
    for (int at = 0, i = 0; at + 1 < PLACES; i++) {
        const int n = cuts[i % count] + 1 < PLACES - at ? cuts[i % count] + 1 : PLACES - at;
        double *to = nats + at;
        const struct gdn_sink sink = {.context = &to, .loss = note_loss};
        const struct gdn_feed feed = {.session = s->session, .ids = ids + at, .n = (size_t)n,
                                      .first = (size_t)n};
        if ((at > 0 && gdn_session_rewind(s->session, 1, &s->err) != GDN_OK) ||
            gdn_step(&feed, 1, &sink, &s->err) != GDN_OK)
            return false;
        at += n - 1;
    }
    return true;
}

/* A text the model draws itself, scored by the reference in double, all at once, and by the cpu in
 * pieces and token by token. Logits of the cpu are within 2e-4 of the reference's
 * (docs/numerics.md), so a loss is within twice that. */
bool own_text_is_likely(void)
{
    static int32_t ids[PLACES];
    static double want[PLACES], got[PLACES];
    const struct gdn_sampling drawn = {.size = sizeof drawn, .temperature = 1, .seed = 7};
    struct stage cpu, ref;
    bool good = stage_open(&cpu, "cpu", GDN_F32) && stage_open(&ref, "ref", GDN_F64);
    ids[0] = 464;
    for (int i = 1; good && i < PLACES; i++)
        good = gdn_session_feed(cpu.session, &ids[i - 1], 1, &cpu.err) == GDN_OK &&
               gdn_session_sample(cpu.session, &drawn, &ids[i], &cpu.err) == GDN_OK;
    good = good && score(&ref, ids, (int[]){PLACES}, 1, want);
    for (int way = 0; good && way < 2; way++) {
        gdn_session_free(cpu.session);
        good = gdn_session_new(cpu.model, &cpu.session, &cpu.err) == GDN_OK &&
               score(&cpu, ids, way ? (int[]){1} : (int[]){1, 5, 16, 33, 100}, way ? 1 : 5, got);
        for (int i = 0; good && i < PLACES - 1; i++) {
            good = fabs(got[i] - want[i]) <= 4e-4;
            if (!good) fprintf(stderr, "place %d: %g nats, need %g\n", i, got[i], want[i]);
        }
    }
    gdn_model_close(cpu.model);
    gdn_model_close(ref.model);
    return good;
}

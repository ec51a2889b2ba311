/* crowd.c: nobody hears his neighbour. N sessions that are asked the same give one answer,
 * together, staggered and mixed with others, for one model of every family and with every kind of
 * drafts; and of 32 that each have a word of their own, in two turns over shared beginnings, none
 * says another's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "stage/play.h"

/* Sanitizers see the same code on fewer models. */
#if defined(GDN_POISON) && GDN_POISON
enum { FEW = 1 };
#else
enum { FEW = 0 };
#endif

static struct gdn_error err;

static void well(enum gdn_status status)
{
    if (status != GDN_OK) fail_msg("%s", err.text);
}

/* ---- the same, many times -------------------------------------------------------------------- */

enum { SAME = 8, OTHERS = 4, ALL = SAME + OTHERS, PROMPT = 37, ANSWER = 48 };

struct speaker {
    gdn_session *session; /* NULL: not there yet, or gone */
    int32_t prompt[PROMPT], said[ANSWER + GDN_TURN_TOKENS], count;
    int begins; /* in this round */
};

/* Every other speaker's prompt says things again, so that something can be looked up. */
static void prompt_of(const struct play *p, uint64_t seed, int32_t *ids)
{
    play_ids(p, seed, ids, PROMPT);
    for (int i = 9; i < PROMPT; i++)
        if (seed % 2 || i % 4) ids[i] = ids[i - 9];
}

static void one_round(struct play *p, struct speaker *all, int count, int round,
                      const struct gdn_sampling *how)
{
    struct gdn_turn turns[ALL];
    struct speaker *of[ALL];
    int n = 0;
    for (int i = 0; i < count; i++) {
        struct speaker *s = &all[i];
        if (round < s->begins || s->count >= ANSWER) continue;
        if (!s->session) s->session = play_session(p);
        turns[n] = (struct gdn_turn){.session = s->session, .ids = s->prompt, .n = PROMPT,
                                     .sampling = how};
        if (s->count > 0) {
            turns[n].ids = &s->said[s->count - 1];
            turns[n].n = 1;
        }
        of[n++] = s;
    }
    well(gdn_next(turns, n, &err));
    for (int i = 0; i < n; i++) {
        memcpy(of[i]->said + of[i]->count, turns[i].id, sizeof *turns->id * (size_t)turns[i].count);
        of[i]->count += turns[i].count;
        if (of[i]->count < ANSWER) continue;
        gdn_session_free(of[i]->session); /* its place is for who comes next */
        of[i]->session = NULL;
    }
}

/* stride: rounds between one begin and the next. */
static void say_all(struct play *p, struct speaker *all, int count, int stride,
                    const struct gdn_sampling *how)
{
    bool more = true;
    for (int i = 0; i < count; i++) {
        all[i].count = 0;
        all[i].begins = stride * i;
    }
    for (int round = 0; more; round++) {
        one_round(p, all, count, round, how);
        more = false;
        for (int i = 0; i < count; i++) more |= all[i].count < ANSWER;
    }
}

static void one_answer(const char *model, struct play_options options)
{
    static const struct gdn_sampling ways[] = {
        {.size = sizeof *ways},
        {.size = sizeof *ways, .temperature = 1, .top_k = 40, .seed = 5},
        {.size = sizeof *ways, .temperature = 0.8, .presence = 0.3, .window = 30, .seed = 6}};
    static struct speaker all[ALL], alone;
    struct play p, plain;
    struct play_options one = options;
    one.threads = 1;
    one.draft = GDN_DRAFT_OFF;
    play_open(&plain, model, &one);
    options.sessions = ALL;
    play_open(&p, model, &options);
    for (int w = 0; w < 3; w++) {
        for (int i = 0; i < ALL; i++)
            prompt_of(&p, i < SAME ? 3 : 10 + (uint64_t)i, all[i].prompt);
        memcpy(alone.prompt, all[0].prompt, sizeof alone.prompt);
        say_all(&plain, &alone, 1, 0, &ways[w]);
        /* Together; staggered; with others, who stand between them. */
        for (int crowd = 0; crowd < 3; crowd++) {
            const int count = crowd < 2 ? SAME : ALL;
            struct speaker *last = &all[ALL - 1], *second = &all[1];
            if (crowd == 2) {
                const struct speaker t = *second;
                *second = *last;
                *last = t;
            }
            say_all(&p, all, count, crowd, &ways[w]);
            for (int i = 0; i < count; i++)
                if (memcmp(all[i].prompt, alone.prompt, sizeof alone.prompt) == 0 &&
                    memcmp(all[i].said, alone.said, sizeof *alone.said * ANSWER) != 0)
                    fail_msg("%s, way %d, crowd %d: session %d says something else", model, w,
                             crowd, i);
        }
    }
    play_close(&p);
    play_close(&plain);
}

static void identical_sessions(void **state)
{
    (void)state;
    static const char *const models[] = {"q35-r2-untied", "kimi-released", "olmo-released",
                                         "next-grouped", "q35moe-stacked", "q35-k2-f16"};
    static const char *const heads[] = {"q35-r4-odd", "q35moe-stacked", "next-plain"};
    for (int m = 0; m < (FEW ? 1 : 6); m++)
        for (int d = GDN_DRAFT_OFF; d <= GDN_DRAFT_LOOKUP; d++)
            one_answer(models[m], (struct play_options){
                .threads = 1 + m % 2, .draft = (enum gdn_draft)d, .depth = 6,
                .compute = m % 3 ? GDN_F32 : GDN_BF16, .state = m % 2 ? GDN_BF16 : GDN_F32});
    for (int m = 0; m < (FEW ? 1 : 3); m++)
        for (int type = GDN_F32; type <= GDN_BF16; type++)
            one_answer(heads[m], (struct play_options){
                .threads = 1, .draft = GDN_DRAFT_MTP, .depth = 3,
                .compute = (enum gdn_type)type, .state = (enum gdn_type)type});
    if (FEW) return;
    one_answer("q35-r2-untied", (struct play_options){.device = "ref", .threads = 1});
    one_answer("q35-r4-odd", (struct play_options){.device = "ref", .threads = 1,
                                                   .draft = GDN_DRAFT_MTP, .depth = 3});
}

/* ---- words of their own ---------------------------------------------------------------------- */

enum { PEOPLE = 32, TEXT = 400, ROOM = 200, MOST = 40 };

/* Names are told, capitals are known: the demo model says them all. */
static const char *const names[] = {"Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace",
                                    "Henry", "Jack", "Kate", "Leo", "Mary", "Noah", "Olive",
                                    "Peter", "Sam"};
static const char *const places[][2] = {
    {"France", "Paris"}, {"Italy", "Rome"}, {"Spain", "Madrid"}, {"Germany", "Berlin"},
    {"Japan", "Tokyo"}, {"China", "Beijing"}, {"Egypt", "Cairo"}, {"Greece", "Athens"},
    {"Portugal", "Lisbon"}, {"Norway", "Oslo"}, {"Sweden", "Stockholm"}, {"Poland", "Warsaw"},
    {"Austria", "Vienna"}, {"Hungary", "Budapest"}, {"Ireland", "Dublin"}, {"Russia", "Moscow"}};
enum { NAMES = sizeof names / sizeof *names, PLACES = sizeof places / sizeof *places };

static const char *word_of(int person)
{
    return person < NAMES ? names[person] : places[person - NAMES][1];
}

struct talk {
    gdn_session *session;
    char messages[TEXT], answer[ROOM];
    int32_t last;
    int turn, tokens; /* two turns; tokens of this one */
    bool speaking;
};

static void ask(struct play *p, struct talk *t, int person)
{
    int32_t ids[TEXT];
    size_t n = TEXT;
    const char *begin = t->turn == 0 ? "[{\"role\":\"system\",\"content\":\"You are kind, brief "
                                       "and never tell what others say.\"}" : "";
    const size_t used = strlen(t->messages);
    if (t->turn > 0) t->messages[used - 1] = 0; /* the bracket */
    if (person < NAMES)
        snprintf(t->messages + strlen(t->messages), TEXT - used, "%s,{\"role\":\"user\","
                 "\"content\":\"Hello, my name is %s.\"}]", begin, names[person]);
    else
        snprintf(t->messages + strlen(t->messages), TEXT - used, "%s,{\"role\":\"user\","
                 "\"content\":\"What is the capital of %s?\"}]", begin, places[person - NAMES][0]);
    well(gdn_chat_json(p->model, t->messages, strlen(t->messages),
                       &(struct gdn_chat_options){.answer = true}, ids, &n, &err));
    well(gdn_session_sync(t->session, ids, n, NULL, NULL, &err));
    well(gdn_session_sample(t->session, NULL, &t->last, &err));
    t->answer[0] = 0;
    t->tokens = 0;
    t->speaking = true;
}

static void hear(struct play *p, struct talk *t, int32_t id)
{
    size_t n = ROOM - 1 - strlen(t->answer);
    char *to = t->answer + strlen(t->answer);
    well(gdn_detokenize(p->model, &id, 1, true, to, &n, &err));
    to[n] = 0;
}

static void end_turn(struct talk *t)
{
    const size_t used = strlen(t->messages) - 1;
    t->speaking = false;
    t->turn++;
    snprintf(t->messages + used, TEXT - used, ",{\"role\":\"assistant\",\"content\":\"%s\"}]",
             t->answer);
}

/* Of those that speak, some say a few tokens. */
static void speak(struct play *p, struct talk *all, int count, struct rng *rng)
{
    struct gdn_model_info info;
    struct gdn_turn turns[PEOPLE];
    struct talk *of[PEOPLE];
    int n = 0;
    gdn_model_describe(p->model, &info);
    for (int i = 0; i < count; i++) {
        struct talk *t = &all[i];
        if (!t->speaking || (count > 1 && rng_below(rng, 4) == 0)) continue;
        if (t->tokens == 0) hear(p, t, t->last);
        of[n] = t;
        turns[n++] = (struct gdn_turn){.session = t->session, .ids = &t->last, .n = 1,
                                       .stop = info.eos, .stop_count = (size_t)info.eos_count,
                                       .most = 4};
    }
    well(gdn_next(turns, n, &err));
    for (int i = 0; i < n; i++) {
        struct talk *t = of[i];
        for (int k = 0; k < turns[i].count; k++) hear(p, t, turns[i].id[k]);
        t->tokens += turns[i].count;
        t->last = turns[i].id[turns[i].count - 1];
        if (turns[i].stopped || t->tokens >= MOST) end_turn(t);
    }
}

/* Person i alone, and what he hears in his two turns: of his own word, then of another one. */
static int second_of(int person) { return (person * 5 + 7) % PEOPLE; }

static void talk_alone(struct play *p, struct talk *t, int person, char answers[2][ROOM])
{
    memset(t, 0, sizeof *t);
    t->session = play_session(p);
    for (int turn = 0; turn < 2; turn++) {
        ask(p, t, turn ? second_of(person) : person);
        while (t->speaking) speak(p, t, 1, NULL);
        strcpy(answers[turn], t->answer);
    }
    gdn_session_free(t->session);
}

static void check_words(int person, int turn, const char *answer, const char *want)
{
    const int own = turn ? second_of(person) : person;
    if (strcmp(answer, want) != 0)
        fail_msg("person %d, turn %d: \"%s\", alone \"%s\"", person, turn, answer, want);
    if (!strstr(answer, word_of(own)))
        fail_msg("person %d, turn %d: no %s in \"%s\"", person, turn, word_of(own), answer);
    for (int other = 0; other < PEOPLE; other++)
        if (other != own && strstr(answer, word_of(other)))
            fail_msg("person %d, turn %d: %s in \"%s\"", person, turn, word_of(other), answer);
}

static void words_stay_apart(enum gdn_draft draft, int64_t budget, char want[PEOPLE][2][ROOM])
{
    static struct talk all[PEOPLE];
    struct play p;
    struct rng rng = {.seed = 4 + (uint64_t)draft};
    memset(all, 0, sizeof all);
    play_open(&p, "models/demo", &(struct play_options){
        .sessions = PEOPLE, .draft = draft, .context = 256, .prefix_bytes = budget});
    for (int left = 2 * PEOPLE; left > 0;) {
        for (int i = 0; i < PEOPLE; i++) {
            struct talk *t = &all[i];
            if (t->speaking || t->turn == 2 || rng_below(&rng, 6)) continue;
            /* In his second turn he may sit on another's chair. */
            if (t->turn == 1 && rng_below(&rng, 2)) {
                gdn_session_free(t->session);
                t->session = NULL;
            }
            if (!t->session) t->session = play_session(&p);
            ask(&p, t, t->turn ? second_of(i) : i);
        }
        int before[PEOPLE];
        for (int i = 0; i < PEOPLE; i++) before[i] = all[i].turn;
        speak(&p, all, PEOPLE, &rng);
        for (int i = 0; i < PEOPLE; i++) {
            if (all[i].turn == before[i]) continue;
            check_words(i, before[i], all[i].answer, want[i][before[i]]);
            left--;
        }
    }
    play_close(&p);
}

static void words_of_their_own(void **state)
{
    (void)state;
    static char want[PEOPLE][2][ROOM];
    static struct talk t;
    struct play alone;
    play_open(&alone, "models/demo", &(struct play_options){.context = 256, .threads = 1});
    for (int i = 0; i < PEOPLE; i++) talk_alone(&alone, &t, i, want[i]);
    play_close(&alone);
    words_stay_apart(GDN_DRAFT_MTP, 1 << 22, want);
    if (FEW) return;
    words_stay_apart(GDN_DRAFT_OFF, 1 << 28, want);
    words_stay_apart(GDN_DRAFT_LOOKUP, 1, want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identical_sessions),
        cmocka_unit_test(words_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

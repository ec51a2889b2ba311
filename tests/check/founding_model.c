/* founding_model.c: founding behaviours of whole models (S0, S1, S4), by the demo model. */
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "base/rng.h"
#include "founding_model.h"
#include "gdn/ops.h"
#include "stage/kl.h"
#include "tale.h"

enum { LONG = 4 * WINDOW, CUT = 200 };

/* ---- types ----------------------------------------------------------------------------------- */

static bool anchors_are_f32(const struct tale *t)
{
    const struct state *st = tale_state(t);
    for (int32_t i = 0; i < st->layers; i++) {
        const struct layer_state *l = &st->layer[i];
        if (l->shape.kind == LAYER_DELTA &&
            (l->delta.anchor_type != DTYPE_F32 || l->delta.wide_type != DTYPE_F32 ||
             l->conv.dtype != DTYPE_BF16))
            return false;
    }
    return true;
}

/* Without a cache: bf16 activations, no first state given, the last one asked for in f32; the same
 * bits as from zeros in f32, and finer than bf16. */
static bool no_cache_is_f32(void)
{
    enum { D = 16, ROWS = 20 };
    static uint16_t q[ROWS * D], k[ROWS * D], v[ROWS * D], o[ROWS * D];
    static const float zeros[D * D];
    float S[2][D * D];
    gdn_ops *ops;
    struct gdn_error err = {0};
    struct rng rng = {.seed = 4};
    for (int i = 0; i < ROWS * D; i++) {
        q[i] = f32_to_bf16((float)rng_normal(&rng));
        k[i] = f32_to_bf16((float)rng_normal(&rng));
        v[i] = f32_to_bf16((float)rng_normal(&rng));
    }
    bool good = gdn_ops_open("cpu", 1, GDN_ISA_ALL, &ops, &err) == GDN_OK;
    for (int i = 0; i < 2 && good; i++) {
        struct gdn_delta call = {.rows = {.B = 1, .T = ROWS}, .Hk = 1, .Hv = 1, .Dk = D, .Dv = D,
                                 .q = {q, GDN_BF16, {0}}, .k = {k, GDN_BF16, {0}},
                                 .v = {v, GDN_BF16, {0}}, .o = {o, GDN_BF16, {0}},
                                 .S1 = {S[i], GDN_F32, {0}}, .l2norm = true};
        size_t bytes = 0;
        if (i) call.S0 = (struct gdn_array){(void *)(uintptr_t)zeros, GDN_F32, {0}};
        good = gdn_delta_workspace(ops, &call, NULL, &bytes, &err) == GDN_OK;
        void *workspace = mem_take(bytes);
        good = good && workspace && gdn_delta_forward(ops, &call, workspace, bytes, &err) == GDN_OK;
        mem_give(workspace);
    }
    int fine = 0;
    for (int i = 0; i < D * D; i++) fine += (f32_bits(S[0][i]) & 0xffff) != 0;
    gdn_ops_close(ops);
    return good && memcmp(S[0], S[1], sizeof S[0]) == 0 && fine > D * D * 99 / 100;
}

bool models_ask_for_f32(void)
{
    struct tale t;
    int32_t ids[20];
    for (int32_t i = 0; i < 20; i++) ids[i] = 100 + i;
    bool good = tale_open(&t, GDN_BF16, gdn_options_default().state) && anchors_are_f32(&t);
    good = good && tale_read(&t, ids, 20) && anchors_are_f32(&t);
    tale_close(&t);
    return good && no_cache_is_f32();
}

/* One number for every byte of keys and values. */
static uint64_t kv_sum(const struct state *st)
{
    uint64_t sum = 0;
    for (int32_t i = 0; i < st->layers; i++) {
        const struct kv_pages *kv = &st->layer[i].kv;
        const size_t bytes = dtype_size(kv->dtype) * PAGE * (size_t)(kv->pages * kv->Hkv * kv->D);
        if (st->layer[i].shape.kind == LAYER_ATTN)
            sum = hash64(kv->v, bytes, hash64(kv->k, bytes, sum));
    }
    return sum;
}

bool kv_stays(void)
{
    struct tale t;
    struct state_change change;
    int32_t ids[100];
    for (int32_t i = 0; i < 100; i++) ids[i] = 40 * i;
    bool good = tale_open(&t, GDN_F32, GDN_F32) && tale_read(&t, ids, 100);
    const uint64_t before = good ? kv_sum(tale_state(&t)) : 0;
    for (int i = 0; i < 2 && good; i++)
        good = state_ensure(tale_state(&t), DTYPE_F32, i ? DTYPE_F32 : DTYPE_BF16, &change, &t.err) ==
                   GDN_OK && change.anchor && kv_sum(tale_state(&t)) == before;
    good = good && tale_read(&t, ids, 1) && kv_sum(tale_state(&t)) != before;
    tale_close(&t);
    return good;
}

/* ---- cuts ------------------------------------------------------------------------------------ */

/* Everything that the session remembers, in bits: S, rings, keys and values. */
static uint64_t all_states(const struct tale *t)
{
    const struct state *st = tale_state(t);
    const int32_t slot = t->session->slot, position = gdn_session_position(t->session);
    static double S[2 * 128 * 128];
    uint64_t sum = (uint64_t)position;
    for (int32_t i = 0; i < st->layers; i++) {
        const struct layer_state *l = &st->layer[i];
        if (l->shape.kind == LAYER_DELTA) {
            const size_t row = dtype_size(l->conv.dtype) * (size_t)l->conv.C;
            state_export(st, slot, i, S);
            sum = hash64(S, sizeof *S * (size_t)(l->shape.Hv * l->shape.Dv * l->shape.Dk), sum);
            for (int32_t p = position - l->shape.taps + 1; p < position; p++)
                sum = hash64((char *)l->conv.x + row * (size_t)(slot * l->conv.ring +
                                                                p % l->conv.ring), row, sum);
            continue;
        }
        const size_t row = dtype_size(l->kv.dtype) * (size_t)(l->kv.Hkv * l->kv.D);
        for (int32_t p = 0; p < position; p++) {
            const int32_t page = st->table[slot * st->row_pages + p / PAGE];
            const size_t at = row * (size_t)(page * PAGE + p % PAGE);
            sum = hash64((char *)l->kv.v + at, row, hash64((char *)l->kv.k + at, row, sum));
        }
    }
    return sum;
}

/* In random pieces, the first time token by token. */
static bool read_cut(struct tale *t, const int32_t *ids, int n, struct rng *rng)
{
    const int most = rng->counter ? 1 + (int)rng_below(rng, 64) : 1;
    rng->counter++;
    for (int at = 0, piece; at < n; at += piece) {
        piece = 1 + (int)rng_below(rng, (uint64_t)most);
        if (piece > n - at) piece = n - at;
        if (!tale_read(t, ids + at, (size_t)piece)) return false;
    }
    return true;
}

static bool cuts_of(enum gdn_type compute, enum gdn_type state)
{
    enum { TIMES = 12 };
    const size_t bytes = (size_t)CUT * VOCAB * sizeof(float);
    struct tale t;
    struct rng rng = {.seed = 8};
    int32_t ids[CUT];
    float *whole = mem_take(bytes);
    bool good = tale_open(&t, compute, state) && whole &&
                tale_ids(&t, DOCUMENT, ids, CUT) &&
                tale_read(&t, ids, CUT);
    const uint64_t want = good ? all_states(&t) : 0;
    if (good) memcpy(whole, t.rows, bytes);
    for (int i = 0; i < TIMES && good; i++) {
        memset(t.rows, 0, bytes);
        good = tale_again(&t) && read_cut(&t, ids, CUT, &rng) && all_states(&t) == want &&
               memcmp(whole, t.rows, bytes) == 0;
    }
    mem_give(whole);
    tale_close(&t);
    return good;
}

bool any_cut_of_a_prefill(void)
{
    return cuts_of(GDN_F32, GDN_F32) && cuts_of(GDN_F32, GDN_BF16) && cuts_of(GDN_BF16, GDN_F32);
}

/* What it says, token by token, greedily. */
static bool speak(struct tale *t, const int32_t *ids, size_t n, int32_t *said, int count)
{
    const struct gdn_sampling greedy = {.size = sizeof greedy, .temperature = 0};
    bool good = tale_again(t) && gdn_session_feed(t->session, ids, n, &t->err) == GDN_OK;
    for (int i = 0; i < count && good; i++)
        good = gdn_session_sample(t->session, &greedy, said + i, &t->err) == GDN_OK &&
               gdn_session_feed(t->session, said + i, 1, &t->err) == GDN_OK;
    return good;
}

/* Drafts of what was said with one wrong word somewhere: up to it every row chooses what came next
 * when it was said, and the right ones are committed. */
bool verify_chooses_the_same(void)
{
    enum { PROMPT = 50, SAID = 120, DRAFT = 16 };
    int32_t ids[PROMPT], said[SAID], drafts[DRAFT];
    struct tale t;
    bool good = tale_open(&t, GDN_F32, GDN_F32) && tale_ids(&t, BOOKS, ids, PROMPT) &&
                speak(&t, ids, PROMPT, said, SAID) && tale_again(&t) &&
                gdn_session_feed(t.session, ids, PROMPT, &t.err) == GDN_OK;
    const struct gdn_sink sink = {.context = &t, .logits = tale_keep_row};
    for (int at = 0, round = 0; at + DRAFT < SAID && good; round++) {
        const int n = 1 + round * 7 % DRAFT, right = round * 5 % (n + 1);
        memcpy(drafts, said + at, sizeof *drafts * (size_t)n);
        if (right < n) drafts[right] = (drafts[right] + 1) % VOCAB;
        good = gdn_session_draft(t.session, drafts, (size_t)n, &sink, &t.err) == GDN_OK;
        for (int i = 0; i < right && good; i++)
            good = kl_likeliest(t.rows + (size_t)(PROMPT + at + i) * VOCAB, VOCAB) ==
                   said[at + i + 1];
        good = good && gdn_session_commit(t.session, right) == right;
        at += right;
    }
    tale_close(&t);
    return good;
}

/* ---- what rounding costs --------------------------------------------------------------------- */

static void add_rows(struct kl *k, const struct tale *a, const struct tale *b, size_t n)
{
    for (size_t i = 0; i < n; i++) kl_add(k, a->rows + i * VOCAB, b->rows + i * VOCAB, VOCAB);
}

static bool told(const char *what, const struct kl *k)
{
    fprintf(stderr, "%-24s %5lld rows: mean KL %.2g, max %.2g, the same first token in %.2f %%\n",
            what, (long long)k->rows, kl_mean(k), k->max, 100 * (double)k->same / (double)k->rows);
    return k->rows > 0;
}

/* Windows of a text, teacher-forced, with anchors in f32 and in bf16. */
static bool gate(const char *what, const int32_t *ids, size_t window, size_t windows,
                 struct kl *sum)
{
    struct tale a, b;
    struct kl k = {0};
    const bool open_a = tale_open(&a, GDN_F32, GDN_F32), open_b = tale_open(&b, GDN_F32, GDN_BF16);
    bool good = open_a && open_b;
    for (size_t w = 0; w < windows && good; w++) {
        const int32_t *at = ids + w * window;
        good = tale_again(&a) && tale_again(&b) && tale_read(&a, at, window) &&
               tale_read(&b, at, window);
        if (good) add_rows(&k, &a, &b, window);
    }
    tale_close(&a);
    tale_close(&b);
    sum->sum += k.sum;
    sum->max = fmax(sum->max, k.max);
    sum->rows += k.rows;
    sum->same += k.same;
    return good && told(what, &k);
}

/* The ids of a text as long as some windows. */
static bool windows_of(const char *command, int32_t *ids, size_t n)
{
    struct tale t;
    const bool good = tale_open(&t, GDN_F32, GDN_F32) && tale_ids(&t, command, ids, n);
    tale_close(&t);
    return good;
}

bool short_gate_holds(void)
{
    int32_t ids[96];
    struct kl k = {0};
    return windows_of(BOOKS, ids, 96) && gate("96 tokens", ids, 96, 1, &k) &&
           kl_mean(&k) <= 0.01 && k.same >= 95;
}

/* What the model itself says to a question, one window for each. */
static bool talk(int32_t *ids, size_t windows)
{
    static const char *const question[] = {"Tell me a story about a fox.", "What is 7 + 5?",
                                           "Count from one to fifty.",
                                           "What is the capital of Italy?"};
    struct tale t;
    bool good = tale_open(&t, GDN_F32, GDN_F32);
    for (size_t w = 0; w < windows && good; w++) {
        const struct gdn_message message = {"user", question[w % 4]};
        const struct gdn_chat_options chat = {.answer = true, .think = GDN_THINK_OFF};
        const struct gdn_sampling how = {.size = sizeof how, .temperature = 1, .seed = w};
        size_t n = WINDOW;
        int32_t *at = ids + w * WINDOW;
        good = tale_again(&t) &&
               gdn_chat(t.model, &message, 1, &chat, at, &n, &t.err) == GDN_OK &&
               gdn_session_feed(t.session, at, n, &t.err) == GDN_OK;
        for (; good && n < WINDOW; n++)
            good = gdn_session_sample(t.session, &how, at + n, &t.err) == GDN_OK &&
                   gdn_session_feed(t.session, at + n, 1, &t.err) == GDN_OK;
    }
    tale_close(&t);
    return good;
}

bool long_gate_holds(void)
{
    static int32_t ids[LONG];
    struct kl k = {0};
    return windows_of(BOOKS, ids, LONG) && gate("books", ids, WINDOW, 4, &k) &&
           windows_of(DOCUMENT, ids, LONG) && gate("documentation", ids, WINDOW, 4, &k) &&
           windows_of(CODE, ids, LONG) && gate("code", ids, WINDOW, 4, &k) && talk(ids, 4) &&
           gate("its own talk", ids, WINDOW, 4, &k) && k.rows >= 4000 && kl_mean(&k) <= 0.002 &&
           told("together", &k);
}

/* ---- the inputs of the convolution ----------------------------------------------------------- */

/* Their type is that of the activations and follows nothing else; and what it costs: one row at a
 * time, f32 against rings that are rounded to bf16 after each. */
bool tail_type_is_a_setting(void)
{
    enum { ROWS = 96 };
    static const enum gdn_type type[] = {GDN_F32, GDN_BF16};
    struct tale a, b;
    struct kl k = {0};
    int32_t ids[ROWS];
    bool good = windows_of(BOOKS, ids, ROWS);
    for (int i = 0; i < 4 && good; i++) {
        good = tale_open(&a, type[i & 1], type[i >> 1]) &&
               tale_state(&a)->layer[0].conv.dtype == (i & 1 ? DTYPE_BF16 : DTYPE_F32) &&
               tale_state(&a)->layer[0].delta.anchor_type == (i >> 1 ? DTYPE_BF16 : DTYPE_F32);
        tale_close(&a);
    }
    const bool open_a = tale_open(&a, GDN_F32, GDN_F32), open_b = tale_open(&b, GDN_F32, GDN_F32);
    good = good && open_a && open_b && tale_read(&a, ids, ROWS);
    for (int i = 0; i < ROWS && good; i++) {
        struct state_change to, back;
        good = tale_read(&b, ids + i, 1) &&
               state_ensure(tale_state(&b), DTYPE_BF16, DTYPE_F32, &to, &b.err) == GDN_OK &&
               state_ensure(tale_state(&b), DTYPE_F32, DTYPE_F32, &back, &b.err) == GDN_OK &&
               to.conv && back.conv && !to.anchor && !back.anchor;
    }
    if (good) add_rows(&k, &a, &b, ROWS);
    tale_close(&a);
    tale_close(&b);
    return good && told("inputs in bf16", &k) && k.sum > 0 && kl_mean(&k) <= 0.002;
}

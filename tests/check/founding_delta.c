/* founding_delta.c: founding behaviours of the delta rule's calls: types, ways of computing them,
 * memory, edges. Where the behaviour is one that callers see, the call is that of gdn/ops.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "founding.h"
#include "gdn/ops.h"

enum { CHANNEL = 1, STATES = 6 }; /* options of the delta proof: state in and out */
#define COUNT(array) (int)(sizeof(array) / sizeof(*(array)))

/* ---- a call on arrays of its own ------------------------------------------------------------- */

enum { HEADS = 2, MOST_T = 130, MOST_D = 64 };
struct plain {
    struct gdn_delta call;
    struct gdn_delta_gradient gradient;
    float q[MOST_T * HEADS * MOST_D], k[MOST_T * HEADS * MOST_D], v[MOST_T * HEADS * MOST_D];
    float o[MOST_T * HEADS * MOST_D], g[MOST_T * HEADS * MOST_D], beta[MOST_T * HEADS];
    float S0[HEADS * MOST_D * MOST_D], S1[HEADS * MOST_D * MOST_D];
    float dq[MOST_T * HEADS * MOST_D], dk[MOST_T * HEADS * MOST_D], dv[MOST_T * HEADS * MOST_D];
};

static void plain_open(struct plain *p, int32_t T, int32_t Dk, int32_t Dv, bool channel)
{
    struct rng rng = {.seed = 3};
    memset(p, 0, sizeof *p);
    float *normal[] = {p->q, p->k, p->v};
    for (int i = 0; i < 3; i++)
        for (int e = 0; e < COUNT(p->q); e++) normal[i][e] = (float)rng_normal(&rng);
    for (int e = 0; e < COUNT(p->g); e++) p->g[e] = -(float)rng_unit(&rng);
    for (int e = 0; e < COUNT(p->beta); e++) p->beta[e] = (float)rng_unit(&rng);
    for (int e = 0; e < COUNT(p->S0); e++) p->S0[e] = (float)rng_normal(&rng);
    p->call = (struct gdn_delta){
        .rows = {.B = 1, .T = T}, .Hk = HEADS, .Hv = HEADS, .Dk = Dk, .Dv = Dv, .q.data = p->q,
        .k.data = p->k, .v.data = p->v, .g.data = p->g, .beta.data = p->beta, .S0.data = p->S0,
        .o.data = p->o, .S1.data = p->S1, .channel_gate = channel, .l2norm = true};
    p->gradient = (struct gdn_delta_gradient){
        .o.data = p->v, .q.data = p->dq, .k.data = p->dk, .v.data = p->dv};
}

/* Forward, or with `back` the gradients. */
static bool plain_run(const gdn_ops *ops, struct plain *p, bool back)
{
    size_t bytes = 0;
    struct gdn_error err = {0};
    const struct gdn_delta_gradient *w = back ? &p->gradient : NULL;
    bool fine = gdn_delta_workspace(ops, &p->call, w, &bytes, &err) == GDN_OK;
    void *room = mem_take(bytes + 1);
    fine =
        fine && room &&
        (back ? gdn_delta_backward(ops, &p->call, w, room, bytes, &err)
              : gdn_delta_forward(ops, &p->call, room, bytes, &err)) == GDN_OK;
    if (!fine) fprintf(stderr, "%s\n", err.text);
    mem_give(room);
    return fine;
}

static gdn_ops *ops_of(uint32_t isa)
{
    gdn_ops *ops;
    struct gdn_error err = {0};
    if (gdn_ops_open("cpu", 1, isa, &ops, &err) != GDN_OK) fprintf(stderr, "%s\n", err.text);
    return ops;
}

static double distance(const float *got, const float *want, int n)
{
    double off = 0, all = 0;
    for (int i = 0; i < n; i++) {
        off += pow((double)got[i] - (double)want[i], 2);
        all += pow((double)want[i], 2);
    }
    return sqrt(off / all);
}

/* ---- S0 -------------------------------------------------------------------------------------- */

/* Every five types of q, k, v, g and beta, o beside every two of the states. */
bool mixed_activations_refused(void)
{
    static struct plain p;
    static const int type[] = {GDN_F32, GDN_BF16, GDN_F16};
    gdn_ops *ops = ops_of(GDN_ISA_ALL);
    bool right = ops != NULL;
    for (int i = 0; right && i < 3 * 3 * 3 * 3 * 3 * 4; i++) {
        size_t bytes;
        struct gdn_error err = {0};
        plain_open(&p, 2, 4, 4, false);
        struct gdn_delta *c = &p.call;
        const int q = type[i % 3], k = type[i / 3 % 3], v = type[i / 9 % 3];
        const int g = type[i / 27 % 3], o = type[i / 81 % 3];
        c->q.type = q, c->k.type = k, c->v.type = v, c->o.type = o;
        c->g.type = c->beta.type = g;
        c->S0.type = i / 243 & 1 ? GDN_BF16 : GDN_F32;
        c->S1.type = i / 243 & 2 ? GDN_BF16 : GDN_F32;
        const bool fits = q == k && k == v && (g == q || g == GDN_F32) && (o == q || o == GDN_F32);
        right = gdn_delta_workspace(ops, c, NULL, &bytes, &err) == (fits ? GDN_OK : GDN_ERR_USAGE);
        right = right && (fits || strstr(err.text, ".type: found "));
    }
    gdn_ops_close(ops);
    return right;
}

/* The same call with every step of the machine taken away in turn: within rounding; and each
 * context says what it may use. */
bool generic_path_agrees(void)
{
    static struct plain fast, slow;
    const uint32_t all = cpu_flags(), masks[] = {0, CPU_AVX2, CPU_AVX2 | CPU_AVX512, ~0u};
    bool right = true;
    for (int i = 0; right && i < COUNT(masks) * 2; i++) {
        gdn_ops *ops = ops_of(masks[i / 2]), *full = ops_of(GDN_ISA_ALL);
        plain_open(&fast, 100, 64, 64, i % 2);
        plain_open(&slow, 100, 64, 64, i % 2);
        right = ops && full && gdn_ops_isa(ops) == (all & masks[i / 2]) &&
                gdn_ops_isa(full) == all && plain_run(ops, &slow, false) &&
                plain_run(full, &fast, false) && plain_run(ops, &slow, true) &&
                plain_run(full, &fast, true) &&
                distance(slow.o, fast.o, 100 * HEADS * 64) <= 2e-6 &&
                distance(slow.S1, fast.S1, HEADS * 64 * 64) <= 2e-6 &&
                distance(slow.dk, fast.dk, 100 * HEADS * 64) <= 2e-6;
        gdn_ops_close(ops);
        gdn_ops_close(full);
    }
    return right;
}

/* ---- S2 -------------------------------------------------------------------------------------- */

/* What a call of T rows of one head would need. It is never made. */
static size_t needs(const gdn_ops *ops, int32_t T, bool channel, bool back)
{
    static struct plain p;
    size_t bytes = 0;
    plain_open(&p, T, MOST_D, MOST_D, channel);
    p.call.Hk = p.call.Hv = 1;
    gdn_delta_workspace(ops, &p.call, back ? &p.gradient : NULL, &bytes, NULL);
    return bytes;
}

/* 1024 tokens more cost copies of their rows, and backward a state for each 64 of them. */
bool boundary_states_only(void)
{
    const size_t row = MOST_D * sizeof(float), rows = 1024 * 8 * row, states = 16 * MOST_D * row;
    gdn_ops *ops = ops_of(GDN_ISA_ALL);
    bool right = ops != NULL;
    for (int channel = 0; right && channel < 2; channel++) {
        const size_t back = needs(ops, 1024, channel, true);
        right = back > 0 && needs(ops, 2048, channel, true) <= back + rows + states &&
                needs(ops, 2048, channel, false) <= needs(ops, 1024, channel, false) + rows;
    }
    gdn_ops_close(ops);
    return right;
}

/* A call with one gate a head, on a device that has seen calls with one a channel and on one that
 * has not. */
bool scalar_form_keeps_its_bits(void)
{
    static struct trial fresh, other, after;
    static const struct manner manner = {.grads = true};
    static const uint32_t masks[] = {0, CPU_AVX2, ~0u};
    const struct proof *proof = founding_suite("delta")->proof;
    const struct shape head = {.B = 2, .T = 70, .Hk = 1, .R = 2, .Dk = 40, .Dv = 24,
                               .option = STATES};
    struct shape channel = head;
    struct verdict v = {.subject = "scalar form", .shape = head};
    channel.option |= CHANNEL;
    for (int i = 0; i < COUNT(masks); i++) {
        struct lab lab;
        struct gdn_error err = {0};
        if (!EXPECT(&v, lab_open(&lab, "cpu", masks[i], &err), "%s", err.text)) break;
        if (trial_open(&fresh, proof, &head, &lab.under[1], &manner, &v) &&
            trial_open(&other, proof, &channel, &lab.under[0], &manner, &v) &&
            trial_open(&after, proof, &head, &lab.under[0], &manner, &v) &&
            trial_backward(&fresh) && trial_backward(&other) && trial_backward(&after))
            expect_same_bits(&fresh, &after, "after the column form");
        trial_close(&fresh), trial_close(&other), trial_close(&after);
        lab_close(&lab);
    }
    return founding_verdict(&v);
}

/* What the fast mode has no code for is computed by the exact one, in its bits: widths that are not
 * multiples of 32, calls below 64 rows, a machine without its instructions. */
static bool fast_falls_back(uint32_t isa, int32_t T, int32_t Dk, int32_t Dv)
{
    static struct plain fast, exact;
    gdn_ops *ops = ops_of(isa);
    bool right = ops != NULL;
    for (int channel = 0; right && channel < 2; channel++) {
        plain_open(&fast, T, Dk, Dv, channel);
        plain_open(&exact, T, Dk, Dv, channel);
        fast.call.fast = true;
        for (int back = 0; right && back < 2; back++)
            right = plain_run(ops, &fast, back) && plain_run(ops, &exact, back);
        right = right && memcmp(fast.o, exact.o, sizeof fast.o) == 0 &&
                memcmp(fast.S1, exact.S1, sizeof fast.S1) == 0 &&
                memcmp(fast.dk, exact.dk, sizeof fast.dk) == 0;
    }
    gdn_ops_close(ops);
    return right;
}

bool unsupported_falls_back(void)
{
    static const struct shape odd[] = {
        {.B = 3, .T = 80, .Hk = 1, .R = 2, .Dk = 33, .Dv = 5, .absent = 1, .option = STATES},
        {.B = 3, .T = 80, .Hk = 1, .R = 2, .Dk = 7, .Dv = 34, .option = STATES | CHANNEL}};
    return fast_falls_back(GDN_ISA_ALL, 100, 33, 64) && fast_falls_back(GDN_ISA_ALL, 100, 64, 5) &&
           fast_falls_back(GDN_ISA_ALL, 63, 64, 64) && fast_falls_back(0, 100, 64, 64) &&
           founding_proves("cpu", "delta", prove_forward, odd, COUNT(odd)) &&
           founding_proves("cpu", "delta", prove_backward, odd, COUNT(odd));
}

static void no_heads(struct gdn_delta *c) { c->Hv = 0; }
static void uneven_heads(struct gdn_delta *c) { c->Hk = 2, c->Hv = 3; }
static void wide_keys(struct gdn_delta *c) { c->Dk = 1 << 20; }
static void no_keys(struct gdn_delta *c) { c->k.data = NULL; }
static void half_state(struct gdn_delta *c) { c->S0.type = GDN_F16; }
static void odd_address(struct gdn_delta *c) { c->v.data = (char *)c->v.data + 1; }

/* A status, a sentence that names the argument, and nothing written. */
bool outside_is_refused(void)
{
    static const struct {
        void (*spoil)(struct gdn_delta *c);
        const char *names;
    } wrong[] = {{no_heads, "Hv"},    {uneven_heads, "Hv"},    {wide_keys, "Dk"},
                 {no_keys, "k.data"}, {half_state, "S0.type"}, {odd_address, "v.data"}};
    static struct plain p, was;
    static char room[1 << 20];
    gdn_ops *ops = ops_of(GDN_ISA_ALL);
    bool right = ops != NULL;
    for (int i = 0; right && i < 2 * COUNT(wrong); i++) {
        struct gdn_error err = {0};
        plain_open(&p, 20, 16, 16, false);
        wrong[i / 2].spoil(&p.call);
        was = p;
        const enum gdn_status status =
            i % 2 ? gdn_delta_backward(ops, &p.call, &p.gradient, room, sizeof room, &err)
                  : gdn_delta_forward(ops, &p.call, room, sizeof room, &err);
        right = status == GDN_ERR_USAGE && strstr(err.text, wrong[i / 2].names) &&
                memcmp(&p, &was, sizeof p) == 0;
    }
    plain_open(&p, 20, 16, 16, false);
    right = right && gdn_delta_forward(ops, &p.call, room, 1, NULL) == GDN_ERR_USAGE;
    gdn_ops_close(ops);
    return right;
}

/* Around each edge of blocks, chunks and vectors, between canaries that a sanitizer watches too. */
bool nothing_outside_is_touched(void)
{
    static const struct shape edges[] = {
        {.B = 2, .T = 192, .Hk = 2, .R = 2, .Dk = 64, .Dv = 32, .option = STATES},
        {.B = 3, .T = 210, .Hk = 2, .R = 2, .Dk = 32, .Dv = 16, .window = 1},
        {.T = 130, .Hk = 1, .R = 1, .Dk = 96, .Dv = 64, .act = DTYPE_BF16, .option = STATES},
        {.B = 2, .T = 130, .Hk = 1, .R = 1, .Dk = 64, .Dv = 64, .option = CHANNEL | STATES},
        {.T = 1, .Hk = 1, .R = 2, .Dk = 33, .Dv = 31, .option = STATES, .window = 1},
        {.T = 63, .Hk = 1, .R = 2, .Dk = 15, .Dv = 17, .option = CHANNEL},
        {.T = 64, .Hk = 1, .R = 2, .Dk = 17, .Dv = 15, .option = STATES, .window = 1},
        {.T = 65, .Hk = 1, .R = 2, .Dk = 1, .Dv = 33, .option = CHANNEL | STATES}};
    return founding_proves("cpu", "delta", prove_forward, edges, COUNT(edges)) &&
           founding_proves("cpu", "delta", prove_backward, edges, COUNT(edges));
}

/* Whatever a pass may put on a tape has a backward, on every device and with every instruction set:
 * no training step can meet an op without one. */
bool every_kernel_has_a_derivative(void)
{
    static const struct {
        const char *device;
        uint32_t mask;
    } all[] = {{"ref", 0}, {"cpu", 0}, {"cpu", CPU_AVX2}, {"cpu", ~0u}};
    bool right = true;
    for (int i = 0; right && i < COUNT(all); i++) {
        struct gdn_error err = {0};
        struct device *device = device_open(all[i].device, 1, all[i].mask, &err);
        right = device != NULL;
        for (int op = 0; right && op < OP_COUNT; op++)
            right = !device->forward[op] || op_info[op].out == 0 || device->backward[op];
        device_close(device);
    }
    return right;
}

/* ---- S4 -------------------------------------------------------------------------------------- */

/* o and S1 of T rows as calls of one row each, the state handed from one to the next. */
static bool one_by_one(const gdn_ops *ops, struct plain *p)
{
    struct gdn_delta *c = &p->call;
    const int32_t T = c->rows.T, Dk = c->Dk, Dv = c->Dv;
    bool fine = true;
    c->rows.T = 1;
    for (int32_t t = 0; fine && t < T; t++) {
        c->q.data = p->q + t * HEADS * Dk, c->k.data = p->k + t * HEADS * Dk;
        c->v.data = p->v + t * HEADS * Dv, c->o.data = p->o + t * HEADS * Dv;
        c->g.data = p->g + t * HEADS, c->beta.data = p->beta + t * HEADS;
        fine = plain_run(ops, p, false);
        c->S0.data = p->S1;
    }
    return fine;
}

/* Dense calls of any length are within rounding of rows one by one, those of the fast mode within
 * its own; on slots, lengths do not change a bit. */
bool length_picks_only_speed(void)
{
    static const int32_t lengths[] = {1, 2, 16, 17, 63, 64, 65, 128, MOST_T};
    static const struct shape slots = {.B = 1, .Hk = 1, .R = 1, .Dk = 32, .Dv = 32, .slots = 16};
    static struct plain whole, rows;
    gdn_ops *ops = ops_of(GDN_ISA_ALL);
    bool right = ops != NULL;
    for (int i = 0; right && i < 2 * COUNT(lengths); i++) {
        const int32_t T = lengths[i / 2];
        plain_open(&rows, T, 64, 64, false);
        plain_open(&whole, T, 64, 64, false);
        whole.call.fast = i % 2;
        const double most = i % 2 ? 6e-3 : 2e-6;
        right = one_by_one(ops, &rows) && plain_run(ops, &whole, false) &&
                distance(whole.o, rows.o, T * HEADS * 64) <= most &&
                distance(whole.S1, rows.S1, HEADS * 64 * 64) <= most;
    }
    gdn_ops_close(ops);
    struct verdict v = {.subject = "lengths"};
    struct lab *lab = founding_lab("cpu");
    struct machine m;
    if (lab && machine_open(&m, founding_suite("delta_slots")->form, &slots, &lab->under[0], false,
                            &v)) {
        law_sizes(&m, (struct extent){.tokens = 300});
        machine_close(&m);
    }
    return right && lab && founding_verdict(&v);
}

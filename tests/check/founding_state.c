/* founding_state.c: founding behaviours of the delta rule's state, dense and in slots. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "founding.h"

enum { CHANNEL = 1, STATES = 6 };
#define COUNT(array) (int)(sizeof(array) / sizeof(*(array)))

/* ---- the dense form: state in one tensor, out in another ------------------------------------- */

/* Fields are those of the slots' form. weight: the type of the state. */
static int dense_fields(const struct shape *s, struct want *want)
{
    return founding_suite("delta_slots")->form->fields(s, want);
}

static void dense_lay(struct machine *m)
{
    const struct shape *s = &m->shape;
    const int64_t dim[] = {1, (int64_t)s->Hk * s->R, s->Dv, s->Dk};
    const enum dtype type = m->wide ? DTYPE_F64 : (enum dtype)s->weight;
    for (int i = 0; i < 2; i++)
        m->held[i] = tensor_over(machine_state(m, i ? "S1" : "S0", type, dim[1] * dim[2] * dim[3],
                                               i == 0), type, 4, dim);
    m->args.delta = (struct delta_args){
        .q = &m->field[0].t, .k = &m->field[1].t, .v = &m->field[2].t, .g = &m->field[3].t,
        .beta = &m->field[4].t, .S0 = &m->held[0], .o = &m->field[5].t, .S1 = &m->held[1],
        .rows = &m->rows};
}

static const struct form dense = {.op = OP_DELTA, .fields = dense_fields, .lay = dense_lay};

/* What a way of feeding a stream leaves: all outputs, and the last state. */
struct outcome {
    double *o, *S;
    int64_t outputs, states;
    unsigned char *rows;
};

static void outcome_give(struct outcome *out)
{
    mem_give(out->o);
    mem_give(out->S);
    mem_give(out->rows);
}

static double *numbers(const unsigned char *at, enum dtype type, int64_t n)
{
    double *x = mem_take_array((size_t)n, sizeof *x);
    for (int64_t i = 0; x && i < n; i++)
        x[i] = number_read(at + (size_t)i * dtype_size(type), type);
    return x;
}

/* A stream of `tokens` in pieces, the state carried from one to the next. */
static bool roll(struct station *at, bool wide, const struct shape *s, int tokens, int piece,
                 struct outcome *out, struct verdict *v)
{
    struct machine m;
    struct stream stream = {0};
    *out = (struct outcome){0};
    if (!machine_open(&m, &dense, s, at, wide, v)) return false;
    const struct tensor *S1 = &m.held[1];
    const size_t row = machine_row(&m, 5), bytes = dtype_size(S1->dtype) *
                                                   (size_t)tensor_elements(S1);
    out->rows = mem_take_array((size_t)tokens, row);
    bool go = stream_open(&stream, &m, tokens, 21) && EXPECT(v, out->rows, "no memory");
    for (int from = 0; from < tokens && go; from += piece) {
        const int n = tokens - from < piece ? tokens - from : piece;
        go = machine_feed_one(&m, &stream, out->rows, 0, from, n, false);
        at->device->copy(at->device, m.held[0].data, S1->data, bytes);
    }
    if (go) {
        machine_download(&m);
        out->states = tensor_elements(S1);
        out->outputs = (int64_t)(row / dtype_size(m.field[5].t.dtype)) * tokens;
        out->S = numbers(m.state[1].after + m.state[1].lead, S1->dtype, out->states);
        out->o = numbers(out->rows, m.field[5].t.dtype, out->outputs);
        go = EXPECT(v, out->S && out->o, "no memory");
    }
    stream_close(&stream);
    machine_close(&m);
    return go;
}

static double distance(const double *a, const double *b, int64_t n)
{
    double error = 0, square = 0;
    for (int64_t i = 0; i < n; i++) {
        error += (a[i] - b[i]) * (a[i] - b[i]);
        square += b[i] * b[i];
    }
    return sqrt(error / square);
}

static double cosine(const double *a, const double *b, int64_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < n; i++) {
        ab += a[i] * b[i];
        aa += a[i] * a[i];
        bb += b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

/* ---- dtypes ---------------------------------------------------------------------------------- */

bool two_dtypes_accepted(void)
{
    static const struct shape shape[] = {
        {.T = 20, .Hk = 1, .R = 2, .Dk = 32, .Dv = 32, .act = DTYPE_BF16, .option = STATES},
        {.T = 1, .Hk = 1, .R = 2, .Dk = 32, .Dv = 32, .act = DTYPE_BF16, .slots = 16, .start = 3},
        {.T = 20, .Hk = 1, .R = 2, .Dk = 32, .Dv = 32, .act = DTYPE_BF16, .slots = 16}};
    struct lab *lab = founding_lab("cpu");
    /* The device's own kernel, not the reference that stands in where there is none. */
    return lab &&
           lab->under[0].device->forward[OP_DELTA] != lab->ref.device->forward[OP_DELTA] &&
           founding_proves("cpu", "delta", prove_forward, shape, COUNT(shape));
}

/* prove_forward compares every element in the type it was asked for, and the bytes around. */
bool each_result_in_its_dtype(void)
{
    struct shape shape[4];
    for (int i = 0; i < 4; i++)
        shape[i] = (struct shape){.T = 20, .Hk = 1, .R = 2, .Dk = 16, .Dv = 24, .option = STATES,
                                  .act = i & 1 ? DTYPE_BF16 : DTYPE_F32,
                                  .weight = i & 2 ? DTYPE_BF16 : DTYPE_F32};
    return founding_proves("cpu", "delta", prove_forward, shape, COUNT(shape));
}

bool any_state_dtype_honoured(void)
{
    static const struct shape shape[] = {
        {.T = 20, .Hk = 1, .R = 2, .Dk = 16, .Dv = 24, .option = STATES},
        {.T = 20, .Hk = 1, .R = 2, .Dk = 16, .Dv = 24, .option = STATES, .weight = DTYPE_BF16}};
    return founding_proves("cpu", "delta", prove_forward, shape, COUNT(shape)) &&
           founding_proves("ref", "delta", prove_forward, shape, COUNT(shape));
}

static bool mostly_fine(const double *S, int64_t n)
{
    int64_t fine = 0;
    for (int64_t i = 0; i < n; i++)
        if (f32_bits((float)S[i]) & 0xffff) fine++;
    return (double)fine > 0.99 * (double)n;
}

/* The fp32 state after steps with bf16 activations holds what bf16 cannot: dense, and as anchor. */
bool state_keeps_its_bits(void)
{
    static const struct shape s = {.Hk = 2, .R = 2, .Dk = 32, .Dv = 32, .slots = 16,
                                   .act = DTYPE_BF16};
    struct verdict v = {.subject = "state bits"};
    struct lab *lab = founding_lab("cpu");
    struct outcome out;
    struct machine m;
    struct stream stream = {0};
    double dense_state[4 * 32 * 32];
    if (!lab) return false;
    if (roll(&lab->under[0], false, &s, 3, 1, &out, &v))
        EXPECT(&v, mostly_fine(out.S, out.states), "the dense state was rounded");
    outcome_give(&out);
    if (!machine_open(&m, founding_suite("delta_slots")->form, &s, &lab->under[0], false, &v))
        return false;
    unsigned char *rows = mem_take_array(17, machine_row(&m, 5));
    if (EXPECT(&v, rows, "no memory") && stream_open(&stream, &m, 17, 4) &&
        machine_feed_one(&m, &stream, rows, 1, 0, 17, false)) {
        lab->under[0].device->anchor_unpack(&m.delta, 1, dense_state);
        EXPECT(&v, mostly_fine(dense_state, COUNT(dense_state)), "the anchor was rounded");
    }
    mem_give(rows);
    stream_close(&stream);
    machine_close(&m);
    return founding_verdict(&v);
}

/* Long sums over bf16 inputs: the fp32 state stays within fp32's limit of the reference. */
bool sums_are_wide(void)
{
    static const struct shape shape[] = {
        {.T = 192, .Hk = 1, .R = 2, .Dk = 96, .Dv = 64, .act = DTYPE_BF16, .option = STATES,
         .decay = DECAY_NONE},
        {.T = 192, .Hk = 1, .R = 1, .Dk = 64, .Dv = 32, .act = DTYPE_BF16,
         .option = STATES | CHANNEL}};
    return founding_proves("cpu", "delta", prove_forward, shape, COUNT(shape));
}

bool rounds_once_a_launch(void)
{
    static const struct shape s = {.Hk = 1, .R = 2, .Dk = 64, .Dv = 64, .weight = DTYPE_BF16};
    struct verdict v = {.subject = "one rounding a launch"};
    struct lab *lab = founding_lab("cpu");
    struct outcome exact, once, each;
    if (!lab) return false;
    const bool rolled = roll(&lab->ref, true, &s, 16, 16, &exact, &v) &&
                        roll(&lab->under[0], false, &s, 16, 16, &once, &v) &&
                        roll(&lab->under[0], false, &s, 16, 1, &each, &v);
    if (rolled) {
        const double a = distance(once.S, exact.S, exact.states);
        const double b = distance(each.S, exact.S, exact.states);
        EXPECT(&v, a < b, "one launch of 16 is %.3g off, 16 launches are %.3g off", a, b);
        outcome_give(&exact);
        outcome_give(&once);
        outcome_give(&each);
    }
    return founding_verdict(&v);
}

bool bf16_rollout_stays_near(void)
{
    static const struct shape s = {.Hk = 2, .R = 2, .Dk = 64, .Dv = 64};
    struct shape narrow = s;
    struct verdict v = {.subject = "bf16 rollout"};
    struct lab *lab = founding_lab("cpu");
    struct outcome wide, rounded;
    narrow.weight = DTYPE_BF16;
    if (!lab) return false;
    if (roll(&lab->under[0], false, &s, 16, 1, &wide, &v) &&
        roll(&lab->under[0], false, &narrow, 16, 1, &rounded, &v)) {
        const int64_t row = wide.outputs / 16;
        const double state = cosine(rounded.S, wide.S, wide.states);
        const double last = cosine(rounded.o + 15 * row, wide.o + 15 * row, row);
        EXPECT(&v, state >= 0.99 && last >= 0.99, "cosines %.4f and %.4f", state, last);
        outcome_give(&wide);
        outcome_give(&rounded);
    }
    return founding_verdict(&v);
}

/* ---- orientation, beginnings ----------------------------------------------------------------- */

enum { HV = 2, DV = 5, DK = 3 };

/* A state whose every element is told by its place. */
static double told(int h, int j, int d) { return 100 * h + 10 * j + d + 1; }

/* With q = e_d, nothing written and no decay, o[h][j] is S[h][j][d]. */
static void expect_columns(struct machine *m, const char *where)
{
    struct stream stream = {0};
    unsigned char rows[DK * HV * DV * sizeof(float)];
    if (!stream_open(&stream, m, DK, 1)) return;
    for (int i = 0; i < 5; i++) memset(stream.row[i], 0, DK * machine_row(m, i));
    for (int d = 0; d < DK; d++)
        number_write(stream.row[0] + (size_t)(d * DK + d) * sizeof(float), DTYPE_F32, 1);
    for (int d = 0; d < DK; d++) {
        if (!machine_feed_one(m, &stream, rows, 0, d, 1, false)) break;
        for (int e = 0; e < HV * DV; e++) {
            const double o = number_read(rows + (size_t)(d * HV * DV + e) * sizeof(float),
                                         DTYPE_F32);
            EXPECT(m->v, o == told(e / DV, e % DV, d), "%s: o[%d][%d] for e_%d is %g", where,
                   e / DV, e % DV, d, o);
        }
    }
    stream_close(&stream);
}

bool orientation_is_one(void)
{
    static const struct shape s = {.Hk = 1, .R = HV, .Dk = DK, .Dv = DV, .slots = 16};
    struct verdict v = {.subject = "orientation"};
    struct lab *lab = founding_lab("cpu");
    struct machine m;
    double state[HV * DV * DK], back[HV * DV * DK];
    if (!lab) return false;
    for (int i = 0; i < HV * DV * DK; i++) state[i] = told(i / (DV * DK), i / DK % DV, i % DK);
    for (int on_ref = 0; on_ref < 2; on_ref++) {
        struct station *at = on_ref ? &lab->ref : &lab->under[0];
        if (machine_open(&m, &dense, &s, at, false, &v)) {
            box_set(&m.state[0], state);
            box_upload(&m.state[0]);
            expect_columns(&m, "dense");
            machine_close(&m);
        }
        if (machine_open(&m, founding_suite("delta_slots")->form, &s, at, false, &v)) {
            at->device->anchor_pack(&m.delta, 0, state);
            at->device->anchor_unpack(&m.delta, 0, back);
            EXPECT(&v, memcmp(state, back, sizeof state) == 0, "pack and unpack turn the state");
            expect_columns(&m, "slots");
            machine_close(&m);
        }
    }
    return founding_verdict(&v);
}

/* A first call on a new slot is a plain prefill from a state of zeros. */
bool empty_is_zero(void)
{
    enum { TOKENS = 40 };
    static const struct shape s = {.Hk = 1, .R = 2, .Dk = 16, .Dv = 12, .slots = 16};
    struct verdict v = {.subject = "an empty slot"};
    struct lab *lab = founding_lab("cpu");
    struct outcome zero;
    struct machine m;
    struct stream stream = {0};
    if (!lab || !roll(&lab->under[0], false, &s, TOKENS, TOKENS, &zero, &v)) return false;
    if (machine_open(&m, founding_suite("delta_slots")->form, &s, &lab->under[0], false, &v)) {
        unsigned char *rows = mem_take_array(TOKENS, machine_row(&m, 5));
        if (rows && stream_open(&stream, &m, TOKENS, 21) &&
            machine_feed_one(&m, &stream, rows, 2, 0, TOKENS, false)) {
            double *o = numbers(rows, DTYPE_F32, zero.outputs);
            EXPECT(&v, o && distance(o, zero.o, zero.outputs) <= 2e-6, "slot and zeros differ");
            mem_give(o);
        }
        mem_give(rows);
        stream_close(&stream);
        machine_close(&m);
    }
    outcome_give(&zero);
    return founding_verdict(&v);
}

/* Calls of one and two rows with four taps: the new tail is part old, part new. */
bool short_calls_keep_tails(void)
{
    static const struct shape shape[] = {{.T = 1, .D = 9, .W = 4, .option = 3},
                                         {.T = 2, .D = 9, .W = 4, .option = 3},
                                         {.T = 2, .D = 9, .W = 3, .option = 3},
                                         {.B = 3, .T = 3, .D = 9, .W = 4, .option = 3}};
    return founding_proves("cpu", "conv", prove_forward, shape, COUNT(shape));
}

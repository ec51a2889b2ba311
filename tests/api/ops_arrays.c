/* Every array of every call of gdn/ops.h, spoilt in every way: refused with a sentence that names
 * it, and not a byte is written; and the other arguments of the small calls. Those of delta:
 * ops_arguments.c. */
#include <stddef.h>

#include "api/ops_lab.h"

enum { B = 2, T = 3, H = 2, D = 4, ROOM = 1024, ARRAYS = 16 };

/* ---- the calls ------------------------------------------------------------------------------- */

union call {
    struct gdn_delta delta;
    struct gdn_conv conv;
    struct gdn_gate gate;
    struct gdn_l2norm l2norm;
    struct gdn_norm norm;
};
union gradient {
    struct gdn_delta_gradient delta;
    struct gdn_conv_gradient conv;
    struct gdn_gate_gradient gate;
    struct gdn_l2norm_gradient l2norm;
    struct gdn_norm_gradient norm;
};

/* Without a gradient the call is forward. */
typedef enum gdn_status caller(const gdn_ops *ops, const union call *call,
                               const union gradient *gradient, void *room, size_t bytes,
                               struct gdn_error *err);
#define CALLER(op)                                                                               \
    static enum gdn_status call_##op(const gdn_ops *ops, const union call *c,                    \
                                     const union gradient *w, void *room, size_t bytes,          \
                                     struct gdn_error *err)                                      \
    {                                                                                            \
        size_t need = 77;                                                                        \
        const enum gdn_status status =                                                           \
            gdn_##op##_workspace(ops, &c->op, w ? &w->op : NULL, &need, NULL);                    \
        assert_int_equal(need == 0, status != GDN_OK);                                           \
        const enum gdn_status done =                                                             \
            w ? gdn_##op##_backward(ops, &c->op, &w->op, room, bytes, err)                        \
              : gdn_##op##_forward(ops, &c->op, room, bytes, err);                                \
        assert_int_equal(done, status);                                                          \
        return done;                                                                             \
    }
CALLER(delta)
CALLER(conv)
CALLER(gate)
CALLER(l2norm)
CALLER(norm)

/* ---- the arrays ------------------------------------------------------------------------------ */

struct place {
    const char *name;
    size_t at; /* of its struct gdn_array in the call or the gradient */
    int rank;
    bool needed, output;
};
#define NEEDED(op, name, rank) {#name, offsetof(struct gdn_##op, name), rank, true, false}
#define GIVEN(op, name, rank) {#name, offsetof(struct gdn_##op, name), rank, false, false}
#define MADE(op, name, rank) {#name, offsetof(struct gdn_##op, name), rank, true, true}
#define WANTED(op, name, rank) {#name, offsetof(struct gdn_##op, name), rank, false, true}
#define KNOWN(op, name, rank) \
    {"gradient." #name, offsetof(struct gdn_##op##_gradient, name), rank, false, false}
#define LOSS(op, name, rank) \
    {"gradient." #name, offsetof(struct gdn_##op##_gradient, name), rank, true, false}
#define ASKED(op, name, rank) \
    {"gradient." #name, offsetof(struct gdn_##op##_gradient, name), rank, false, true}

static const struct kind {
    const char *name;
    caller *call;
    union call plain; /* without arrays */
    struct place forward[ARRAYS], backward[ARRAYS];
} kinds[] = {
    {"delta", call_delta, {.delta = {.rows = {.B = B, .T = T}, .Hk = H, .Hv = H, .Dk = D, .Dv = D}},
     {NEEDED(delta, q, 4), NEEDED(delta, k, 4), NEEDED(delta, v, 4), GIVEN(delta, g, 3),
      GIVEN(delta, beta, 3), GIVEN(delta, S0, 4), MADE(delta, o, 4), WANTED(delta, S1, 4)},
     {KNOWN(delta, o, 4), KNOWN(delta, S1, 4), ASKED(delta, q, 4), ASKED(delta, k, 4),
      ASKED(delta, v, 4), ASKED(delta, g, 3), ASKED(delta, beta, 3), ASKED(delta, S0, 4)}},
    {"conv", call_conv, {.conv = {.rows = {.B = B, .T = T}, .C = D, .W = 4}},
     {NEEDED(conv, x, 3), NEEDED(conv, w, 2), GIVEN(conv, tail_in, 3), MADE(conv, y, 3),
      WANTED(conv, tail_out, 3)},
     {KNOWN(conv, y, 3), KNOWN(conv, tail_out, 3), ASKED(conv, x, 3), ASKED(conv, w, 2),
      ASKED(conv, tail_in, 3)}},
    {"gate", call_gate, {.gate = {.B = B, .T = T, .Hv = H, .Dk = D}},
     {NEEDED(gate, a, 4), NEEDED(gate, b, 3), GIVEN(gate, A_log, 1), GIVEN(gate, dt_bias, 2),
      MADE(gate, g, 4), MADE(gate, beta, 3)},
     {KNOWN(gate, g, 4), KNOWN(gate, beta, 3), ASKED(gate, a, 4), ASKED(gate, b, 3),
      ASKED(gate, A_log, 1), ASKED(gate, dt_bias, 2)}},
    {"l2norm", call_l2norm, {.l2norm = {.B = B, .T = T, .H = H, .D = D}},
     {NEEDED(l2norm, x, 4), MADE(l2norm, y, 4)},
     {LOSS(l2norm, y, 4), ASKED(l2norm, x, 4)}},
    {"norm", call_norm, {.norm = {.B = B, .T = T, .H = H, .D = D, .gate = GDN_SILU}},
     {NEEDED(norm, x, 4), NEEDED(norm, z, 4), NEEDED(norm, w, 1), MADE(norm, y, 4)},
     {LOSS(norm, y, 4), ASKED(norm, x, 4), ASKED(norm, z, 4), ASKED(norm, w, 1)}}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static float memory[2 * ARRAYS][ROOM], before[2 * ARRAYS][ROOM];

static struct gdn_array *array_in(void *of, const struct place *p)
{
    return (struct gdn_array *)((char *)of + p->at);
}

/* A call with all its arrays, dense. */
static void lay_call(const struct kind *kind, union call *call, union gradient *gradient)
{
    *call = kind->plain;
    *gradient = (union gradient){0};
    for (int i = 0; i < ARRAYS && kind->forward[i].name; i++)
        array_in(call, &kind->forward[i])->data = memory[i];
    for (int i = 0; i < ARRAYS && kind->backward[i].name; i++)
        array_in(gradient, &kind->backward[i])->data = memory[ARRAYS + i];
}

/* ---- ways to spoil --------------------------------------------------------------------------- */

/* Spoils the array and writes what the sentence must say after its name; false: no such way. */
typedef bool spoiler(struct gdn_array *a, const struct place *p, char *says, size_t room);

static bool no_data(struct gdn_array *a, const struct place *p, char *says, size_t room)
{
    a->data = NULL;
    snprintf(says, room, "%s.data: found NULL, need ", p->name);
    return p->needed;
}

static bool between_elements(struct gdn_array *a, const struct place *p, char *says, size_t room)
{
    a->data = (char *)a->data + 1;
    snprintf(says, room, "%s.data: found 0x", p->name);
    return true;
}

static bool no_type(struct gdn_array *a, const struct place *p, char *says, size_t room)
{
    a->type = 4;
    snprintf(says, room, "%s.type: found 4, need f32", p->name);
    return true;
}

static bool double_type(struct gdn_array *a, const struct place *p, char *says, size_t room)
{
    a->type = GDN_F64;
    snprintf(says, room, "%s.type: found f64, need f32", p->name);
    return true;
}

static bool backwards(struct gdn_array *a, const struct place *p, char *says, size_t room)
{
    a->stride[p->rank - 2 < 0 ? 0 : p->rank - 2] = -8;
    snprintf(says, room, "%s.stride[%d]: found -8, need 0 or more", p->name,
             p->rank - 2 < 0 ? 0 : p->rank - 2);
    return true;
}

static bool of_no_axis(struct gdn_array *a, const struct place *p, char *says, size_t room)
{
    if (p->rank == 4) return false;
    a->stride[p->rank - 1] = 1;
    snprintf(says, room, "%s.stride[%d]: found 1, need 0", p->name, p->rank - 1);
    return true;
}

static bool far_away(struct gdn_array *a, const struct place *p, char *says, size_t room)
{
    a->stride[0] = INT64_MAX / 2;
    for (int i = 1; i < p->rank - 1; i++) a->stride[i] = 16;
    snprintf(says, room, "%s: its strides lead out of the address space", p->name);
    return p->rank > 1;
}

static bool on_itself(struct gdn_array *a, const struct place *p, char *says, size_t room)
{
    for (int i = 0; i < p->rank - 1; i++) a->stride[i] = 1;
    snprintf(says, room, "%s: found a stride of 1, need at least ", p->name);
    return p->output && p->rank > 1;
}

static spoiler *const spoilers[] = {no_data, between_elements, no_type, double_type, backwards,
                                    of_no_axis, far_away, on_itself};
enum { SPOILERS = sizeof spoilers / sizeof *spoilers };

/* ---- tests ----------------------------------------------------------------------------------- */

static char workspace[1 << 20];

static void expect_refused(const gdn_ops *ops, const struct kind *kind, const struct place *p,
                           bool back, spoiler *spoil)
{
    union call call;
    union gradient gradient;
    struct gdn_error err = {0};
    char says[128];
    lay_call(kind, &call, &gradient);
    struct gdn_array *a = array_in(back ? (void *)&gradient : (void *)&call, p);
    if (!spoil(a, p, says, sizeof says)) return;
    const enum gdn_status status =
        kind->call(ops, &call, back ? &gradient : NULL, workspace, sizeof workspace, &err);
    if (status != GDN_ERR_USAGE || err.status != status || !strstr(err.text, says))
        fail_msg("%s: found %d \"%s\", need \"%s\"", kind->name, (int)status, err.text, says);
    assert_memory_equal(memory, before, sizeof memory);
}

static void every_array_is_looked_at(void **state)
{
    (void)state;
    gdn_ops *ops = lab_open("cpu", 1, GDN_ISA_ALL);
    poison(memory, sizeof memory);
    memcpy(before, memory, sizeof memory);
    for (int k = 0; k < KINDS; k++)
        for (int s = 0; s < SPOILERS; s++)
            for (int i = 0; i < ARRAYS; i++) {
                const struct place *forward = &kinds[k].forward[i], *back = &kinds[k].backward[i];
                if (forward->name) expect_refused(ops, &kinds[k], forward, false, spoilers[s]);
                if (back->name) expect_refused(ops, &kinds[k], back, true, spoilers[s]);
            }
    gdn_ops_close(ops);
}

/* So the refusals above are those of the array, not of the call around it; and what may be left out
 * may be. */
static void the_calls_are_good(void **state)
{
    (void)state;
    gdn_ops *ops = lab_open("cpu", 1, GDN_ISA_ALL);
    for (int k = 0; k < KINDS; k++)
        for (int less = -1; less < ARRAYS; less++)
            for (int back = 0; back < 2; back++) {
                union call call;
                union gradient gradient;
                struct gdn_error err = {0};
                lay_call(&kinds[k], &call, &gradient);
                memset(memory, 0, sizeof memory);
                const struct place *p = less < 0 ? NULL
                                        : back   ? &kinds[k].backward[less]
                                                 : &kinds[k].forward[less];
                if (p && (!p->name || p->needed)) continue;
                if (p) array_in(back ? (void *)&gradient : (void *)&call, p)->data = NULL;
                if (kinds[k].call(ops, &call, back ? &gradient : NULL, workspace, sizeof workspace,
                                  &err) != GDN_OK)
                    fail_msg("%s without %s: %s", kinds[k].name, p ? p->name : "nothing", err.text);
            }
    gdn_ops_close(ops);
}

/* ---- the other arguments of the small calls -------------------------------------------------- */

struct small {
    struct gdn_conv conv;
    struct gdn_gate gate;
    struct gdn_l2norm unit;
    struct gdn_norm norm;
};
typedef void small_change(struct small *s);
#define SMALL(name, ...)                                                   \
    static void name(struct small *s) { __VA_ARGS__; }
SMALL(conv_B, s->conv.rows.B = -1)
SMALL(conv_T, s->conv.rows.T = -1)
SMALL(conv_no_channels, s->conv.C = 0)
SMALL(conv_no_taps, s->conv.W = 0)
SMALL(conv_many_taps, s->conv.W = 17)
SMALL(conv_no_x, s->conv.x.data = NULL)
SMALL(conv_tail_type, s->conv.tail_in.type = GDN_BF16)
SMALL(conv_y_type, s->conv.y.type = GDN_BF16)
SMALL(conv_y_apart, s->conv.y.stride[0] = 8; s->conv.y.stride[1] = 3)
SMALL(conv_stride, s->conv.x.stride[2] = 1)
SMALL(gate_B, s->gate.B = -1)
SMALL(gate_T, s->gate.T = -1)
SMALL(gate_no_heads, s->gate.Hv = 0)
SMALL(gate_minus_Dk, s->gate.Dk = -1)
SMALL(gate_bound, s->gate.lower_bound = 5)
SMALL(gate_nan, s->gate.lower_bound = NAN)
SMALL(gate_scale, s->gate.beta_scale = -1)
SMALL(gate_g_type, s->gate.g.type = GDN_BF16)
SMALL(gate_b_type, s->gate.b.type = GDN_F16)
SMALL(gate_rows, s->gate.B = 1 << 20; s->gate.T = 1 << 20)
SMALL(unit_B, s->unit.B = -1)
SMALL(unit_T, s->unit.T = -1)
SMALL(unit_H, s->unit.H = 0)
SMALL(unit_eps, s->unit.eps = -1e-6)
SMALL(unit_scale, s->unit.scale = INFINITY)
SMALL(unit_D, s->unit.D = 0)
SMALL(norm_B, s->norm.B = -1)
SMALL(norm_T, s->norm.T = -1)
SMALL(norm_H, s->norm.H = 0)
SMALL(norm_D, s->norm.D = 0)
SMALL(norm_eps, s->norm.eps = -1)
SMALL(norm_z, s->norm.z = s->norm.x)
SMALL(norm_no_z, s->norm.gate = GDN_SILU)
SMALL(norm_centred, s->norm.gate = GDN_SIGMOID; s->norm.z = s->norm.x; s->norm.centred = true)
SMALL(norm_gate, s->norm.gate = (enum gdn_norm_gate)3)
SMALL(norm_no_w, s->norm.w.data = NULL)

static const struct {
    small_change *change;
    enum gdn_status status;
    const char *words;
} small_refusals[] = {
    {conv_B, GDN_ERR_USAGE, "rows.B: found -1"}, {conv_T, GDN_ERR_USAGE, "rows.T: found -1"},
    {gate_B, GDN_ERR_USAGE, "B: found -1"}, {gate_T, GDN_ERR_USAGE, "T: found -1"},
    {unit_B, GDN_ERR_USAGE, "B: found -1"}, {unit_T, GDN_ERR_USAGE, "T: found -1"},
    {unit_H, GDN_ERR_USAGE, "H: found 0"}, {norm_B, GDN_ERR_USAGE, "B: found -1"},
    {norm_T, GDN_ERR_USAGE, "T: found -1"}, {norm_H, GDN_ERR_USAGE, "H: found 0"},
    {norm_D, GDN_ERR_USAGE, "D: found 0"}, {norm_eps, GDN_ERR_USAGE, "eps: found -1"},
    {conv_no_channels, GDN_ERR_USAGE, "C: found 0"}, {conv_no_taps, GDN_ERR_USAGE, "W: found 0"},
    {conv_many_taps, GDN_ERR_USAGE, "W: found 17, need 1 to 16"},
    {conv_no_x, GDN_ERR_USAGE, "x.data: found NULL"},
    {conv_tail_type, GDN_ERR_USAGE, "tail_in.type: found bf16, need f32"},
    {conv_y_type, GDN_ERR_USAGE, "y.type: found bf16, need f32"},
    {conv_y_apart, GDN_ERR_USAGE, "y: found a stride of 3, need at least 4"},
    {conv_stride, GDN_ERR_USAGE, "x.stride[2]: found 1"},
    {gate_no_heads, GDN_ERR_USAGE, "Hv: found 0"}, {gate_minus_Dk, GDN_ERR_USAGE, "Dk: found -1"},
    {gate_bound, GDN_ERR_USAGE, "lower_bound: found 5"},
    {gate_nan, GDN_ERR_USAGE, "lower_bound: found"},
    {gate_scale, GDN_ERR_USAGE, "beta_scale: found -1"},
    {gate_g_type, GDN_ERR_USAGE, "g.type: found bf16, need f32"},
    {gate_b_type, GDN_ERR_USAGE, "b.type: found f16, need f32"},
    {gate_rows, GDN_ERR_USAGE, "B * T: found 1099511627776"},
    {unit_eps, GDN_ERR_USAGE, "eps: found -1e-06"}, {unit_scale, GDN_ERR_USAGE, "scale: found inf"},
    {unit_D, GDN_ERR_USAGE, "D: found 0"}, {norm_z, GDN_ERR_USAGE, "z.data: found an array"},
    {norm_no_z, GDN_ERR_USAGE, "z.data: found NULL"},
    {norm_centred, GDN_ERR_UNSUPPORTED, "centred: found true"},
    {norm_gate, GDN_ERR_USAGE, "gate: found 3"}, {norm_no_w, GDN_ERR_USAGE, "w.data: found NULL"},
};

static void small_ones_refuse(void **state)
{
    (void)state;
    static float in[64], out[64];
    static char room[1 << 20];
    gdn_ops *ops = lab_open("cpu", 1, GDN_ISA_ALL);
    for (size_t i = 0; i < 1 + sizeof small_refusals / sizeof *small_refusals; i++) {
        struct small s = {
            .conv = {.rows = {.B = 1, .T = 2}, .C = 4, .W = 3, .x.data = in, .w.data = in,
                     .tail_in.data = in, .y.data = out, .tail_out.data = out + 16},
            .gate = {.B = 1, .T = 2, .Hv = 2, .Dk = 2, .a.data = in, .b.data = in, .g.data = out,
                     .beta.data = out + 32},
            .unit = {.B = 1, .T = 2, .H = 1, .D = 4, .x.data = in, .y.data = out},
            .norm = {.B = 1, .T = 2, .H = 1, .D = 4, .x.data = in, .w.data = in, .y.data = out}};
        struct gdn_error err = {0};
        enum gdn_status first = GDN_OK, found[4];
        memset(out, 0, sizeof out);
        if (i > 0) small_refusals[i - 1].change(&s);
        found[0] = gdn_conv_forward(ops, &s.conv, room, sizeof room, &err);
        found[1] = gdn_gate_forward(ops, &s.gate, room, sizeof room, &err);
        found[2] = gdn_l2norm_forward(ops, &s.unit, room, sizeof room, &err);
        found[3] = gdn_norm_forward(ops, &s.norm, room, sizeof room, &err);
        for (int k = 0; k < 4 && first == GDN_OK; k++) first = found[k];
        if (i == 0 && first != GDN_OK) fail_msg("%s", err.text);
        if (i > 0 && (first != small_refusals[i - 1].status ||
                      !strstr(err.text, small_refusals[i - 1].words)))
            fail_msg("found \"%s\", need \"%s\"", err.text, small_refusals[i - 1].words);
    }
    gdn_ops_close(ops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_array_is_looked_at),
        cmocka_unit_test(the_calls_are_good),
        cmocka_unit_test(small_ones_refuse),
    };
    return cmocka_run_group_tests_name("ops_arrays", tests, NULL, NULL);
}

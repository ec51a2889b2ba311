/* Laws of op_conv on rings: position p stands in ring row p mod ring, ring = W-1 + entries. */
#include "harness/suite.h"
#include "harness/ways.h"

static int fields(const struct shape *s, struct want *want)
{
    want[0] = (struct want){.name = "x", .dtype = (enum dtype)s->act, DIM(0, s->D)};
    want[1] = (struct want){.name = "y", .dtype = (enum dtype)s->act, DIM(0, s->D)};
    return 2;
}

static void lay(struct machine *m)
{
    const struct shape *s = &m->shape;
    struct conv_slots *c = &m->conv;
    *c = (struct conv_slots){.slots = FORM_SLOTS, .ring = s->W - 1 + s->slots, .C = s->D,
                             .dtype = m->wide ? DTYPE_F64 : (enum dtype)s->act};
    c->x = machine_state(m, "ring", c->dtype, (int64_t)FORM_SLOTS * c->ring * s->D, false);
    void *w = machine_state(m, "w", m->wide ? DTYPE_F64 : DTYPE_F32, (int64_t)s->D * s->W, true);
    machine_fill(m, w, 3);
    m->held[0] = tensor_over(w, m->wide ? DTYPE_F64 : DTYPE_F32, 2, (int64_t[]){s->D, s->W});
    m->args.conv = (struct conv_args){.x = &m->field[0].t, .w = &m->held[0], .y = &m->field[1].t,
                                      .rows = &m->rows, .slots = c};
}

/* The inputs that a rewind within 16 tokens may ask for. */
static void canon(const struct machine *m, int slot, int pos, struct bytes *out)
{
    const struct conv_slots *c = &m->conv;
    const int reach = m->shape.W - 1 + BLOCK, first = pos > reach ? pos - reach : 0;
    const size_t row = (size_t)c->C * dtype_size(c->dtype);
    for (int p = first; p < pos; p++)
        bytes_add(out, m->state[0].after + m->state[0].lead +
                           ((size_t)slot * (size_t)c->ring + (size_t)(p % c->ring)) * row,
                  row);
}

static const struct form form = {.op = OP_CONV, .fields = fields, .lay = lay, .canon = canon};

static const struct shape shapes[] = {
    {.D = 3, .W = 4, .slots = 16},
    {.D = 8, .W = 2, .slots = 32, .act = DTYPE_BF16},
    {.D = 65, .W = 3, .slots = 32},
    {.D = 33, .W = 4, .slots = 16, .act = DTYPE_BF16, .regime = REGIME_HUGE},
    {.D = 130, .W = 4, .slots = 32},
};
static const struct shape thorough[] = {
    {.D = 67, .W = 4, .slots = 16},
    {.D = 67, .W = 4, .slots = 16, .act = DTYPE_BF16},
    {.D = 67, .W = 4, .slots = 32, .act = DTYPE_F16},
};
static const struct shape speculating[] = {
    {.D = 5, .W = 4, .slots = 32},
    {.D = 3, .W = 2, .slots = 32, .act = DTYPE_BF16},
    {.D = 24, .W = 4, .slots = 32, .act = DTYPE_BF16},
};

static const struct law laws[] = {
    FORM_LAW(cuts, shapes, USUAL_EXTENT),
    FORM_LAW_EVERY_ISA("cuts of 200", cuts, thorough, FULL_EXTENT),
    FORM_LAW(sizes, speculating, {.tokens = 1100}),
    FORM_LAW(drafts, speculating, USUAL_EXTENT),
    FORM_LAW(rounds, speculating, USUAL_EXTENT),
    FORM_LAW(together, shapes, USUAL_EXTENT),
    FORM_LAW(empty, shapes, USUAL_EXTENT),
    {"reference", law_reference, &form, NULL, SHAPES(shapes), USUAL_EXTENT},
};
SUITE(conv_slots, .form = &form, LAWS(laws));

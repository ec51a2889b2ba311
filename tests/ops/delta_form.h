/* delta_form.h: op_delta on slots as a form (harness/form.h): an anchor and a log per sequence
 * (state.md 1 to 3). For delta_slots.c and delta_slots_slow.c. */
#ifndef OPS_DELTA_FORM_H
#define OPS_DELTA_FORM_H

#include <math.h>

#include "base/memory.h"
#include "harness/suite.h"
#include "harness/ways.h"

enum { CHANNEL = 1 };

/* act: the type of activations and of the log's k; weight: the anchor's type. */
static int fields(const struct shape *s, struct want *want)
{
    const enum dtype act = (enum dtype)s->act;
    const int64_t Hk = s->Hk, Hv = (int64_t)s->Hk * s->R, Dk = s->Dk, Dv = s->Dv;
    want[0] = (struct want){.name = "q", .dtype = act, DIM(0, Hk, Dk), .fill = FILL_UNIT,
                            .scale = 1 / sqrt((double)Dk)};
    want[1] = (struct want){.name = "k", .dtype = act, DIM(0, Hk, Dk), .fill = FILL_UNIT};
    want[2] = (struct want){.name = "v", .dtype = act, DIM(0, Hv, Dv)};
    want[3] = (struct want){.name = "g", .rank = s->option & CHANNEL ? 3 : 2, .dim = {0, Hv, Dk},
                            .fill = FILL_DECAY};
    want[4] = (struct want){.name = "beta", DIM(0, Hv), .fill = FILL_SHARE};
    want[5] = (struct want){.name = "o", .dtype = act, DIM(0, Hv, Dv)};
    return 6;
}

static void lay(struct machine *m)
{
    const struct shape *s = &m->shape;
    const int Hv = s->Hk * s->R;
    struct delta_slots *d = &m->delta;
    *d = (struct delta_slots){
        .slots = FORM_SLOTS, .entries = s->slots, .Hk = s->Hk, .Hv = Hv, .Dk = s->Dk, .Dv = s->Dv,
        .channel_gate = s->option & CHANNEL,
        .anchor_type = m->wide ? DTYPE_F64 : (enum dtype)s->weight,
        .k_type = m->wide ? DTYPE_F64 : (enum dtype)s->act,
        .wide_type = m->wide ? DTYPE_F64 : DTYPE_F32};
    d->anchor_elements = m->at->device->anchor_elements(Hv, s->Dv, s->Dk);
    const int64_t entries = (int64_t)FORM_SLOTS * s->slots;
    d->anchor = machine_state(m, "anchor", d->anchor_type, FORM_SLOTS * d->anchor_elements, true);
    d->k = machine_state(m, "log k", d->k_type, entries * s->Hk * s->Dk, false);
    d->u = machine_state(m, "log u", d->wide_type, entries * Hv * s->Dv, false);
    d->G = machine_state(m, "log G", d->wide_type, entries * Hv * (d->channel_gate ? s->Dk : 1),
                         false);
    d->base = machine_state(m, "base", DTYPE_I32, FORM_SLOTS, true);
    m->args.delta = (struct delta_args){
        .q = &m->field[0].t, .k = &m->field[1].t, .v = &m->field[2].t, .g = &m->field[3].t,
        .beta = &m->field[4].t, .o = &m->field[5].t, .rows = &m->rows, .slots = d};
}

/* Entries 0..length-1 of a slot in one of the log's arrays. */
static void add_log(const struct machine *m, int state, int slot, int length, struct bytes *out)
{
    const size_t entry = (size_t)(tensor_elements(&m->state[state].t) / FORM_SLOTS /
                                  m->shape.slots) * dtype_size(m->state[state].t.dtype);
    bytes_add(out, m->state[state].after + m->state[state].lead +
                       (size_t)slot * (size_t)m->shape.slots * entry,
              (size_t)length * entry);
}

/* Length, the dense anchor, the used log: 1 <= length <= 16 at rest. */
static void canon(const struct machine *m, int slot, int pos, struct bytes *out)
{
    const struct delta_slots *d = &m->delta;
    const int length = pos - (int)number_read(box_element(&m->state[4], slot), DTYPE_I32);
    const size_t n = (size_t)d->Hv * (size_t)d->Dv * (size_t)d->Dk;
    double *dense = mem_take_array(n + 1, sizeof *dense);
    if (EXPECT(m->v, dense, "no memory") &&
        EXPECT(m->v, length >= (pos > 0) && length <= BLOCK, "a log of %d entries at position %d",
               length, pos)) {
        dense[n] = length;
        m->at->device->anchor_unpack(d, slot, dense);
        bytes_add(out, dense, (n + 1) * sizeof *dense);
        for (int i = 1; i <= 3; i++) add_log(m, i, slot, length, out);
    }
    mem_give(dense);
}

static const struct form form = {.op = OP_DELTA, .fields = fields, .lay = lay, .canon = canon};

#define BOTH_GATES(...) {__VA_ARGS__}, {__VA_ARGS__, .option = CHANNEL}

#endif
